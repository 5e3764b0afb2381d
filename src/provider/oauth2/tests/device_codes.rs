//! Logins on another device: what is sent, and what is made of the responses.

use std::time::Duration;

use futures_util::future::join;

use super::*;
use crate::provider::{DeviceAuthorization, DeviceCodes};

fn devices() -> OAuth2 {
    client().device_authorization_endpoint("https://as.example/device").unwrap().scope("read")
}

fn sent(client: &OAuth2, options: &DeviceOptions) -> Vec<(String, String)> {
    let request = client.device_request(options).unwrap();
    assert_eq!(request.uri(), "https://as.example/device");
    url::form_urlencoded::parse(request.body()).into_owned().collect()
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_codes_are_asked_for_with_the_client_the_scope_and_the_options() {
    let none = DeviceOptions::new();
    assert_eq!(sent(&devices(), &none), owned(&[("scope", "read"), ("client_id", "app")]));
    let all = DeviceOptions::new().scope("a b").parameter("audience", "api");
    let read = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<DeviceOptions>(&read).unwrap(), all);
    let basic = devices().client_secret_basic("canary");
    let fields = [("client_id", "app"), ("scope", "a b"), ("audience", "api")];
    assert_eq!(sent(&basic, &all), owned(&fields));
    let post = devices().client_secret_post("s");
    let fields = [("scope", "read"), ("client_id", "app"), ("client_secret", "s")];
    assert_eq!(sent(&post, &none), owned(&fields));
    for taken in ["", "scope", "client_id", "client_secret"] {
        let error = devices().device_request(&none.clone().parameter(taken, "x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{taken}");
    }
}

fn codes(status: u16, body: &str) -> Exchanged<DeviceCodes> {
    let bench = Bench::new();
    let sender = bench.sender();
    devices().device_codes(&sender, &response(status, &[], body))
}

#[test]
fn the_codes_are_read_as_the_standard_and_as_google_and_microsoft_have_them() {
    let body = r#"{"device_code":"canary","user_code":"WDJB-MJHT",
        "verification_uri":"https://as.example/device",
        "verification_uri_complete":"https://as.example/device?user_code=WDJB-MJHT",
        "expires_in":1800,"interval":7}"#;
    let read = codes(200, body).unwrap();
    assert_eq!(read.device_code.expose_secret(), "canary");
    assert_eq!(read.user_code, "WDJB-MJHT");
    assert_eq!(read.verification_uri.as_str(), "https://as.example/device");
    assert!(read.verification_uri_complete.is_some());
    assert_eq!(read.interval, Some(Duration::from_secs(7)));
    assert_eq!(read.expires_at, Bench::at(1800));
    assert!(!format!("{read:?}").contains("canary") && !format!("{read:?}").contains("WDJB"));

    let other = r#"{"device_code":"c","user_code":"u","verification_url":"https://as.example/d",
        "expires_in":"900","interval":"5"}"#;
    let read = codes(200, other).unwrap();
    assert_eq!(read.verification_uri.as_str(), "https://as.example/d");
    assert_eq!((read.interval, read.expires_at), (Some(Duration::from_secs(5)), Bench::at(900)));

    let little = r#"{"device_code":"c","user_code":"u","verification_uri":"https://as.example/d",
        "verification_uri_complete":"no URL","expires_in":60,"interval":-1}"#;
    let read = codes(200, little).unwrap();
    assert_eq!((read.interval, read.verification_uri_complete), (None, None));
}

#[test]
fn a_response_without_codes_is_a_failure_that_repeats_nothing() {
    for body in [
        "{}",
        r#"{"user_code":"u","verification_uri":"https://as.example/d","expires_in":60}"#,
        r#"{"device_code":"canary","verification_uri":"https://as.example/d","expires_in":60}"#,
        r#"{"device_code":"canary","user_code":"a\u001b[1m","verification_uri":"https://as.example/d","expires_in":60}"#,
        r#"{"device_code":"canary","user_code":"canary","verification_uri":"canary","expires_in":60}"#,
        r#"{"device_code":"canary","user_code":"canary","verification_uri":"https://as.example/d"}"#,
    ] {
        let failed = codes(200, body).unwrap_err();
        assert_eq!(failed.class(), Ambiguous, "{body}");
        assert!(!shown(&failed).contains("canary"), "{failed:?}");
    }
    for (status, code, class) in [
        (400, "invalid_scope", Unclassified),
        (401, "invalid_client", InvalidClient),
        (400, "unauthorized_client", Unclassified),
    ] {
        let failed = codes(status, &refusing(code)).unwrap_err();
        assert_eq!(failed.class(), class, "{code}");
        let error = failed.into_error();
        assert_eq!(error.provider_code(), Some(code));
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
    }
}

/// The class of a poll that is answered like this.
async fn polled(status: u16, body: &str) -> FailureClass {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let client = OAuth2::new(&peer.url("/token"), "app").unwrap();
    let sender = bench.sender();
    let grant = client.device_grant(Secret::from("d+c"), &DeviceOptions::new().scope("a"));
    let (issued, request) = join(client.establish(&sender, grant), peer.json(status, body)).await;
    Seen::new(&request).assert_fields(&[
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", "d+c"),
        ("client_id", "app"),
    ]);
    issued.unwrap_err().class()
}

#[tokio::test]
async fn a_poll_that_brings_no_tokens_says_whether_the_user_is_waited_for() {
    let pending = Refused(Refusal::LoginPending);
    for (status, code, class) in [
        (400, "authorization_pending", pending),
        (428, "authorization_pending", pending),
        (200, "authorization_pending", pending),
        (400, "slow_down", pending),
        (429, "slow_down", pending),
        (400, "expired_token", Refused(Refusal::GrantExpired)),
        (400, "access_denied", Refused(Refusal::NotPermitted)),
        (400, "invalid_grant", Refused(Refusal::GrantExpired)),
        (401, "invalid_client", InvalidClient),
        (400, "invalid_request", Unclassified),
        (503, "temporarily_unavailable", NotProcessed),
    ] {
        assert_eq!(polled(status, &refusing(code)).await, class, "{status} {code}");
    }
    assert_eq!(polled(429, "").await, Throttled);
}

#[tokio::test]
async fn a_poll_that_brings_tokens_has_the_scope_that_was_asked_for() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let client = OAuth2::new(&peer.url("/token"), "app").unwrap().scope("usual");
    let sender = bench.sender();
    let grant = client.device_grant(Secret::from("c"), &DeviceOptions::new());
    let answer = peer.json(200, r#"{"access_token":"a"}"#);
    let (issued, _) = join(client.establish(&sender, grant), answer).await;
    let Issued::Tokens(tokens) = issued.unwrap();
    assert_eq!(tokens.attributes().scope.as_deref(), Some("usual"));
}
