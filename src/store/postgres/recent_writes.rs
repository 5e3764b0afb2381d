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

/// How many sessions are remembered. Defaults to 65,536: 5 min of 218 sessions a second. If there
/// are more, the oldest writes are forgotten.
pub(super) const RECENT_WRITES: usize = 65_536;

/// How many bytes the remembered rows have together, sealed tokens included. Defaults to 128 MiB,
/// enough for 65,536 sessions with 1,400 bytes of tokens each. If there are more, the oldest writes
/// are forgotten.
pub(super) const RECENT_BYTES: usize = 128 * 1024 * 1024;

/// What a write costs beside its tokens.
const WRITE_BYTES: usize = 600;

/// The last write to each session, by this process or, as far as the feed of changes told it, by
/// another one.
#[derive(Default)]
pub(super) struct RecentWrites(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    by_session: HashMap<SessionId, RecentWrite>,
    /// The writes in their order, with those that a later write of the session has replaced.
    order: VecDeque<(WriteNumber, SessionId)>,
    bytes: usize,
}

/// The number of the failover after which the write was done, and the version that it wrote. Versions
/// alone are no order: after a failover, a later write may have a lower one.
pub(super) type WriteNumber = (u64, u64);

/// A write, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct RecentWrite {
    pub(super) number: WriteNumber,
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

impl Content {
    fn bytes(&self) -> usize {
        let Self::Row(row) = self else { return WRITE_BYTES };
        let sealed = row.record.credentials.iter().chain(&row.record.outbox);
        sealed.map(|sealed| sealed.bytes.len()).sum::<usize>() + WRITE_BYTES
    }

    pub(super) fn epoch(&self) -> u64 {
        match self {
            Self::Row(row) => row.record.epoch,
            Self::Deleted(floor) => floor.epoch,
            Self::Foreign(change) => change.epoch,
        }
    }

    pub(super) fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign(_))
    }
}

impl RecentWrites {
    /// Remembers a write, unless a later one is known. Of the same write, what this process knows
    /// itself counts, whatever the feed of changes told first.
    pub(super) fn note(&self, id: &SessionId, number: WriteNumber, content: Content, at: BootTime) {
        let recent = &mut *self.0.lock();
        let is_known = |known: &RecentWrite| {
            known.number > number || (known.number == number && !known.content.is_foreign())
        };
        if recent.by_session.get(id).is_some_and(is_known) {
            return;
        }
        recent.bytes += content.bytes();
        let former = recent.by_session.insert(id.clone(), RecentWrite { number, content, at });
        recent.bytes -= former.map_or(0, |former| former.content.bytes());
        recent.order.push_back((number, id.clone()));
        recent.forget_oldest(at);
    }

    /// Forgets this write, unless there is a later one.
    pub(super) fn forget(&self, id: &SessionId, number: WriteNumber) {
        self.0.lock().remove(id, number);
    }

    /// The writes of the last [`REMEMBERED_FOR`].
    pub(super) fn all(&self, now: BootTime) -> Vec<(SessionId, RecentWrite)> {
        let recent = self.0.lock();
        let young = recent.by_session.iter();
        let young = young.filter(|(_, write)| now.since(write.at) <= REMEMBERED_FOR);
        young.map(|(id, write)| (id.clone(), write.clone())).collect()
    }
}

impl Recent {
    fn remove(&mut self, id: &SessionId, number: WriteNumber) {
        if self.by_session.get(id).is_some_and(|write| write.number == number) {
            let removed = self.by_session.remove(id);
            self.bytes -= removed.map_or(0, |write| write.content.bytes());
        }
    }

    fn forget_oldest(&mut self, now: BootTime) {
        while let Some((number, id)) = self.order.front() {
            let write = self.by_session.get(id).filter(|write| write.number == *number);
            let is_old = write.is_none_or(|write| now.since(write.at) > REMEMBERED_FOR);
            let is_full = self.by_session.len() > RECENT_WRITES || self.bytes > RECENT_BYTES;
            if !is_old && !is_full {
                break;
            }
            if let Some((number, id)) = self.order.pop_front() {
                self.remove(&id, number);
            }
        }
        // The replaced ones behind a write that stays.
        if self.order.len() > 2 * RECENT_WRITES {
            let Self { by_session, order, .. } = self;
            order.retain(|(number, id)| {
                by_session.get(id).is_some_and(|write| write.number == *number)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{ProviderName, SessionKey};
    use crate::store::record_cipher::{SealedColumn, SealedCredentials};

    const START: BootTime = BootTime::new(Duration::from_secs(1000));

    fn id(number: usize) -> SessionId {
        let key = SessionKey::single(number.to_string()).unwrap();
        SessionId::new(ProviderName::new("p").unwrap(), key)
    }

    fn deleted() -> Content {
        Content::Deleted(Floor::default())
    }

    fn foreign() -> Content {
        Content::Foreign(Change { version: 1, epoch: 1, generation: 1, phase: None })
    }

    fn note(recent: &RecentWrites, number: usize, version: u64, at: BootTime) {
        recent.note(&id(number), (0, version), deleted(), at);
    }

    #[test]
    fn the_last_write_of_each_session_is_remembered_for_five_minutes() {
        let recent = RecentWrites::default();
        for (number, version) in [(1, 3), (1, 4), (1, 2), (2, 1)] {
            note(&recent, number, version, START);
        }
        let mut all = recent.all(START.after(REMEMBERED_FOR));
        all.sort_by_key(|(_, write)| write.number);
        let versions: Vec<_> = all.iter().map(|(id, write)| (id.clone(), write.number.1)).collect();
        assert_eq!(versions, [(id(2), 1), (id(1), 4)]);
        let later = START.after(REMEMBERED_FOR).after(Duration::from_nanos(1));
        assert!(recent.all(later).is_empty());
        note(&recent, 3, 1, later);
        assert_eq!(recent.0.lock().by_session.len(), 1);
        recent.forget(&id(3), (0, 2));
        assert_eq!(recent.all(later).len(), 1, "that was another write");
        recent.forget(&id(3), (0, 1));
        assert!(recent.all(later).is_empty());
        assert_eq!(recent.0.lock().bytes, 0);
    }

    #[test]
    fn a_write_after_a_failover_counts_as_later_whatever_its_version_is() {
        let recent = RecentWrites::default();
        for number in [(0, 9), (1, 4), (0, 10), (1, 3)] {
            recent.note(&id(1), number, deleted(), START);
        }
        assert_eq!(recent.all(START)[0].1.number, (1, 4));
    }

    #[test]
    fn of_the_same_write_what_this_process_knows_itself_counts() {
        for contents in [[deleted(), foreign()], [foreign(), deleted()]] {
            let recent = RecentWrites::default();
            for content in contents {
                recent.note(&id(1), (0, 1), content, START);
            }
            assert!(!recent.all(START)[0].1.content.is_foreign());
        }
    }

    #[test]
    fn the_oldest_writes_make_room_for_new_ones() {
        let recent = RecentWrites::default();
        for number in 0..=RECENT_WRITES {
            // A refresh writes twice.
            note(&recent, number, 1, START);
            note(&recent, number, 2, START);
        }
        let first = recent.0.lock();
        assert_eq!(first.by_session.len(), RECENT_WRITES);
        assert!(!first.by_session.contains_key(&id(0)));
        assert!(first.by_session.contains_key(&id(RECENT_WRITES)));
        drop(first);
        for version in 3..3 * RECENT_WRITES as u64 {
            note(&recent, RECENT_WRITES, version, START);
        }
        assert!(recent.0.lock().order.len() <= 2 * RECENT_WRITES);
    }

    #[test]
    fn large_rows_make_room_for_new_ones() {
        let recent = RecentWrites::default();
        let mut row = KnownRow::of_nothing();
        let (column, bytes) = (SealedColumn::Credentials, Arc::from(vec![7; RECENT_BYTES / 4]));
        row.record.credentials = Some(SealedCredentials { column, bytes });
        let row = Arc::new(row);
        for number in 0..10 {
            recent.note(&id(number), (0, 1), Content::Row(Arc::clone(&row)), START);
        }
        let kept: Vec<_> = recent.all(START).into_iter().map(|(id, _)| id).collect();
        assert_eq!(kept.len(), 3);
        assert!(kept.contains(&id(9)) && recent.0.lock().bytes <= RECENT_BYTES);
    }
}
