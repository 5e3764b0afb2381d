//! How to test a backend: a fake server, a clock that only the test moves, faults, and events.
//! In your backend, `main` is a `#[tokio::test]`.
//!
//!     cargo run --example testing_your_backend

use std::time::Duration;

use anyhow::ensure;
use futures_util::{FutureExt, StreamExt};
use http::StatusCode;
use session_warden::error::{ErrorKind, LostReason};
use session_warden::event::{EventKind, Events};
use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::testing::{Endpoint, FakeAuthServer, Fault, ManualClock};
use session_warden::transport::TransportConfig;
use session_warden::{Session, SessionKey, Supervisor};

const HOUR: Duration = Duration::from_secs(3600);

/// The code under test. It calls an API for a user, and returns the status for the user's browser.
async fn orders(session: &Session<OAuth2>, api: &str) -> anyhow::Result<StatusCode> {
    let token = match session.permission_token().await {
        Ok(token) => token,
        Err(error) => return Ok(error.kind().http_status()),
    };
    let request = reqwest::Client::new().get(api).bearer_auth(token.expose_secret());
    Ok(request.send().await?.status())
}

/// The events since the last call, after all tasks that can run now have run.
async fn news(events: &mut Events, clock: &ManualClock) -> Vec<EventKind> {
    clock.advance(Duration::ZERO).await;
    let news = std::iter::from_fn(|| events.next().now_or_never().flatten());
    news.map(|event| event.kind).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    // Server and supervisor have the same clock. The server's access tokens are valid for an hour.
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock.clone()).start().await?;
    let supervisor = Supervisor::builder()
        .clock(clock.clone())
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("crm", OAuth2::new(&format!("{}/token", server.url()), "backend")?)
        .start()
        .await?;
    let session = supervisor.sessions("crm")?.session(SessionKey::new("north", "ada")?);
    let _ = session.establish(Password::new("ada", "ok")).await?;
    let (mut events, api) = (supervisor.subscribe(), format!("{}/resource", server.url()));

    // The access token has expired: the first call refreshes, and the second one does not.
    clock.advance(HOUR).await;
    ensure!(orders(&session, &api).await? == StatusCode::OK);
    ensure!(orders(&session, &api).await? == StatusCode::OK);
    ensure!(server.refreshes() == 1 && server.count(Endpoint::Resource) == 2);
    ensure!(news(&mut events, &clock).await == [EventKind::Refreshed]);

    // The response to a refresh is lost: the user notices nothing while the access token is valid.
    server.fail_next(Endpoint::RefreshToken, Fault::DropAfterCommit);
    let failed = session.refresh().await.err().map(|error| error.kind());
    ensure!(failed == Some(ErrorKind::RetryLater), "{failed:?}");
    ensure!(orders(&session, &api).await? == StatusCode::OK);
    ensure!(news(&mut events, &clock).await == [EventKind::InDoubt]);

    // The server has used the refresh token up and rejects the retry: the user must sign in again.
    clock.advance(HOUR).await;
    ensure!(orders(&session, &api).await? == StatusCode::UNAUTHORIZED);
    ensure!(news(&mut events, &clock).await == [EventKind::Lost(LostReason::LostInDoubt)]);
    ensure!(server.count(Endpoint::Resource) == 3, "the API was not called without a token");

    // A new grant, and all is well.
    let _ = session.establish(Password::new("ada", "ok")).await?;
    ensure!(orders(&session, &api).await? == StatusCode::OK);
    println!("an expired token, a lost response and a lost session, without waiting");
    Ok(())
}
