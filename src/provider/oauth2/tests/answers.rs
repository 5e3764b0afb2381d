//! The answers of the token endpoint.

use std::time::SystemTime;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

type Headers = &'static [(&'static str, &'static str)];

/// What was sent, by what `invalid_grant` says of it: a refresh token and every grant.
fn senders() -> Vec<FailureClass> {
    let grants: [Grant; 3] = [
        Password::new("user", "canary").into(),
        AuthorizationCode::new("canary").into(),
        ClientCredentials::new().into(),
    ];
    let mut senders: Vec<_> = grants.iter().map(Grant::invalid).collect();
    senders.push(Rejected);
    senders
}

/// Holds every sender's view of an answer against `told`, where [`Rejected`] stands for what the
/// sender makes of `invalid_grant`. Nothing of the body shows.
fn check(bench: &Bench, answer: &Response<Bytes>, told: FailureClass) {
    let client = client();
    let wire = bench.wire();
    for sender in senders() {
        let failed = client.tokens(&wire, answer, None, sender).unwrap_err();
        let told = if told == Rejected { sender } else { told };
        assert_eq!(failed.class(), told, "{sender:?} {answer:?}");
        assert_eq!(failed.status(), Some(answer.status().as_u16()));
        let shown = shown(&failed) + &format!("{:?}", failed.into_error());
        assert!(!shown.contains("canary"), "{shown}");
    }
}

/// What each code means at 400, where it is the only thing that speaks.
const CODES: &[(&str, FailureClass)] = &[
    ("invalid_grant", Rejected),
    ("bad_refresh_token", Rejected),
    ("bad_verification_code", Rejected),
    ("access_denied", Refused(Refusal::NotPermitted)),
    ("invalid_request", InvalidRequest),
    ("invalid_client", Misconfigured),
    ("incorrect_client_credentials", Misconfigured),
    ("unauthorized_client", Misconfigured),
    ("invalid_scope", Misconfigured),
    ("invalid_target", Misconfigured),
    ("unsupported_grant_type", Misconfigured),
    ("use_dpop_nonce", Misconfigured),
    ("invalid_dpop_proof", Misconfigured),
    ("temporarily_unavailable", NotProcessed),
    ("slow_down", NotProcessed),
    ("server_error", Ambiguous),
    ("something_else", Ambiguous),
    ("", Ambiguous),
];

#[test]
fn a_code_means_the_same_at_200_as_at_400() {
    let bench = Bench::new();
    for (code, told) in CODES {
        for status in [200, 400] {
            check(&bench, &answer(status, &[], refusing(code)), *told);
        }
    }
}

#[test]
fn a_401_is_the_clients_fault_unless_its_code_says_otherwise() {
    let bench = Bench::new();
    for (code, told) in CODES {
        let unknown = ["something_else", ""].contains(code);
        let told = if unknown { Misconfigured } else { *told };
        check(&bench, &answer(401, &[], refusing(code)), told);
    }
    check(
        &bench,
        &answer(401, &[("www-authenticate", "Basic realm=\"canary\"")], ""),
        Misconfigured,
    );
}

/// Statuses that speak for themselves: with no body, with a page, and with any code.
const FINAL: &[(u16, Headers, FailureClass)] = &[
    (301, &[("location", "https://canary.example/")], Misconfigured),
    (302, &[], Misconfigured),
    (303, &[], Misconfigured),
    (304, &[], Misconfigured),
    (307, &[("location", "https://canary.example/")], Misconfigured),
    (308, &[("location", "https://canary.example/")], Misconfigured),
    (408, &[], NotProcessed),
    (425, &[], NotProcessed),
    (429, &[], Throttled),
    (429, &[("retry-after", "7")], Throttled),
    (429, &[("retry-after", "canary")], Throttled),
];

#[test]
fn some_statuses_are_final_whatever_the_body_says() {
    let bench = Bench::new();
    let html = "<html>canary</html>".to_owned();
    for (status, headers, told) in FINAL {
        let codes = CODES.iter().map(|(code, _)| refusing(code));
        for body in codes.chain([String::new(), html.clone(), GOOD.to_owned()]) {
            check(&bench, &answer(*status, headers, body), *told);
        }
    }
}

/// Statuses that speak where the body has no code that is known.
const SILENT: &[(u16, Headers, FailureClass)] = &[
    (400, &[], Ambiguous),
    (402, &[], Ambiguous),
    (403, &[], Misconfigured),
    (404, &[], Misconfigured),
    (405, &[], Misconfigured),
    (406, &[], Ambiguous),
    (409, &[], Ambiguous),
    (418, &[], Ambiguous),
    (500, &[], Ambiguous),
    (500, &[("retry-after", "7")], Ambiguous),
    (502, &[], Ambiguous),
    (503, &[], Ambiguous),
    (503, &[("retry-after", "7")], NotProcessed),
    (503, &[("retry-after", "Fri, 15 Jan 2027 08:00:07 GMT")], NotProcessed),
    (503, &[("retry-after", "canary")], Ambiguous),
    (504, &[], Ambiguous),
    (504, &[("retry-after", "7")], Ambiguous),
    (599, &[], Ambiguous),
    (999, &[], Ambiguous),
];

#[test]
fn a_status_speaks_where_no_known_code_does() {
    let bench = Bench::new();
    let silent = [
        "",
        "<html>canary</html>",
        "null",
        "[\"invalid_grant\"]",
        r#"{"error":{"message":"canary"}}"#,
        r#"{"error":"invalid_grant","error":"canary"}"#,
        r#"{"error":"invalid_grant"#,
        r#"{"Error":"invalid_grant"}"#,
        r#"{"error":"something_else","error_description":"canary"}"#,
    ];
    for (status, headers, told) in SILENT {
        for body in silent.into_iter().chain([GOOD]) {
            check(&bench, &answer(*status, headers, body), *told);
        }
    }
}

#[test]
fn a_broken_gateway_is_not_believed_when_it_condemns_what_was_sent() {
    let bench = Bench::new();
    for status in [500, 502, 503, 504] {
        for (code, told) in CODES {
            let told = if *told == NotProcessed { NotProcessed } else { Ambiguous };
            check(&bench, &answer(status, &[], refusing(code)), told);
        }
    }
    check(&bench, &answer(503, &[("retry-after", "7")], refusing("invalid_grant")), NotProcessed);
}

#[test]
fn a_code_goes_before_the_statuses_that_blame_the_client() {
    let bench = Bench::new();
    // Auth0 says of a dead refresh token 403 and `invalid_grant`.
    check(&bench, &answer(403, &[], refusing("invalid_grant")), Rejected);
    check(&bench, &answer(404, &[], refusing("invalid_request")), InvalidRequest);
    // A description in Latin-1 does not hide the code.
    let latin: &[u8] = b"{\"error\":\"invalid_grant\",\"error_description\":\"canary\xfc\"}";
    check(&bench, &answer(400, &[], latin), Rejected);
}

#[test]
fn a_200_that_cannot_be_used_is_ambiguous_and_nothing_of_it_is_kept() {
    let bench = Bench::new();
    let deep = "[".repeat(100_000);
    let bodies: &[&[u8]] = &[
        b"",
        b" \n",
        b"<!doctype html><title>canary</title>",
        b"access_token=canary&token_type=bearer",
        b"null",
        b"\"canary\"",
        b"[]",
        b"[\"canary\",\"canary\",\"bearer\",null,null,null,null]",
        b"{}",
        b"{\"access_token\":\"canary",
        b"{\"access_token\":\"canary\"",
        b"{\"access_token\":\"canary\"} canary",
        b"{\"access_token\":\"canary\"}{\"access_token\":\"canary\"}",
        b"{\"access_token\":null,\"refresh_token\":\"canary\"}",
        b"{\"access_token\":\"\",\"refresh_token\":\"canary\"}",
        b"{\"refresh_token\":\"canary\",\"token_type\":\"bearer\"}",
        b"{\"access_token\":4711,\"x\":\"canary\"}",
        b"{\"access_token\":true}",
        b"{\"access_token\":[\"canary\"]}",
        b"{\"access_token\":{\"canary\":\"canary\"}}",
        b"{\"access_token\":\"canary\",\"refresh_token\":[\"canary\"]}",
        b"{\"access_token\":\"canary\",\"access_token\":\"canary\"}",
        b"{\"access_token\":\"canary\",\"refresh_token\":\"a\",\"refresh_token\":\"canary\"}",
        b"{\"access_token\":\"canary\xff\"}",
        b"{\"access_token\":\"\\ud800canary\"}",
        b"{\"access_token\":\"canary\0\"}",
        b"\xff\xfe{\0}\0canary",
        b"{\"access_token\":\"canary\",\"token_type\":\"DPoP\"}",
        b"{\"access_token\":\"canary\",\"token_type\":\"mac\"}",
        b"{\"error\":[\"canary\"]}",
        b"{\"error\":\"invalid_grant\",\"error\":\"canary\"}",
    ];
    for body in bodies {
        check(&bench, &answer(200, &[], body), Ambiguous);
    }
    check(&bench, &answer(200, &[], format!("{{\"access_token\":{deep}")), Ambiguous);
    check(&bench, &answer(200, &[], format!("{{\"x\":\"canary\",\"y\":{deep}")), Ambiguous);
    check(&bench, &answer(204, &[], ""), Ambiguous);
}

#[test]
fn an_answer_with_an_access_token_is_a_success_whatever_else_it_has() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let more = [
        String::new(),
        r#","token_type":"Bearer""#.to_owned(),
        r#","token_type":"bEARER","expires_in":"60","scope":["read"]"#.to_owned(),
        r#","token_type":"","scope":"","refresh_token":"""#.to_owned(),
        r#","token_type":null,"expires_in":null,"refresh_token":null,"scope":null"#.to_owned(),
        r#","expires_in":{"seconds":60},"refresh_expires_in":"soon","id_token":7"#.to_owned(),
        r#","error":null,"error_description":"""#.to_owned(),
        r#","error":"","x":1,"x":2"#.to_owned(),
        // A token that was issued is never thrown away.
        r#","error":"invalid_grant""#.to_owned(),
        format!(r#","x":{deep}"#),
        format!(r#","scope":{deep},"expires_in":{deep}"#),
    ];
    let (bench, client) = (Bench::new(), client());
    let wire = bench.wire();
    for more in more {
        for status in [200, 201] {
            let answer = answer(status, &[], format!("\n {{\"access_token\":\"a\\/b\"{more}}}\n"));
            for sender in senders() {
                let tokens = client.tokens(&wire, &answer, None, sender).unwrap();
                assert_eq!(tokens.access_token().unwrap().expose_secret(), "a/b");
                assert!(tokens.refresh_token().is_none());
            }
        }
    }
}

/// The tokens of a refresh of a token with the scope `held`.
fn refreshed(bench: &Bench, client: &OAuth2, body: &str) -> Tokens<Attributes> {
    let answer = answer(200, &[], body);
    client.tokens(&bench.wire(), &answer, Some("held"), Rejected).unwrap()
}

#[test]
fn an_answer_without_a_scope_means_the_one_that_was_asked_for() {
    let bench = Bench::new();
    let scope = |body| refreshed(&bench, &client(), body).attributes().scope.clone();
    assert_eq!(scope(r#"{"access_token":"a"}"#).as_deref(), Some("held"));
    assert_eq!(scope(r#"{"access_token":"a","scope":""}"#).as_deref(), Some("held"));
    assert_eq!(scope(r#"{"access_token":"a","scope":"less"}"#).as_deref(), Some("less"));
}

#[test]
fn the_end_of_a_refresh_token_is_the_servers_word_or_the_clients_setting() {
    let bench = Bench::new();
    let ends = |client: &OAuth2, more: &str| -> Option<SystemTime> {
        let body = format!(r#"{{"access_token":"a","refresh_token":"r"{more}}}"#);
        refreshed(&bench, client, &body).refresh_expires_at()
    };
    let (plain, set) = (client(), client().refresh_lifetime(Duration::from_secs(90)));
    assert_eq!(ends(&plain, ""), None);
    assert_eq!(ends(&set, ""), Some(Bench::at(90)));
    for (more, seconds) in [
        (r#","refresh_expires_in":30"#, 30),
        (r#","refresh_token_expires_in":"40""#, 40),
        (r#","refresh_expires_in":30,"refresh_token_expires_in":40"#, 40),
    ] {
        assert_eq!(ends(&plain, more), Some(Bench::at(seconds)), "{more}");
        assert_eq!(ends(&set, more), Some(Bench::at(seconds)), "{more}");
    }
    assert_eq!(ends(&plain, r#","refresh_expires_in":0"#), None, "an offline token");
    let kept = refreshed(&bench, &set, r#"{"access_token":"a"}"#);
    assert!(kept.refresh_token().is_none() && kept.refresh_expires_at().is_none());
}

#[test]
fn no_server_code_is_shown_longer_or_wilder_than_is_safe() {
    let bench = Bench::new();
    let code = format!("e\\u001b[31m {}", "x".repeat(500));
    let answer = answer(400, &[], refusing(&code));
    let failed = client().tokens(&bench.wire(), &answer, None, Rejected).unwrap_err();
    let code = failed.code.as_ref().unwrap().as_str();
    assert!(code.starts_with("e31mxxx") && code.len() == 64, "{code}");
}

const NAMES: &[&str] =
    &["access_token", "refresh_token", "token_type", "expires_in", "error", "scope"];

/// Bytes of all kinds, and JSON that comes close to a token.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("\"\"".to_owned()),
        Just("\"t\"".to_owned()),
        Just("-1e999".to_owned()),
        Just("[{}]".to_owned()),
        any::<f64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        proptest::sample::select(CODES).prop_map(|(code, _)| format!("{code:?}")),
    ];
    let member = (proptest::sample::select(NAMES), value)
        .prop_map(|(name, value)| format!("\"{name}\":{value}"));
    let object = vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(",")));
    let cut = (object.clone(), any::<proptest::sample::Index>(), any::<u8>());
    prop_oneof![
        vec(any::<u8>(), 0..200),
        object.prop_map(String::into_bytes),
        cut.prop_map(|(object, at, byte)| {
            let mut bytes = object.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
    ]
}

#[test]
fn no_answer_panics_and_none_succeeds_without_an_access_token() {
    let (bench, client) = (Bench::new(), client());
    let wire = bench.wire();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(status in prop_oneof![Just(200), 100_u16..1000], body in bodies())| {
        let answer = answer(status, &[], body);
        for sender in senders() {
            let Ok(tokens) = client.tokens(&wire, &answer, None, sender) else { continue };
            prop_assert!((200..300).contains(&status));
            prop_assert!(!tokens.access_token().unwrap().expose_secret().is_empty());
        }
    });
}
