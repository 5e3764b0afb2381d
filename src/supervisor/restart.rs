//! When an actor that died is started again, and when its session is set aside instead.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use crate::clock::BootTime;
use crate::policy::{REMEMBERED_DEATHS, Restarts};

/// The abnormal ends of actors, by what they served. Those that are long past are forgotten.
pub(crate) struct Ledger<K> {
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

impl<K: Hash + Eq> Ledger<K> {
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
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    #[test]
    fn restarts_back_off_and_past_the_intensity_the_session_is_set_aside_for_longer_each_time() {
        let mut ledger = Ledger::new(Restarts::default());
        let mut waits = Vec::new();
        for _ in 0..5 {
            match ledger.note("a", at(100), 1.0) {
                Verdict::Restart { after } => waits.push(after.as_millis()),
                Verdict::Quarantine { .. } => panic!("too early"),
            }
        }
        assert_eq!(waits, [10, 20, 40, 80, 160]);
        let minute = Duration::from_secs(60);
        assert_eq!(ledger.note("a", at(100), 1.0), Verdict::Quarantine { pause: minute });
        for _ in 0..5 {
            ledger.note("a", at(170), 1.0);
        }
        assert_eq!(ledger.note("a", at(170), 1.0), Verdict::Quarantine { pause: 2 * minute });
        assert!(matches!(ledger.note("b", at(170), 1.0), Verdict::Restart { .. }));
    }

    #[test]
    fn ends_that_lie_apart_are_no_storm() {
        let mut ledger = Ledger::new(Restarts::default());
        for minute in 0..100 {
            let verdict = ledger.note("a", at(minute * 61), 1.0);
            assert_eq!(verdict, Verdict::Restart { after: Duration::from_millis(10) });
        }
    }

    #[test]
    fn the_ledger_is_bounded() {
        let mut ledger = Ledger::new(Restarts::default());
        for subject in 0..3 * REMEMBERED_DEATHS {
            ledger.note(subject, at(1), 1.0);
        }
        assert!(ledger.ends.len() <= REMEMBERED_DEATHS);
    }
}
