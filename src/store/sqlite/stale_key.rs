//! The older keys that still encrypt records of a file.

use super::SqliteStore;
use super::worker_job::JobKind;
use crate::store::{StaleKey, StoreError, resealing};

impl SqliteStore {
    /// Returns the keys other than the sealing key with which records are still encrypted, with the
    /// number of records of each. Closed sessions whose credentials must still be revoked count
    /// too. Do not remove a key that is named here from the ring. If the ring does not have such a
    /// key, add the key again, because the crate cannot read its records without it. See the
    /// example of [`StaleKey`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the file could not be read.
    ///
    /// # Cancel safety
    ///
    /// May be dropped: it only reads.
    pub async fn stale_keys(&self) -> Result<Vec<StaleKey>, StoreError> {
        let keys = self.0.worker.call(JobKind::Read, |db| db.keys()).await?;
        resealing::stale_keys(&self.0.shared.cipher, keys)
    }
}
