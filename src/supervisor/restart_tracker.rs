//! When an actor that died is started again, and when its session is set aside instead.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use crate::clock::BootTime;
use crate::policy::{REMEMBERED_DEATHS, Restarts};

/// The abnormal ends of actors, by what they served. Those that are long past are forgotten.
pub(crate) struct RestartTracker<K> {
    ends: HashMap<K, Ends>,
    policy: Restarts,
}

#[derive(Default)]
struct Ends {
    recent: VecDeque<BootTime>,
    quarantines: u32,
    /// The latest quarantine's end.
    free: BootTime,
}

/// What is to be done about an actor that died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Restart { after: Duration },
    Quarantine { pause: Duration },
}

impl<K: Hash + Eq> RestartTracker<K> {
    pub(crate) fn new(policy: Restarts) -> Self {
        Self { ends: HashMap::new(), policy }
    }

    /// Notes an abnormal end. `spread` in 0..=1 is the jitter's dice.
    pub(crate) fn note(&mut self, subject: K, now: BootTime, spread: f64) -> Verdict {
        self.forget(now);
        let Restarts { intensity, within, backoff, quarantine, .. } = &self.policy;
        let ends = self.ends.entry(subject).or_default();
        ends.recent.push_back(now);
        while ends.recent.front().is_some_and(|end| now.since(*end) > *within) {
            ends.recent.pop_front();
        }
        let recent = u32::try_from(ends.recent.len()).unwrap_or(u32::MAX);
        if recent <= *intensity {
            return Verdict::Restart { after: backoff.wait(recent, spread) };
        }
        // A session that held out for as long as it was set aside begins anew.
        let pause = quarantine.wait(ends.quarantines.saturating_add(1), 1.0);
        let held_out = ends.quarantines > 0 && now.since(ends.free) > pause;
        ends.quarantines = if held_out { 1 } else { ends.quarantines.saturating_add(1) };
        let pause = quarantine.wait(ends.quarantines, 1.0);
        ends.free = now.after(pause);
        ends.recent.clear();
        Verdict::Quarantine { pause }
    }

    /// Past the bound, those without a recent end are forgotten; if there is none, all are.
    fn forget(&mut self, now: BootTime) {
        if self.ends.len() < REMEMBERED_DEATHS {
            return;
        }
        let within = self.policy.within;
        self.ends.retain(|_, ends| {
            let recent = ends.recent.back().is_some_and(|end| now.since(*end) <= within);
            recent || now < ends.free
        });
        if self.ends.len() >= REMEMBERED_DEATHS {
            self.ends.clear();
        }
    }
}

#[cfg(test)]
mod tests;
