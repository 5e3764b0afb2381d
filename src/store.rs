//! Where sessions are kept, and the statements that keep them whole.
//!
//! One record a session. `epoch` counts grants, `generation` counts stored credentials, `fence`
//! numbers claims. A refresh is: [`claim`](Store::claim) (the written intent, before the first
//! byte leaves), the exchange, [`commit`](Store::commit). A claim that failed is
//! [`settle`](Store::settle)d; one whose holder fell silent is [`take_over`](Store::take_over)n.
//! Each statement is atomic: it compares, and writes only what it found as expected.

mod caught;
mod memory;
mod record;
#[cfg(feature = "sqlite")]
mod seal;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod statement;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub(crate) use self::caught::Caught;
pub use self::memory::MemoryStore;
pub use self::record::{
    Attempt, Changed, ChangedTo, Changes, Claim, Claimed, Close, Closed, Commit, Committed, Due,
    Filter, Holder, Intent, Lease, Listed, Owner, Phase, Record, Resealed, Settle, SettleTo,
    Settled, TakeOver,
};
#[cfg(feature = "sqlite")]
pub use self::seal::SealFault;
use crate::key::SessionId;
use crate::seal::KeyRing;

/// A store of sessions.
///
/// # Contract
///
/// - Every statement is atomic for its record, and is durable when it has answered `Ok`.
/// - A statement that answered `Err` may have been done or not; it is asked again or the record
///   is read. It must be safe to send [`commit`](Self::commit) twice.
/// - A statement's future may be dropped; the statement is then done as a whole or not at all.
/// - Nothing is deleted but by [`delete`](Self::delete), and by the end of a first claim that
///   gave nothing. A fence is not given twice to one session all the same.
/// - A store that writes to a disk seals credentials before it does.
///
/// `testing::store_suite` is the suite that every implementation must pass.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Hands over the supervisor's keys, before it asks for anything else. What keeps nothing on a
    /// disk has no use for them; a wrapper passes them on.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if records must be sealed and these keys cannot; nothing is started then.
    fn seal_with(&self, _keys: &KeyRing) -> Result<(), StoreError> {
        Ok(())
    }

    /// The ring that records are sealed with, asked once, after [`seal_with`](Self::seal_with).
    /// When its keys change, the supervisor calls [`reseal`](Self::reseal) until the end. `None`
    /// where nothing is sealed: then it never does. A wrapper passes it on.
    fn sealed_with(&self) -> Option<KeyRing> {
        None
    }

    /// Seals at most `limit` records anew that older keys of the ring still seal, and goes on where
    /// the last call ended. A change of the ring begins at the start. What others work on is passed
    /// over, and what cannot be opened. A wrapper passes it on.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if records could not be read or written; the next call tries them again.
    ///
    /// # Cancel safety
    ///
    /// May be dropped: what was sealed anew stays so.
    async fn reseal(&self, _limit: usize) -> Result<Resealed, StoreError> {
        Ok(Resealed { done: 0, passed_over: 0, ended: true })
    }

    /// Reads a record; `None` if the session was never established.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it could not be read, which is never the same as `None`.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    async fn load(&self, id: &SessionId) -> Result<Option<Record>, StoreError>;

    /// Writes down that an exchange is about to be sent.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it could not be written; then nothing is sent.
    ///
    /// # Cancel safety
    ///
    /// A claim that was written and not heard of is the same owner's to take again.
    async fn claim(&self, id: &SessionId, claim: Claim) -> Result<Claimed, StoreError>;

    /// Writes the credentials that an exchange gave. Not fenced by the lease: rotated
    /// credentials are never thrown away.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it could not be written; the caller keeps the credentials and asks
    /// again.
    ///
    /// # Cancel safety
    ///
    /// May be sent again: it finds its own attempt.
    async fn commit(&self, id: &SessionId, commit: Commit) -> Result<Committed, StoreError>;

    /// Ends a claim whose exchange gave nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it could not be written; the claim's lease then ends it.
    ///
    /// # Cancel safety
    ///
    /// May be sent again.
    async fn settle(&self, id: &SessionId, settle: Settle) -> Result<Settled, StoreError>;

    /// Ends the claim of a holder that fell silent: a refresh is then in doubt, an establish
    /// goes back to what was before, suspect. True if it did.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it could not be written.
    ///
    /// # Cancel safety
    ///
    /// May be sent again.
    async fn take_over(&self, id: &SessionId, take: TakeOver) -> Result<bool, StoreError>;

    /// Closes the session before its server is told, and keeps what the server must be told.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it could not be written; the session is then as it was.
    ///
    /// # Cancel safety
    ///
    /// May be sent again.
    async fn close(&self, id: &SessionId, close: Close) -> Result<Closed, StoreError>;

    /// Forgets what the server had to be told of the session that was closed as `generation`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it could not be written; the server is then told again, which is
    /// harmless (RFC 7009 section 2.2).
    ///
    /// # Cancel safety
    ///
    /// May be sent again.
    async fn outbox(&self, id: &SessionId, generation: u64) -> Result<(), StoreError>;

    /// At most `limit` records by the time when somebody should look at them, after `after`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if they could not be read.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    async fn due(&self, after: Option<&Due>, limit: usize) -> Result<Vec<Due>, StoreError>;

    /// At most `limit` records that pass `filter`, in the order of their ids, after `after`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if they could not be read.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    async fn list(
        &self,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError>;

    /// What others changed since, at most `limit` of it: other processes on one file, say. `since` is
    /// the last answer's mark; without one the answer has nothing but a mark. It is asked several
    /// times a second. `None` from a store in which nobody else changes anything, which is not
    /// asked again.
    ///
    /// A refresh needs none of this, because its claim finds out. It is for tokens that are served
    /// from memory while another process has newer ones.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it could not be read; it is asked again.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    async fn changes(
        &self,
        _since: Option<u64>,
        _limit: usize,
    ) -> Result<Option<Changes>, StoreError> {
        Ok(None)
    }

    /// Deletes a record for good; true if there was one. What was claimed before does not bring it
    /// back: a commit whose record was deleted is [`Committed::Superseded`], also that of a first
    /// grant.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it could not be written.
    ///
    /// # Cancel safety
    ///
    /// May be sent again.
    async fn delete(&self, id: &SessionId) -> Result<bool, StoreError>;
}

#[async_trait]
impl<S: Store + ?Sized> Store for Arc<S> {
    fn seal_with(&self, keys: &KeyRing) -> Result<(), StoreError> {
        (**self).seal_with(keys)
    }

    fn sealed_with(&self) -> Option<KeyRing> {
        (**self).sealed_with()
    }

    async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        (**self).reseal(limit).await
    }

    async fn load(&self, id: &SessionId) -> Result<Option<Record>, StoreError> {
        (**self).load(id).await
    }

    async fn claim(&self, id: &SessionId, claim: Claim) -> Result<Claimed, StoreError> {
        (**self).claim(id, claim).await
    }

    async fn commit(&self, id: &SessionId, commit: Commit) -> Result<Committed, StoreError> {
        (**self).commit(id, commit).await
    }

    async fn settle(&self, id: &SessionId, settle: Settle) -> Result<Settled, StoreError> {
        (**self).settle(id, settle).await
    }

    async fn take_over(&self, id: &SessionId, take: TakeOver) -> Result<bool, StoreError> {
        (**self).take_over(id, take).await
    }

    async fn close(&self, id: &SessionId, close: Close) -> Result<Closed, StoreError> {
        (**self).close(id, close).await
    }

    async fn outbox(&self, id: &SessionId, generation: u64) -> Result<(), StoreError> {
        (**self).outbox(id, generation).await
    }

    async fn due(&self, after: Option<&Due>, limit: usize) -> Result<Vec<Due>, StoreError> {
        (**self).due(after, limit).await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        (**self).list(filter, after, limit).await
    }

    async fn changes(
        &self,
        since: Option<u64>,
        limit: usize,
    ) -> Result<Option<Changes>, StoreError> {
        (**self).changes(since, limit).await
    }

    async fn delete(&self, id: &SessionId) -> Result<bool, StoreError> {
        (**self).delete(id).await
    }
}

/// Why a statement could not be done.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl StoreError {
    /// An error of `kind`.
    #[must_use]
    pub fn new(kind: StoreErrorKind) -> Self {
        Self { kind, source: None }
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
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::Unavailable => "the store is not available",
            StoreErrorKind::Slow => "the store did not answer in time",
            StoreErrorKind::Full => "the store is full",
            StoreErrorKind::Corrupt => "the record cannot be read",
            StoreErrorKind::Sealed => "the key that seals the record is not there",
        })
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
    /// It cannot be reached, or refuses.
    Unavailable,
    /// It did not answer in time.
    Slow,
    /// It has no room.
    Full,
    /// This record is damaged; the others are not.
    Corrupt,
    /// The key that seals this record is missing. Nothing is deleted: with the key, it is as it was.
    Sealed,
}
