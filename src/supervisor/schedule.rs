//! One structure for all sessions that want to be woken.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::BootTime;
use crate::key::SessionId;

/// Who is to be woken when. A session may stand here more than once: it re-arms when it is
/// woken, so an entry too many costs one look.
#[derive(Default)]
pub(crate) struct Schedule(BinaryHeap<Reverse<(BootTime, SessionId)>>);

impl Schedule {
    pub(crate) fn add(&mut self, at: BootTime, id: SessionId) {
        self.0.push(Reverse((at, id)));
    }

    /// When the next is to be woken.
    pub(crate) fn next(&self) -> Option<BootTime> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// The next that is to be woken by now.
    pub(crate) fn take_due(&mut self, now: BootTime) -> Option<SessionId> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, id))| id)
    }
}

#[cfg(test)]
mod tests;
