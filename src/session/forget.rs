//! Deletes a session without a request to the server.

use super::Session;
use super::dispatch::Dispatcher;
use super::job::Job;
use crate::error::Result;
use crate::key::SessionId;

impl<P> Session<P> {
    /// Deletes the session's record, its state in memory and its unsaved credentials. Afterwards
    /// the session is as if it had never been established. A response that arrives late does not
    /// bring it back.
    ///
    /// This sends nothing to the server, so the tokens stay valid there. It also discards a queued
    /// revocation. To revoke the tokens, call [`revoke`](Self::revoke) first. You can also forget a
    /// session that was never established, or whose record cannot be read.
    ///
    /// The deletion is queued with grants and revocations. If an exchange runs, the deletion waits
    /// for its end.
    ///
    /// # Errors
    ///
    /// `Store` if the store did not confirm the deletion: the session then goes on in this process,
    /// until the store shows that the record is deleted. `Deadline`, `Capacity`, `Superseded`,
    /// `RetryLater`, `ShuttingDown`.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; the crate still carries out the deletion. A shutdown treats a
    /// queued deletion as it treats a queued [`revoke`](Self::revoke).
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
