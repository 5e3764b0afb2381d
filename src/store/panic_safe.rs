//! A wrapper that turns the panics of a store into errors.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Changes, ClientChange, ClientKey, ClientOutcome, ClientPage, Cursor, Due, DuePage, Ended,
    ListPage, LoginClaim, LoginOutcome, Outcome, Owner, Pauses, Presence, RecordFilter,
    RemovedEnded, Resealed, Statement, Store, StoreContext, StoreError, StoreErrorKind,
    StoreResult, Stored,
};
use crate::key::{PauseScope, ProviderName, SessionId};
use crate::seal::KeyRing;
use crate::task::CatchPanic;

/// The store as the supervisor uses it. If a statement panics, the caller gets an error, and as
/// with any other error the statement may be done or not. So no panic of a store reaches a task, an
/// actor or a caller.
pub(crate) struct PanicSafeStore(Arc<dyn Store>);

impl PanicSafeStore {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// As [`Store::key_ring`], with an error if it panicked.
    pub(crate) fn ring(&self) -> Result<Option<KeyRing>, StoreError> {
        catch_unwind(AssertUnwindSafe(|| self.0.key_ring())).map_err(|_| panicked())
    }
}

/// The callers pass a block and not the store's own future, because the call that makes the future
/// may panic too.
async fn catch<T>(statement: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    CatchPanic::new(Box::pin(statement)).await.unwrap_or_else(|| Err(panicked()))
}

fn panicked() -> StoreError {
    let words = "the store's code panicked; see the panic's message";
    StoreError::new(StoreErrorKind::Unavailable).about(words).with_source("a panic")
}

#[async_trait]
impl Store for PanicSafeStore {
    fn prepare(&self, context: &StoreContext) -> Result<(), StoreError> {
        let prepared = catch_unwind(AssertUnwindSafe(|| self.0.prepare(context)));
        prepared.unwrap_or_else(|_| Err(panicked()))
    }

    fn key_ring(&self) -> Option<KeyRing> {
        self.ring().unwrap_or_default()
    }

    async fn presence(&self, owner: Owner, presence: Presence) -> Result<(), StoreError> {
        catch(async { self.0.presence(owner, presence).await }).await
    }

    async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        catch(async { self.0.reseal(limit).await }).await
    }

    async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError> {
        catch(async { self.0.load(id).await }).await
    }

    async fn load_many(&self, ids: &[SessionId]) -> Vec<Result<Option<Stored>, StoreError>> {
        let read = catch(async { Ok(self.0.load_many(ids).await) }).await;
        // If the store returns too few results, the others were not read.
        let mut read = read.unwrap_or_default();
        read.resize_with(ids.len(), || Err(panicked()));
        read
    }

    async fn apply(&self, id: &SessionId, statement: Statement) -> Result<Outcome, StoreError> {
        catch(async { self.0.apply(id, statement).await }).await
    }

    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        catch(async { self.0.due(provider, within, after, limit).await }).await
    }

    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> ListPage {
        catch(async { self.0.list(filter, after, limit).await }).await
    }

    async fn remove_ended(
        &self,
        keep: Duration,
        after: Option<&Ended>,
        limit: usize,
    ) -> StoreResult<Option<RemovedEnded>> {
        catch(async { self.0.remove_ended(keep, after, limit).await }).await
    }

    async fn changes(&self, since: Option<&Cursor>, limit: usize) -> StoreResult<Option<Changes>> {
        catch(async { self.0.changes(since, limit).await }).await
    }

    async fn set_paused(&self, scope: &PauseScope, paused: bool) -> StoreResult<Option<bool>> {
        catch(async { self.0.set_paused(scope, paused).await }).await
    }

    async fn pauses(&self) -> StoreResult<Option<Pauses>> {
        catch(async { self.0.pauses().await }).await
    }

    async fn client(
        &self,
        client: &ClientKey,
        change: ClientChange,
    ) -> StoreResult<Option<ClientOutcome>> {
        catch(async { self.0.client(client, change).await }).await
    }

    async fn clients(
        &self,
        after: Option<&ClientKey>,
        limit: usize,
    ) -> StoreResult<Option<ClientPage>> {
        catch(async { self.0.clients(after, limit).await }).await
    }

    async fn claim_login(&self, claim: &LoginClaim) -> StoreResult<Option<LoginOutcome>> {
        catch(async { self.0.claim_login(claim).await }).await
    }
}
