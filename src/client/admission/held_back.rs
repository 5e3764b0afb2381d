//! Until when a client is held back, for the health of its provider.

use super::Admission;
use crate::clock::BootTime;
use crate::health::HoldReason;

impl Admission {
    /// Why the client is held back now, and until when. If there are several reasons, the one that
    /// lasts longest.
    pub(crate) fn held_back(&self, now: BootTime) -> Option<(HoldReason, BootTime)> {
        let state = self.state.lock();
        let reasons = [
            (HoldReason::Throttled, Some(state.throttled_until)),
            (HoldReason::Stopped, state.stop.probe_at()),
            (HoldReason::Paced, state.pace.next()),
        ];
        let held = reasons.into_iter().filter_map(|(why, until)| Some((why, until?)));
        held.filter(|(_, until)| *until > now).max_by_key(|(_, until)| *until)
    }

    /// How many requests of exchanges, revocations and operations run.
    pub(crate) fn in_flight(&self) -> usize {
        self.counts.running()
    }

    /// How many of them wait for a permit. Scheduled exchanges that have not begun wait elsewhere.
    pub(crate) fn queued(&self) -> usize {
        self.counts.waiting()
    }
}
