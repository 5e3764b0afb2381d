//! Where sessions are kept, and the statements that change them.
//!
//! A store keeps one record for each session. In it, `version` counts writes, `epoch` counts
//! grants, and `generation` counts the times that credentials were stored or closed. A refresh has
//! three parts: a [`Claim`], which writes down the intent before the first byte is sent; the
//! exchange; and a [`Commit`]. A [`Settle`] ends a claim whose exchange failed; a [`TakeOver`] ends
//! a claim whose holder fell silent.
//!
//! The pure function [`decide()`], which every store runs, alone says what a statement does to a
//! record.

mod decide;
mod memory;
mod panic_safe;
mod record;
#[cfg(feature = "sqlite")]
mod record_cipher;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod statement;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use self::decide::{Decision, Found, Write, decide};
pub use self::memory::MemoryStore;
pub(crate) use self::panic_safe::PanicSafeStore;
pub use self::record::{
    Attempt, Change, Changes, ClaimId, Cursor, Due, DuePage, Failures, Floor, Holder, Intent,
    Lease, Listed, News, Owner, Phase, Record, RecordFilter, Resealed, Stored,
};
#[cfg(feature = "sqlite")]
pub use self::record_cipher::SealFault;
#[doc(hidden)]
pub use self::statement::{
    Claim, Close, Commit, Ends, Lose, Renew, Reschedule, Restore, Settle, SettleTo, Suspect,
    TakeOver,
};
pub use self::statement::{Done, Outcome, Statement};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::key::{ProviderName, SessionId};
use crate::seal::KeyRing;

/// A store of sessions.
///
/// # Contract
///
/// - [`apply`](Self::apply) reads the record, runs [`decide()`] on it and writes what the
///   [`Decision`] says, its news included, in one step: no other statement on the same session
///   comes between. The write is durable before `apply` answers `Ok`.
/// - A statement that answered `Err` may have been done or not. The supervisor sends it again or
///   reads the record, so the store may get every statement twice.
/// - The supervisor may drop a statement's future. The store then does the statement as a whole or
///   not at all.
/// - Only the store's clock decides whether a lease or a wait is over. Statements carry durations,
///   never times; a record comes out with the store's time beside it ([`Stored`]).
/// - A store that writes credentials to a disk seals them first.
///
/// Every implementation must pass `testing::store_suite`.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Gives the store the parts of its supervisor that it may need. The supervisor calls it before
    /// any other method. A wrapper must pass the call on.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if records must be sealed and these keys cannot seal; the supervisor then
    /// does not start.
    fn prepare(&self, _context: &StoreContext) -> Result<(), StoreError> {
        Ok(())
    }

    /// The ring that records are sealed with; `None` if the store seals nothing. The supervisor
    /// asks once, after [`prepare`](Self::prepare). When the ring's keys change, it calls
    /// [`reseal`](Self::reseal) until that has reached the end. A wrapper must pass the call on.
    fn key_ring(&self) -> Option<KeyRing> {
        None
    }

    /// Notes that a supervisor starts, is still running, or shuts down. A store can then show
    /// [`Holder::Dead`] in the claims of an owner that has ended, so that other processes wait less
    /// for them. A wrapper must pass the call on.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not write it.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and sent again.
    async fn presence(&self, _owner: Owner, _presence: Presence) -> Result<(), StoreError> {
        Ok(())
    }

    /// Reads at most `limit` records that other keys of the ring still seal, and seals them with
    /// the sealing key. Each call continues where the last one ended; after a change of the ring it
    /// begins at the start. It skips records that are claimed, that hold credentials which must
    /// still be revoked, or that cannot be opened. A wrapper must pass the call on.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not read or write records; the next call tries them again.
    ///
    /// # Cancel safety
    ///
    /// May be dropped. Records that are resealed by then stay so.
    async fn reseal(&self, _limit: usize) -> Result<Resealed, StoreError> {
        Ok(Resealed { done: 0, passed_over: 0, ended: true })
    }

    /// Reads a record; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the record could not be read. A store never answers `None` in that case.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError>;

    /// Reads several records, each as [`load`](Self::load) does. The answer has one element for
    /// each id, in the order of `ids`. A wrapper must pass the call on.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    async fn load_many(&self, ids: &[SessionId]) -> Vec<Result<Option<Stored>, StoreError>> {
        let mut records = Vec::with_capacity(ids.len());
        for id in ids {
            records.push(self.load(id).await);
        }
        records
    }

    /// Does a statement on a record.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the statement failed, or may have failed. After a claim that failed, the
    /// supervisor sends nothing to the server; after a commit that failed, it keeps the credentials
    /// and sends the commit again.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and sent again.
    async fn apply(&self, id: &SessionId, statement: Statement) -> Result<Outcome, StoreError>;

    /// At most `limit` of this provider's records whose [`due_at`](Record::due_at) is over or will
    /// be within `within`, in the order of [`Due`], beginning after `after`. Leaves out records
    /// that are claimed and whose lease still holds: their holder is at work. A page with fewer
    /// than `limit` records is the last one.
    ///
    /// A supervisor asks for each of its providers every 30 s, page by page to the end, and then from the beginning.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the records could not be read.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError>;

    /// At most `limit` records that pass `filter`, in the order of their ids, beginning after
    /// `after`. Opens no credentials.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the records could not be read.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError>;

    /// At most `limit` changes that were made after `since`, for example by other processes on the
    /// same file. `since` is the cursor of the last answer; without one the answer has a cursor and
    /// no changes. The supervisor asks several times a second; the store may delay its answer until
    /// there is something to tell. The asking process's own changes may be among the answer. A
    /// store in which nobody else changes anything answers `None`, and the supervisor does not ask
    /// it again.
    ///
    /// A refresh does not need this, because its claim finds the newer record. The changes are for
    /// callers who get a token from memory: without them, a process would go on serving a token
    /// that another process replaced or revoked.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the changes could not be read; the supervisor asks again.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    async fn changes(
        &self,
        _since: Option<&Cursor>,
        _limit: usize,
    ) -> StoreResult<Option<Changes>> {
        Ok(None)
    }
}

/// The parts of a supervisor that a store may need.
#[derive(Clone)]
#[non_exhaustive]
pub struct StoreContext {
    /// The supervisor's keys. A store that writes nothing to a disk does not need them.
    pub keys: KeyRing,
    /// The supervisor's clock. A store with a clock of its own, such as a database server's, does
    /// not need it.
    pub clock: Arc<dyn Clock>,
}

impl StoreContext {
    /// With these keys and this clock.
    pub fn new(keys: KeyRing, clock: Arc<dyn Clock>) -> Self {
        Self { keys, clock }
    }
}

impl fmt::Debug for StoreContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreContext").finish_non_exhaustive()
    }
}

/// The state that a supervisor reports to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores of other crates read all of it")]
pub enum Presence {
    /// It has started.
    Register,
    /// It is still running.
    Renew,
    /// It is shutting down in good order.
    Retire,
}

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

    async fn changes(&self, since: Option<&Cursor>, limit: usize) -> StoreResult<Option<Changes>> {
        (**self).changes(since, limit).await
    }
}

/// What a store gave, or why it gave nothing.
pub(crate) type StoreResult<T> = Result<T, StoreError>;
/// A page of records, in the order of their ids.
pub(crate) type ListPage = StoreResult<Vec<Listed>>;

/// Why a statement could not be done. `Display` says what is wrong and what to do.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    about: Option<Cow<'static, str>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl StoreError {
    /// An error of `kind`.
    #[must_use]
    pub fn new(kind: StoreErrorKind) -> Self {
        Self { kind, about: None, source: None }
    }

    /// With a sentence that says what is wrong and what to do, which `Display` writes in place of
    /// the text of the kind: in lower case, with no full stop and no secret.
    #[must_use]
    pub fn about(mut self, words: impl Into<Cow<'static, str>>) -> Self {
        self.about = Some(words.into());
        self
    }

    /// With its cause, which must hold no secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// The same error with `place` before its text.
    #[cfg(feature = "sqlite")]
    fn at(self, place: &str) -> Self {
        let words = format!("{place}: {self}");
        self.about(words)
    }

    /// What the caller gets: nothing was sent to the server.
    pub(crate) fn into_error(self) -> Error {
        self.explain(ErrorKind::Store).with_outcome(ExchangeOutcome::NotSent)
    }

    /// An error of `kind` with this error as its cause. The explanation moves up to it, so that the
    /// outermost error says what to do and no text is there twice.
    pub(crate) fn explain(mut self, kind: ErrorKind) -> Error {
        let words = self.about.take().unwrap_or_else(|| self.kind.advice().into());
        Error::new(kind).about(words).with_source(self)
    }
}

impl From<StoreError> for Error {
    /// An error of the kind `Store`, with the words of the store's error.
    fn from(error: StoreError) -> Self {
        error.explain(ErrorKind::Store)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.about.as_deref().unwrap_or_else(|| self.kind.words()))
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// What can be wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached, or refuses.
    Unavailable,
    /// The store did not answer in time.
    Slow,
    /// The store has no room.
    Full,
    /// This record is damaged; the others are not.
    Corrupt,
    /// The key that seals this record is missing. The store keeps the record; with the key it can
    /// be read again.
    Sealed,
}

impl StoreErrorKind {
    fn words(self) -> &'static str {
        match self {
            Self::Unavailable => "the store is not available",
            Self::Slow => "the store did not answer in time",
            Self::Full => "the store is full",
            Self::Corrupt => "the record cannot be read",
            Self::Sealed => "the key that encrypts the record is missing",
        }
    }

    /// What to do.
    fn advice(self) -> &'static str {
        match self {
            Self::Unavailable => "it is not available, so see the cause of this error",
            Self::Slow => "it took longer than `Policy::store_timeout` allows, so try again",
            Self::Full => "it has no room for new credentials, so make room on its disk",
            Self::Corrupt => {
                "the session's record is damaged, so restore a backup, or delete the record with \
                 `Session::forget`"
            }
            Self::Sealed => {
                "the key that encrypts the session's record is not in the key ring, so add it again"
            }
        }
    }
}
