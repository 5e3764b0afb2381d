//! Decides whether an actor that died is restarted, or its session is put into quarantine instead.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use crate::clock::BootTime;
use crate::policy::{REMEMBERED_DEATHS, Restarts};

/// The abnormal ends of actors, by session. Old ones are forgotten.
pub(crate) struct RestartTracker<K> {
    ends: HashMap<K, Ends>,
    policy: Restarts,
}

#[derive(Default)]
struct Ends {
    recent: VecDeque<BootTime>,
    quarantines: u32,
    /// When the latest quarantine ended or will end.
    free_at: BootTime,
}

/// What happens to an actor that died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Restart { after: Duration },
    Quarantine { pause: Duration },
}

impl<K: Hash + Eq> RestartTracker<K> {
    pub(crate) fn new(policy: Restarts) -> Self {
        Self { ends: HashMap::new(), policy }
    }

    /// Notes an abnormal end. `jitter` is a random number in 0..=1.
    pub(crate) fn note(&mut self, subject: K, now: BootTime, jitter: f64) -> Verdict {
        self.forget(now);
        let Restarts { intensity, within, backoff, quarantine, .. } = &self.policy;
        let ends = self.ends.entry(subject).or_default();
        ends.recent.push_back(now);
        while ends.recent.front().is_some_and(|end| now.since(*end) > *within) {
            ends.recent.pop_front();
        }
        let recent = u32::try_from(ends.recent.len()).unwrap_or(u32::MAX);
        if recent <= *intensity {
            return Verdict::Restart { after: backoff.wait(recent, jitter) };
        }
        // A session that ran for as long as it was in quarantine begins again at the shortest
        // quarantine.
        let pause = quarantine.wait(ends.quarantines.saturating_add(1), 1.0);
        let recovered = ends.quarantines > 0 && now.since(ends.free_at) > pause;
        ends.quarantines = if recovered { 1 } else { ends.quarantines.saturating_add(1) };
        let pause = quarantine.wait(ends.quarantines, 1.0);
        ends.free_at = now.after(pause);
        ends.recent.clear();
        Verdict::Quarantine { pause }
    }

    /// At the bound, forgets sessions without a recent end; if every session has one, forgets all.
    fn forget(&mut self, now: BootTime) {
        if self.ends.len() < REMEMBERED_DEATHS {
            return;
        }
        let within = self.policy.within;
        self.ends.retain(|_, ends| {
            let recent = ends.recent.back().is_some_and(|end| now.since(*end) <= within);
            recent || now < ends.free_at
        });
        if self.ends.len() >= REMEMBERED_DEATHS {
            self.ends.clear();
        }
    }
}

#[cfg(test)]
mod tests;
