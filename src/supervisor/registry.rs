//! The one map of resident sessions, shared by handles, actors and exchanges.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use scc::HashMap;

use crate::key::SessionId;

/// Entries by session. Everything that decides about an entry's life is decided under its
/// bucket's lock.
pub(crate) struct Registry<T> {
    entries: HashMap<SessionId, Arc<T>>,
    count: AtomicUsize,
    most: usize,
}

/// No room for one entry more.
#[derive(Debug)]
pub(crate) struct Full;

impl<T> Registry<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: HashMap::new(), count: AtomicUsize::new(0), most }
    }

    pub(crate) fn get(&self, id: &SessionId) -> Option<Arc<T>> {
        self.entries.read_sync(id, |_, entry| Arc::clone(entry))
    }

    /// The entry of `id`, made if there is none.
    pub(crate) fn obtain(&self, id: &SessionId, make: impl FnOnce() -> T) -> Result<Arc<T>, Full> {
        if let Some(entry) = self.get(id) {
            return Ok(entry);
        }
        match self.entries.entry_sync(id.clone()) {
            scc::hash_map::Entry::Occupied(entry) => Ok(Arc::clone(entry.get())),
            scc::hash_map::Entry::Vacant(vacant) => {
                if self.count.fetch_add(1, Ordering::AcqRel) >= self.most {
                    self.count.fetch_sub(1, Ordering::AcqRel);
                    return Err(Full);
                }
                let entry = Arc::new(make());
                drop(vacant.insert_entry(Arc::clone(&entry)));
                Ok(entry)
            }
        }
    }

    /// Ends a hold, and removes the entry if that was the last one and `disposable` agrees. Under
    /// the bucket's lock nobody can take hold of it meanwhile, so there are never two entries for
    /// one session; and of two whose holds end at once, the second finds that it is the last.
    pub(crate) fn release(
        &self,
        id: &SessionId,
        held: Arc<T>,
        disposable: impl FnOnce(&T) -> bool,
    ) -> bool {
        let unused = |entry: &mut Arc<T>| {
            let same = Arc::ptr_eq(entry, &held);
            drop(held);
            same && Arc::strong_count(entry) == 1 && disposable(entry)
        };
        let removed = self.entries.remove_if_sync(id, unused).is_some();
        if removed {
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
        removed
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Visits every entry that is there from beginning to end.
    pub(crate) fn each(&self, mut visit: impl FnMut(&Arc<T>)) {
        self.entries.iter_sync(|_, entry| {
            visit(entry);
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{ProviderName, SessionKey};

    fn id(name: &str) -> SessionId {
        let key = SessionKey::new("t", name).unwrap();
        SessionId::new(ProviderName::new("p").unwrap(), key)
    }

    #[test]
    fn an_entry_that_somebody_else_holds_is_not_removed() {
        let registry = Registry::new(8);
        let held = registry.obtain(&id("a"), || 1).unwrap();
        let other = registry.get(&id("a")).unwrap();
        assert!(!registry.release(&id("a"), Arc::clone(&held), |_| true));
        assert!(!registry.release(&id("a"), other, |_| true));
        let other = registry.get(&id("a")).unwrap();
        assert!(!registry.release(&id("a"), held, |_| true));
        let held = registry.get(&id("a")).unwrap();
        drop(other);
        assert!(!registry.release(&id("a"), held, |_| false));
        let held = registry.get(&id("a")).unwrap();
        let late = Arc::new(1);
        assert!(registry.release(&id("a"), held, |_| true));
        assert_eq!(registry.len(), 0);
        assert!(registry.get(&id("a")).is_none());
        let successor = registry.obtain(&id("a"), || 2).unwrap();
        assert!(!registry.release(&id("a"), late, |_| true), "not the one that was held");
        assert_eq!(*successor, 2);
    }

    #[test]
    fn the_bound_is_reached_and_room_is_given_back() {
        let registry = Registry::new(2);
        let held = registry.obtain(&id("a"), || ()).unwrap();
        registry.obtain(&id("b"), || ()).unwrap();
        let Full = registry.obtain(&id("c"), || ()).unwrap_err();
        registry.obtain(&id("a"), || ()).unwrap();
        assert!(registry.release(&id("a"), held, |()| true));
        registry.obtain(&id("c"), || ()).unwrap();
        let mut seen = 0;
        registry.each(|_| seen += 1);
        assert_eq!((seen, registry.len()), (2, 2));
    }
}
