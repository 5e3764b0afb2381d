//! The entries of a schedule, without the locks around them.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::clock::BootTime;
use crate::key::{SessionId, Tenant};
use crate::policy::{DUE_AT_ONCE, DUE_FAILED, DUE_SOURCES, DUE_WAITING};

/// What sessions wait for in turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WaitQueue {
    /// A permit of the client of all tenants.
    Client,
    /// A permit of the client of this tenant.
    ClientOf(Tenant),
    /// That the provider's source is asked for their tenants' clients.
    Source,
}

/// Those who wait, and how many tasks take them from here.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<SessionId>,
    tasks: usize,
}

/// One entry for each session, wherever it is: it waits for its time, is being looked at, or waits
/// in a lane.
#[derive(Default)]
pub(super) struct Entries {
    of: HashMap<SessionId, Entry>,
    /// Those that wait for their time.
    times: BTreeSet<(BootTime, SessionId)>,
    queues: HashMap<WaitQueue, Queue>,
    /// How many come from the store and have not failed yet.
    fresh: usize,
    /// How many have failed and wait for their next try.
    failed: usize,
}

struct Entry {
    state: EntryState,
    /// Where the session wants to be looked at next, if that changed while it was looked at.
    next: Option<BootTime>,
    /// Its record was due in the store.
    polled: bool,
    tries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryState {
    Waits(BootTime),
    Checking,
    InQueue,
}

/// What became of an entry that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckResult {
    /// What was due is done, or begun: its end tells the schedule by itself.
    Done,
    /// It is tried again after a pause.
    Failed,
    /// It waits in a lane.
    Queued,
    /// Too many wait in its lane. Its record brings it again.
    LeftToStore,
}

impl Entries {
    /// The session in memory wants to be looked at then. True if it is the first one now.
    pub(super) fn arm(&mut self, id: &SessionId, at: Option<BootTime>) -> bool {
        match (self.of.get_mut(id), at) {
            (Some(Entry { state: EntryState::Checking | EntryState::InQueue, next, .. }), at) => {
                *next = at;
                false
            }
            // It failed, and is not tried before its pause is over.
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

    /// The store has a record that is due then. False if there is no room for it now.
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

    /// The next that is due, and whether its record was. It stays here until
    /// [`checked`](Self::looked) says what became of it.
    pub(super) fn take_due(&mut self, now: BootTime) -> Option<(SessionId, bool)> {
        let (_, id) = self.times.first().filter(|(at, _)| *at <= now)?.clone();
        let polled = self.check(&id)?;
        Some((id, polled))
    }

    /// What became of it. `pause` says until when it is left alone after so many failures.
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
                // The store brings a record again. What only this process knows is never dropped.
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

    /// Whether another session may wait there.
    pub(super) fn has_room(&self, wait_queue: &WaitQueue) -> bool {
        self.queues.get(wait_queue).is_none_or(|queue| queue.waiting.len() < DUE_WAITING)
    }

    /// Lets the session wait. True if another task is to take sessions from there.
    pub(super) fn queue(&mut self, wait_queue: &WaitQueue, id: &SessionId) -> bool {
        let most = if *wait_queue == WaitQueue::Source { DUE_SOURCES } else { 1 };
        let queue = self.queues.entry(wait_queue.clone()).or_default();
        queue.waiting.push_back(id.clone());
        let more = queue.tasks < most;
        queue.tasks += usize::from(more);
        more
    }

    /// The next session that waits there, for one of the lane's tasks. At `None` that task ends.
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

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// It is looked at from now on; whether its record was due.
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
