//! What was written lately, so that it can be written again after the database has gone back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::row_reader::KnownRow;
use crate::clock::BootTime;
use crate::key::SessionId;
use crate::store::{Change, Floor};

/// How long a write is remembered. Defaults to 5 min: a standby that is further behind is not
/// promoted by any tool in use without a person who decides so.
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(300);

/// How many sessions are remembered. Defaults to 65,536, some 80 MB if this process wrote them all,
/// and 5 min of 218 writes a second. If there are more, the oldest are forgotten.
pub(super) const RECENT_WRITES: usize = 65_536;

/// The last write to each session, by this process or, as far as the feed of changes told it, by
/// another one.
#[derive(Default)]
pub(super) struct RecentWrites(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    by_session: HashMap<SessionId, RecentWrite>,
    /// The writes in their order, with those that a later write of the session has replaced.
    order: VecDeque<(BootTime, SessionId)>,
}

/// A write, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct RecentWrite {
    /// The version that it wrote.
    pub(super) version: u64,
    pub(super) content: Content,
    at: BootTime,
}

/// What a write wrote.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// This process wrote this row.
    Row(Arc<KnownRow>),
    /// This process deleted the row, and raised the floor to this.
    Deleted(Floor),
    /// Another process wrote something, of which only the counters are known.
    Foreign(Change),
}

impl RecentWrites {
    /// Remembers a write, unless a later one is known.
    pub(super) fn note(&self, id: &SessionId, version: u64, content: Content, at: BootTime) {
        let Recent { by_session, order } = &mut *self.0.lock();
        if by_session.get(id).is_some_and(|known| known.version >= version) {
            return;
        }
        by_session.insert(id.clone(), RecentWrite { version, content, at });
        order.push_back((at, id.clone()));
        let is_old = |written: BootTime| at.since(written) > REMEMBERED_FOR;
        while order
            .front()
            .is_some_and(|(written, _)| order.len() > RECENT_WRITES || is_old(*written))
        {
            let Some((written, oldest)) = order.pop_front() else { return };
            if by_session.get(&oldest).is_some_and(|write| write.at == written) {
                by_session.remove(&oldest);
            }
        }
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        *self.0.lock() = Recent::default();
    }

    /// The writes of the last [`REMEMBERED_FOR`].
    pub(super) fn all(&self, now: BootTime) -> Vec<(SessionId, RecentWrite)> {
        let recent = self.0.lock();
        let young = recent.by_session.iter();
        let young = young.filter(|(_, write)| now.since(write.at) <= REMEMBERED_FOR);
        young.map(|(id, write)| (id.clone(), write.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{ProviderName, SessionKey};

    const START: BootTime = BootTime::new(Duration::from_secs(1000));

    fn id(number: usize) -> SessionId {
        let key = SessionKey::single(number.to_string()).unwrap();
        SessionId::new(ProviderName::new("p").unwrap(), key)
    }

    fn note(recent: &RecentWrites, number: usize, version: u64, at: BootTime) {
        let content = Content::Deleted(Floor { version, ..Floor::default() });
        recent.note(&id(number), version, content, at);
    }

    #[test]
    fn the_last_write_of_each_session_is_remembered_for_five_minutes() {
        let recent = RecentWrites::default();
        for (number, version) in [(1, 3), (1, 4), (1, 2), (2, 1)] {
            note(&recent, number, version, START);
        }
        let mut all = recent.all(START.after(REMEMBERED_FOR));
        all.sort_by_key(|(_, write)| write.version);
        let versions: Vec<_> = all.iter().map(|(id, write)| (id.clone(), write.version)).collect();
        assert_eq!(versions, [(id(2), 1), (id(1), 4)]);
        let later = START.after(REMEMBERED_FOR).after(Duration::from_nanos(1));
        assert!(recent.all(later).is_empty());
        note(&recent, 3, 1, later);
        assert_eq!(recent.0.lock().by_session.len(), 1);
        recent.clear();
        assert!(recent.all(START).is_empty());
    }

    #[test]
    fn the_oldest_writes_make_room_for_new_ones() {
        let recent = RecentWrites::default();
        for number in 0..=RECENT_WRITES {
            let since = Duration::from_nanos(number as u64);
            note(&recent, number, 1, START.after(since));
        }
        let recent = recent.0.lock();
        assert_eq!((recent.by_session.len(), recent.order.len()), (RECENT_WRITES, RECENT_WRITES));
        assert!(!recent.by_session.contains_key(&id(0)));
        assert!(recent.by_session.contains_key(&id(RECENT_WRITES)));
    }
}
