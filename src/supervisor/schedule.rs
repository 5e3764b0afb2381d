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
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::key::{ProviderName, SessionKey};

    #[test]
    fn sessions_are_woken_in_the_order_of_their_times_and_not_before() {
        let at = |seconds| BootTime::new(Duration::from_secs(seconds));
        let id = |name: &str| {
            let key = SessionKey::new("t", name).unwrap();
            SessionId::new(ProviderName::new("p").unwrap(), key)
        };
        let mut schedule = Schedule::default();
        for (seconds, name) in [(30, "c"), (10, "a"), (20, "b")] {
            schedule.add(at(seconds), id(name));
        }
        assert_eq!(schedule.next(), Some(at(10)));
        assert_eq!(schedule.take_due(at(9)), None);
        assert_eq!(schedule.take_due(at(20)), Some(id("a")));
        assert_eq!(schedule.take_due(at(20)), Some(id("b")));
        assert_eq!(schedule.take_due(at(20)), None);
        assert_eq!(schedule.next(), Some(at(30)));
    }
}
