//! Calls at the server beside the session's own.

use bytes::Bytes;
use std::time::SystemTime;

use http::{Request, header};
use serde_json::json;

use super::*;
use crate::provider::{Credential, Effect, Operation};

/// A client with all endpoints set.
fn calling() -> OAuth2 {
    let client = client().revocation_endpoint("https://as.example/revoke").unwrap();
    let client = client.introspection_endpoint("https://as.example/introspect").unwrap();
    client.userinfo_endpoint("https://as.example/me?a=b").unwrap().client_secret_post("s&1")
}

/// The fields of a request that must be a form for this endpoint.
fn form(request: &Request<Bytes>, path: &str) -> Vec<(String, String)> {
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", path));
    assert_eq!(request.headers()[header::CONTENT_TYPE], "application/x-www-form-urlencoded");
    url::form_urlencoded::parse(request.body()).into_owned().collect()
}

fn read_response<O: Operation<OAuth2, RequestInfo: Default>>(
    operation: O,
    status: u16,
    body: &str,
) -> Result<(O::Output, Effect), ExchangeError> {
    operation.response(
        &Bench::new().sender(),
        O::RequestInfo::default(),
        &response(status, &[], body),
    )
}

fn tokenform(token: &str, hint: &str) -> Vec<(String, String)> {
    let fields = [("token", token), ("token_type_hint", hint)];
    let fields = fields.into_iter().chain([("client_id", "app"), ("client_secret", "s&1")]);
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn an_introspection_names_the_token_and_the_client_that_asks() {
    let (client, held) = (calling(), held());
    for (operation, token, hint) in [
        (Introspect::access_token(), "a&b", "access_token"),
        (Introspect::refresh_token(), "r+/=é", "refresh_token"),
    ] {
        assert_eq!(operation.credential(), Credential::InRequest);
        let request = operation.request(&client, &held).unwrap().0;
        assert_eq!(form(&request, "/introspect"), tokenform(token, hint));
        assert_eq!(request.headers()[header::ACCEPT], "application/json");
    }
    let basic = calling().client_secret_basic("s");
    let request = Introspect::access_token().request(&basic, &held).unwrap().0;
    assert!(request.headers()[header::AUTHORIZATION].is_sensitive());
    assert_eq!(form(&request, "/introspect").len(), 2);
}

#[test]
fn an_introspection_is_read_as_the_standard_has_it_and_all_else_is_kept_aside() {
    let body = json!({
        "active": true, "client_id": "app", "username": "alice", "scope": "read write",
        "sub": "u-1", "aud": "api", "iss": "https://as.example", "exp": 1_800_000_060,
        "iat": 1_800_000_000.5, "nbf": 0, "token_type": "Bearer", "extension": {"a": [1]},
    });
    let (introspection, effect) =
        read_response(Introspect::access_token(), 200, &body.to_string()).unwrap();
    assert_eq!(effect, Effect::None);
    let mut expected = Introspection { active: true, ..Introspection::default() };
    expected.scope = Some("read write".to_owned());
    expected.client_id = Some("app".to_owned());
    expected.username = Some("alice".to_owned());
    expected.sub = Some("u-1".to_owned());
    expected.token_type = Some("Bearer".to_owned());
    expected.iss = Some("https://as.example".to_owned());
    expected.aud = vec!["api".to_owned()];
    expected.expires_at = Some(Bench::at(60));
    expected.issued_at = Some(Bench::at(0) + Duration::from_millis(500));
    expected.not_before = Some(SystemTime::UNIX_EPOCH);
    expected.more.insert("extension".to_owned(), json!({"a": [1]}));
    assert_eq!(introspection, expected);
}

#[test]
fn members_of_another_type_are_kept_as_they_are() {
    let odd = json!({"scope": ["a"], "exp": -1, "iat": "soon", "nbf": 1e300, "aud": ["a", 1]});
    let mut body = odd.clone();
    body["active"] = true.into();
    let (introspection, _) =
        read_response(Introspect::access_token(), 200, &body.to_string()).unwrap();
    let mut expected = Introspection { active: true, ..Introspection::default() };
    expected.more = odd.as_object().unwrap().clone();
    assert_eq!(introspection, expected);
}

#[test]
fn an_access_token_that_is_not_active_is_dead_and_a_refresh_token_is_left_to_the_next_refresh() {
    let inactive = r#"{"active":false}"#;
    let (access, effect) = read_response(Introspect::access_token(), 200, inactive).unwrap();
    assert_eq!((access.active, effect), (false, Effect::AccessTokenDead));
    let (refresh, effect) = read_response(Introspect::refresh_token(), 200, inactive).unwrap();
    assert_eq!((refresh.active, effect), (false, Effect::None));
}

#[test]
fn an_answer_that_does_not_say_whether_the_token_is_active_says_nothing() {
    for body in [
        "",
        "{}",
        "canary",
        r#"[true]"#,
        r#"{"active":"canary"}"#,
        r#"{"active":null,"sub":"canary"}"#,
        r#"{"active":1}"#,
        "eyJhbGciOiJub25lIn0.canary.",
    ] {
        let failed = read_response(Introspect::access_token(), 200, body).unwrap_err();
        assert_eq!(failed.class(), Ambiguous, "{body}");
        assert!(!shown(&failed).contains("canary"));
    }
}

#[test]
fn every_operation_tells_its_failures_apart() {
    let bench = Bench::new();
    let sender = bench.sender();
    for (status, headers, body, class) in [
        (401, &[][..], refusing("invalid_client"), InvalidClient),
        (401, &[], String::new(), Unclassified),
        (403, &[], "<html>canary".to_owned(), Unclassified),
        (404, &[], String::new(), Unclassified),
        (307, &[("location", "https://canary.example")], String::new(), Unclassified),
        (400, &[], refusing("invalid_request"), Unclassified),
        (400, &[], refusing("access_denied"), Refused(Refusal::NotPermitted)),
        (408, &[], String::new(), NotProcessed),
        (429, &[("retry-after", "7")], String::new(), Throttled),
        (503, &[("retry-after", "7")], String::new(), NotProcessed),
        (500, &[], refusing("server_error"), Ambiguous),
    ] {
        let response = response(status, headers, &body);
        let failures = [
            Introspect::access_token().response(&sender, (), &response).map(drop).unwrap_err(),
            UserInfo.response(&sender, (), &response).map(drop).unwrap_err(),
            RevokeAccessToken.response(&sender, Vec::new(), &response).map(drop).unwrap_err(),
        ];
        for failed in failures {
            assert_eq!(failed.class(), class, "{status} {body}");
            assert_eq!(failed.status(), Some(status));
            assert!(!shown(&failed).contains("canary"));
        }
    }
}

#[test]
fn user_info_is_asked_for_with_the_permission_token_and_has_no_other_credential() {
    assert_eq!(Operation::<OAuth2>::credential(&UserInfo), Credential::PermissionToken);
    let request = UserInfo.request(&calling(), &held()).unwrap().0;
    assert_eq!((request.method().as_str(), request.body().len()), ("GET", 0));
    assert_eq!(request.uri(), "https://as.example/me?a=b");
    assert_eq!(request.headers().len(), 1);
    assert_eq!(request.headers()[header::ACCEPT], "application/json");
}

#[test]
fn user_info_is_what_the_server_says_of_the_user() {
    let (claims, effect) =
        read_response(UserInfo, 200, r#"{"sub":"u-1","email_verified":true}"#).unwrap();
    assert_eq!(effect, Effect::None);
    assert_eq!(Some(&claims), json!({"sub": "u-1", "email_verified": true}).as_object());
    let failed = read_response(UserInfo, 200, "<html>canary").unwrap_err();
    assert_eq!(failed.class(), Ambiguous);
}

#[test]
fn user_info_that_is_signed_is_a_wrong_configuration() {
    let bench = Bench::new();
    for kind in ["application/jwt", "Application/JWT; charset=utf-8"] {
        let response = response(200, &[("content-type", kind)], "eyJhbGciOiJub25lIn0.canary.");
        let failed = UserInfo.response(&bench.sender(), (), &response).unwrap_err();
        assert_eq!(failed.class(), Unclassified);
        let shown = shown(&failed);
        assert!(shown.contains("signed JWT") && !shown.contains("canary"), "{shown}");
    }
}

#[test]
fn the_code_of_a_bearer_challenge_is_told() {
    let bench = Bench::new();
    let challenge = [("www-authenticate", "Bearer error=\"insufficient_scope\"")];
    let failed =
        UserInfo.response(&bench.sender(), (), &response(403, &challenge, "")).unwrap_err();
    let error = failed.into_error();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert_eq!(error.provider_code(), Some("insufficient_scope"));
}

#[test]
fn the_access_token_is_revoked_alone() {
    assert_eq!(Operation::<OAuth2>::credential(&RevokeAccessToken), Credential::InRequest);
    let request = RevokeAccessToken.request(&calling(), &held()).unwrap().0;
    assert_eq!(form(&request, "/revoke"), tokenform("a&b", "access_token"));
    let done = read_response(RevokeAccessToken, 200, "").unwrap();
    assert_eq!(done, (Revoked::AtServer, Effect::AccessTokenDead));
    let unknown = read_response(RevokeAccessToken, 400, &refusing("invalid_token")).unwrap();
    assert_eq!(unknown, (Revoked::AtServer, Effect::AccessTokenDead));
    let cannot =
        read_response(RevokeAccessToken, 400, &refusing("unsupported_token_type")).unwrap();
    assert_eq!(cannot, (Revoked::NotSupported, Effect::None));
}

#[test]
fn an_operation_without_its_endpoint_or_token_says_what_is_missing() {
    let requests = |client: &OAuth2, held: &Tokens<Attributes>| {
        [
            Introspect::access_token().request(client, held).map(drop),
            Introspect::refresh_token().request(client, held).map(drop),
            RevokeAccessToken.request(client, held).map(drop),
            UserInfo.request(client, held).map(drop),
        ]
    };
    let settings = ["introspection", "introspection", "revocation", "userinfo"];
    for (request, setting) in requests(&client(), &held()).into_iter().zip(settings) {
        let error = request.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.to_string().contains(&format!("{setting}_endpoint")), "{error}");
    }
    let nothing = Tokens::new(Attributes::default());
    for request in requests(&calling(), &nothing).into_iter().take(3) {
        assert_eq!(request.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn the_metadata_says_where_to_ask_unless_it_is_set() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let issuer = peer.url("");
    let metadata = json!({
        "issuer": issuer, "token_endpoint": format!("{issuer}/t"),
        "introspection_endpoint": format!("{issuer}/i"),
        "userinfo_endpoint": format!("{issuer}/u"),
        "revocation_endpoint": format!("{issuer}/r"),
    });
    let client = OAuth2::discover(&issuer, "app").unwrap();
    let sender = bench.sender();
    peer.json_then_404(200, &metadata.to_string(), client.prepare(&sender)).await.unwrap();
    let held = held();
    form(&Introspect::access_token().request(&client, &held).unwrap().0, "/i");
    form(&RevokeAccessToken.request(&client, &held).unwrap().0, "/r");
    assert_eq!(UserInfo.request(&client, &held).unwrap().0.uri().path(), "/u");
    let set = client.introspection_endpoint("https://as.example/set").unwrap();
    let request = Introspect::access_token().request(&set, &held).unwrap().0;
    assert_eq!(request.uri(), "https://as.example/set");
}
