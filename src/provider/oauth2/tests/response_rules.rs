//! The rules of the settings for responses that mean something else than by the standard.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::provider::Operation;

fn rule(status: u16, pointer: &str, value: impl Into<JsonScalar>, class: ErrorClass) -> ErrorRule {
    ErrorRule { status, pointer: JsonPointer::new(pointer).unwrap(), value: value.into(), class }
}

const WRONG_PASSWORD: FailureClass = Refused(Refusal::WrongCredentials);

fn failed(client: &OAuth2, response: &Response<Bytes>, invalid: FailureClass) -> ExchangeError {
    client.tokens(&Bench::new().sender(), response, Attributes::default(), invalid).unwrap_err()
}

#[test]
fn each_class_of_a_rule_means_its_failure_at_a_refresh_and_at_an_establish() {
    for (class, refresh, establish) in [
        (ErrorClass::InvalidGrant, Rejected, WRONG_PASSWORD),
        (ErrorClass::AccessDenied, Rejected, Refused(Refusal::NotPermitted)),
        (ErrorClass::InvalidClient, InvalidClient, InvalidClient),
        (ErrorClass::NotProcessed, NotProcessed, NotProcessed),
        (ErrorClass::Throttled, Throttled, Throttled),
        (ErrorClass::Ambiguous, Ambiguous, Ambiguous),
        (ErrorClass::Unclassified, Unclassified, Unclassified),
    ] {
        let client = client().error_rule(rule(400, "/status", "BAD_TOKEN", class));
        let body = r#"{"status":"BAD_TOKEN","message":"canary"}"#;
        let response = response(400, &[("retry-after", "7")], body);
        for (invalid_grant, expected) in [(Rejected, refresh), (WRONG_PASSWORD, establish)] {
            let failed = failed(&client, &response, invalid_grant);
            assert_eq!(failed.class(), expected, "{class:?}");
            assert_eq!(failed.retry_after(), Some(Duration::from_secs(7)));
            assert!(!shown(&failed).contains("canary"));
            let error = failed.into_error();
            assert_eq!((error.provider_code(), error.status()), (Some("BAD_TOKEN"), Some(400)));
        }
    }
}

#[test]
fn a_rule_fits_by_status_place_and_value() {
    let fits = |value: JsonScalar, status: u16, body: &str| {
        let client = client().error_rule(rule(400, "/e/code", value, ErrorClass::InvalidGrant));
        failed(&client, &response(status, &[], body), Rejected).class() == Rejected
    };
    assert!(fits(190.into(), 400, r#"{"e":{"code":190}}"#));
    assert!(fits(190.into(), 400, r#"{"e":{"code":190.0}}"#));
    assert!(fits(190.into(), 400, r#"{"e":{"code":1,"code":1.9e2}}"#));
    assert!(fits(false.into(), 400, r#"{"e":{"code":false}}"#));
    assert!(fits("190".into(), 400, r#"{"e":{"code":"190"}}"#));
    assert!(!fits("190".into(), 400, r#"{"e":{"code":190}}"#));
    assert!(!fits(190.into(), 400, r#"{"e":{"code":"190"}}"#));
    assert!(!fits(1.into(), 400, r#"{"e":{"code":true}}"#));
    assert!(!fits(190.into(), 401, r#"{"e":{"code":190}}"#));
    assert!(!fits(190.into(), 400, r#"{"code":190}"#));
    assert!(!fits(190.into(), 400, r#"{"e":{"code":190}"#));
    assert!(!fits(190.into(), 400, r#"{"e":{"code":190},"e":0}"#));
}

#[test]
fn a_rule_goes_before_the_codes_of_the_standard_and_the_status() {
    let client = client()
        .client_secret_basic("canary")
        .error_rule(rule(400, "/error", "invalid_grant", ErrorClass::NotProcessed))
        .error_rule(rule(400, "/error", "invalid_grant", ErrorClass::Throttled))
        .error_rule(rule(429, "/error", "dead", ErrorClass::InvalidGrant))
        .error_rule(rule(500, "/error", "dead", ErrorClass::InvalidGrant))
        .error_rule(rule(302, "/error", "dead", ErrorClass::InvalidGrant))
        .error_rule(rule(401, "/error", "odd", ErrorClass::Unclassified))
        .error_rule(rule(200, "/ok", false, ErrorClass::InvalidGrant));
    let class = |status: u16, headers: &[(&str, &str)], body: &str| {
        failed(&client, &response(status, headers, body), Rejected).class()
    };
    assert_eq!(class(400, &[], &refusing("invalid_grant")), NotProcessed, "the first counts");
    for status in [429, 500, 302] {
        assert_eq!(class(status, &[], &refusing("dead")), Rejected, "{status}");
    }
    let challenge = [("www-authenticate", "Basic realm=\"x\"")];
    assert_eq!(class(401, &challenge, &refusing("odd")), Unclassified);
    assert_eq!(class(401, &challenge, &refusing("other")), InvalidClient);
    assert_eq!(class(200, &[], r#"{"ok":false,"error":"x"}"#), Rejected);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(class(400, &form, "error=invalid_grant"), NotProcessed, "a field of a form");
}

#[test]
fn a_response_with_a_token_is_a_success_although_a_rule_fits() {
    let client = client().error_rule(rule(200, "/error", "x", ErrorClass::InvalidGrant));
    let body = r#"{"access_token":"a","error":"x"}"#;
    let bench = Bench::new();
    let read = |body| {
        client.tokens(&bench.sender(), &response(200, &[], body), Attributes::default(), Rejected)
    };
    let issued = read(body).unwrap();
    assert_eq!(issued.access_token().unwrap().expose_secret(), "a");
    // The server has rotated the refresh token, so the session is not lost.
    let rotated = read(r#"{"refresh_token":"canary","error":"x"}"#).unwrap_err();
    assert_ne!(rotated.class(), Rejected);
}

#[tokio::test]
async fn a_rule_applies_to_revocations() {
    for (class, expected) in [
        (ErrorClass::InvalidGrant, None),
        (ErrorClass::AccessDenied, Some(Refused(Refusal::NotPermitted))),
        (ErrorClass::Unclassified, Some(Unclassified)),
        (ErrorClass::Throttled, Some(Throttled)),
    ] {
        for status in [200, 401] {
            let rule = rule(status, "/error", "odd", class);
            let (bench, peer) = (Bench::new(), Peer::start().await);
            let client = client().revocation_endpoint(&peer.url("/revoke")).unwrap();
            let client = client.client_secret_basic("x").error_rule(rule.clone());
            let (sender, held) = (bench.sender(), held());
            let body = refusing("odd");
            let (revoked, _) = join(client.revoke(&sender, &held), peer.json(status, &body)).await;
            let judged = revoked.map_err(|failed| failed.class());
            assert_eq!(judged, expected.map_or(Ok(Revoked::AtServer), Err), "{class:?} {status}");
            let response = response(status, &[], &body);
            let call = RevokeAccessToken.response(&sender, vec![rule], &response);
            assert_eq!(call.map(|(done, _)| done).map_err(|failed| failed.class()), judged);
        }
    }
}

fn dead(status: u16, pointer: Option<&str>, value: Option<JsonScalar>) -> DeadTokenRule {
    let pointer = pointer.map(|pointer| JsonPointer::new(pointer).unwrap());
    DeadTokenRule { pointer, value, ..DeadTokenRule::of_status(status) }
}

fn rejection(client: &OAuth2, status: u16, body: &[u8]) -> Rejection {
    client.rejection(&response(status, &[], []).into_parts().0, body)
}

#[test]
fn a_response_of_the_api_means_a_dead_token_if_a_rule_says_so() {
    let code = dead(400, Some("/error/code"), Some(190.into()));
    let client = client()
        .token_dead_on(code)
        .token_dead_on(dead(403, None, None))
        .token_dead_on(DeadTokenRule { session: true, ..dead(401, Some("/gone"), None) })
        .token_dead_on(dead(404, None, Some("EXPIRED".into())));
    for (status, body, expected) in [
        (400, r#"{"error":{"code":190}}"#, Rejection::TokenDead),
        (400, "\u{feff}{\"error\":{\"code\":190.0}}", Rejection::TokenDead),
        (400, r#"{"error":{"code":190}"#, Rejection::None),
        (400, r#"{"error":{"code":"190"}}"#, Rejection::None),
        (400, r#"{"error":{"code":191}}"#, Rejection::None),
        (400, "", Rejection::None),
        (402, r#"{"error":{"code":190}}"#, Rejection::None),
        (403, "<html>", Rejection::TokenDead),
        (401, r#"{"gone":1}"#, Rejection::SessionDead),
        (401, r#"{"gone":{"at":1}}"#, Rejection::SessionDead),
        // The rules of RFC 6750 apply where none of these fits.
        (401, r#"{"gone":null}"#, Rejection::TokenDead),
        (401, r#"{"gone":1"#, Rejection::TokenDead),
        (404, "\"EXPIRED\"", Rejection::TokenDead),
        (404, "\"OTHER\"", Rejection::None),
        (404, "", Rejection::None),
    ] {
        assert_eq!(rejection(&client, status, body.as_bytes()), expected, "{status} {body}");
    }
    assert_eq!(rejection(&super::client(), 403, b""), Rejection::OtherReason);
}

#[test]
fn no_cut_of_a_body_and_no_bytes_match_a_rule_or_panic() {
    let client = client().token_dead_on(dead(400, Some("/error/0/code"), Some(190.into())));
    let body = br#"{"x":[[{}]],"error":[{"code":190}],"y":"\u00e9"}"#;
    assert_eq!(rejection(&client, 400, body), Rejection::TokenDead);
    for end in 0..body.len() {
        assert_eq!(rejection(&client, 400, &body[..end]), Rejection::None, "{end}");
    }
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(body in vec(any::<u8>(), 0..100))| {
        prop_assert_eq!(rejection(&client, 400, &body), Rejection::None);
    });
}
