//! The responses to grants, refreshes and API calls.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::error::Refusal::*;
use crate::provider::extra_horizon::response::{self as read, OAuth1Token, OAuth2Token};
use crate::provider::extra_horizon::{mfa, service_error};
use crate::provider::{Issued, Provider, Rejection};

const ONE: &str = r#"{"id":"65f0c0ffee0000000000aa01","userId":"65f0c0ffee0000000000aa02",
 "applicationId":"65f0c0ffee0000000000aa03","token":"canary-token","tokenSecret":"canary-secret",
 "updateTimestamp":"2025-02-03T04:05:06.789Z","creationTimestamp":"2025-02-03T04:05:06.789Z"}"#;

const TWO: &str = r#"{"access_token":"canary-access","token_type":"bearer","expires_in":299.999,
 "refresh_token":"canary-refresh","user_id":"65f0c0ffee0000000000aa02",
 "application_id":"65f0c0ffee0000000000aa03"}"#;

const MFA: &str = r#"{"code":129,"name":"MFA_REQUIRED_EXCEPTION","message":"A second factor",
 "mfa":{"token":"canary-mfa","tokenExpiresIn":600000,"methods":[{"id":"aa10","type":"totp",
 "name":"Phone app","tags":["selected"]},{"name":"no id"}]}}"#;

fn code(number: u16) -> String {
    json!({"code": number, "name": "SOME_EXCEPTION", "message": "canary"}).to_string()
}

/// A body as the token endpoint of oAuth2 sends it.
fn inner(error: &str, number: Option<u16>, description: &str) -> String {
    let mut body = json!({"error": error, "description": description});
    if let Some(number) = number {
        body["exh_error"] = json!({"code": number, "name": "N", "description": "canary"});
    }
    body.to_string()
}

fn failed(status: u16, body: &str, request_kind: RequestKind) -> ExchangeError {
    let (bench, response) = (Bench::new(), response(status, body));
    let failed = service_error::failure(&bench.sender(), &response, request_kind);
    assert_eq!(failed.status(), Some(status));
    let shown = shown(&failed);
    assert!(!shown.contains("canary"), "{shown}");
    failed
}

#[test]
fn an_oauth1_token_has_its_secret_and_no_end() {
    let bench = Bench::new();
    let tokens =
        read::tokens::<OAuth1Token>(&bench.sender(), &response(200, ONE), RequestKind::Password)
            .unwrap();
    assert_eq!(tokens.access_token().unwrap().expose_secret(), "canary-token");
    assert_eq!(tokens.token_secret().unwrap().expose_secret(), "canary-secret");
    assert!(tokens.access_expires_at().is_none() && tokens.refresh_token().is_none());
    assert_eq!(tokens.attributes().token_id.as_deref(), Some("65f0c0ffee0000000000aa01"));
    assert_eq!(tokens.attributes().user_id.as_deref(), Some("65f0c0ffee0000000000aa02"));
}

#[test]
fn a_lifetime_of_299_999_seconds_is_read_as_such() {
    let bench = Bench::new();
    let tokens =
        read::tokens::<OAuth2Token>(&bench.sender(), &response(200, TWO), RequestKind::Password)
            .unwrap();
    let ends = Bench::at(0) + Duration::from_millis(299_999);
    assert_eq!(tokens.access_expires_at(), Some(ends));
    assert_eq!(tokens.refresh_token().unwrap().expose_secret(), "canary-refresh");
    assert_eq!(tokens.refresh_expires_at(), None);
}

#[test]
fn a_200_without_a_token_is_a_lost_answer_unless_it_says_what_is_wrong() {
    let bench = Bench::new();
    let sender = bench.sender();
    for body in ["", "{}", "[]", "null", "canary", r#"{"token":"canary"}"#, r#"{"token":""}"#] {
        let response = response(200, body);
        let one =
            read::tokens::<OAuth1Token>(&sender, &response, RequestKind::Password).unwrap_err();
        let two =
            read::tokens::<OAuth2Token>(&sender, &response, RequestKind::Refresh).unwrap_err();
        assert_eq!((one.class(), two.class()), (Ambiguous, Ambiguous), "{body}");
        assert!(!(shown(&one) + &shown(&two)).contains("canary"));
    }
    let failure = response(200, code(106));
    let failure =
        read::tokens::<OAuth1Token>(&sender, &failure, RequestKind::Password).unwrap_err();
    assert_eq!(failure.class(), Refused(WrongCredentials));
}

/// The failure that each number means under its documented status.
const NUMBERS: &[(u16, u16, RequestKind, FailureClass)] = &[
    (401, 10, RequestKind::Call, Refused(NotPermitted)),
    (404, 16, RequestKind::OneUse, Refused(GrantExpired)),
    (404, 16, RequestKind::Mfa, Refused(Other)),
    (401, 101, RequestKind::Password, InvalidClient),
    (401, 103, RequestKind::Mfa, InvalidClient),
    (400, 103, RequestKind::Mfa, InvalidClient),
    (401, 104, RequestKind::Call, Unclassified),
    (401, 106, RequestKind::Password, Refused(WrongCredentials)),
    (400, 106, RequestKind::Password, Refused(WrongCredentials)),
    (401, 107, RequestKind::Password, InvalidClient),
    (401, 108, RequestKind::Call, Refused(GrantExpired)),
    (401, 109, RequestKind::Password, InvalidClient),
    (401, 110, RequestKind::Password, Ambiguous),
    (400, 115, RequestKind::OneUse, Refused(GrantExpired)),
    (400, 116, RequestKind::OneUse, Refused(GrantExpired)),
    (401, 117, RequestKind::Call, NotProcessed),
    (403, 118, RequestKind::Call, NotProcessed),
    (400, 119, RequestKind::Refresh, Rejected),
    (400, 120, RequestKind::Refresh, Rejected),
    (400, 121, RequestKind::Password, Unclassified),
    (400, 122, RequestKind::OneUse, Refused(GrantExpired)),
    (400, 128, RequestKind::OneUse, Refused(Other)),
    (401, 123, RequestKind::Refresh, InvalidClient),
    (401, 124, RequestKind::Refresh, InvalidClient),
    (400, 126, RequestKind::Refresh, InvalidClient),
    (400, 129, RequestKind::Refresh, Rejected),
    (400, 130, RequestKind::Mfa, Refused(WrongCode)),
    (400, 131, RequestKind::Mfa, Refused(ChallengeExpired)),
    (400, 134, RequestKind::Mfa, Refused(CodeTooSoon)),
    (400, 139, RequestKind::OneUse, Refused(GrantExpired)),
    (503, 138, RequestKind::OneUse, Ambiguous),
    (401, 211, RequestKind::Password, Refused(Locked)),
    (401, 212, RequestKind::Password, Refused(Locked)),
    (401, 213, RequestKind::Password, Refused(LockedForGood)),
    (500, 1, RequestKind::Password, Ambiguous),
    (503, 4, RequestKind::Refresh, Ambiguous),
];

#[test]
fn each_number_is_a_class_and_the_callers_code() {
    for (status, number, request_kind, class) in NUMBERS {
        let failure = failed(*status, &code(*number), *request_kind);
        assert_eq!(failure.class(), *class, "{number}");
        let error = failure.into_error();
        assert_eq!(error.provider_code(), Some(number.to_string().as_str()));
    }
}

#[test]
fn numbers_inside_exh_error_mean_the_same() {
    for (status, number, request_kind, class) in NUMBERS {
        let failure =
            failed(*status, &inner("invalid_grant", Some(*number), "canary"), *request_kind);
        assert_eq!(failure.class(), *class, "{number}");
    }
}

#[test]
fn without_a_number_the_standards_code_speaks_and_then_the_documented_text() {
    for (error, text, request_kind, class) in [
        ("invalid_grant", "canary", RequestKind::Password, Refused(WrongCredentials)),
        ("invalid_grant", "canary", RequestKind::OneUse, Refused(GrantExpired)),
        ("invalid_grant", "canary", RequestKind::Mfa, Refused(WrongCode)),
        ("invalid_grant", "canary", RequestKind::Refresh, Rejected),
        ("invalid_request", "canary", RequestKind::Refresh, Unclassified),
        ("unsupported_grant_type", "Invalid grant type provided", RequestKind::Mfa, Unclassified),
        ("unauthorized_client", "canary", RequestKind::Refresh, Unclassified),
        ("invalid_grant", "Client does not exist", RequestKind::Refresh, InvalidClient),
        ("invalid_grant", "The refresh token is unknown", RequestKind::Refresh, Rejected),
        (
            "invalid_grant",
            "The supplied MFA token is not (or no longer) valid",
            RequestKind::Mfa,
            Refused(ChallengeExpired),
        ),
        (
            "invalid_grant",
            "The supplied MFA code is incorrect",
            RequestKind::Mfa,
            Refused(WrongCode),
        ),
    ] {
        let failure = failed(400, &inner(error, None, text), request_kind);
        assert_eq!(failure.class(), class, "{error} {text}");
    }
    let client = failed(401, &inner("invalid_client", None, "canary"), RequestKind::Refresh);
    assert!(client.class() == InvalidClient && client.names_client());
    let unknown =
        failed(400, &inner("something_else", None, "canary"), RequestKind::Refresh).class();
    assert_eq!(unknown, Unclassified);
}

#[test]
fn only_what_names_the_client_stops_the_client() {
    for (status, number, request_kind, class) in NUMBERS {
        let failure = failed(*status, &code(*number), *request_kind);
        let named = [101, 103, 107, 109, 123, 124, 126].contains(number);
        assert_eq!(failure.names_client(), named && *class == InvalidClient, "{number}");
    }
}

#[test]
fn a_time_too_far_from_the_servers_is_clock_skew_and_a_wrong_signature_is_not() {
    let failure = |message: &str| {
        let body = json!({"code": 109, "name": "OAUTH_SIGNATURE_EXCEPTION", "message": message});
        failed(401, &body.to_string(), RequestKind::Password)
    };
    for side in ["past", "future"] {
        let words =
            format!("The oauth_timestamp is too far in the {side}. Please correct your time");
        let skewed = failure(&words);
        assert!(skewed.class() == Refused(ClockSkew) && !skewed.names_client());
    }
    for other in ["The oAuth signature is invalid", "No oauth_timestamp was set", ""] {
        assert_eq!(failure(other).class(), InvalidClient, "{other}");
    }
}

#[test]
fn waits_are_those_of_the_number_and_a_status_that_is_final_speaks_louder() {
    let wait = |status, body: &str| failed(status, body, RequestKind::Mfa).retry_after();
    assert_eq!(wait(401, &code(211)), Some(Duration::from_secs(1)));
    assert_eq!(wait(401, &code(212)), Some(Duration::from_secs(60)));
    assert_eq!(wait(401, &code(213)), None);
    let soon = |delay: &str| format!(r#"{{"code":134,"remainingDelay":{delay}}}"#);
    assert_eq!(wait(400, &soon("2500")), Some(Duration::from_millis(2500)));
    for none in ["-1", "\"canary\"", "1e300", "null"] {
        assert_eq!(wait(400, &soon(none)), None, "{none}");
    }
    for (status, class) in [(429, Throttled), (408, NotProcessed), (302, Unclassified)] {
        let failure = failed(status, &code(107), RequestKind::Refresh);
        assert!(failure.class() == class && !failure.names_client(), "{status}");
    }
    assert_eq!(failed(502, &code(119), RequestKind::Refresh).class(), Ambiguous);
}

fn challenge(status: u16, body: &str) -> Result<MfaChallenge, ExchangeError> {
    let bench = Bench::new();
    let (client, sender) = (oauth1(), bench.sender());
    let from = (client.host(), "ck-demo");
    let issued = read::issued::<ExtraHorizonOAuth1, OAuth1Token>(
        &sender,
        &response(status, body),
        RequestKind::Password,
        from,
    );
    match issued? {
        Issued::Challenge(challenge) => {
            let token = mfa::open(&sender, challenge.ticket(), client.host(), "ck-demo").unwrap();
            assert_eq!(token.expose_secret(), "canary-mfa");
            let other = mfa::open(&sender, challenge.ticket(), client.host(), "another");
            let error = other.unwrap_err().into_error();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            Ok(challenge)
        }
        Issued::Tokens(tokens) => panic!("{tokens:?}"),
    }
}

#[test]
fn a_second_factor_is_a_challenge_whose_debug_shows_no_secret() {
    let mut body: serde_json::Value = serde_json::from_str(MFA).unwrap();
    body["error"] = "mfa_required".into();
    let both = body.to_string();
    body.as_object_mut().unwrap().remove("code");
    for (status, body) in [(403, MFA), (400, &both), (400, &body.to_string())] {
        let challenge = challenge(status, body).unwrap();
        assert_eq!(challenge.expires_at(), Bench::at(600));
        let [method] = challenge.methods() else { panic!("{challenge:?}") };
        assert_eq!((method.id.as_str(), method.kind.as_str()), ("aa10", "totp"));
        let json = json!({"id": "aa10", "name": "Phone app", "type": "totp", "tags": ["selected"]});
        assert_eq!(serde_json::to_value(method).unwrap(), json);
        let shown = format!("{challenge:?} {challenge:#?}");
        assert!(!shown.contains("canary") && !shown.contains(challenge.ticket().as_str()));
    }
}

#[test]
fn the_life_of_a_challenge_is_milliseconds_and_no_more_than_the_policy_allows() {
    for (said, seconds) in
        [("1500", 1), ("\"30000\"", 30), ("900000000", 600), ("null", 600), ("-5", 600)]
    {
        let body = MFA.replace("600000", said);
        let ends = challenge(403, &body).unwrap().expires_at();
        assert_eq!(ends.duration_since(Bench::at(0)).unwrap().as_secs(), seconds, "{said}");
    }
    let typo = MFA.replace("tokenExpiresIn\":600000", "tokenExipresIn\":60000");
    assert_eq!(challenge(403, &typo).unwrap().expires_at(), Bench::at(60));
    for unusable in [code(129), MFA.replace("canary-mfa", ""), MFA.replace("\"mfa\"", "\"m\"")] {
        assert_eq!(challenge(403, &unusable).unwrap_err().class(), Unclassified);
    }
}

fn judged(provider: &impl Provider, status: u16, body: &str) -> Rejection {
    let parts = Response::builder().status(status).body(()).unwrap().into_parts().0;
    provider.rejection(&parts, body.as_bytes())
}

#[test]
fn a_dead_access_token_is_known_by_its_number_and_never_by_the_status_alone() {
    for number in [117, 118] {
        for status in [400, 401, 403] {
            assert_eq!(judged(&oauth2(), status, &code(number)), Rejection::TokenDead);
        }
        let only = oauth2().dead_token_statuses([401, 9999]);
        assert_eq!(judged(&only, 401, &code(number)), Rejection::TokenDead);
        assert_eq!(judged(&only, 403, &code(number)), Rejection::OtherReason);
        assert_eq!(judged(&oauth2(), 404, &code(number)), Rejection::None);
        assert_eq!(judged(&oauth2(), 200, &code(number)), Rejection::None);
    }
    for body in [&code(10), &code(104), "", "canary", r#"{"message":"118"}"#] {
        assert_eq!(judged(&oauth2(), 401, body), Rejection::OtherReason, "{body}");
        assert_eq!(judged(&oauth1(), 401, body), Rejection::OtherReason, "{body}");
    }
    assert_eq!(judged(&oauth2(), 403, MFA), Rejection::OtherReason);
    assert_eq!(judged(&oauth1(), 403, MFA), Rejection::OtherReason);
    assert_eq!(judged(&oauth1(), 401, &code(108)), Rejection::SessionDead);
    let only = oauth1().dead_token_statuses([401]);
    assert_eq!(judged(&only, 400, &code(108)), Rejection::None);
    for number in [107, 109, 110, 117, 118] {
        assert_eq!(judged(&oauth1(), 401, &code(number)), Rejection::OtherReason, "{number}");
    }
}

#[test]
fn a_number_is_read_from_the_beginning_of_a_body_but_only_whole() {
    for (prefix, number) in [
        (r#"{"code":118,"name":"ACC"#, Some(118)),
        (r#" {"name":"A","code":118}"#, Some(118)),
        (r#"{"x":{"code":1},"y":[{"code":2}],"code":118,"#, None),
        (r#"{"x":{"code":1},"y":[{"code":2}],"code":118,"z":"#, Some(118)),
        (r#"{"code":11"#, None),
        (r#"{"code":118"#, None),
        (r#"{"code":"118"}"#, Some(118)),
        (r#"{"code":118.5}"#, None),
        (r#"{"code":-1}"#, None),
        (r#"{"code":70000}"#, None),
        (r#"[118]"#, None),
        ("", None),
    ] {
        assert_eq!(service_error::number_in(prefix.as_bytes()), number, "{prefix}");
    }
}

/// Bodies that are valid but for some bytes.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let valid = prop::sample::select(vec![
        ONE.to_owned(),
        TWO.to_owned(),
        MFA.to_owned(),
        code(134),
        inner("invalid_grant", Some(119), "canary"),
    ]);
    let edits = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let mutated = (valid, edits, any::<prop::sample::Index>()).prop_map(|(text, edits, cut)| {
        let mut bytes = text.into_bytes();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1).max(bytes.len() / 2));
        bytes
    });
    prop_oneof![vec(any::<u8>(), 0..64), mutated]
}

#[test]
fn no_answer_panics_none_succeeds_without_a_token_and_no_error_shows_one() {
    let bench = Bench::new();
    let sender = bench.sender();
    let host = oauth1();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let statuses = prop_oneof![Just(200), Just(400), Just(401), Just(403), 200_u16..600];
    proptest!(config, |(status in statuses, body in bodies())| {
        let response = response(status, &body);
        let _ = service_error::number_in(&body);
        let from = (host.host(), "ck-demo");
        let one = read::issued::<ExtraHorizonOAuth1, OAuth1Token>(&sender, &response, RequestKind::Password, from);
        let two = read::tokens::<OAuth2Token>(&sender, &response, RequestKind::Refresh);
        if let Err(error) = &one {
            prop_assert!(!shown(error).contains("canary"), "{}", shown(error));
        }
        match two {
            Ok(tokens) => {
                prop_assert!((200..300).contains(&status));
                prop_assert!(!tokens.access_token().unwrap().expose_secret().is_empty());
            }
            Err(error) => {
                prop_assert!(!shown(&error).contains("canary"), "{}", shown(&error));
                let grant_only = matches!(error.class(), Refused(WrongCredentials));
                prop_assert!(!grant_only || body.windows(3).any(|part| part == b"106"));
            }
        }
    });
}
