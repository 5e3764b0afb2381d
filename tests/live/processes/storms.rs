//! Several processes that work on the same sessions at once, and are killed and stopped at random.

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine;

use super::crowd::{CANARY, Crowd};
use super::orders::{Outcome, Rotates, Waits};
use super::rules;

/// How long they work.
const TIME: Duration = Duration::from_secs(7);

/// Short, so that claims end while they work.
const WAITS: Waits = Waits {
    budget: Duration::from_millis(800),
    lease: Duration::from_millis(1200),
    hold: Duration::from_millis(4300),
};

/// So that some are killed and stopped with a refresh on its way.
const WAY: Duration = Duration::from_millis(60);

/// Repeats a run: whoever is killed and stopped, and what callers do, not how the machine divides
/// its time.
const SEED: &str = "SESSION_WARDEN_SEED";

fn seed() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "how a person tells a test")]
    let told = std::env::var(SEED).ok();
    told.map_or_else(|| fastrand::u64(..1 << 32), |told| told.parse().expect("a number"))
}

async fn storm(rotates: Rotates) {
    let seed = seed();
    println!("{SEED}={seed}");
    let mut crowd = Crowd::new(3, rotates, (WAITS, WAY), true).await;
    crowd.storms(TIME, seed).await;
    let settled = crowd.settles().await;
    crowd.reads_no_more().await;
    assert!(has_written(&crowd.folder.0), "it is looked for where something is");
    let shown = shown(&crowd.folder.0);
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

/// The database has its log beside it, and its processes have said much.
fn has_written(folder: &Path) -> bool {
    let length = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    let logs = fs::read_dir(folder.join("logs")).unwrap().flatten();
    length(&folder.join("sessions.db-wal")) > 0
        && logs.map(|log| length(&log.path())).sum::<u64>() > 10_000
}

/// I7: where the canary can be read in the files of a folder and of those in it.
fn shown(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(shown(&path));
        } else {
            let form = shown_in(&fs::read(&path).unwrap());
            found.extend(form.map(|form| format!("{form} is in {}", path.display())));
        }
    }
    found
}

/// The first form in which the canary can be read in `bytes`.
fn shown_in(bytes: &[u8]) -> Option<String> {
    // In base64 the canary looks different at each of three offsets; the ends vary with what
    // stands around it.
    let encoded = (0..3).map(|offset| {
        let padded = format!("{}{CANARY}", "x".repeat(offset));
        let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(padded);
        encoded[4..encoded.len() - 2].to_owned()
    });
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = encoded.chain([hex.to_uppercase(), hex, CANARY.to_owned()]);
    forms.find(|form| bytes.windows(form.len()).any(|window| window == form.as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_done_to_processes_all_rules_hold_at_a_strict_server() {
    storm(Rotates::Strict).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_done_to_processes_all_rules_hold_at_a_server_with_grace() {
    storm(Rotates::Idempotent).await;
}

mod tests {
    use super::*;
    use crate::processes::bed::Folder;

    #[test]
    fn i7_a_canary_in_a_file_is_refused_in_clear_in_base64_and_in_hex() {
        let folder = Folder::new();
        let logs = folder.0.join("logs");
        fs::create_dir(&logs).unwrap();
        let secret = format!("token {CANARY}0123456789");
        let encode = |bytes: &str| base64::engine::general_purpose::STANDARD.encode(bytes);
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        fs::write(logs.join("none"), "nothing").unwrap();
        assert_eq!(shown(&folder.0), [""; 0]);
        let moved = [encode(&secret), encode(&secret[1..]), encode(&secret[2..])];
        for text in moved.into_iter().chain([secret, hex]) {
            fs::write(logs.join("some"), format!("before {text} after")).unwrap();
            assert_eq!(shown(&folder.0).len(), 1, "{text}");
        }
    }
}
