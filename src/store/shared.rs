//! A store behind a shared pointer is a store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Changes, ClientChange, ClientKey, ClientOutcome, ClientPage, Cursor, Due, DuePage, Ended,
    ListPage, LoginClaim, LoginOutcome, Outcome, Owner, Pauses, Presence, RecordFilter,
    RemovedEnded, Resealed, Statement, Store, StoreContext, StoreError, StoreResult, Stored,
};
use crate::key::{PauseScope, ProviderName, SessionId};
use crate::seal::KeyRing;

#[async_trait]
impl<S: Store + ?Sized> Store for Arc<S> {
    fn prepare(&self, context: &StoreContext) -> Result<(), StoreError> {
        (**self).prepare(context)
    }

    fn key_ring(&self) -> Option<KeyRing> {
        (**self).key_ring()
    }

    async fn presence(&self, owner: Owner, presence: Presence) -> Result<(), StoreError> {
        (**self).presence(owner, presence).await
    }

    async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        (**self).reseal(limit).await
    }

    async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError> {
        (**self).load(id).await
    }

    async fn load_many(&self, ids: &[SessionId]) -> Vec<Result<Option<Stored>, StoreError>> {
        (**self).load_many(ids).await
    }

    async fn apply(&self, id: &SessionId, statement: Statement) -> Result<Outcome, StoreError> {
        (**self).apply(id, statement).await
    }

    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        (**self).due(provider, within, after, limit).await
    }

    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> ListPage {
        (**self).list(filter, after, limit).await
    }

    async fn remove_ended(
        &self,
        keep: Duration,
        after: Option<&Ended>,
        limit: usize,
    ) -> StoreResult<Option<RemovedEnded>> {
        (**self).remove_ended(keep, after, limit).await
    }

    async fn changes(&self, since: Option<&Cursor>, limit: usize) -> StoreResult<Option<Changes>> {
        (**self).changes(since, limit).await
    }

    async fn set_paused(&self, scope: &PauseScope, paused: bool) -> StoreResult<Option<bool>> {
        (**self).set_paused(scope, paused).await
    }

    async fn pauses(&self) -> StoreResult<Option<Pauses>> {
        (**self).pauses().await
    }

    async fn client(
        &self,
        client: &ClientKey,
        change: ClientChange,
    ) -> StoreResult<Option<ClientOutcome>> {
        (**self).client(client, change).await
    }

    async fn clients(
        &self,
        after: Option<&ClientKey>,
        limit: usize,
    ) -> StoreResult<Option<ClientPage>> {
        (**self).clients(after, limit).await
    }

    async fn claim_login(&self, claim: &LoginClaim) -> StoreResult<Option<LoginOutcome>> {
        (**self).claim_login(claim).await
    }
}
