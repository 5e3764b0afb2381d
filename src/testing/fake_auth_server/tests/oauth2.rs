//! The provider `oauth2` at this server: its logins and operations, without a session.

use super::*;
use crate::error::{ErrorKind, Refusal};
use crate::provider::oauth2::{
    Attributes, Grant, Introspect, LoginOptions, OAuth2, RevokeAccessToken, UserInfo,
};
use crate::provider::test_bench::Bench;
use crate::provider::{
    Credential, Effect, HttpSender, Issued, LoginRequest, Operation, Provider, RedirectLogin,
    Revoked,
};
use crate::secret::Secret;

/// The client as a user configures it: only issuer, id, secret and redirect URI are known.
fn client(server: &FakeAuthServer) -> OAuth2 {
    let client = OAuth2::discover(server.url(), "app").unwrap().client_secret_basic("s");
    client.redirect_uri("https://app.example/back").unwrap().scope("openid read")
}

async fn server() -> FakeAuthServer {
    FakeAuthServer::builder().client("app", "s").start().await.unwrap()
}

/// A whole login, with the browser's part.
async fn log_in(client: &OAuth2, peer: &Peer<'_>) -> crate::error::Result<Grant> {
    let (state, verifier) = (Secret::from("s-1"), Secret::from("v".repeat(43)));
    let login = LoginRequest::new(&state, &verifier);
    let options = LoginOptions::new();
    let url = client.login_url(&login, &options).unwrap();
    let back = peer.http.get(url.as_str()).send().await.unwrap();
    let back = back.headers()["location"].to_str().unwrap().to_owned();
    client.login_grant(&back, &login, &options)
}

async fn establish(
    client: &OAuth2,
    sender: &HttpSender<'_>,
    grant: Grant,
) -> crate::token::Tokens<Attributes> {
    match client.establish(sender, grant).await.unwrap() {
        Issued::Tokens(tokens) => tokens,
        Issued::Challenge(never) => match never {},
    }
}

/// What a session does with an operation.
async fn call<O: Operation<OAuth2>>(
    operation: O,
    client: &OAuth2,
    sender: &HttpSender<'_>,
    held: &crate::token::Tokens<Attributes>,
) -> (O::Output, Effect) {
    let (mut request, context) = operation.request(client, held).unwrap();
    if operation.credential() == Credential::PermissionToken {
        let token = held.access_token().unwrap().expose_secret();
        request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    }
    let answer = sender.send(request).await.unwrap();
    operation.response(sender, context, &answer).unwrap()
}

#[tokio::test]
async fn a_login_through_a_browser_gives_tokens_of_its_scope() {
    let server = server().await;
    let (bench, client, peer) = (Bench::new(), client(&server), Peer::new(&server));
    let sender = bench.sender();
    client.prepare(&sender).await.unwrap();
    let grant = log_in(&client, &peer).await.unwrap();
    let tokens = establish(&client, &sender, grant).await;
    assert_eq!(tokens.attributes().scope.as_deref(), Some("openid read"));
    assert!(server.is_active(tokens.refresh_token().unwrap().expose_secret()));
    let counts = server.counts();
    assert_eq!((counts.authorize.granted, counts.authorization_code.granted), (1, 1));
}

#[tokio::test]
async fn a_user_who_denies_is_distinguished_from_a_server_that_is_busy() {
    let server = server().await;
    let (bench, client, peer) = (Bench::new(), client(&server), Peer::new(&server));
    client.prepare(&bench.sender()).await.unwrap();
    for (code, kind) in [
        ("access_denied", ErrorKind::Refused(Refusal::NotPermitted)),
        ("login_required", ErrorKind::Refused(Refusal::Other)),
        ("temporarily_unavailable", ErrorKind::RetryLater),
        ("invalid_scope", ErrorKind::Misconfigured),
    ] {
        server.set_login(FakeLogin::deny(code));
        let error = log_in(&client, &peer).await.unwrap_err();
        assert_eq!((error.kind(), error.provider_code()), (kind, Some(code)));
    }
}

#[tokio::test]
async fn the_operations_tell_of_the_tokens_and_of_the_user_and_end_the_access_token_alone() {
    let server = server().await;
    let (bench, client, peer) = (Bench::new(), client(&server), Peer::new(&server));
    let sender = bench.sender();
    client.prepare(&sender).await.unwrap();
    let held = establish(&client, &sender, log_in(&client, &peer).await.unwrap()).await;

    let (introspection, effect) = call(Introspect::access_token(), &client, &sender, &held).await;
    assert_eq!((introspection.active, effect), (true, Effect::None));
    assert_eq!(introspection.client_id.as_deref(), Some("app"));
    assert_eq!(introspection.username.as_deref(), Some("alice"));
    assert_eq!(introspection.scope.as_deref(), Some("openid read"));
    assert!(introspection.expires_at.is_some() && introspection.more.is_empty());
    let (introspection, _) = call(Introspect::refresh_token(), &client, &sender, &held).await;
    assert!(introspection.active && introspection.token_type.is_none());
    let (claims, effect) = call(UserInfo, &client, &sender, &held).await;
    assert_eq!((claims["sub"].as_str(), effect), (Some("alice"), Effect::None));

    let done = call(RevokeAccessToken, &client, &sender, &held).await;
    assert_eq!(done, (Revoked::AtServer, Effect::AccessTokenDead));
    let (introspection, effect) = call(Introspect::access_token(), &client, &sender, &held).await;
    assert_eq!((introspection.active, effect), (false, Effect::AccessTokenDead));
    let renewed = client.refresh(&sender, held.refresh_token().unwrap(), &held).await.unwrap();
    assert!(server.is_active(renewed.access_token().unwrap().expose_secret()));
    let counts = server.counts();
    assert_eq!(
        (counts.introspect.granted, counts.userinfo.granted, counts.revoke.granted),
        (3, 1, 1)
    );
}
