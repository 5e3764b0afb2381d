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
    pub(crate) errors: BTreeMap<String, u64>,
    /// Of calls that got a valid token at once.
    pub(crate) fresh: Latencies,
    /// Of calls that waited for an exchange.
    pub(crate) waiting: Latencies,
}

impl Calls {
    pub(crate) fn add(&mut self, other: Self) {
        self.served += other.served;
        self.expired += other.expired;
        merge(&mut self.errors, other.errors);
        merge(&mut self.fresh.0, other.fresh.0);
        merge(&mut self.waiting.0, other.waiting.0);
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

/// All refreshes. With client credentials there are no refresh tokens, and the sessions are
/// established again instead.
pub(crate) fn refreshes(seen: &Snapshot) -> u64 {
    (seen.establishes + seen.refreshes).saturating_sub(seen.sessions as u64)
}

/// The memory of this process, if the system reports it.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    size.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}
