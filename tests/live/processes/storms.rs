//! Several processes that work on the same sessions at once, and are killed and stopped at random.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::crowd::{Crowd, Plan};
use super::database::StoreKind;
use super::orders::{Outcome, Rotates, Waits};
use super::rules;
use crate::secret_scan::files_with_secret;

/// How long the processes work.
const TIME: Duration = Duration::from_secs(7);

/// Short, so that claims end while they work.
const WAITS: Waits = Waits {
    budget: Duration::from_millis(800),
    lease: Duration::from_millis(1200),
    hold: Duration::from_millis(4300),
};

/// So that some are killed and stopped with a refresh on its way.
const WAY: Duration = Duration::from_millis(60);

/// Repeats a run: the same kills, stops and calls, but not the same scheduling of the machine.
pub const SEED: &str = "SESSION_WARDEN_SEED";

pub fn seed() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "how a person tells a test")]
    let told = std::env::var(SEED).ok();
    told.map_or_else(|| fastrand::u64(..1 << 32), |told| told.parse().expect("a number"))
}

async fn storm(store: StoreKind, rotates: Rotates) {
    let seed = seed();
    println!("{SEED}={seed}");
    let plan = Plan::new((store, 3), rotates, (WAITS, WAY)).await;
    let mut crowd = Crowd::new(Plan { logged: true, ..plan }).await;
    crowd.storms(TIME, seed).await;
    let settled = crowd.settles().await;
    crowd.reads_no_more().await;
    assert!(has_written(store, crowd.folder.path()), "it is looked for where something is");
    // I7.
    let shown = files_with_secret(crowd.folder.path());
    crowd.ends().await;
    let (book, counts) = (crowd.history.book(), crowd.server.counts());
    let killed = book.downs.iter().filter(|down| down.until == u64::MAX).count();
    let locked = book.downs.iter().filter(|down| down.has_lock).count();
    println!(
        "{rotates:?}: {} calls, {} refreshes, {killed} killed, {} stopped, {locked} in a write, {} \
         tokens sent again, {} grants lost, at most {:?} behind",
        book.answers.len(),
        counts.refreshes,
        book.downs.len() - killed,
        counts.presented_twice,
        counts.reuses_detected,
        Duration::from_nanos(rules::farthest_behind(&book)),
    );
    let mut broken = rules::broken(&book, WAITS);
    broken.extend(shown);
    for (key, outcome) in settled {
        let rests = matches!(outcome, Outcome::Token(_)) || outcome.wants_a_grant();
        if !rests {
            broken.push(format!("{key} does not come to rest: {outcome:?}"));
        }
    }
    assert!(
        broken.is_empty(),
        "{SEED}={seed}: {} faults:\n{}\n{:?}",
        broken.len(),
        broken[..broken.len().min(20)].join("\n"),
        book.downs
    );
    assert!(killed > 0 && book.downs.len() > killed, "nothing was done: {:?}", book.downs);
    assert!(counts.refreshes > 30, "{counts:?}");
}

/// A file has its log beside it, and its processes have written a long log.
fn has_written(store: StoreKind, folder: &Path) -> bool {
    let length = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    let logs = fs::read_dir(folder.join("logs")).unwrap().flatten();
    (store == StoreKind::Postgres || length(&folder.join("sessions.db-wal")) > 0)
        && logs.map(|log| length(&log.path())).sum::<u64>() > 10_000
}

on_each_store! {
    whatever_is_done_to_processes_all_rules_hold_at_a_strict_server,
    whatever_is_done_to_processes_all_rules_hold_at_a_server_with_grace,
}

async fn whatever_is_done_to_processes_all_rules_hold_at_a_strict_server(store: StoreKind) {
    storm(store, Rotates::Strict).await;
}

async fn whatever_is_done_to_processes_all_rules_hold_at_a_server_with_grace(store: StoreKind) {
    storm(store, Rotates::Idempotent).await;
}
