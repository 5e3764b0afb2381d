//! Servers that repeat secrets of a request in their description of the error.

use std::net::SocketAddr;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{FutureExt, StreamExt};
use http::header;
use serde_json::json;
use session_warden::provider::oauth2::{
    Attributes, AuthorizationCode, ClientAuthentication, OAuth2, Password, RequestBody, UserInfo,
};
use session_warden::session::Adopt;
use session_warden::testing::{Endpoint, FakeAuthServer, Fault};
use session_warden::token::Tokens;
use session_warden::transport::TransportConfig;
use session_warden::{Session, Supervisor};

use super::Output;
use crate::secret_scan::SECRET;
use crate::support::{key, provider_of};

/// How a server writes what it repeats.
const MANNERS: [&str; 5] = ["plain", "escaped", "cut", "spread", "upper"];

/// Fails each request, and repeats all of it in the description: the query, the credentials of the
/// header, the same decoded, and the body. The path begins with how it writes them.
async fn echo(uri: Uri, headers: HeaderMap, body: String) -> (StatusCode, String) {
    let authorization = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap());
    let authorization = authorization.unwrap_or_default();
    let (_, credentials) = authorization.split_once(' ').unwrap_or_default();
    let pair = STANDARD.decode(credentials).ok().and_then(|pair| String::from_utf8(pair).ok());
    let query = uri.query().unwrap_or_default();
    let text = format!("{query} {authorization} {} {body}", pair.unwrap_or_default());
    let written = match uri.path().split('/').nth(1).unwrap() {
        "plain" => text,
        "escaped" => url::form_urlencoded::byte_serialize(text.as_bytes()).collect(),
        "cut" => text.replace("secret", "secr..."),
        "spread" => text.chars().flat_map(|c| [c, '\u{200b}']).collect(),
        "upper" => text.to_uppercase(),
        other => panic!("{other}"),
    };
    let written = format!("cannot use it: {written}");
    let body = json!({"error": "of_its_own", "error_description": written});
    (StatusCode::BAD_REQUEST, body.to_string())
}

async fn start() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, Router::new().fallback(any(echo))).await });
    address
}

async fn session_at(
    url: &str,
    client: impl FnOnce(OAuth2) -> OAuth2,
) -> (Supervisor, Session<OAuth2>) {
    let provider = OAuth2::new(&format!("{url}/token"), "backend-client").unwrap();
    let provider = provider.revocation_endpoint(&format!("{url}/revoke")).unwrap();
    let provider = client(provider.userinfo_endpoint(&format!("{url}/me")).unwrap());
    let transport = TransportConfig::default().allow_loopback_http();
    let builder = Supervisor::builder().transport(transport).provider("echo", provider);
    let supervisor = builder.start().await.unwrap();
    let session = supervisor.sessions("echo").unwrap().session(key("ada"));
    (supervisor, session)
}

/// One request of each kind, with secrets that need escapes.
async fn send_all(session: &Session<OAuth2>) {
    let secret = |of: &str| format!("{SECRET} {of}&%/+ü secret");
    session.establish(Password::new("ada", secret("password"))).await.unwrap_err();
    let code = AuthorizationCode::new(secret("code")).code_verifier(secret("verifier"));
    session.establish(code).await.unwrap_err();
    let tokens = Tokens::new(Attributes::default())
        .with_access_token(format!("{SECRET}-access"), None)
        .with_refresh_token(secret("refresh"), None);
    session.adopt(tokens, Adopt::IfVacant).await.unwrap();
    session.refresh().await.unwrap_err();
    session.call(UserInfo).await.unwrap_err();
    let _ = session.revoke().await;
}

#[tokio::test]
async fn a_server_that_repeats_the_secrets_of_each_request_finds_them_masked_in_the_log() {
    let output = Output::default();
    let _guards = output.capture_logs();
    let site = format!("http://{}", start().await);
    let secret = format!("{SECRET}:client&%/+ü secret");
    let clients = [
        (ClientAuthentication::Basic, RequestBody::Form),
        (ClientAuthentication::Post, RequestBody::Json),
        (ClientAuthentication::Query, RequestBody::Query),
    ];
    for manner in MANNERS {
        for (method, body) in clients.clone() {
            let client = |provider: OAuth2| {
                let provider = provider.client_authentication(method, secret.as_str());
                provider.unwrap().request_body(body)
            };
            let (_supervisor, session) = session_at(&format!("{site}/{manner}"), client).await;
            send_all(&session).await;
        }
    }
    let lines = output.lines_with("error_description=");
    assert!(lines.len() >= MANNERS.len() * 3 * 5, "{} lines", lines.len());
    for line in &lines {
        assert!(line.contains("\"cannot use it: ") && line.contains("[redacted]"), "{line}");
    }
    output.check();
}

#[tokio::test]
async fn an_ordinary_description_of_an_error_is_in_the_log_and_nowhere_else() {
    let output = Output::default();
    let _guards = output.capture_logs();
    let server = FakeAuthServer::builder().client("client", "secret").start().await.unwrap();
    let transport = TransportConfig::default().allow_loopback_http();
    let builder = Supervisor::builder().transport(transport);
    let supervisor = builder.provider("acme", provider_of(&server)).start().await.unwrap();
    let mut events = supervisor.subscribe();
    let session: Session<OAuth2> = supervisor.sessions("acme").unwrap().session(key("device"));
    let _ = session.establish(Password::new("ada", "ok")).await.unwrap();
    let text = "The user has changed the password.\r\nTrace ID: 7f3a";
    let body = json!({"error": "of_its_own", "error_description": text}).to_string();
    server.fail_next(
        Endpoint::Token,
        Fault::Status { code: 400, retry_after: None, body: Some(body) },
    );
    let error = session.refresh().await.unwrap_err();
    let lines = output.lines_with("describes the error");
    let [line] = &lines[..] else { panic!("{lines:?}") };
    for shown in [
        "DEBUG",
        r#"provider="acme" tenant="tenant" token_id="device""#,
        r#"status=400 code="of_its_own""#,
        r#"error_description="The user has changed the password. Trace ID: 7f3a""#,
    ] {
        assert!(line.contains(shown), "{line}");
    }
    let others = Output::default();
    others.add_error(&error);
    while let Some(Some(event)) = events.next().now_or_never() {
        others.add(event);
    }
    others.add((session.status().await, supervisor.snapshot()));
    assert_eq!(others.lines_with("changed the password"), [""; 0]);
}
