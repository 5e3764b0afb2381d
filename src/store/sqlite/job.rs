//! A statement in the queue of the thread that owns the connection.

use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::fault::{Result, SqliteFault, Undone};
use super::table::Tables;
use crate::store::StoreError;

/// What a statement needs of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: it only reads, and does not wait for those who write.
    Read,
    /// To be written, or given up after a while. Survives the process.
    Claim,
    /// To be written. Survives the process.
    Write,
    /// To be written so that it survives a loss of power.
    Firm,
}

pub(super) enum Message {
    Do(Box<dyn Job>),
    /// Bring the file forward, if it waits for that, and say what became of it.
    Forward(Sender<Result<(), StoreError>>),
    End,
}

/// A statement in the queue.
pub(super) trait Job: Send {
    fn need(&self) -> Need;
    /// When it was asked, in monotonic time.
    fn since(&self) -> Duration;
    /// Nobody waits for it, and nobody needs what it would do.
    fn is_abandoned(&self) -> bool;
    /// Keeps the answer. Fails only if the transaction did.
    fn work(&mut self, tables: &mut Tables<'_>) -> rusqlite::Result<()>;
    /// Answers, with this failure if there is one.
    fn answer(self: Box<Self>, failed: Option<StoreError>);
}

/// A statement with the way back to the caller that waits for it.
pub(super) struct Ask<T, F> {
    pub(super) need: Need,
    pub(super) since: Duration,
    pub(super) work: F,
    pub(super) done: Option<Result<T, StoreError>>,
    pub(super) reply: oneshot::Sender<Result<T, StoreError>>,
    /// Given back with the answer, so that the queue stays bounded.
    pub(super) _place: OwnedSemaphorePermit,
}

impl<T: Send, F: FnMut(&mut Tables<'_>) -> Result<T> + Send> Job for Ask<T, F> {
    fn need(&self) -> Need {
        self.need
    }

    fn since(&self) -> Duration {
        self.since
    }

    /// A commit is done also for those who are gone: rotated credentials are never thrown away.
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed() && matches!(self.need, Need::Read | Need::Claim)
    }

    fn work(&mut self, tables: &mut Tables<'_>) -> rusqlite::Result<()> {
        match (self.work)(tables) {
            Err(Undone::Sql(error)) => return Err(error),
            done => self.done = Some(done.map_err(StoreError::from)),
        }
        Ok(())
    }

    fn answer(self: Box<Self>, failed: Option<StoreError>) {
        let answer = match failed {
            Some(failed) => Err(failed),
            None => self.done.unwrap_or_else(|| Err(SqliteFault::Closed.into())),
        };
        // Whoever asked may be gone.
        drop(self.reply.send(answer));
    }
}
