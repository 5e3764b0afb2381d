//! Counts and measurements.

use std::collections::BTreeMap;
use std::time::Duration;

use session_warden::supervisor::Snapshot;

#[derive(Default)]
pub(crate) struct Killed {
    pub(crate) sessions: u64,
    pub(crate) supervisors: u64,
}

/// The results of the calls.
#[derive(Default)]
pub(crate) struct Calls {
    pub(crate) served: u64,
    pub(crate) expired: u64,
    pub(crate) errors: Failures,
    /// Of calls that got a valid token at once.
    pub(crate) fresh: Latencies,
    /// Of calls that waited for an exchange.
    pub(crate) waiting: Latencies,
}

impl Calls {
    pub(crate) fn add(&mut self, other: Self) {
        self.served += other.served;
        self.expired += other.expired;
        merge(&mut self.errors.0, other.errors.0);
        merge(&mut self.fresh.0, other.fresh.0);
        merge(&mut self.waiting.0, other.waiting.0);
    }
}

/// How often each failure occurred.
#[derive(Default)]
pub(crate) struct Failures(BTreeMap<String, u64>);

impl Failures {
    pub(crate) fn add(&mut self, failed: impl ToString) {
        *self.0.entry(failed.to_string()).or_default() += 1;
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// A short line for each failure, the most frequent first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
        let rest: u64 = all.iter().skip(MOST_LINES).map(|(_, times)| **times).sum();
        let shown = all.iter().take(MOST_LINES);
        let shown = shown.map(|(failed, times)| format!("  {times} times: {}", short(failed)));
        shown.chain((rest > 0).then(|| format!("  {rest} times: other failures"))).collect()
    }
}

const MOST_LINES: usize = 10;

fn short(text: &str) -> String {
    const MOST: usize = 240;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn merge<K: Ord>(all: &mut BTreeMap<K, u64>, more: BTreeMap<K, u64>) {
    more.into_iter().for_each(|(key, times)| *all.entry(key).or_default() += times);
}

/// How often each duration occurred, in nanoseconds rounded to six binary digits.
#[derive(Default)]
pub(crate) struct Latencies(BTreeMap<u64, u64>);

impl Latencies {
    pub(crate) fn add(&mut self, duration: Duration) {
        let nanos = duration.as_nanos() as u64;
        let coarse = (u64::BITS - nanos.leading_zeros()).saturating_sub(6);
        *self.0.entry(nanos >> coarse << coarse).or_default() += 1;
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// The duration that `percent` of all calls do not exceed.
    pub(crate) fn percentile(&self, percent: u64) -> Duration {
        let mut left = self.count() * percent / 100;
        let found = self.0.iter().find(|(_, times)| {
            let here = left < **times;
            left = left.saturating_sub(**times);
            here
        });
        found.map_or(Duration::ZERO, |(nanos, _)| Duration::from_nanos(*nanos))
    }
}

/// All refreshes of so many sessions. With client credentials there are no refresh tokens, and the sessions are
/// established again instead.
pub(crate) fn refreshes(seen: &Snapshot, sessions: usize) -> u64 {
    (seen.establishes + seen.refreshes).saturating_sub(sessions as u64)
}

/// The memory of this process, if the system reports it.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    size.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}
