//! A wrapper that measures the statements of a store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Changes, ClientChange, ClientKey, ClientOutcome, ClientPage, Cursor, Due, DuePage, Ended,
    ListPage, LoginClaim, LoginOutcome, Outcome, Owner, Pauses, Presence, RecordFilter,
    RemovedEnded, Resealed, Statement, Store, StoreContext, StoreError, StoreErrorKind,
    StoreResult, Stored,
};
use crate::clock::{BootTime, Clock};
use crate::key::{PauseScope, ProviderName, SessionId};
use crate::measurements::{EndedStatement, Measurements};
use crate::seal::KeyRing;

/// The outcome of a statement that has done what it says.
const DONE: &str = "done";

/// The outcome of a statement whose future was dropped before the store had answered.
const NO_ANSWER: &str = "no_answer";

/// A store with measurements. It measures what callers see: the time in the queue of the store, and
/// the time to encrypt and decrypt, are parts of a statement.
pub(crate) struct MeasuredStore {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    measurements: Arc<dyn Measurements>,
}

/// A statement that the store has not answered yet.
struct RunningStatement<'s> {
    of: &'s MeasuredStore,
    statement: &'static str,
    began: BootTime,
    has_ended: bool,
}

impl MeasuredStore {
    /// The store itself if nothing is recorded.
    pub(crate) fn around(
        store: Arc<dyn Store>,
        clock: &Arc<dyn Clock>,
        measurements: &Arc<dyn Measurements>,
    ) -> Arc<dyn Store> {
        if !measurements.is_on() {
            return store;
        }
        let (clock, measurements) = (Arc::clone(clock), Arc::clone(measurements));
        Arc::new(Self { store, clock, measurements })
    }

    /// Measures a statement that only reads, or that always does what it says.
    async fn measured<T>(
        &self,
        statement: &'static str,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let running = self.begin(statement);
        let answer = answer.await;
        running.end(outcome_of(&answer));
        answer
    }

    fn begin(&self, statement: &'static str) -> RunningStatement<'_> {
        let began = self.clock.now().boot;
        RunningStatement { of: self, statement, began, has_ended: false }
    }
}

impl RunningStatement<'_> {
    fn end(mut self, outcome: &'static str) {
        self.has_ended = true;
        self.record(outcome);
    }

    fn record(&self, outcome: &'static str) {
        let took = Some(self.of.clock.now().boot.since(self.began));
        let statement = self.statement;
        self.of.measurements.statement_ended(&EndedStatement { statement, outcome, took });
    }
}

impl Drop for RunningStatement<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.record(NO_ANSWER);
        }
    }
}

/// The outcome of a statement that only reads, or that always does what it says.
fn outcome_of<T>(answer: &Result<T, StoreError>) -> &'static str {
    answer.as_ref().map_or_else(|failed| failed.kind().name(), |_| DONE)
}

impl StoreErrorKind {
    /// The name in metrics.
    fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Slow => "slow",
            Self::Full => "full",
            Self::Corrupt => "corrupt",
            Self::Sealed => "sealed",
        }
    }
}

impl Outcome {
    /// The name in metrics.
    fn name(&self) -> &'static str {
        match self {
            Self::Done(_) => DONE,
            Self::Conflict(_) => "conflict",
            Self::Leased(_) => "leased",
            Self::Wait { .. } => "wait",
        }
    }
}

impl Statement {
    /// The name in metrics.
    fn name(&self) -> &'static str {
        match self {
            Self::Claim(_) => "claim",
            Self::Renew(_) => "renew",
            Self::Commit(_) => "commit",
            Self::Settle(_) => "settle",
            Self::TakeOver(_) => "take_over",
            Self::Close(_) => "close",
            Self::Lose(_) => "lose",
            Self::Suspect(_) => "suspect",
            Self::Reschedule(_) => "reschedule",
            Self::Restore(_) => "restore",
            Self::Import(_) => "import",
            Self::RemoveEnded { .. } => "remove_ended",
            Self::Delete => "delete",
        }
    }
}

#[async_trait]
impl Store for MeasuredStore {
    fn prepare(&self, context: &StoreContext) -> Result<(), StoreError> {
        self.store.prepare(context)
    }

    fn key_ring(&self) -> Option<KeyRing> {
        self.store.key_ring()
    }

    async fn presence(&self, owner: Owner, presence: Presence) -> Result<(), StoreError> {
        self.measured("presence", self.store.presence(owner, presence)).await
    }

    async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        self.measured("reseal", self.store.reseal(limit)).await
    }

    async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError> {
        self.measured("load", self.store.load(id)).await
    }

    async fn load_many(&self, ids: &[SessionId]) -> Vec<Result<Option<Stored>, StoreError>> {
        let running = self.begin("load_many");
        let answers = self.store.load_many(ids).await;
        // One statement: the first failure stands for all.
        let failed = answers.iter().find(|answer| answer.is_err());
        running.end(failed.map_or(DONE, outcome_of));
        answers
    }

    async fn apply(&self, id: &SessionId, statement: Statement) -> Result<Outcome, StoreError> {
        let running = self.begin(statement.name());
        let answer = self.store.apply(id, statement).await;
        running.end(answer.as_ref().map_or_else(|failed| failed.kind().name(), Outcome::name));
        answer
    }

    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        self.measured("due", self.store.due(provider, within, after, limit)).await
    }

    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> ListPage {
        self.measured("list", self.store.list(filter, after, limit)).await
    }

    async fn remove_ended(
        &self,
        keep: Duration,
        after: Option<&Ended>,
        limit: usize,
    ) -> StoreResult<Option<RemovedEnded>> {
        self.measured("remove_ended", self.store.remove_ended(keep, after, limit)).await
    }

    /// Not timed, because a store may wait until there is a change.
    async fn changes(&self, since: Option<&Cursor>, limit: usize) -> StoreResult<Option<Changes>> {
        let answer = self.store.changes(since, limit).await;
        let (statement, outcome, took) = ("changes", outcome_of(&answer), None);
        self.measurements.statement_ended(&EndedStatement { statement, outcome, took });
        answer
    }

    async fn set_paused(&self, scope: &PauseScope, paused: bool) -> StoreResult<Option<bool>> {
        self.measured("set_paused", self.store.set_paused(scope, paused)).await
    }

    async fn pauses(&self) -> StoreResult<Option<Pauses>> {
        self.measured("pauses", self.store.pauses()).await
    }

    async fn client(
        &self,
        client: &ClientKey,
        change: ClientChange,
    ) -> StoreResult<Option<ClientOutcome>> {
        self.measured("client", self.store.client(client, change)).await
    }

    async fn clients(
        &self,
        after: Option<&ClientKey>,
        limit: usize,
    ) -> StoreResult<Option<ClientPage>> {
        self.measured("clients", self.store.clients(after, limit)).await
    }

    async fn claim_login(&self, claim: &LoginClaim) -> StoreResult<Option<LoginOutcome>> {
        self.measured("claim_login", self.store.claim_login(claim)).await
    }
}
