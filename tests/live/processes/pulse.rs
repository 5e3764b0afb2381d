//! The load of the machine, beside the measurements on it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::orders::{Span, boot_now};

/// Between two beats.
const REST: Duration = Duration::from_millis(15);

/// A beat that takes longer is a stall. Of a bare wake-up and a bare write to the disk: nothing
/// that waits for either can be faster.
const STALL: Duration = Duration::from_millis(40);

/// A thread that wakes up and writes to the disk, again and again.
pub struct Pulse {
    ends: Arc<AtomicBool>,
    beats: JoinHandle<Vec<Span>>,
}

impl Pulse {
    /// On the disk of this folder.
    pub fn start(folder: &Path) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (file, end) = (File::create(folder.join("pulse")).unwrap(), Arc::clone(&ends));
        let beats = tokio::task::spawn_blocking(move || beats(&file, &end));
        Self { ends, beats }
    }

    pub async fn ends(self) -> Health {
        self.ends.store(true, Ordering::Relaxed);
        health(self.beats.await.unwrap())
    }
}

/// Of the machine.
pub struct Health {
    /// When it stalled, and for as long again, because waiting work is then done one after the
    /// other.
    pub stalls: Vec<Span>,
    /// How late all beats were but for one in a hundred.
    pub late: Duration,
}

fn health(beats: Vec<Span>) -> Health {
    let mut late: Vec<_> = beats.iter().map(|beat| beat.length().saturating_sub(REST)).collect();
    late.sort_unstable();
    let late = late.get(late.len() * 99 / 100).copied().unwrap_or_default();
    Health { stalls: stalls(beats), late }
}

fn beats(mut file: &File, end: &AtomicBool) -> Vec<Span> {
    let mut beats = Vec::new();
    while !end.load(Ordering::Relaxed) {
        let from = boot_now();
        #[expect(clippy::disallowed_methods, reason = "it is a thread that may block")]
        // This measures the machine itself: how late a bare wake-up is.
        std::thread::sleep(REST);
        file.write_all(b"beat").unwrap();
        file.sync_data().unwrap();
        beats.push(Span { from, until: boot_now() });
    }
    beats
}

fn stalls(beats: Vec<Span>) -> Vec<Span> {
    let stalls = beats.into_iter().filter(|beat| beat.length() >= REST + STALL);
    stalls.map(|Span { from, until }| Span { from, until: until + (until - from) }).collect()
}

/// Those which ran while the machine did not stall.
pub fn unhindered(spans: &[Span], stalls: &[Span]) -> Vec<Span> {
    let hindered = |span: &Span| {
        stalls.iter().any(|stall| stall.from <= span.until && span.from <= stall.until)
    };
    spans.iter().filter(|span| !hindered(span)).copied().collect()
}

mod tests {
    use super::*;

    fn span(from_ms: u64, until_ms: u64) -> Span {
        Span { from: from_ms * 1_000_000, until: until_ms * 1_000_000 }
    }

    #[test]
    fn only_what_ran_in_a_stall_or_soon_after_is_set_aside() {
        let Health { stalls, late } = health(vec![span(0, 16), span(16, 116), span(116, 140)]);
        assert_eq!(late, Duration::from_millis(85));
        assert_eq!(stalls, [span(16, 216)]);
        let spans = [span(0, 10), span(10, 20), span(100, 110), span(210, 400), span(217, 400)];
        assert_eq!(unhindered(&spans, &stalls), [span(0, 10), span(217, 400)]);
    }
}
