//! The main task: a thousand device sessions of eight tenants at a server whose tokens are valid
//! for two seconds, callers that ask for tokens all the time, and a task that kills the actors.
//!
//!     cargo run --release --example quickstart
//!
//! It prints a table, and fails if a guarantee of the crate was broken. A sign-in that fails is
//! counted, and the others go on. `--help` says how to run it against another server.
#![allow(clippy::disallowed_methods, reason = "a program has the real clock and its own tasks")]

mod args;
mod load;
mod measure;
mod report;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, ensure};
use futures_util::{StreamExt, stream};
use session_warden::provider::oauth2::{Grant, OAuth2};
use session_warden::provider::{Registration, Rotation};
use session_warden::session::State;
use session_warden::testing::{FakeAuthServer, FakeRotation};
use session_warden::transport::TransportConfig;
use session_warden::{Session, SessionKey, Supervisor};

use self::args::Args;
use self::load::Load;
use self::measure::Failures;
use self::report::{Outcome, SignIns};

/// Each tenant has the same share of the sessions, and callers of its own.
const TENANTS: usize = 8;

/// Of the tokens of this example's own server.
const LIFETIME: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("{failed:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let Some(args) = Args::parse()? else { return Ok(()) };
    let rotation = args.rotation()?;
    let fake = match args.get("issuer") {
        Some(_) => None,
        None => Some(own_server(rotation).await?),
    };
    let own = fake.as_ref().map_or_else(String::new, FakeAuthServer::issuer);
    let (client, grant) = args.provider(args.get("issuer").unwrap_or(&own))?;
    let supervisor = Supervisor::builder()
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("server", Registration::new(client).limits(args.limits()?))
        .start()
        .await?;
    let sessions = sessions(&supervisor, args.number("sessions", 1_000)?)?;
    let SignedIn { sessions, failed, rss_per_session } = sign_in(&sessions, &grant).await;
    if sessions.is_empty() {
        bail!("no session is established:\n{}", failed.lines().join("\n"));
    }

    let length = Duration::from_secs(args.number("seconds", 10)?.into());
    let load = Arc::new(Load::new(supervisor.clone(), sessions, length));
    let (calls, killed) = load.run().await?;
    let (signed_in, lost) = (load.sessions.len(), lost(&load.sessions).await);
    let shutdown = supervisor.shutdown(Duration::from_secs(15)).await;

    let supervised = supervisor.snapshot();
    let server = fake.as_ref().map(FakeAuthServer::counts);
    if let Some(fake) = fake {
        fake.stop().await;
    }
    let sign_ins = SignIns { succeeded: signed_in, failed };
    let outcome = Outcome {
        sign_ins,
        calls,
        killed,
        lost,
        shutdown,
        supervised,
        server,
        rotation,
        rss_per_session,
    };
    outcome.report()
}

/// This example's own server.
async fn own_server(rotation: Rotation) -> anyhow::Result<FakeAuthServer> {
    let rotation = match rotation {
        Rotation::Static => FakeRotation::None,
        Rotation::Idempotent(grace) => FakeRotation::Idempotent(grace),
        Rotation::Fork(grace) => FakeRotation::Fork(grace),
        Rotation::NewestOnly(grace) => FakeRotation::NewestOnly(grace),
        Rotation::Strict | _ => FakeRotation::Strict,
    };
    let server = FakeAuthServer::builder().access_lifetime(LIFETIME).rotation(rotation);
    Ok(server.start().await?)
}

fn tenant_name(tenant: usize) -> String {
    format!("tenant-{tenant}")
}

fn sessions(supervisor: &Supervisor, count: u32) -> anyhow::Result<Vec<Session<OAuth2>>> {
    ensure!(count as usize >= TENANTS, "--sessions: every tenant needs one, so at least {TENANTS}");
    let all = supervisor.sessions("server")?;
    let key = |device| SessionKey::new(tenant_name(device % TENANTS), format!("device-{device}"));
    (0..count as usize).map(|device| Ok(all.session(key(device)?))).collect()
}

/// The result of all sign-ins.
struct SignedIn {
    sessions: Vec<Session<OAuth2>>,
    failed: Failures,
    rss_per_session: Option<u64>,
}

/// Establishes all sessions, and measures the bytes of memory that each takes. The first tenth is
/// not measured, because it opens the connections and fills the allocator.
async fn sign_in(sessions: &[Session<OAuth2>], grant: &Grant) -> SignedIn {
    let (first, rest) = sessions.split_at(sessions.len() / 10);
    let mut failed = Failures::default();
    let mut sessions = establish(first, grant, &mut failed).await;
    let before = measure::resident_bytes();
    let measured = establish(rest, grant, &mut failed).await;
    let grown = measure::resident_bytes().zip(before).map(|(now, then)| now.saturating_sub(then));
    let rss_per_session = grown.and_then(|bytes| bytes.checked_div(measured.len() as u64));
    sessions.extend(measured);
    SignedIn { sessions, failed, rss_per_session }
}

/// The sessions that could be established. One that could not does not stop the others.
async fn establish(
    sessions: &[Session<OAuth2>],
    grant: &Grant,
    failed: &mut Failures,
) -> Vec<Session<OAuth2>> {
    let establish = |session: Session<OAuth2>| async move {
        let established = session.establish(grant.clone()).await.map(drop);
        established.map(|()| session)
    };
    let mut ended = stream::iter(sessions.to_vec()).map(establish).buffer_unordered(32);
    let mut established = Vec::with_capacity(sessions.len());
    while let Some(result) = ended.next().await {
        match result {
            Ok(session) => established.push(session),
            Err(refused) => failed.add(refused),
        }
    }
    established
}

/// Why sessions no longer have a token.
async fn lost(sessions: &[Session<OAuth2>]) -> Failures {
    let mut lost = Failures::default();
    for session in sessions {
        let token = session.permission_token().await;
        let status = session.status().await;
        match token.and(status).map(|status| status.state) {
            Ok(State::Active | State::Refreshing | State::Establishing) => {}
            Ok(other) => lost.add(format!("a token came, but the session is {other:?}")),
            Err(failed) => lost.add(failed),
        }
    }
    lost
}
