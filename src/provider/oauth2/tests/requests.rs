//! The requests to the token endpoint.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::provider::erased::Adapter;

/// What is sent to establish a session with this grant.
async fn granting(set: impl FnOnce(OAuth2) -> OAuth2, grant: impl Into<Grant>) -> Seen {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let client = set(OAuth2::new(&peer.url("/token"), "app").unwrap());
    let sender = bench.sender();
    let (issued, seen) = join(client.establish(&sender, grant.into()), peer.json(200, GOOD)).await;
    assert!(matches!(issued.unwrap(), Issued::Tokens(_)));
    Seen::new(&seen)
}

#[tokio::test]
async fn a_secret_in_the_header_is_escaped_before_it_is_encoded() {
    let secret = "p:w+ d/%é&=";
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let client = OAuth2::new(&peer.url("/token"), "a:b c").unwrap().client_secret_basic(secret);
    assert!(!format!("{client:?}").contains(secret));
    let (sender, held) = (bench.sender(), held());
    let (response, seen) =
        join(client.refresh(&sender, held.refresh_token().unwrap(), &held), peer.json(200, GOOD))
            .await;
    response.unwrap();
    let seen = Seen::new(&seen);
    let encoded = seen.authorization.as_deref().unwrap().strip_prefix("Basic ").unwrap();
    let pair = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
    assert_eq!(pair, "a%3Ab+c:p%3Aw%2B+d%2F%25%C3%A9%26%3D");
    // There is no client id, because the header has it, and no scope, which means the same scope as
    // before.
    seen.assert_fields(&[("grant_type", "refresh_token"), ("refresh_token", "r+/=é")]);
    assert!(seen.head.starts_with("POST /token HTTP/1.1\r\n"), "{}", seen.head);
}

#[tokio::test]
async fn a_secret_in_the_body_is_not_in_the_header_and_the_last_setting_holds() {
    let set = |client: OAuth2| client.client_secret_basic("other").client_secret_post("s&1=");
    let seen = granting(set, ClientCredentials::new()).await;
    assert_eq!(seen.authorization, None);
    seen.assert_fields(&[
        ("grant_type", "client_credentials"),
        ("client_id", "app"),
        ("client_secret", "s&1="),
    ]);
}

#[tokio::test]
async fn a_public_client_says_its_name_and_no_secret() {
    let seen = granting(|client| client, Password::new("ü ser", "p&w")).await;
    assert_eq!(seen.authorization, None);
    seen.assert_fields(&[
        ("grant_type", "password"),
        ("username", "ü ser"),
        ("password", "p&w"),
        ("client_id", "app"),
    ]);
}

#[tokio::test]
async fn a_code_goes_with_its_redirect_and_verifier_and_without_a_scope() {
    let grant = AuthorizationCode::new("c/1").redirect_uri("https://app.example/cb?x=1&y=2");
    let grant = grant.code_verifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    let seen = granting(|client| client.scope("read"), grant).await;
    seen.assert_fields(&[
        ("grant_type", "authorization_code"),
        ("code", "c/1"),
        ("redirect_uri", "https://app.example/cb?x=1&y=2"),
        ("code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        ("client_id", "app"),
    ]);
    let bare = granting(|client| client, AuthorizationCode::new("c")).await;
    bare.assert_fields(&[
        ("grant_type", "authorization_code"),
        ("code", "c"),
        ("client_id", "app"),
    ]);
}

#[tokio::test]
async fn a_grants_own_scope_goes_before_the_providers() {
    let scope = |seen: Seen| seen.fields.into_iter().find(|(name, _)| name == "scope");
    let set = |client: OAuth2| client.scope("read write");
    let general = granting(set, ClientCredentials::new()).await;
    assert_eq!(scope(general).unwrap().1, "read write");
    let own = granting(set, Password::new("u", "p").scope("read")).await;
    assert_eq!(scope(own).unwrap().1, "read");
}

#[tokio::test]
async fn a_refresh_without_a_refresh_token_is_not_sent() {
    let bench = Bench::new();
    let held = Tokens::new(Attributes::default()).with_access_token("a", None);
    let adapter = Adapter::new(client());
    let failed = adapter.refresh_typed(&bench.sender(), held).await.unwrap_err();
    assert_eq!(failed.class(), FailureClass::NotSent);
}
