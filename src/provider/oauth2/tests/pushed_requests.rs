//! Pushed authorization requests: what is sent, and what is made of the responses.

use super::*;
use crate::provider::{LoginRequest, RedirectLogin};

const CALLBACK: &str = "https://app.example/cb";

fn pushing() -> OAuth2 {
    let client = client().authorization_endpoint("https://as.example/authorize?p=1").unwrap();
    let client = client.pushed_authorization_request_endpoint("https://as.example/par").unwrap();
    client.redirect_uri(CALLBACK).unwrap().scope("read")
}

/// The pushed request as it is sent: its address, its `Authorization` and its fields.
fn pushed(client: &OAuth2) -> (String, Option<String>, Vec<(String, String)>) {
    let state = Secret::from("s-1&");
    let verifier = Secret::from("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    let login = LoginRequest::new(&state, &verifier);
    let options = LoginOptions::new().prompt("consent");
    let request = client.pushed_request(&login, &options).unwrap().unwrap();
    let authorization = request.headers().get("authorization");
    let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
    let fields = url::form_urlencoded::parse(request.body()).into_owned().collect();
    (request.uri().to_string(), authorization, fields)
}

#[test]
fn a_push_has_the_parameters_of_the_login_and_the_client_once() {
    let (uri, authorization, fields) = pushed(&pushing().client_secret_basic("canary"));
    assert_eq!(uri, "https://as.example/par");
    assert_eq!(authorization.unwrap(), "Basic YXBwOmNhbmFyeQ==");
    let expected = [
        ("response_type", "code"),
        ("client_id", "app"),
        ("redirect_uri", CALLBACK),
        ("scope", "read"),
        ("state", "s-1&"),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
        ("prompt", "consent"),
    ];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));

    for (client, secrets) in [
        (pushing(), &[][..]),
        (pushing().client_secret_post("canary"), &[("client_secret", "canary")]),
    ] {
        let (_, authorization, fields) = pushed(&client);
        assert_eq!(authorization, None);
        let count = |wanted: &str| fields.iter().filter(|(name, _)| name == wanted).count();
        assert_eq!(count("client_id"), 1);
        assert_eq!(count("client_secret"), secrets.len());
    }
}

fn url_of(status: u16, body: &str) -> Exchanged<(Url, std::time::SystemTime)> {
    let bench = Bench::new();
    let sender = bench.sender();
    pushing().pushed_url(&sender, &response(status, &[], body))
}

#[test]
fn the_browser_brings_only_the_reference() {
    let body = r#"{"request_uri":"urn:ietf:params:oauth:request_uri:a&b","expires_in":90}"#;
    for status in [201, 200] {
        let (url, expires_at) = url_of(status, body).unwrap();
        assert_eq!(
            url.as_str(),
            "https://as.example/authorize?p=1&client_id=app&\
             request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3Aa%26b"
        );
        assert_eq!(expires_at, Bench::at(90));
    }
}

#[test]
fn a_response_without_a_reference_is_a_failure_that_names_the_endpoint() {
    for (status, body, class, code) in [
        (400, refusing("invalid_request"), Unclassified, Some("invalid_request")),
        (401, refusing("invalid_client"), InvalidClient, Some("invalid_client")),
        (400, refusing("access_denied"), Refused(Refusal::NotPermitted), Some("access_denied")),
        (405, String::new(), Unclassified, None),
        (413, String::new(), Unclassified, None),
        (429, String::new(), Throttled, None),
        (503, String::new(), Ambiguous, None),
        (201, "{}".to_owned(), Ambiguous, None),
        (201, r#"{"request_uri":"","expires_in":60}"#.to_owned(), Ambiguous, None),
        (201, r#"{"request_uri":"canary","expires_in":"x"}"#.to_owned(), Ambiguous, None),
    ] {
        let failed = url_of(status, &body).unwrap_err();
        assert_eq!(failed.class(), class, "{status} {body}");
        assert!(!shown(&failed).contains("canary"), "{failed:?}");
        let error = failed.into_error();
        assert_eq!(error.provider_code(), code, "{status} {body}");
        if class == Unclassified {
            assert!(error.to_string().contains("a pushed authorization request"), "{error}");
        }
    }
}

#[test]
fn a_client_that_must_push_and_knows_no_endpoint_says_which_setting_is_missing() {
    let client = client().authorization_endpoint("https://as.example/a").unwrap();
    let client = client.redirect_uri(CALLBACK).unwrap().push_authorization_requests();
    let (state, verifier) = (Secret::from("s"), Secret::from("v"));
    let login = LoginRequest::new(&state, &verifier);
    let error = client.pushed_request(&login, &LoginOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("`pushed_authorization_request_endpoint`"), "{error}");
}
