//! A backend whose users log in through the browser, and that calls an API for them. A browser that
//! follows a script visits it once; then it ends.
//!
//!     cargo run --example axum_login
#![allow(clippy::disallowed_methods, reason = "a program has its own tasks")]

mod api;
mod browser;
mod pages;
mod web;

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use axum::Router;
use axum::routing::{get, post};
use session_warden::Supervisor;
use session_warden::provider::oauth2::OAuth2;
use session_warden::testing::FakeAuthServer;
use session_warden::transport::TransportConfig;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use self::api::Api;
use self::pages::App;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = FakeAuthServer::builder().client("backend", "secret").start().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let own = format!("http://{}", listener.local_addr()?);

    let provider = OAuth2::discover(&server.issuer(), "backend")?
        .client_secret_basic("secret")
        .redirect_uri(&format!("{own}/callback"))?
        .scope("openid offline_access");
    let supervisor = Supervisor::builder()
        // Only because this server is on loopback. Several processes also need a shared `key_ring`.
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("login", provider)
        .start()
        .await?;

    let sessions = supervisor.sessions("login")?;
    let api = Api::new(format!("{}/resource", server.url()));
    let app = App { sessions, api, users: Arc::default() };
    let router = Router::new()
        .route("/login", get(pages::login))
        .route("/callback", get(pages::callback))
        .route("/", get(pages::home))
        .route("/logout", post(pages::logout))
        .with_state(app);

    // A real backend stops at a signal: `tokio::signal::ctrl_c()`.
    let (leaves, left) = oneshot::channel::<()>();
    let visit = tokio::spawn(async move {
        let visited = browser::visit(&own, &server).await;
        drop(leaves);
        visited
    });
    axum::serve(listener, router).with_graceful_shutdown(async { drop(left.await) }).await?;

    // After the server: in the other order, the last requests would get `ShuttingDown`.
    let report = supervisor.shutdown(Duration::from_secs(20)).await;
    ensure!(report.is_clean(), "cut or not saved: {report:?}");
    visit.await??;
    println!("logged in, called, logged out, and shut down with nothing left undone");
    Ok(())
}
