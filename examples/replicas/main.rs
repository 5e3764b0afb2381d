//! Three replicas of a backend share their sessions through PostgreSQL. While callers ask all of
//! them for tokens, one replica is killed and another is stopped for a while.
//!
//!     cargo run --release --example replicas --features postgres
//!
//! It starts a PostgreSQL of its own, from Debian's package `postgresql`. To use another one, name
//! it: `-- postgres://user:password@host/database`. It prints a table, and fails if a session was
//! lost or a refresh token was sent twice.
#![allow(clippy::disallowed_methods, reason = "a program has the real clock and its own tasks")]

mod backend;
mod callers;
#[path = "../../tests/support/postgres_cluster.rs"]
mod postgres_cluster;
mod replica;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use session_warden::testing::{Counts, FakeAuthServer};

use self::callers::{Callers, Calls};
use self::postgres_cluster::PostgresCluster;
use self::replica::Replica;

/// How many device sessions the replicas share.
const SESSIONS: usize = 60;

/// How long the callers ask.
const LENGTH: Duration = Duration::from_secs(30);

/// The access tokens of this example's own server live so long, so that each session is refreshed
/// every few seconds.
const LIFETIME: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [role, database, server] if role == "replica" => backend::run(database, server).await,
        [database] => show(database).await,
        _ => show_with_own_database().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("{failed:#}");
            ExitCode::FAILURE
        }
    }
}

async fn show_with_own_database() -> anyhow::Result<()> {
    let cluster = PostgresCluster::start().await;
    let database = cluster.new_database().await;
    show(&database).await
}

async fn show(database: &str) -> anyhow::Result<()> {
    let server = FakeAuthServer::builder().access_lifetime(LIFETIME).start().await?;
    let mut replicas = Vec::new();
    for name in ["first", "second", "third"] {
        replicas.push(Replica::start(name, database, &server.issuer()).await?);
    }
    let [first, second, third] = &mut replicas[..] else { unreachable!("three were started") };
    let callers = Callers::new([first.address(), second.address(), third.address()], SESSIONS);
    callers.sign_in().await?;

    let (calls, told) = tokio::join!(callers.run(LENGTH), async {
        tokio::time::sleep(LENGTH / 5).await;
        second.kill()?;
        println!("the second replica is killed");
        tokio::time::sleep(LENGTH / 5).await;
        third.stop()?;
        println!("the third replica is stopped");
        tokio::time::sleep(LENGTH / 3).await;
        third.go_on()?;
        println!("the third replica goes on");
        anyhow::Ok(())
    });
    told?;
    let lost = callers.lost(LENGTH).await?;
    let counts = server.counts();
    drop(replicas);
    server.stop().await;
    report(&calls, lost, &counts)
}

/// Prints the table. Fails if a guarantee was broken.
fn report(calls: &Calls, lost: usize, counts: &Counts) -> anyhow::Result<()> {
    let refreshes = counts.token.granted.saturating_sub(SESSIONS as u64);
    let rows = [
        ("sessions", SESSIONS as u64),
        ("tokens served", calls.served),
        ("calls to a killed or stopped replica", calls.unanswered),
        ("calls that were told to try again", calls.told_to_retry),
        ("refreshes, as the server counts", refreshes),
        ("refresh tokens that the server saw twice", counts.presented_twice),
        ("grants that it revoked for reuse", counts.reuses_detected),
        ("sessions lost", lost as u64),
    ];
    for (name, value) in rows {
        println!("{name:<42} {value}");
    }
    let kept = counts.presented_twice == 0 && counts.reuses_detected == 0 && lost == 0;
    ensure!(kept && calls.served > 0, "a promise was broken");
    Ok(())
}
