//! The store that is gone with its process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::record::{
    Claim, Claimed, Close, Closed, Commit, Committed, Due, Filter, Listed, Record, Settle, Settled,
    TakeOver,
};
use super::statement::{self, Change, Claiming, Closing, Fences};
use super::{Store, StoreError};
use crate::key::SessionId;
use crate::token::Credentials;

/// Keeps sessions in memory: for development, for tests, and for backends whose users may sign in
/// again after a restart. Clones share their records, so a second supervisor can be started on
/// what the first one left.
///
/// It speaks the whole protocol of [`Store`], claims and fences included, and shares the tokens'
/// bytes with the sessions.
#[derive(Clone, Default)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
}

/// The records, and the index by due time. Both change under one lock, one statement at a time.
#[derive(Default)]
struct Tables {
    records: BTreeMap<SessionId, Record>,
    due: BTreeSet<Due>,
    fences: Fences,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables.lock().records.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("records", &self.len()).finish()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, id: &SessionId) -> Result<Option<Record>, StoreError> {
        Ok(self.tables.lock().records.get(id).cloned())
    }

    async fn claim(&self, id: &SessionId, claim: Claim) -> Result<Claimed, StoreError> {
        Ok(self.tables.lock().claim(id, &claim))
    }

    async fn commit(&self, id: &SessionId, commit: Commit) -> Result<Committed, StoreError> {
        Ok(self.tables.lock().commit(id, &commit))
    }

    async fn settle(&self, id: &SessionId, settle: Settle) -> Result<Settled, StoreError> {
        let mut tables = self.tables.lock();
        let settled = statement::settle(tables.found(id), &settle);
        Ok(tables.change(id, settled))
    }

    async fn take_over(&self, id: &SessionId, take: TakeOver) -> Result<bool, StoreError> {
        let mut tables = self.tables.lock();
        let taken = statement::take_over(tables.found(id), &take);
        Ok(tables.change(id, taken))
    }

    async fn close(&self, id: &SessionId, close: Close) -> Result<Closed, StoreError> {
        Ok(self.tables.lock().close(id, &close))
    }

    async fn outbox(&self, id: &SessionId, generation: u64) -> Result<(), StoreError> {
        let mut tables = self.tables.lock();
        if let Some(record) = statement::told(tables.found(id), generation) {
            tables.put(id, record);
        }
        Ok(())
    }

    async fn due(&self, after: Option<&Due>, limit: usize) -> Result<Vec<Due>, StoreError> {
        let tables = self.tables.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(tables.due.range((from, Bound::Unbounded)).take(limit).cloned().collect())
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        Ok(self.tables.lock().list(filter, after, limit))
    }

    async fn delete(&self, id: &SessionId) -> Result<bool, StoreError> {
        Ok(self.tables.lock().delete(id))
    }
}

impl Tables {
    /// One tenant's records of any provider: a range for each.
    fn list(&self, filter: &Filter, after: Option<&SessionId>, limit: usize) -> Vec<Listed> {
        if filter.provider.is_some() || filter.tenant.is_none() {
            return self.range(filter, after, limit);
        }
        let (mut from, mut listed) = (after.cloned(), Vec::new());
        while listed.len() < limit {
            let after = from.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.records.range((after, Bound::Unbounded)).next();
            let Some(provider) = next.map(|(id, _)| id.provider().clone()) else { break };
            let end = SessionId::ceiling(&provider);
            let own = Filter { provider: Some(provider), ..filter.clone() };
            listed.extend(self.range(&own, from.as_ref(), limit - listed.len()));
            from = Some(end);
        }
        listed
    }

    /// Ids sort by provider, then by tenant: what is asked of one provider, or of its one tenant,
    /// is a range.
    fn range(&self, filter: &Filter, after: Option<&SessionId>, limit: usize) -> Vec<Listed> {
        let tenant = filter.tenant.as_ref();
        let floor = filter.provider.as_ref().map(|provider| SessionId::floor(provider, tenant));
        let from = match (after, &floor) {
            (Some(after), Some(floor)) if after < floor => Bound::Excluded(floor),
            (Some(after), _) => Bound::Excluded(after),
            (None, Some(floor)) => Bound::Excluded(floor),
            (None, None) => Bound::Unbounded,
        };
        let within = |id: &SessionId| {
            filter.provider.as_ref().is_none_or(|provider| {
                id.provider() == provider && tenant.is_none_or(|tenant| tenant == id.key().tenant())
            })
        };
        let range = self.records.range((from, Bound::Unbounded));
        let range = range.take_while(|(id, _)| within(id));
        let passing = range.filter(|(id, record)| filter.passes(id, record)).take(limit);
        passing.map(|(id, record)| Listed { id: id.clone(), record: record.clone() }).collect()
    }

    fn claim(&mut self, id: &SessionId, claim: &Claim) -> Claimed {
        match statement::claim(self.found(id), self.fences, claim) {
            Claiming::Granted(record) => {
                let fence = record.fence;
                self.put(id, record);
                Claimed::Granted { fence }
            }
            Claiming::Moved(found) => Claimed::Moved(found),
            Claiming::Leased(record) => Claimed::Leased(record),
        }
    }

    fn commit(&mut self, id: &SessionId, commit: &Commit) -> Committed {
        let credentials = Arc::clone(&commit.credentials);
        let found = self.found(id);
        let (committed, record) = statement::commit(found, self.fences, commit, credentials);
        if let Some(record) = record {
            self.put(id, record);
        }
        committed
    }

    fn close(&mut self, id: &SessionId, close: &Close) -> Closed {
        match statement::close(self.found(id), close) {
            Closing::Done(record) => {
                let generation = record.generation;
                self.put(id, record);
                Closed::Done { generation }
            }
            Closing::Already(generation) => Closed::Done { generation },
            Closing::Moved(found) => Closed::Moved(found),
        }
    }

    fn found(&self, id: &SessionId) -> Option<Record> {
        self.records.get(id).cloned()
    }

    /// Writes what a statement decided.
    fn change<T>(&mut self, id: &SessionId, (answer, change): (T, Change<Arc<Credentials>>)) -> T {
        match change {
            Change::Nothing => {}
            Change::Put(record) => self.put(id, record),
            Change::Remove => drop(self.remove(id)),
        }
        answer
    }

    fn put(&mut self, id: &SessionId, record: Record) {
        if let Some(at) = record.due_at {
            self.due.insert(Due { at, id: id.clone() });
        }
        let due_at = record.due_at;
        let former = self.records.insert(id.clone(), record).and_then(|former| former.due_at);
        if let Some(at) = former.filter(|at| Some(*at) != due_at) {
            self.due.remove(&Due { at, id: id.clone() });
        }
    }

    fn delete(&mut self, id: &SessionId) -> bool {
        let removed = self.remove(id);
        self.fences = self.fences.deleted(removed.unwrap_or_default());
        removed.is_some()
    }

    /// The fence of the record that was there.
    fn remove(&mut self, id: &SessionId) -> Option<u64> {
        let Record { fence, due_at, .. } = self.records.remove(id)?;
        self.fences = self.fences.removed(fence);
        if let Some(at) = due_at {
            self.due.remove(&Due { at, id: id.clone() });
        }
        Some(fence)
    }
}
