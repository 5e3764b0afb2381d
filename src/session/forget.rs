//! Forgetting a session: deleting it here without a request to the server.

use super::Session;
use super::dispatch::Dispatcher;
use super::job::Job;
use crate::error::Result;
use crate::key::SessionId;

impl<P> Session<P> {
    /// Deletes the session here: its record, its state in memory, and its unsaved credentials.
    /// Afterwards it is as if it had never been established; a response that arrives late does not
    /// bring it back.
    ///
    /// This sends nothing to the server, so the tokens stay valid there, and a queued revocation is
    /// dropped. To revoke them, call [`revoke`](Self::revoke) first. You can also forget a session
    /// that was never established, or whose record cannot be read.
    ///
    /// The deletion is queued with grants and revocations; an exchange that runs ends first.
    ///
    /// # Errors
    ///
    /// `Store` if the store did not confirm the deletion: the session then goes on here, until
    /// the store shows that the record is deleted. `Deadline`, `Capacity`, `Superseded`, `RetryLater`,
    /// `ShuttingDown`.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; the crate still carries out the deletion. For a shutdown, the
    /// same holds as for [`revoke`](Self::revoke).
    pub async fn forget(&self) -> Result<()> {
        let slot = self.obtain()?;
        self.dispatcher
            .run_job(&slot, |reply, task_guard| Job::Forget { reply, task_guard })
            .await
            .map(drop)
    }
}

/// Forgets a session without a handle; true if there was a record.
pub(crate) async fn forget(dispatcher: &Dispatcher, id: &SessionId) -> Result<bool> {
    let slot = dispatcher.obtain(id)?;
    dispatcher.run_job(&slot, |reply, task_guard| Job::Forget { reply, task_guard }).await
}
