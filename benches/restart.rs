//! The cost of a restart on a file of many sessions.
//!
//! `cargo bench --bench restart` imports 100,000 sessions of 1,000 tenants into a file and starts a
//! supervisor on it. Until all due times are read, it asks for the tokens of sessions that are not
//! in memory, one after the other. It measures how long the supervisor took, and how long a caller
//! waited: once with no session due, and once with every session due, until all of them are
//! checked.

#![expect(clippy::disallowed_methods, reason = "real time is what is measured")]
#![expect(clippy::expect_used, reason = "without its setting there is nothing to measure")]

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use futures_util::{StreamExt, stream};
use rusqlite::Connection;
use session_warden::policy::DUE_PAGE;
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::sqlite::SqliteStore;
use session_warden::testing::{Faults, FaultyStore, ScriptedProvider, StoreCall};
use session_warden::token::Tokens;
use session_warden::{SessionKey, Sessions, Supervisor};

const TENANTS: usize = 1_000;
const EACH: usize = 100;
const ALL: usize = TENANTS * EACH;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    println!(
        "{:>14} {:>10} {:>10} {:>30}",
        "", "start", "all read", "a caller waits p50, p99, most"
    );
    let file = folder.path().join("sessions.db");
    runtime.block_on(fill(&file));
    runtime.block_on(restart(&file, false));
    let sql = "UPDATE session SET due_at = 1";
    Connection::open(&file).expect("the file").execute_batch(sql).expect("due at once");
    runtime.block_on(restart(&file, true));
}

async fn start(file: &Path) -> (Supervisor, SqliteStore, Faults) {
    let ring = KeyRing::new(1, MasterKey::from([7; 32]));
    let store = SqliteStore::open(file).expect("a store");
    let faulty = FaultyStore::new(store.clone());
    let faults = faulty.faults();
    let provider = ScriptedProvider::new();
    let builder = Supervisor::builder().key_ring(ring).store(faulty).provider("p", provider);
    (builder.start().await.expect("a supervisor"), store, faults)
}

async fn fill(file: &Path) {
    let (supervisor, store, _) = start(file).await;
    let sessions: Sessions<ScriptedProvider> = supervisor.sessions("p").expect("sessions");
    let end = SystemTime::now() + Duration::from_secs(3600);
    let rows = stream::iter(0..ALL).map(move |number| {
        let tokens = Tokens::new(())
            .with_access_token(format!("access-{number:032}"), Some(end))
            .with_refresh_token(
                format!("refresh-{number:032}"),
                Some(end + Duration::from_secs(864_000)),
            );
        (key(number), tokens)
    });
    let report = sessions.import(rows).await.expect("an import");
    assert_eq!(report.adopted, ALL as u64, "{report:?}");
    assert!(supervisor.shutdown(Duration::from_secs(10)).await.is_clean());
    store.shutdown().await;
}

async fn restart(file: &Path, due: bool) {
    let begun = Instant::now();
    let (supervisor, store, faults) = start(file).await;
    let started = begun.elapsed();
    let sessions: Sessions<ScriptedProvider> = supervisor.sessions("p").expect("sessions");
    // The supervisor also asks for the page after the last.
    let pages = (ALL / DUE_PAGE + 2) as u64;
    let mut waits = Vec::new();
    for number in (0..ALL).rev() {
        let read = faults.count(StoreCall::Due) >= pages;
        if read && (!due || supervisor.snapshot().sessions >= ALL) {
            break;
        }
        let asked = Instant::now();
        sessions.session(key(number)).permission_token().await.expect("a token");
        waits.push(asked.elapsed());
    }
    let read = begun.elapsed();
    waits.sort_unstable();
    let name = if due { "all of it due" } else { "nothing due" };
    let at = |part: usize| waits[(waits.len() - 1) * part / 1000];
    println!(
        "{name:>14} {started:>10.1?} {read:>10.1?} {:>10.0?} {:>8.0?} {:>8.0?} of {}",
        at(500),
        at(990),
        at(1000),
        waits.len()
    );
    assert!(supervisor.shutdown(Duration::from_secs(10)).await.is_clean());
    store.shutdown().await;
}

fn key(number: usize) -> SessionKey {
    let (tenant, device) = (number % TENANTS, number / TENANTS);
    SessionKey::new(format!("tenant-{tenant}"), format!("device-{device}")).expect("a key")
}
