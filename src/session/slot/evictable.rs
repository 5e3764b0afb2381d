//! How a session leaves memory when its record says all there is to know of it.

use std::sync::atomic::Ordering;

use super::{Inner, Slot};
use crate::session::machine::{Input, Settled, StepContext};

/// Whether a session can leave memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    Yes,
    /// When the record says that the access token of this epoch and generation was rejected.
    OnceSuspect(u64, u64),
    No,
}

impl Slot {
    /// When it was last used, in seconds of monotonic time.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether it has anything that can be read again.
    pub(crate) fn is_full(&self) -> bool {
        !self.with_state(super::State::is_unloaded)
    }

    /// Whether the record says all that is to be known of the session.
    pub(crate) fn leaves(&self) -> Leaves {
        self.leaves_as(&self.inner.lock())
    }

    fn leaves_as(&self, inner: &Inner) -> Leaves {
        // A rejection that came before the record was read is known here alone.
        if !inner.rests() || inner.rejected_before_load > 0 || !inner.state.is_in_store() {
            return Leaves::No;
        }
        let (epoch, generation) = inner.state.counters();
        let rejected = self.rejected_through() >= generation && self.rejected_through() > 0;
        let held = inner.state.settled.as_ref().and_then(Settled::held);
        match held.filter(|_| rejected) {
            None => Leaves::Yes,
            Some(held) if held.suspect => Leaves::Yes,
            Some(_) => Leaves::OnceSuspect(epoch, generation),
        }
    }

    /// Empties it while a handle holds it. Its name, its record's version and what was rejected
    /// stay.
    ///
    /// Asked and done under one lock: a caller who holds the handle could begin an exchange between
    /// the two, and the state would forget that it runs.
    pub(crate) fn empty(&self, at: &StepContext) {
        let mut inner = self.inner.lock();
        if self.leaves_as(&inner) == Leaves::Yes && !inner.state.is_unloaded() {
            inner.step(Input::Left, at);
            self.publish(&mut inner, at.now);
        }
    }
}
