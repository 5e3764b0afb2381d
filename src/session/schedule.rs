//! The schedule: the checks that are due for the sessions of one provider in the next minutes. Later
//! times are only in the store.

mod entries;
mod process_rank;

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::entries::Entries;
pub(crate) use self::entries::{CheckResult, WaitQueue};
pub(crate) use self::process_rank::Ranks;
use crate::clock::BootTime;
use crate::key::SessionId;

/// The processes that know the time of a session's next check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KnownTo {
    /// Every process on the store: the time is in the record.
    All,
    ThisProcess,
}

/// One provider's entries, with the notifications for the scheduler's tasks.
#[derive(Default)]
pub(crate) struct Schedule {
    entries: Mutex<Entries>,
    /// Notified when the first time has changed.
    pub(crate) rearmed: Notify,
    /// Notified when there may be room again for records from the store.
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

    /// As [`Entries::checked`].
    pub(crate) fn checked(
        &self,
        id: &SessionId,
        checked: CheckResult,
        pause: impl FnOnce(u32) -> BootTime,
    ) {
        self.entries.lock().checked(id, checked, pause);
        if checked == CheckResult::LeftToStore {
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
    pub(crate) fn has_room(&self, wait_queue: &WaitQueue) -> bool {
        self.entries.lock().has_room(wait_queue)
    }

    /// As [`Entries::queue`].
    pub(crate) fn queue(&self, wait_queue: &WaitQueue, id: &SessionId) -> bool {
        self.entries.lock().queue(wait_queue, id)
    }

    /// As [`Entries::take_queued`].
    pub(crate) fn take_queued(&self, wait_queue: &WaitQueue) -> Option<SessionId> {
        self.entries.lock().take_queued(wait_queue)
    }

    /// The number of sessions that wait in the queue.
    pub(crate) fn queued(&self, wait_queue: &WaitQueue) -> usize {
        self.entries.lock().queued(wait_queue)
    }

    /// The number of sessions.
    pub(crate) fn len(&self) -> usize {
        self.entries.lock().len()
    }
}
