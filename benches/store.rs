//! The cost of a durable commit.
//!
//! `cargo bench --bench store` refreshes 1 and 64 sessions at once, each with a claim and a commit,
//! in a file of this crate's store. It compares that with a naive use of `rusqlite`: a connection
//! for each session, and a transaction for each write. Both write the same number of sealed bytes;
//! the naive one gets them already sealed. The files are in the folder for temporary files
//! (`TMPDIR`): set it to the disk that you want to measure.
//!
//! `cargo bench --bench store -- ours 64 500` runs one case, 500 times for each session, so that
//! its writes to the disk can be counted or slowed down:
//!
//! ```text
//! strace -f -c -e trace=fsync,fdatasync target/release/deps/store-* ours 1 200
//! strace -f --seccomp-bpf -o /dev/null -e trace=fsync,fdatasync \
//!     -e inject=fsync,fdatasync:delay_exit=1000 target/release/deps/store-*
//! ```

#![expect(clippy::disallowed_methods, reason = "real time is what is measured")]
#![expect(clippy::expect_used, clippy::panic, reason = "a bench that fails measures nothing")]

#[path = "shared/exchange.rs"]
mod exchange;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::Intent;
use session_warden::store::sqlite::SqliteStore;

use exchange::{SEALED, exchange, id};

/// The refreshes of each run by default.
const REFRESHES: usize = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [who, sessions, each] = &arguments[..] {
        let number = |text: &str| text.parse().expect("a number");
        println!("{:.0} a second", run(who, number(sessions), number(each)));
        return;
    }
    println!("{:>10} {:>12} {:>12} {:>8}", "sessions", "ours", "naive", "ratio");
    for sessions in [1, 64] {
        let each = (REFRESHES / sessions).max(40);
        let (ours, naive) = (run("ours", sessions, each), run("naive", sessions, each));
        println!("{sessions:>10} {ours:>10.0}/s {naive:>10.0}/s {:>7.1}x", ours / naive);
    }
}

/// Durable commits a second.
fn run(who: &str, sessions: usize, each: usize) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let took = match who {
        "ours" => ours(&folder.path().join("ours.db"), sessions, each),
        "naive" => naive(&folder.path().join("naive.db"), sessions, each),
        other => panic!("there is no {other}"),
    };
    f64::from(u32::try_from(sessions * each).expect("not so many")) / took.as_secs_f64()
}

fn ours(path: &Path, sessions: usize, each: usize) -> Duration {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let ring = KeyRing::new(1, MasterKey::from([7; 32]));
        let store = SqliteStore::builder(path).key_ring(ring).open().expect("a store");
        for session in 0..sessions {
            exchange(&store, &id(session), Intent::Establish, None).await;
        }
        let begun = Instant::now();
        let tasks: Vec<_> = (0..sessions)
            .map(|session| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut generation = 1;
                    for _ in 0..each {
                        let known = Some((1, generation));
                        generation = exchange(&store, &id(session), Intent::Refresh, known).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a session's end");
        }
        let took = begun.elapsed();
        store.shutdown().await;
        took
    })
}

fn naive(path: &Path, sessions: usize, each: usize) -> Duration {
    let file = open(path);
    file.execute_batch(
        "CREATE TABLE session (name TEXT PRIMARY KEY, state TEXT, generation INTEGER, due INTEGER,
             sealed BLOB);
         CREATE INDEX due ON session (due);",
    )
    .expect("a table");
    for session in 0..sessions {
        let row = (format!("device-{session}"), vec![7_u8; SEALED]);
        file.execute("INSERT INTO session VALUES (?1, 'A', 1, 0, ?2)", row).expect("a row");
    }
    let begun = Instant::now();
    let threads: Vec<_> = (0..sessions)
        .map(|session| {
            let path: PathBuf = path.to_owned();
            std::thread::spawn(move || refresh_naively(&path, session, each))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a session's end"));
    begun.elapsed()
}

fn refresh_naively(path: &Path, session: usize, each: usize) {
    let (mut file, name) = (open(path), format!("device-{session}"));
    for round in 0..each {
        let (sealed, due) = (vec![7_u8; SEALED], i64::try_from(round).expect("not so many"));
        let transaction = begin(&mut file);
        let claim = "UPDATE session SET state = 'R' WHERE name = ?1";
        transaction.execute(claim, [&name]).expect("a claim");
        transaction.commit().expect("a commit");
        let transaction = begin(&mut file);
        let commit = "UPDATE session SET state = 'A', generation = generation + 1, due = ?2,
            sealed = ?3 WHERE name = ?1";
        transaction.execute(commit, (&name, due, &sealed)).expect("a commit");
        transaction.commit().expect("a commit");
    }
}

fn begin(file: &mut Connection) -> rusqlite::Transaction<'_> {
    file.transaction_with_behavior(TransactionBehavior::Immediate).expect("the lock")
}

/// With SQLite's own busy timeout, long enough for all of 64.
fn open(path: &Path) -> Connection {
    let file = Connection::open(path).expect("a file");
    file.busy_timeout(Duration::from_secs(120)).expect("a time-out");
    let mode: String =
        file.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).expect("a log");
    assert_eq!(mode, "wal");
    file.execute_batch("PRAGMA synchronous = FULL").expect("a level");
    file
}
