//! A route for the monitoring: 200 while the providers' servers work, 503 during an outage.
//!
//!     cargo run --example health
#![allow(clippy::disallowed_methods, reason = "a program has its own tasks")]

use anyhow::ensure;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::Value;
use session_warden::health::Health;
use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::testing::{Endpoint, FakeAuthServer, Fault};
use session_warden::transport::TransportConfig;
use session_warden::{SessionKey, Sessions, Supervisor};

/// Alert if this is 503 for minutes. Do not restart the process: that does not help the server.
async fn health(State(supervisor): State<Supervisor>) -> (StatusCode, Json<Health>) {
    let health = supervisor.health().await;
    let good = health.is_healthy();
    (if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(health))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = FakeAuthServer::builder().client("backend", "secret").start().await?;
    let acme = OAuth2::new(&format!("{}/token", server.url()), "backend")?;
    let supervisor = Supervisor::builder()
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("acme", acme.client_secret_basic("secret"))
        .start()
        .await?;
    let sessions: Sessions<OAuth2> = supervisor.sessions("acme")?;
    let session = |name: &str| SessionKey::single(name).map(|key| sessions.session(key));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/health", listener.local_addr()?);
    let app = Router::new().route("/health", get(health)).with_state(supervisor.clone());
    let backend = tokio::spawn(async { axum::serve(listener, app).await });

    for name in ["ada", "bob", "eve"] {
        let _ = session(name)?.establish(Password::new(name, "ok")).await?;
    }
    let (status, shown) = ask(&url).await?;
    ensure!(status == 200 && shown["providers"][0]["condition"] == "working", "{shown}");
    ensure!(shown["counted"]["sessions"]["states"]["active"] == 3, "{shown}");
    println!("before the outage: {status}");

    // The outage begins. One or two lost responses are no outage, three in a row are.
    let fault = Fault::Status { code: 500, retry_after: None, body: None };
    server.fail_always(Endpoint::Token, Some(fault));
    for name in ["ada", "bob", "eve"] {
        ensure!(session(name)?.refresh().await.is_err(), "the server does not work");
    }
    let (status, shown) = ask(&url).await?;
    let acme = &shown["providers"][0];
    ensure!(status == 503 && acme["condition"] == "unreachable", "{shown}");
    ensure!(acme["last_failure"]["status"] == 500 && acme["consecutive_failures"] == 3, "{shown}");
    println!("during the outage: {status}, {}", acme["last_failure"]["text"]);

    // It ends, and the next request succeeds.
    server.fail_always(Endpoint::Token, None);
    let _ = session("zoe")?.establish(Password::new("zoe", "ok")).await?;
    let (status, shown) = ask(&url).await?;
    ensure!(status == 200 && shown["providers"][0]["consecutive_failures"] == 0, "{shown}");
    println!("after the outage: {status}");
    backend.abort();
    Ok(())
}

/// What the monitoring gets.
async fn ask(url: &str) -> anyhow::Result<(u16, Value)> {
    let response = reqwest::get(url).await?;
    Ok((response.status().as_u16(), serde_json::from_slice(&response.bytes().await?)?))
}
