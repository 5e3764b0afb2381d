//! What is due for the sessions of one provider in the next minutes. All that is due later is in
//! the store.

mod entries;
mod process_rank;

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::entries::Entries;
pub(crate) use self::entries::{Lane, Looked};
pub(crate) use self::process_rank::Ranks;
use crate::clock::BootTime;
use crate::key::SessionId;

/// Who knows when a session is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KnownTo {
    /// Every process on the store: the time is in the record.
    All,
    ThisProcess,
}

/// One provider's entries, and what wakes those who work on them.
#[derive(Default)]
pub(crate) struct Schedule {
    entries: Mutex<Entries>,
    /// The first time has changed.
    pub(crate) rearmed: Notify,
    /// There is room again for a record that was read.
    pub(crate) room: Notify,
    /// Records were left to the store since this was last asked.
    left_to_store: AtomicBool,
}

impl Schedule {
    /// As [`Entries::arm`].
    pub(crate) fn arm(&self, id: &SessionId, at: Option<BootTime>) {
        if self.entries.lock().arm(id, at) {
            self.rearmed.notify_one();
        }
    }

    /// As [`Entries::offer`].
    pub(crate) fn offer(&self, id: &SessionId, at: BootTime) -> bool {
        let taken = self.entries.lock().offer(id, at);
        self.rearmed.notify_one();
        taken
    }

    pub(crate) fn next(&self) -> Option<BootTime> {
        self.entries.lock().next()
    }

    /// As [`Entries::take_due`].
    pub(crate) fn take_due(&self, now: BootTime) -> Option<(SessionId, bool)> {
        self.entries.lock().take_due(now)
    }

    /// As [`Entries::looked`].
    pub(crate) fn looked(
        &self,
        id: &SessionId,
        looked: Looked,
        pause: impl FnOnce(u32) -> BootTime,
    ) {
        self.entries.lock().looked(id, looked, pause);
        if looked == Looked::LeftToStore {
            self.left_to_store.store(true, Ordering::Relaxed);
        }
        self.room.notify_waiters();
        self.rearmed.notify_one();
    }

    /// Whether records were left to the store since this was last asked.
    pub(crate) fn take_left_to_store(&self) -> bool {
        self.left_to_store.swap(false, Ordering::Relaxed)
    }

    /// As [`Entries::has_room`].
    pub(crate) fn has_room(&self, lane: &Lane) -> bool {
        self.entries.lock().has_room(lane)
    }

    /// As [`Entries::queue`].
    pub(crate) fn queue(&self, lane: &Lane, id: &SessionId) -> bool {
        self.entries.lock().queue(lane, id)
    }

    /// As [`Entries::take_queued`].
    pub(crate) fn take_queued(&self, lane: &Lane) -> Option<SessionId> {
        self.entries.lock().take_queued(lane)
    }

    /// How many sessions stand here.
    pub(crate) fn len(&self) -> usize {
        self.entries.lock().len()
    }
}
