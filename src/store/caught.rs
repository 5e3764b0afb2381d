//! A store whose panics are failures.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Changes, Claim, Claimed, Close, Closed, Commit, Committed, Due, Filter, Listed, Record,
    Resealed, Settle, Settled, Store, StoreError, StoreErrorKind, TakeOver,
};
use crate::key::SessionId;
use crate::seal::KeyRing;
use crate::task::Foreign;

/// The store as the supervisor asks it. A statement that panics has failed: it may be done or not,
/// as with any other failure. So no panic of a store reaches a task, an actor or a caller.
pub(crate) struct Caught(Arc<dyn Store>);

impl Caught {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// As [`Store::sealed_with`], which cannot say that it panicked.
    pub(crate) fn ring(&self) -> Result<Option<KeyRing>, StoreError> {
        catch_unwind(AssertUnwindSafe(|| self.0.sealed_with())).map_err(|_| panicked())
    }
}

/// The statement is also begun in here: what makes the future may panic too.
async fn caught<T>(
    statement: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    Foreign::new(Box::pin(statement)).await.unwrap_or_else(|| Err(panicked()))
}

fn panicked() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable).with_source("the store panicked")
}

#[async_trait]
impl Store for Caught {
    fn seal_with(&self, keys: &KeyRing) -> Result<(), StoreError> {
        let sealed = catch_unwind(AssertUnwindSafe(|| self.0.seal_with(keys)));
        sealed.unwrap_or_else(|_| Err(panicked()))
    }

    fn sealed_with(&self) -> Option<KeyRing> {
        self.ring().unwrap_or_default()
    }

    async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        caught(async { self.0.reseal(limit).await }).await
    }

    async fn load(&self, id: &SessionId) -> Result<Option<Record>, StoreError> {
        caught(async { self.0.load(id).await }).await
    }

    async fn claim(&self, id: &SessionId, claim: Claim) -> Result<Claimed, StoreError> {
        caught(async { self.0.claim(id, claim).await }).await
    }

    async fn commit(&self, id: &SessionId, commit: Commit) -> Result<Committed, StoreError> {
        caught(async { self.0.commit(id, commit).await }).await
    }

    async fn settle(&self, id: &SessionId, settle: Settle) -> Result<Settled, StoreError> {
        caught(async { self.0.settle(id, settle).await }).await
    }

    async fn take_over(&self, id: &SessionId, take: TakeOver) -> Result<bool, StoreError> {
        caught(async { self.0.take_over(id, take).await }).await
    }

    async fn close(&self, id: &SessionId, close: Close) -> Result<Closed, StoreError> {
        caught(async { self.0.close(id, close).await }).await
    }

    async fn outbox(&self, id: &SessionId, generation: u64) -> Result<(), StoreError> {
        caught(async { self.0.outbox(id, generation).await }).await
    }

    async fn due(&self, after: Option<&Due>, limit: usize) -> Result<Vec<Due>, StoreError> {
        caught(async { self.0.due(after, limit).await }).await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        caught(async { self.0.list(filter, after, limit).await }).await
    }

    async fn changes(
        &self,
        since: Option<u64>,
        limit: usize,
    ) -> Result<Option<Changes>, StoreError> {
        caught(async { self.0.changes(since, limit).await }).await
    }

    async fn delete(&self, id: &SessionId) -> Result<bool, StoreError> {
        caught(async { self.0.delete(id).await }).await
    }
}
