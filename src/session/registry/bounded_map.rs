//! The one map of resident sessions, shared by handles, actors and exchanges.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use scc::HashMap;

use crate::key::{SessionId, Tenant};

/// Entries by session. Entries are made and removed only under the lock of their bucket.
pub(crate) struct BoundedMap<T> {
    entries: HashMap<SessionId, Arc<T>>,
    count: AtomicUsize,
    /// The number of entries of each tenant that has any.
    of_tenants: HashMap<Tenant, usize>,
    most: usize,
    most_per_tenant: usize,
    /// If there are more entries than this, some must leave.
    crowded_at: AtomicUsize,
}

/// There is no room for one entry more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    ForAll,
    ForTenant,
}

impl<T> BoundedMap<T> {
    pub(crate) fn new(most: usize, most_per_tenant: usize) -> Self {
        let (entries, of_tenants) = (HashMap::new(), HashMap::new());
        let (count, crowded_at) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        Self { entries, count, of_tenants, most, most_per_tenant, crowded_at }
    }

    pub(crate) fn get(&self, id: &SessionId) -> Option<Arc<T>> {
        self.entries.read_sync(id, |_, entry| Arc::clone(entry))
    }

    /// The entry of `id`. Makes one if there is none.
    pub(crate) fn obtain(&self, id: &SessionId, make: impl FnOnce() -> T) -> Result<Arc<T>, Full> {
        if let Some(entry) = self.get(id) {
            return Ok(entry);
        }
        match self.entries.entry_sync(id.clone()) {
            scc::hash_map::Entry::Occupied(entry) => Ok(Arc::clone(entry.get())),
            scc::hash_map::Entry::Vacant(vacant) => {
                // Counted before the insert, so that the map never exceeds its bounds.
                self.count_entry(id.key().tenant())?;
                let entry = Arc::new(make());
                drop(vacant.insert_entry(Arc::clone(&entry)));
                Ok(entry)
            }
        }
    }

    fn count_entry(&self, tenant: &Tenant) -> Result<(), Full> {
        if self.count.fetch_add(1, Ordering::AcqRel) >= self.most {
            self.count.fetch_sub(1, Ordering::AcqRel);
            return Err(Full::ForAll);
        }
        let mut theirs = self.of_tenants.entry_sync(tenant.clone()).or_insert(0);
        if *theirs.get() >= self.most_per_tenant {
            self.count.fetch_sub(1, Ordering::AcqRel);
            return Err(Full::ForTenant);
        }
        *theirs.get_mut() += 1;
        Ok(())
    }

    fn uncount_entry(&self, tenant: &Tenant) {
        self.count.fetch_sub(1, Ordering::AcqRel);
        let _ = self.of_tenants.remove_if_sync(tenant, |theirs| {
            *theirs = theirs.saturating_sub(1);
            *theirs == 0
        });
    }

    /// Releases a reference, and removes the entry if that was the last one and `disposable` agrees.
    /// Under the bucket's lock no other thread can get a reference meanwhile, so there are never two
    /// entries for one session.
    pub(crate) fn release(
        &self,
        id: &SessionId,
        held: Arc<T>,
        disposable: impl FnOnce(&T) -> bool,
    ) -> bool {
        let unused = |entry: &mut Arc<T>| {
            let same = Arc::ptr_eq(entry, &held);
            // Under the lock and before the count: if two threads release at once, the second one
            // must find that its reference is the last.
            drop(held);
            same && Arc::strong_count(entry) == 1 && disposable(entry)
        };
        let removed = self.entries.remove_if_sync(id, unused).is_some();
        if removed {
            self.uncount_entry(id.key().tenant());
        }
        removed
    }

    /// Whether there are more entries than [`crowd_at`](Self::crowd_at) has set.
    pub(crate) fn is_crowded(&self) -> bool {
        self.len() > self.crowded_at.load(Ordering::Relaxed)
    }

    pub(crate) fn crowd_at(&self, count: usize) {
        self.crowded_at.store(count, Ordering::Relaxed);
    }

    /// Removes the entries without a reference for which `may_leave` is true. Its second argument is
    /// whether there is a reference. It runs under the bucket's lock, so that no other thread can get
    /// a reference meanwhile.
    pub(crate) fn evict(&self, mut may_leave: impl FnMut(&Arc<T>, bool) -> bool) {
        self.entries.retain_sync(|id, entry| {
            let held = Arc::strong_count(entry) > 1;
            let leaves = may_leave(entry, held) && !held;
            if leaves {
                self.uncount_entry(id.key().tenant());
            }
            !leaves
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Visits all entries that exist during the whole call.
    pub(crate) fn each(&self, mut visit: impl FnMut(&Arc<T>)) {
        self.entries.iter_sync(|_, entry| {
            visit(entry);
            true
        });
    }
}

#[cfg(test)]
mod tests;
