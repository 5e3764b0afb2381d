//! Eviction: a session leaves memory when its record has everything that memory has.

use std::sync::atomic::Ordering;

use super::{Inner, Slot};
use crate::session::machine::{Input, Settled, StepContext};

/// Whether a session can leave memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    Yes,
    /// As soon as the record marks the access token of this epoch and generation as suspect.
    OnceSuspect(u64, u64),
    No,
}

impl Slot {
    /// The last use, in seconds of monotonic time.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether the slot has a state that can be loaded again.
    pub(crate) fn is_full(&self) -> bool {
        !self.with_state(super::State::is_unloaded)
    }

    /// Whether the session can leave memory.
    pub(crate) fn leaves(&self) -> Leaves {
        self.leaves_as(&self.inner.lock())
    }

    fn leaves_as(&self, inner: &Inner) -> Leaves {
        // A rejection that came before the load is only in memory.
        if !inner.rests() || inner.rejected_before_load > 0 || !inner.state.is_in_store() {
            return Leaves::No;
        }
        let (epoch, generation) = inner.state.counters();
        let held = inner.state.settled.as_ref().and_then(Settled::held);
        let of_token = held.map_or(generation, |held| held.token_generation);
        let rejected = self.rejected_through() >= of_token && self.rejected_through() > 0;
        match held.filter(|_| rejected) {
            None => Leaves::Yes,
            Some(held) if held.suspect => Leaves::Yes,
            Some(_) => Leaves::OnceSuspect(epoch, generation),
        }
    }

    /// Empties the slot while a handle holds it. The slot keeps the id, the version of the record
    /// and the rejected generation.
    pub(crate) fn empty(&self, at: &StepContext) {
        // One lock for check and step: a caller with a handle could start an exchange between the
        // two, and the step would forget that it runs.
        let mut inner = self.inner.lock();
        if self.leaves_as(&inner) == Leaves::Yes && !inner.state.is_unloaded() {
            inner.step(Input::Left, at);
            self.publish(&mut inner, at.now);
        }
    }
}
