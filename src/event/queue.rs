//! The events that one subscriber has not read yet.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::{Event, EventKind};
use crate::key::Tenant;

/// A subscriber's events, and the waker of the task that waits for the next one.
pub(super) struct Queue(Mutex<State>);

struct State {
    unread: Unread,
    /// No events come any more.
    closed: bool,
    waker: Option<Waker>,
}

impl Queue {
    pub(super) fn new(most: usize, closed: bool) -> Self {
        Self(Mutex::new(State { unread: Unread::new(most), closed, waker: None }))
    }

    pub(super) fn push(&self, event: Event) {
        let mut state = self.0.lock();
        state.unread.push(event);
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    pub(super) fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.0.lock();
        match state.unread.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if state.closed => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Events in their order. If there are too many, drops the oldest of the tenant that has the most:
/// a tenant with few events loses none to a tenant with many.
struct Unread {
    most: usize,
    added: u64,
    events: BTreeMap<u64, Event>,
    /// The numbers of each tenant's events.
    of_tenants: HashMap<Option<Tenant>, VecDeque<u64>>,
    missed: u64,
}

impl Unread {
    fn new(most: usize) -> Self {
        let (events, of_tenants) = (BTreeMap::new(), HashMap::new());
        Self { most, added: 0, events, of_tenants, missed: 0 }
    }

    fn push(&mut self, event: Event) {
        self.added += 1;
        self.of_tenants.entry(event.tenant().cloned()).or_default().push_back(self.added);
        self.events.insert(self.added, event);
        if self.events.len() > self.most {
            let longest =
                |numbers: &&VecDeque<u64>| (numbers.len(), Reverse(numbers.front().copied()));
            let oldest = self.of_tenants.values().max_by_key(longest).and_then(VecDeque::front);
            if let Some(oldest) = oldest.copied() {
                self.remove(oldest);
                self.missed += 1;
            }
        }
    }

    fn pop(&mut self) -> Option<Event> {
        if self.missed > 0 {
            let missed = EventKind::Missed(std::mem::take(&mut self.missed));
            return Some(Event::of_none(SystemTime::UNIX_EPOCH, missed));
        }
        let first = *self.events.first_key_value()?.0;
        self.remove(first)
    }

    /// Removes this event, which must be the first of its tenant.
    fn remove(&mut self, number: u64) -> Option<Event> {
        let event = self.events.remove(&number)?;
        let tenant = event.tenant().cloned();
        if let Some(numbers) = self.of_tenants.get_mut(&tenant) {
            numbers.pop_front();
            if numbers.is_empty() {
                self.of_tenants.remove(&tenant);
            }
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{ProviderName, SessionId, SessionKey};

    fn of(tenant: &str, epoch: u64) -> Event {
        let key = SessionKey::new(tenant, "device").unwrap();
        let id = SessionId::new(ProviderName::new("p").unwrap(), key);
        Event::of_session(&id, SystemTime::UNIX_EPOCH, epoch, EventKind::Refreshed)
    }

    fn drained(unread: &mut Unread) -> Vec<(Option<String>, u64)> {
        let events = std::iter::from_fn(|| unread.pop());
        events
            .map(|event| {
                if let EventKind::Missed(missed) = event.kind {
                    return (None, missed);
                }
                (event.tenant().map(|tenant| tenant.as_str().to_owned()), event.epoch)
            })
            .collect()
    }

    #[test]
    fn a_tenant_with_many_events_pushes_out_only_its_own() {
        let mut unread = Unread::new(8);
        unread.push(of("quiet", 1));
        for epoch in 0..1000 {
            unread.push(of("loud", epoch));
        }
        unread.push(of("quiet", 2));
        let read = drained(&mut unread);
        assert_eq!(read[0], (None, 994));
        assert_eq!(read[1], (Some("quiet".to_owned()), 1), "the oldest of all is still first");
        assert_eq!(read[2], (Some("loud".to_owned()), 994));
        assert_eq!(read[8], (Some("quiet".to_owned()), 2));
        assert_eq!(read.len(), 9);
        assert!(unread.of_tenants.is_empty() && unread.events.is_empty());
    }

    #[test]
    fn if_tenants_have_equally_many_events_the_oldest_event_is_dropped() {
        let mut unread = Unread::new(3);
        for tenant in ["a", "b", "c", "d"] {
            unread.push(of(tenant, 0));
        }
        let read: Vec<_> = drained(&mut unread).into_iter().map(|(tenant, _)| tenant).collect();
        assert_eq!(read, [None, Some("b".to_owned()), Some("c".to_owned()), Some("d".to_owned())]);
    }
}
