//! The entries of a schedule, without the locks around them.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::clock::BootTime;
use crate::key::{SessionId, Tenant};
use crate::policy::{DUE_AT_ONCE, DUE_FAILED, DUE_SOURCES, DUE_WAITING};

/// A queue in which sessions wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WaitQueue {
    /// For a permit of the client of all tenants.
    Client,
    /// For a permit of the client of this tenant.
    ClientOf(Tenant),
    /// For a request to the provider's source, which gives their tenants' clients.
    Source,
}

/// The waiting sessions, and the number of tasks that take them from here.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<SessionId>,
    tasks: usize,
}

/// One entry for each session. It waits for its time, is being checked, or waits in a queue.
#[derive(Default)]
pub(super) struct Entries {
    of: HashMap<SessionId, Entry>,
    /// The entries that wait for their time.
    times: BTreeSet<(BootTime, SessionId)>,
    queues: HashMap<WaitQueue, Queue>,
    /// The number of entries that come from the store and have not failed.
    fresh: usize,
    /// The number of entries that have failed and wait for their next try.
    failed: usize,
}

struct Entry {
    state: EntryState,
    /// The time of the session's next check, if it was set while the session was being checked.
    next: Option<BootTime>,
    /// The entry comes from a record that was due in the store.
    polled: bool,
    tries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryState {
    Waits(BootTime),
    Checking,
    InQueue,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckResult {
    /// The session's work is done, or has begun. Its end arms the schedule again.
    Done,
    /// The check is repeated after a pause.
    Failed,
    /// The session waits in a queue.
    Queued,
    /// The queue is full. The store offers the record again.
    LeftToStore,
}

impl Entries {
    /// Sets the time of the session's next check. True if that is the first time now.
    pub(super) fn arm(&mut self, id: &SessionId, at: Option<BootTime>) -> bool {
        match (self.of.get_mut(id), at) {
            (Some(Entry { state: EntryState::Checking | EntryState::InQueue, next, .. }), at) => {
                *next = at;
                false
            }
            // The check has failed, and is not repeated before the pause is over.
            (Some(Entry { tries: 1.., .. }), _) | (None, None) => false,
            (Some(_), None) => {
                self.remove(id);
                false
            }
            (_, Some(at)) => {
                let polled = self.remove(id).is_some_and(|former| former.polled);
                self.insert(
                    id,
                    Entry { state: EntryState::Waits(at), next: None, polled, tries: 0 },
                );
                self.times.first().is_some_and(|(first, _)| *first == at)
            }
        }
    }

    /// Adds a session whose record is due in the store. False if there is no room for it now.
    pub(super) fn offer(&mut self, id: &SessionId, at: BootTime) -> bool {
        if self.of.contains_key(id) {
            return true;
        }
        let room = self.fresh < DUE_AT_ONCE;
        if room {
            self.insert(
                id,
                Entry { state: EntryState::Waits(at), next: None, polled: true, tries: 0 },
            );
        }
        room
    }

    pub(super) fn next(&self) -> Option<BootTime> {
        self.times.first().map(|(at, _)| *at)
    }

    /// The next session that is due, and whether it comes from the store. Its entry stays here until
    /// [`checked`](Self::checked).
    pub(super) fn take_due(&mut self, now: BootTime) -> Option<(SessionId, bool)> {
        let (_, id) = self.times.first().filter(|(at, _)| *at <= now)?.clone();
        let polled = self.check(&id)?;
        Some((id, polled))
    }

    /// Ends a check. `pause` gives the time of the next try after so many failures.
    pub(super) fn checked(
        &mut self,
        id: &SessionId,
        checked: CheckResult,
        pause: impl FnOnce(u32) -> BootTime,
    ) {
        let Some(entry) = self.remove(id) else { return };
        let next = match checked {
            CheckResult::Done => entry.next.map(|at| Entry {
                state: EntryState::Waits(at),
                next: None,
                polled: false,
                tries: 0,
            }),
            CheckResult::Failed => {
                let tries = entry.tries.saturating_add(1);
                let state = EntryState::Waits(pause(tries));
                // The store offers its record again. An entry that only this process has is kept.
                let kept = self.failed < DUE_FAILED || !entry.polled;
                kept.then_some(Entry { state, next: None, tries, ..entry })
            }
            CheckResult::Queued => Some(Entry { state: EntryState::InQueue, ..entry }),
            CheckResult::LeftToStore => None,
        };
        if let Some(next) = next {
            self.insert(id, next);
        }
    }

    /// Whether the queue has room for another session.
    pub(super) fn has_room(&self, wait_queue: &WaitQueue) -> bool {
        self.queues.get(wait_queue).is_none_or(|queue| queue.waiting.len() < DUE_WAITING)
    }

    /// Adds the session to the queue. True if the caller must start another task for the queue.
    pub(super) fn queue(&mut self, wait_queue: &WaitQueue, id: &SessionId) -> bool {
        let most = if *wait_queue == WaitQueue::Source { DUE_SOURCES } else { 1 };
        let queue = self.queues.entry(wait_queue.clone()).or_default();
        queue.waiting.push_back(id.clone());
        let more = queue.tasks < most;
        queue.tasks += usize::from(more);
        more
    }

    /// The next session, for one of the queue's tasks. At `None` that task must end.
    pub(super) fn take_queued(&mut self, wait_queue: &WaitQueue) -> Option<SessionId> {
        let queue = self.queues.get_mut(wait_queue)?;
        let next = queue.waiting.pop_front();
        match &next {
            Some(id) => drop(self.check(id)),
            None => {
                queue.tasks -= 1;
                if queue.tasks == 0 {
                    self.queues.remove(wait_queue);
                }
            }
        }
        next
    }

    /// The number of sessions that wait in the queue.
    pub(super) fn queued(&self, wait_queue: &WaitQueue) -> usize {
        self.queues.get(wait_queue).map_or(0, |queue| queue.waiting.len())
    }

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// Marks the session as being checked; returns whether it comes from the store.
    fn check(&mut self, id: &SessionId) -> Option<bool> {
        let entry = self.remove(id)?;
        let polled = entry.polled;
        self.insert(id, Entry { state: EntryState::Checking, ..entry });
        Some(polled)
    }

    fn insert(&mut self, id: &SessionId, entry: Entry) {
        if let EntryState::Waits(at) = entry.state {
            self.times.insert((at, id.clone()));
        }
        if let Some(count) = self.count_of(&entry) {
            *count += 1;
        }
        self.of.insert(id.clone(), entry);
    }

    fn remove(&mut self, id: &SessionId) -> Option<Entry> {
        let entry = self.of.remove(id)?;
        if let EntryState::Waits(at) = entry.state {
            self.times.remove(&(at, id.clone()));
        }
        if let Some(count) = self.count_of(&entry) {
            *count -= 1;
        }
        Some(entry)
    }

    fn count_of(&mut self, entry: &Entry) -> Option<&mut usize> {
        match entry {
            Entry { state: EntryState::InQueue, .. } => None,
            Entry { tries: 1.., .. } => Some(&mut self.failed),
            Entry { polled: true, .. } => Some(&mut self.fresh),
            Entry { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
