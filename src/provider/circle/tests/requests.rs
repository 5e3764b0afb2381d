//! The requests.

use futures_util::future::join;
use serde_json::{Value, json};

use super::*;
use crate::error::ErrorKind;
use crate::provider::{Credential, Effect, Operation};
use crate::transport::peer::Peer;

/// First line and body of a request with the app token.
fn seen(request: &str) -> (String, Value) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("authorization: Bearer canary-app\r\n"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap())
}

async fn creating(set: impl FnOnce(Circle) -> Circle, member: Member) -> Value {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let circle = set(circle().host(&peer.url("")).unwrap());
    let sender = bench.sender();
    let (issued, request) = join(circle.establish(&sender, member), peer.json(200, GOOD)).await;
    assert!(matches!(issued.unwrap(), Issued::Tokens(_)));
    let (line, body) = seen(&request);
    assert_eq!(line, "POST /api/v1/headless/auth_token HTTP/1.1");
    body
}

#[tokio::test]
async fn a_member_is_named_by_the_one_id_that_is_known() {
    let same = |circle| circle;
    assert_eq!(creating(same, Member::Id(77)).await, json!({ "community_member_id": 77 }));
    let email = creating(same, Member::Email("a@b.example".to_owned())).await;
    assert_eq!(email, json!({ "email": "a@b.example" }));
    let sso = creating(same, Member::SsoId("s-1".to_owned())).await;
    assert_eq!(sso, json!({ "sso_user_id": "s-1" }));
    let other = |circle: Circle| circle.sso_field("sso_id");
    let sso = creating(other, Member::SsoId("s-1".to_owned())).await;
    assert_eq!(sso, json!({ "sso_id": "s-1" }));
}

#[tokio::test]
async fn a_refresh_is_a_patch_with_the_app_token() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let circle = circle().host(&peer.url("")).unwrap();
    let (sender, held) = (bench.sender(), held());
    let body = r#"{"access_token":"a2","access_token_expires_at":"2027-01-15T08:01:00Z"}"#;
    let (tokens, request) =
        join(circle.refresh(&sender, held.refresh_token().unwrap(), &held), peer.json(200, body))
            .await;
    let (line, body) = seen(&request);
    assert_eq!(line, "PATCH /api/v1/headless/access_token/refresh HTTP/1.1");
    assert_eq!(body, json!({ "refresh_token": "r\"t" }));
    let tokens = tokens.unwrap();
    assert_eq!(tokens.access_expires_at(), Some(Bench::at(60)));
    assert_eq!(tokens.attributes(), &known());
    assert!(tokens.refresh_token().is_none());
}

#[tokio::test]
async fn the_end_of_a_session_is_that_of_its_refresh_token() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let circle = circle().host(&peer.url("")).unwrap();
    let (sender, held) = (bench.sender(), held());
    let (revoked, request) = join(circle.revoke(&sender, &held), peer.json(204, "")).await;
    assert_eq!(revoked.unwrap(), Revoked::AtServer);
    let (line, body) = seen(&request);
    assert_eq!(line, "POST /api/v1/headless/refresh_token/revoke HTTP/1.1");
    assert_eq!(body, json!({ "refresh_token": "r\"t" }));
    let none = Tokens::new(known()).with_access_token("a", None);
    assert_eq!(circle.revoke(&sender, &none).await.unwrap(), Revoked::NotSupported);
}

#[test]
fn operations_carry_the_app_token_and_name_what_they_end() {
    let bench = Bench::new();
    let circle = circle().host("community.example.com").unwrap();
    let access = CircleRevokeAccessToken.request(&circle, &held()).unwrap().0;
    assert_eq!(access.uri(), "https://community.example.com/api/v1/headless/access_token/revoke");
    assert_eq!(&access.body()[..], br#"{"access_token":"a\"t"}"#);
    assert!(access.headers()["authorization"].is_sensitive());
    let refresh = CircleRevokeRefreshToken.request(&circle, &held()).unwrap().0;
    assert_eq!(&refresh.body()[..], br#"{"refresh_token":"r\"t"}"#);
    assert_eq!(CircleRevokeAccessToken.credential(), Credential::InRequest);
    assert_eq!(CircleRevokeRefreshToken.credential(), Credential::InRequest);
    let gone = response(204, "");
    let sender = bench.sender();
    assert_eq!(
        CircleRevokeAccessToken.response(&sender, (), &gone).unwrap().1,
        Effect::AccessTokenDead
    );
    assert_eq!(
        CircleRevokeRefreshToken.response(&sender, (), &gone).unwrap().1,
        Effect::RefreshTokenDead
    );
    let none = Tokens::new(known());
    assert_eq!(
        CircleRevokeAccessToken.request(&circle, &none).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        CircleRevokeRefreshToken.request(&circle, &none).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[test]
fn a_host_is_a_name_or_an_origin_and_nothing_more() {
    assert_eq!(circle().authority_url().as_str(), "https://app.circle.so/");
    let own = circle().host("community.example.com").unwrap();
    assert_eq!(own.authority_url().as_str(), "https://community.example.com/");
    circle().host("https://community.example.com/").unwrap();
    for host in ["", "ftp://community.example.com", "a b", "x/y", "https://x/y", "x?y", "u@x"] {
        assert_eq!(circle().host(host).unwrap_err().kind(), ErrorKind::InvalidInput, "{host}");
    }
}

#[tokio::test]
async fn an_app_token_that_no_header_can_carry_is_a_wrong_configuration() {
    let bench = Bench::new();
    let circle = Circle::new("canary\n");
    let failed = circle.establish(&bench.sender(), Member::Id(1)).await.unwrap_err();
    assert_eq!(failed.class(), crate::provider::FailureClass::NotSent);
    assert!(!shown(&failed).contains("canary"));
    assert_eq!(failed.into_error().kind(), ErrorKind::Misconfigured);
    assert!(!format!("{circle:?}").contains("canary"));
}

#[test]
fn only_a_session_that_was_established_gets_new_tokens_and_only_if_auto_renew_is_on() {
    assert_eq!(circle().renewal_grant(Some(&held())), Some(known().member));
    assert_eq!(circle().renewal_grant(None), None);
    assert_eq!(circle().auto_renew(false).renewal_grant(Some(&held())), None);
}
