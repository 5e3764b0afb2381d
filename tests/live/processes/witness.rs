//! The store of a process, which says what is done to it, and how long that took.

use std::future::Future;
use std::sync::Mutex;

use async_trait::async_trait;
use session_warden::key::SessionId;
use session_warden::seal::KeyRing;
use session_warden::store::sqlite::SqliteStore;
use session_warden::store::{
    Changes, Claim, Claimed, Close, Closed, Commit, Committed, Due, Filter, Intent, Listed, Record,
    Resealed, Settle, SettleTo, Settled, Store, StoreError, TakeOver,
};

use super::child::{DEED, write};
use super::orders::{Deed, Did, Seen, Span, Took, boot_now, hash, name_of};

pub struct Witness {
    inner: SqliteStore,
    took: Mutex<Took>,
}

impl Witness {
    pub fn new(inner: SqliteStore) -> Self {
        Self { inner, took: Mutex::default() }
    }

    pub fn took(&self) -> Took {
        self.took.lock().unwrap().clone()
    }

    /// Says it before whoever asked can go on with it.
    pub fn tell(&self, start: u64, key: String, what: Did) {
        let (pid, end) = (std::process::id(), boot_now());
        write(DEED, &Deed { pid, start, end, key, what });
    }

    async fn read<T>(&self, statement: impl Future<Output = T>) -> T {
        let (answer, took) = measured(statement).await;
        self.took.lock().unwrap().reads.push(took);
        answer
    }

    async fn write<T>(&self, statement: impl Future<Output = T>) -> T {
        let (answer, took) = measured(statement).await;
        self.took.lock().unwrap().writes.push(took);
        answer
    }
}

async fn measured<T>(statement: impl Future<Output = T>) -> (T, Span) {
    let from = boot_now();
    let answer = statement.await;
    (answer, Span { from, until: boot_now() })
}

#[async_trait]
impl Store for Witness {
    fn seal_with(&self, keys: &KeyRing) -> Result<(), StoreError> {
        self.inner.seal_with(keys)
    }

    fn sealed_with(&self) -> Option<KeyRing> {
        self.inner.sealed_with()
    }

    async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        self.write(self.inner.reseal(limit)).await
    }

    async fn load(&self, id: &SessionId) -> Result<Option<Record>, StoreError> {
        let start = boot_now();
        let found = self.read(self.inner.load(id)).await;
        if let Ok(Some(record)) = &found {
            self.tell(start, name_of(id), Did::Saw(Seen::of(record)));
        }
        found
    }

    async fn claim(&self, id: &SessionId, claim: Claim) -> Result<Claimed, StoreError> {
        let start = boot_now();
        let claimed = self.write(self.inner.claim(id, claim)).await;
        match &claimed {
            Ok(Claimed::Granted { fence }) if claim.intent == Intent::Refresh => {
                let granted = Did::Claimed { base: claim.generation, fence: *fence };
                self.tell(start, name_of(id), granted);
            }
            Ok(Claimed::Moved(Some(record)) | Claimed::Leased(record)) => {
                self.tell(start, name_of(id), Did::Saw(Seen::of(record)));
            }
            Ok(Claimed::Granted { .. } | Claimed::Moved(None)) | Err(_) => {}
        }
        claimed
    }

    async fn commit(&self, id: &SessionId, commit: Commit) -> Result<Committed, StoreError> {
        let start = boot_now();
        let access = commit.credentials.tokens().access_token();
        let token = access.map(|access| hash(access.expose_secret())).unwrap_or_default();
        let (fence, grant) = (commit.attempt.fence, commit.intent == Intent::Establish);
        let committed = self.write(self.inner.commit(id, commit)).await;
        match committed {
            Ok(Committed::Stored { epoch, generation, .. }) => {
                let stored = Did::Stored { epoch, generation, token, grant, fence };
                self.tell(start, name_of(id), stored);
            }
            Ok(Committed::Superseded) => {
                self.tell(start, name_of(id), Did::Superseded { fence });
            }
            Ok(Committed::Busy) | Err(_) => {}
        }
        committed
    }

    async fn settle(&self, id: &SessionId, settle: Settle) -> Result<Settled, StoreError> {
        let start = boot_now();
        let settled = self.write(self.inner.settle(id, settle)).await;
        // Said whatever became of it: the attempt has ended so.
        let in_doubt = matches!(settle.to, SettleTo::InDoubt | SettleTo::BeforeSuspect);
        let fence = settle.attempt.fence;
        self.tell(start, name_of(id), Did::Ended { fence, in_doubt });
        settled
    }

    async fn take_over(&self, id: &SessionId, take: TakeOver) -> Result<bool, StoreError> {
        self.write(self.inner.take_over(id, take)).await
    }

    async fn close(&self, id: &SessionId, close: Close) -> Result<Closed, StoreError> {
        let start = boot_now();
        let closed = self.write(self.inner.close(id, close)).await;
        if let Ok(Closed::Done { generation }) = &closed {
            self.tell(start, name_of(id), Did::Closed { generation: *generation });
        }
        closed
    }

    async fn outbox(&self, id: &SessionId, generation: u64) -> Result<(), StoreError> {
        self.write(self.inner.outbox(id, generation)).await
    }

    async fn due(&self, after: Option<&Due>, limit: usize) -> Result<Vec<Due>, StoreError> {
        self.read(self.inner.due(after, limit)).await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        self.read(self.inner.list(filter, after, limit)).await
    }

    async fn changes(
        &self,
        since: Option<u64>,
        limit: usize,
    ) -> Result<Option<Changes>, StoreError> {
        self.read(self.inner.changes(since, limit)).await
    }

    async fn delete(&self, id: &SessionId) -> Result<bool, StoreError> {
        self.write(self.inner.delete(id)).await
    }
}
