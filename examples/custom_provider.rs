//! A provider for a vendor whose requests and responses are JSON in words of its own. The vendor
//! takes a PIN, and gives a pass and a text that renews it. Its server is in this file too.
//!
//!     cargo run --example custom_provider
#![allow(clippy::disallowed_methods, reason = "a program has its own tasks")]

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use anyhow::ensure;
use axum::{Json, Router, extract::State, routing::post};
use http::{Request, StatusCode, Uri, response::Parts};
use serde_json::{Value, json};
use session_warden::error::{ErrorKind, Refusal};
use session_warden::provider::http_message::{json_body, json_object};
use session_warden::provider::{
    ExchangeError, FailureClass, HttpSender, Issued, Provider, Rejection, Revoked, Rotation,
};
use session_warden::secret::Secret;
use session_warden::session::Revocation;
use session_warden::token::{Placement, Tokens};
use session_warden::transport::TransportConfig;
use session_warden::{Session, SessionKey, Supervisor};
use url::Url;

struct Kiosk(Url);

/// No `Debug`, because it holds secrets. They are borrowed from the body.
#[derive(serde::Deserialize)]
struct Pass<'b> {
    pass: &'b str,
    renewal: &'b str,
    seconds: f64,
}

type Exchanged<T = Tokens<()>> = Result<T, ExchangeError>;

impl Kiosk {
    /// Sends one member. `denied` is what a 403 of this endpoint means.
    async fn post(
        &self,
        sender: &HttpSender<'_>,
        (path, name, secret): (&str, &str, &Secret),
        denied: FailureClass,
    ) -> Exchanged {
        let body = json_body(&BTreeMap::from([(name, secret.expose_secret())]))?;
        let request =
            Request::post(format!("{}{path}", self.0)).header("content-type", "application/json");
        let unusable = |cause| ExchangeError::new(FailureClass::Misconfigured).with_source(cause);
        let response = sender.send(request.body(body).map_err(unusable)?).await?;
        match response.status() {
            StatusCode::OK => {
                let Pass { pass, renewal, seconds } = json_object(&response)?;
                let tokens = Tokens::new(()).with_refresh_token(renewal, None);
                Ok(tokens.with_access_token(pass, Some(sender.expires_in(seconds))))
            }
            status @ StatusCode::FORBIDDEN => Err(ExchangeError::new(denied).with_status(status)),
            _ => Err(sender.status_error(&response)),
        }
    }
}

impl Provider for Kiosk {
    type Grant = Secret;
    type Challenge = Infallible;
    type Attributes = ();

    fn authority_url(&self) -> &Url {
        &self.0
    }

    fn client_id(&self) -> &str {
        "backend"
    }

    fn refresh_token_rotation(&self) -> Rotation {
        Rotation::Strict
    }

    fn placement(&self) -> Option<Placement> {
        Some(Placement::bearer())
    }

    async fn establish(&self, sender: &HttpSender<'_>, pin: Secret) -> Exchanged<Issued<Self>> {
        let wrong = FailureClass::Refused(Refusal::WrongCredentials);
        self.post(sender, ("login", "pin", &pin), wrong).await.map(Issued::Tokens)
    }

    async fn refresh(&self, sender: &HttpSender<'_>, old: &Secret, _: &Tokens<()>) -> Exchanged {
        self.post(sender, ("renew", "renewal", old), FailureClass::Rejected).await
    }

    async fn revoke(&self, sender: &HttpSender<'_>, held: &Tokens<()>) -> Exchanged<Revoked> {
        let Some(renewal) = held.refresh_token() else { return Ok(Revoked::NotSupported) };
        self.post(sender, ("leave", "renewal", renewal), FailureClass::Rejected).await?;
        Ok(Revoked::AtServer)
    }

    fn rejection(&self, response: &Parts, _body_prefix: &[u8]) -> Rejection {
        if response.status == 401 { Rejection::TokenDead } else { Rejection::None }
    }
}

/// The vendor's server. It accepts each renewal once, and counts the passes that it gave.
async fn answer(
    State(passes): State<Arc<AtomicU64>>,
    uri: Uri,
    Json(sent): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    let newest = format!("renewal-{}", passes.load(SeqCst));
    let is_right = match uri.path() {
        "/login" => sent["pin"] == "1234",
        _ => sent["renewal"] == newest,
    };
    if !is_right {
        return Err(StatusCode::FORBIDDEN);
    }
    let number = passes.fetch_add(1, SeqCst) + 1;
    let (pass, renewal) = (format!("pass-{number}"), format!("renewal-{number}"));
    Ok(Json(json!({ "pass": pass, "renewal": renewal, "seconds": 900 })))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let site = Url::parse(&format!("http://{}", listener.local_addr()?))?;
    let server = Router::new().fallback(post(answer)).with_state(Arc::default());
    tokio::spawn(async { axum::serve(listener, server).await });

    let supervisor = Supervisor::builder()
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("kiosk", Kiosk(site))
        .start()
        .await?;
    let session: Session<Kiosk> = supervisor.sessions("kiosk")?.session(SessionKey::single("ada")?);

    let refused = session.establish("0000").await.err().map(|error| error.kind());
    ensure!(refused == Some(ErrorKind::Refused(Refusal::WrongCredentials)), "the PIN is wrong");
    let _ = session.establish("1234").await?;
    ensure!(session.permission_token().await?.expose_secret() == "pass-1", "the first pass");
    ensure!(session.refresh().await?.expose_secret() == "pass-2", "another pass");
    ensure!(session.revoke().await? == Revocation::AtServer, "the server has revoked it");
    let ended = session.permission_token().await.err().map(|error| error.kind());
    ensure!(ended == Some(ErrorKind::NotEstablished), "the session has ended");
    println!("established, used, refreshed and revoked");
    Ok(())
}
