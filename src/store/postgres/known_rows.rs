//! The records that this process read or wrote last, so that most statements need no read.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::row_reader::KnownRow;
use crate::key::SessionId;

/// How many records are remembered. Defaults to 16,384, some 20 MB: the claim and the commit of
/// every exchange that runs at once, and what a busy process loads in a minute.
pub(super) const KNOWN_ROWS: usize = 16_384;

/// Records as they were last seen. They may have changed since, so a write names the version that it
/// expects.
#[derive(Default)]
pub(super) struct KnownRows(Mutex<Known>);

#[derive(Default)]
struct Known {
    records: HashMap<SessionId, Arc<KnownRow>>,
    /// In the order in which they came.
    order: VecDeque<SessionId>,
}

impl KnownRows {
    pub(super) fn get(&self, id: &SessionId) -> Option<Arc<KnownRow>> {
        self.0.lock().records.get(id).cloned()
    }

    /// Remembers a record.
    pub(super) fn note(&self, id: &SessionId, row: Arc<KnownRow>) {
        let Known { records, order } = &mut *self.0.lock();
        if records.insert(id.clone(), row).is_none() {
            order.push_back(id.clone());
        }
        while order.len() > KNOWN_ROWS {
            let Some(oldest) = order.pop_front() else { return };
            records.remove(&oldest);
        }
    }

    /// Forgets all records: the database may have others of the same versions.
    pub(super) fn forget_all(&self) {
        *self.0.lock() = Known::default();
    }

    /// Forgets a record: it was deleted, or is not as it was remembered.
    pub(super) fn forget(&self, id: &SessionId) {
        // Its place in the order stays, and removes at most a record that came later.
        self.0.lock().records.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{ProviderName, SessionKey};

    #[test]
    fn the_oldest_records_make_room_for_new_ones() {
        let known = KnownRows::default();
        let id = |number: usize| {
            let key = SessionKey::single(number.to_string()).unwrap();
            SessionId::new(ProviderName::new("p").unwrap(), key)
        };
        let row = Arc::new(KnownRow::of_nothing());
        for number in 0..=KNOWN_ROWS {
            known.note(&id(number), Arc::clone(&row));
        }
        assert!(known.get(&id(0)).is_none());
        assert!(known.get(&id(1)).is_some() && known.get(&id(KNOWN_ROWS)).is_some());
        for _ in 0..2 * KNOWN_ROWS {
            known.forget(&id(1));
            known.note(&id(1), Arc::clone(&row));
        }
        let known = known.0.lock();
        assert!(known.order.len() <= KNOWN_ROWS && known.records.len() <= known.order.len());
    }
}
