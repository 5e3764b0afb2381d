//! A backend calls an API with the tokens of its sessions. The API rejects a token, and each request
//! arrives all the same.
//!
//!     cargo run --example middleware
#![allow(clippy::disallowed_methods, reason = "a program has its own tasks")]

use std::sync::Arc;

use anyhow::ensure;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use session_warden::middleware::SessionChoice;
use session_warden::middleware::tower::SessionLayer;
use session_warden::provider::Registration;
use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::testing::FakeAuthServer;
use session_warden::transport::TransportConfig;
use session_warden::{Session, SessionKey, Supervisor};
use tower::{ServiceBuilder, ServiceExt};

/// The API asks the authorization server whether it still knows the token.
async fn greet(
    State(auth): State<Arc<FakeAuthServer>>,
    headers: HeaderMap,
    name: String,
) -> (StatusCode, String) {
    let token = headers[header::AUTHORIZATION].to_str().unwrap_or_default();
    if !auth.is_active(token.trim_start_matches("Bearer ")) {
        return (StatusCode::UNAUTHORIZED, "sign in".to_owned());
    }
    (StatusCode::OK, format!("Hello, {name}!"))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let auth = Arc::new(FakeAuthServer::builder().client("backend", "secret").start().await?);
    let api = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/greet", api.local_addr()?);
    let app = Router::new().route("/greet", post(greet)).with_state(Arc::clone(&auth));
    tokio::spawn(async move { axum::serve(api, app).await });

    // The tokens of this provider go to the API and nowhere else.
    let acme = OAuth2::discover(&auth.issuer(), "backend")?.client_secret_basic("secret");
    let acme = Registration::new(acme).api_origins([url.trim_end_matches("/greet")]);
    let transport = TransportConfig::default().allow_loopback_http();
    let supervisor =
        Supervisor::builder().transport(transport).provider("acme", acme).start().await?;
    let session = supervisor.sessions::<OAuth2>("acme")?.session(SessionKey::single("lamp")?);
    let _ = session.establish(Password::new("ada", "ok")).await?;

    // With reqwest: the session sends the request itself.
    auth.kill_access_tokens();
    let response = session.post(&*url).configure(|request| request.body("reqwest")).send().await?;
    println!("{}", response.text().await?);

    // With tower: each request of any client names its session.
    let layer = SessionLayer::new(SessionChoice::from_extension());
    let client = Client::builder(TokioExecutor::new()).build_http();
    let client = ServiceBuilder::new().layer(layer).service(client);
    let mut request = Request::post(&*url).body(Full::new(Bytes::from("tower")))?;
    request.extensions_mut().insert::<Session>(session.erase());
    let response = client.oneshot(request).await.map_err(anyhow::Error::from_boxed)?;
    println!("{}", String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec())?);

    ensure!(auth.refreshes() == 1, "one refresh replaced the token that the API rejected");
    ensure!(supervisor.shutdown(std::time::Duration::from_secs(5)).await.is_clean());
    Ok(())
}
