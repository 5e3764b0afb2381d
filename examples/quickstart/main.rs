//! The main task: a thousand device sessions of eight tenants at a server whose tokens are valid
//! for two seconds, callers that ask for tokens all the time, and a task that kills the actors.
//!
//!     cargo run --release --example quickstart
//!
//! It prints a table, and fails if a guarantee of the crate was broken. `--help` says how to run it
//! against another server.
#![allow(clippy::disallowed_methods, reason = "a program has the real clock and its own tasks")]

mod args;
mod load;
mod measure;
mod report;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use session_warden::provider::oauth2::{Grant, OAuth2};
use session_warden::session::State;
use session_warden::testing::FakeAuthServer;
use session_warden::transport::TransportConfig;
use session_warden::{Session, SessionKey, Supervisor};

use self::args::Args;
use self::load::Load;
use self::report::Outcome;

/// Each tenant has the same share of the sessions, and callers of its own.
const TENANTS: usize = 8;

/// Of the tokens of this example's own server.
const LIFETIME: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Some(args) = Args::parse()? else { return Ok(()) };
    let fake = match args.get("issuer") {
        Some(_) => None,
        None => Some(FakeAuthServer::builder().access_lifetime(LIFETIME).start().await?),
    };
    let own = fake.as_ref().map_or_else(String::new, FakeAuthServer::issuer);
    let (client, grant) = args.provider(args.get("issuer").unwrap_or(&own))?;
    let supervisor = Supervisor::builder()
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("server", client)
        .start()
        .await?;
    let sessions = sessions(&supervisor, args.number("sessions", 1_000)?)?;
    let rss_per_session = sign_in(&sessions, &grant).await?;

    let length = Duration::from_secs(args.number("seconds", 10)?.into());
    let load = Arc::new(Load::new(supervisor.clone(), sessions, length));
    let (calls, killed) = load.run().await?;
    let lost = lost(&load.sessions).await;
    let shutdown = supervisor.shutdown(Duration::from_secs(15)).await;

    let supervised = supervisor.snapshot();
    let server = fake.as_ref().map(FakeAuthServer::counts);
    if let Some(fake) = fake {
        fake.stop().await;
    }
    Outcome { calls, killed, lost, shutdown, supervised, server, rss_per_session }.report()
}

fn sessions(supervisor: &Supervisor, count: u32) -> anyhow::Result<Vec<Session<OAuth2>>> {
    ensure!(count as usize >= TENANTS, "--sessions: every tenant needs one, so at least {TENANTS}");
    let all = supervisor.sessions("server")?;
    let key = |device| {
        SessionKey::new(format!("tenant-{}", device % TENANTS), format!("device-{device}"))
    };
    (0..count as usize).map(|device| Ok(all.session(key(device)?))).collect()
}

/// Establishes all sessions, and returns the bytes of memory that each took. The first tenth is not
/// measured, because it opens the connections and fills the allocator.
async fn sign_in(sessions: &[Session<OAuth2>], grant: &Grant) -> anyhow::Result<Option<u64>> {
    let (first, rest) = sessions.split_at(sessions.len() / 10);
    establish(first, grant).await?;
    let before = measure::resident_bytes();
    establish(rest, grant).await?;
    let grown = measure::resident_bytes().zip(before).map(|(now, then)| now.saturating_sub(then));
    Ok(grown.map(|bytes| bytes / rest.len() as u64))
}

async fn establish(sessions: &[Session<OAuth2>], grant: &Grant) -> anyhow::Result<()> {
    let establish = |session: Session<OAuth2>| async move {
        let established = session.establish(grant.clone()).await.map(drop);
        established.with_context(|| format!("{} is not established", session.id()))
    };
    stream::iter(sessions.to_vec()).map(establish).buffer_unordered(32).try_collect().await
}

/// The sessions that no longer have a token, and the reasons.
async fn lost(sessions: &[Session<OAuth2>]) -> Vec<String> {
    let mut lost = Vec::new();
    for session in sessions {
        let token = session.permission_token().await.map(drop);
        let state = session.status().await.map(|status| status.state);
        let alive = matches!(state, Ok(State::Active | State::Refreshing | State::Establishing));
        if token.is_err() || !alive {
            lost.push(format!("{}: {token:?}, {state:?}", session.id()));
        }
    }
    lost
}
