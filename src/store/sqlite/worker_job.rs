//! A job for the thread that owns the connection: a statement or a read, and its caller.

use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::database::Database;
use super::sqlite_fault::SqliteFault;
use super::statement_error::{Result, StatementError};
use crate::clock::{Clock, SystemClock};
use crate::store::StoreError;

/// What a job needs of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobKind {
    /// Only reads. It needs no write lock, so it does not wait for processes that write.
    Read,
    /// A write that fails if it cannot have the lock in time. Survives a killed process.
    Claim,
    /// A write that waits for the lock as long as it takes. Survives a killed process.
    Write,
    /// As `Write`, and it survives a loss of power.
    Durable,
}

/// What the thread takes from its queue.
pub(super) enum Message {
    Run(Box<dyn Job>),
    /// Migrate the file if it still waits for keys, and answer with the result.
    Migrate(Sender<Result<(), StoreError>>),
    Stop,
}

/// A job of any result type.
pub(super) trait Job: Send {
    fn kind(&self) -> JobKind;
    /// When its caller asked for it, in monotonic time.
    fn queued_at(&self) -> Duration;
    /// Whether the caller is gone and nobody needs the effect.
    fn is_abandoned(&self) -> bool;
    /// Does the work and keeps the result. Fails only if the transaction did; it may then run
    /// again, and the later result counts.
    fn run(&mut self, db: &mut Database<'_>) -> rusqlite::Result<()>;
    /// Sends the kept result to the caller, or `failed` in its place.
    fn finish(self: Box<Self>, failed: Option<StoreError>);
}

/// A job whose caller waits for a `T`.
pub(super) struct PendingJob<T, F> {
    kind: JobKind,
    queued_at: Duration,
    work: F,
    result: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
    /// Released with the answer, so that the queue stays bounded.
    _permit: OwnedSemaphorePermit,
}

impl<T, F> PendingJob<T, F> {
    pub(super) fn new(
        kind: JobKind,
        work: F,
        caller: oneshot::Sender<Result<T, StoreError>>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let queued_at = SystemClock::new().now().monotonic;
        Self { kind, queued_at, work, result: None, caller, _permit: permit }
    }
}

impl<T: Send, F: FnMut(&mut Database<'_>) -> Result<T> + Send> Job for PendingJob<T, F> {
    fn kind(&self) -> JobKind {
        self.kind
    }

    fn queued_at(&self) -> Duration {
        self.queued_at
    }

    /// A commit runs even if its caller is gone: the server has rotated the refresh token already,
    /// so the credentials that the commit carries are the only ones that still work.
    fn is_abandoned(&self) -> bool {
        self.caller.is_closed() && matches!(self.kind, JobKind::Read | JobKind::Claim)
    }

    fn run(&mut self, db: &mut Database<'_>) -> rusqlite::Result<()> {
        match (self.work)(db) {
            // Not kept: the worker rolls the transaction back and decides whether the job runs
            // again alone or fails.
            Err(StatementError::Sql(error)) => return Err(error),
            result => self.result = Some(result.map_err(StoreError::from)),
        }
        Ok(())
    }

    fn finish(self: Box<Self>, failed: Option<StoreError>) {
        // `failed` first: a job may have a result although the commit after it failed.
        let answer = match failed {
            Some(failed) => Err(failed),
            None => self.result.unwrap_or_else(|| Err(SqliteFault::Closed.into())),
        };
        // The caller may be gone.
        drop(self.caller.send(answer));
    }
}
