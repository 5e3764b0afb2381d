//! One replica of the backend: a small HTTP server that hands out tokens of shared sessions.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use session_warden::policy::Policy;
use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::seal::KeyRing;
use session_warden::store::postgres::PostgresStore;
use session_warden::transport::TransportConfig;
use session_warden::{SessionKey, Sessions, Supervisor};

/// Made with `openssl rand -base64 32`. Read yours from a file or from the environment.
const KEYS: &str = "1:pXuPDMX9pSDp8xDVRuuO1HpV5LQHbS5nGGRE8rqwIVo=";

type Backend = State<Sessions<OAuth2>>;

/// Serves until the process ends. The first line of its output is its address.
pub(crate) async fn run(database: &str, server: &str) -> anyhow::Result<()> {
    let provider = OAuth2::new(&format!("{server}/token"), "app")?.client_secret_basic("secret");
    let supervisor = Supervisor::builder()
        .key_ring(KeyRing::parse(KEYS)?)
        .store(PostgresStore::connect(database).await?)
        .transport(TransportConfig::default().allow_loopback_http())
        .policy(policy())
        .provider("acme", provider)
        .start()
        .await?;
    let backend = Router::new()
        .route("/sign-in/{device}", post(sign_in))
        .route("/token/{device}", get(token))
        .with_state(supervisor.sessions("acme")?);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, backend).await?;
    Ok(())
}

/// With waits that are shorter than the defaults, so that the others take the sessions of a killed
/// replica over while this example runs.
fn policy() -> Policy {
    Policy {
        answer_timeout: Duration::from_secs(5),
        lease: Duration::from_secs(15),
        takeover_grace: Duration::ZERO,
        ..Policy::default()
    }
}

async fn sign_in(State(sessions): Backend, Path(device): Path<String>) -> Result<(), StatusCode> {
    let key = SessionKey::single(device).map_err(|_| StatusCode::BAD_REQUEST)?;
    let established = sessions.session(key).establish(Password::new("ada", "ok")).await;
    established.map(drop).map_err(|failed| failed.kind().http_status())
}

/// Answers with the number of the token, where a real backend would call an API with the token.
async fn token(State(sessions): Backend, Path(device): Path<String>) -> Result<String, StatusCode> {
    let key = SessionKey::single(device).map_err(|_| StatusCode::BAD_REQUEST)?;
    let token = sessions.session(key).permission_token().await;
    token.map(|token| token.generation().to_string()).map_err(|failed| failed.kind().http_status())
}
