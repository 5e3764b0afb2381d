//! The end of a session here alone.

use super::Session;
use super::dispatch::Dispatcher;
use super::job::Job;
use crate::error::Result;
use crate::key::SessionId;

impl<P> Session<P> {
    /// Deletes the session here: its record, what is in memory, and what was still to be saved.
    /// From then on it is as if it had never been established, and no answer that comes late
    /// brings it back.
    ///
    /// The server is not told, so its tokens stay good there, and what a revocation has still to
    /// tell it is dropped: [`revoke`](Self::revoke) first, if it is to know. A session that was
    /// never established can be forgotten too, and so can one whose record cannot be read.
    ///
    /// It takes its turn among grants and revocations; an exchange that runs is ended first.
    ///
    /// # Errors
    ///
    /// `Store` if the store did not say that it is deleted: the session then goes on here, until
    /// the store shows that it did delete it. `Deadline`, `Capacity`, `Superseded`, `RetryLater`,
    /// `ShuttingDown`.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; what was asked for is carried out, during a shutdown as in
    /// [`revoke`](Self::revoke).
    pub async fn forget(&self) -> Result<()> {
        let slot = self.obtain()?;
        self.dispatcher
            .run_job(&slot, |reply, task_guard| Job::Forget { reply, task_guard })
            .await
            .map(drop)
    }
}

/// Forgets a session that nobody has a handle of; true if there was a record.
pub(crate) async fn forget(dispatcher: &Dispatcher, id: &SessionId) -> Result<bool> {
    let slot = dispatcher.obtain(id)?;
    dispatcher.run_job(&slot, |reply, task_guard| Job::Forget { reply, task_guard }).await
}
