//! The store that is gone with its process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::record::{
    Claim, Claimed, Close, Closed, Commit, Committed, Due, Filter, Intent, Lease, Listed, Phase,
    Record, Settle, SettleTo, Settled, TakeOver,
};
use super::{Store, StoreError};
use crate::key::SessionId;

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
    /// The highest fence of all records that were removed. New ones begin above it, so that a
    /// late statement on a removed record never fits its successor.
    removed: u64,
    /// The same of those that were deleted. A first grant's commit makes a record, because its
    /// claim's record may have been removed when it was taken over; but never one that was deleted.
    deleted: u64,
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
        Ok(self.tables.lock().commit(id, commit))
    }

    async fn settle(&self, id: &SessionId, settle: Settle) -> Result<Settled, StoreError> {
        Ok(self.tables.lock().settle(id, &settle))
    }

    async fn take_over(&self, id: &SessionId, take: TakeOver) -> Result<bool, StoreError> {
        Ok(self.tables.lock().take_over(id, &take))
    }

    async fn close(&self, id: &SessionId, close: Close) -> Result<Closed, StoreError> {
        Ok(self.tables.lock().close(id, &close))
    }

    async fn outbox(&self, id: &SessionId, generation: u64) -> Result<(), StoreError> {
        self.tables.lock().change(id, |record| {
            // The generation names the tombstone, also while a grant is claimed on it.
            if record.generation == generation && record.outbox.take().is_some() {
                record.due_at = None;
            }
        });
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

    /// S0 and S1. What an owner itself left claimed is its own to claim again: it knows that its
    /// exchange has ended, because it runs one at a time.
    fn claim(&mut self, id: &SessionId, claim: &Claim) -> Claimed {
        let found = self.records.get(id);
        let (epoch, generation) = found.map_or((0, 0), |r| (r.epoch, r.generation));
        let stale = claim.intent == Intent::Refresh && generation != claim.generation;
        if epoch != claim.epoch || stale {
            return Claimed::Moved(found.cloned());
        }
        let mut record = found.cloned().unwrap_or_else(|| vacant(self.removed));
        let before = match record.lease {
            None => record.phase,
            Some(lease) if lease.owner == claim.owner => lease.before,
            Some(_) => return Claimed::Leased(record),
        };
        let refreshable = matches!(before, Phase::Active | Phase::InDoubt);
        if claim.intent == Intent::Refresh && !refreshable {
            return Claimed::Moved(Some(record));
        }
        record.fence += 1;
        record.tries = record.tries.saturating_add(1);
        record.phase = Phase::Claimed;
        let until = claim.at.boot.after(claim.lease);
        let Claim { owner, intent, .. } = *claim;
        record.lease = Some(Lease { owner, intent, until, before });
        let fence = record.fence;
        self.put(id, record);
        Claimed::Granted { fence }
    }

    /// S2 and S7.
    fn commit(&mut self, id: &SessionId, commit: Commit) -> Committed {
        let found = self.records.get(id);
        let claimed = found.is_some_and(|record| record.fence == commit.attempt.fence);
        let mut record = found.cloned().unwrap_or_else(|| vacant(self.removed));
        if record.made_by == Some(commit.attempt) && record.phase != Phase::Closed {
            // The acknowledgement of this very commit was lost.
            let Record { epoch, generation, suspect, .. } = record;
            return Committed::Stored { epoch, generation, suspect };
        }
        let Commit { intent, epoch, attempt, credentials, due_at } = commit;
        if record.epoch != epoch || (!claimed && attempt.fence <= self.deleted && epoch == 0) {
            return Committed::Superseded;
        }
        match intent {
            // A grant that succeeded stands even if the session was closed meanwhile by the
            // caller that it was closed for: close moves the generation, not the epoch.
            Intent::Establish => record.epoch += 1,
            Intent::Refresh => {
                // Two results for one base: the later claim wins. That also refuses an attempt
                // from before a record was removed.
                let newer = record.made_by.is_none_or(|made| made.fence < attempt.fence);
                let sibling = record.made_by.is_some_and(|made| made.base == attempt.base);
                let fits = newer && (record.generation == attempt.base || sibling);
                if record.phase == Phase::Closed || !fits {
                    return Committed::Superseded;
                }
                if record.generation != attempt.base && record.phase == Phase::Claimed {
                    return Committed::Busy;
                }
            }
        }
        // Lost, perhaps with a grant claimed on it.
        let suspect = intent == Intent::Refresh && record.lost.is_some();
        record.generation += 1;
        record.phase = Phase::Active;
        record.suspect = suspect;
        record.credentials = Some(credentials);
        record.outbox = None;
        record.made_by = Some(attempt);
        record.due_at = due_at;
        rest(&mut record);
        record.lost = None;
        record.outbox = None;
        record.tries = 0;
        let Record { epoch, generation, .. } = record;
        self.put(id, record);
        Committed::Stored { epoch, generation, suspect }
    }

    /// S3, S4 and S5: fenced, all of them.
    fn settle(&mut self, id: &SessionId, settle: &Settle) -> Settled {
        let Some(record) = self.records.get(id) else { return Settled::Moved };
        let lease = record.lease.filter(|lease| {
            record.epoch == settle.epoch
                && record.fence == settle.attempt.fence
                && (lease.intent == Intent::Establish || record.generation == settle.attempt.base)
        });
        let Some(lease) = lease else {
            self.suspect(id, settle);
            return Settled::Moved;
        };
        if lease.before == Phase::Vacant && !matches!(settle.to, SettleTo::Lost(_)) {
            self.remove(id);
            return Settled::Done;
        }
        self.change(id, |record| {
            rest(record);
            record.retry_at = settle.retry_at;
            match settle.to {
                SettleTo::Before => record.phase = lease.before,
                SettleTo::BeforeSuspect => {
                    record.phase = lease.before;
                    record.suspect = record.credentials.is_some();
                }
                SettleTo::InDoubt => {
                    record.phase = Phase::InDoubt;
                    record.lost = None;
                }
                SettleTo::Lost(reason) => {
                    record.phase = Phase::Lost;
                    record.lost = Some(reason);
                    record.due_at = None;
                }
            }
        });
        Settled::Done
    }

    /// Somebody else rotated while this attempt was out: it may have tripped the server's reuse
    /// detection, so what is there now is looked at before it is used.
    fn suspect(&mut self, id: &SessionId, settle: &Settle) {
        if settle.to == SettleTo::Before {
            return;
        }
        self.change(id, |record| {
            let sibling = record.made_by.is_some_and(|made| made.base == settle.attempt.base);
            if record.epoch == settle.epoch && sibling && record.phase != Phase::Closed {
                record.suspect = true;
            }
        });
    }

    /// S6.
    fn take_over(&mut self, id: &SessionId, take: &TakeOver) -> bool {
        let Some(record) = self.records.get(id) else { return false };
        let Some(lease) = record.lease else { return false };
        if record.fence != take.fence || take.at.boot < lease.until {
            return false;
        }
        if lease.before == Phase::Vacant {
            return self.remove(id);
        }
        self.change(id, |record| {
            rest(record);
            record.fence += 1;
            record.retry_at = take.retry_at;
            match lease.intent {
                Intent::Refresh => record.phase = Phase::InDoubt,
                Intent::Establish => {
                    record.phase = lease.before;
                    record.suspect = record.credentials.is_some();
                }
            }
        });
        true
    }

    /// S8.
    fn close(&mut self, id: &SessionId, close: &Close) -> Closed {
        let found = self.records.get(id);
        if let Some(Record { phase: Phase::Closed, generation, .. }) = found {
            // Closed already, perhaps by this very close, whose acknowledgement was lost.
            if *generation == close.generation || *generation == close.generation.saturating_add(1)
            {
                return Closed::Done { generation: *generation };
            }
        }
        let Some(record) = found.filter(|record| record.generation == close.generation) else {
            return Closed::Moved(found.cloned());
        };
        let mut record = record.clone();
        rest(&mut record);
        record.lost = None;
        record.generation += 1;
        record.phase = Phase::Closed;
        record.suspect = false;
        record.made_by = None;
        record.outbox = record.credentials.take().or(record.outbox);
        record.due_at = record.outbox.is_some().then_some(close.at.wall);
        let generation = record.generation;
        self.put(id, record);
        Closed::Done { generation }
    }

    fn change(&mut self, id: &SessionId, change: impl FnOnce(&mut Record)) {
        if let Some(mut record) = self.records.get(id).cloned() {
            change(&mut record);
            self.put(id, record);
        }
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
        let fence = self.records.get(id).map(|record| record.fence);
        self.deleted = self.deleted.max(fence.unwrap_or_default());
        self.remove(id)
    }

    fn remove(&mut self, id: &SessionId) -> bool {
        let Some(record) = self.records.remove(id) else { return false };
        self.removed = self.removed.max(record.fence);
        if let Some(at) = record.due_at {
            self.due.remove(&Due { at, id: id.clone() });
        }
        true
    }
}

/// Without a claim and without its waiting time.
fn rest(record: &mut Record) {
    record.lease = None;
    record.retry_at = None;
}

/// The row that a first claim makes.
fn vacant(fence: u64) -> Record {
    Record {
        epoch: 0,
        generation: 0,
        fence,
        phase: Phase::Vacant,
        lease: None,
        credentials: None,
        made_by: None,
        suspect: false,
        lost: None,
        outbox: None,
        retry_at: None,
        tries: 0,
        due_at: None,
    }
}
