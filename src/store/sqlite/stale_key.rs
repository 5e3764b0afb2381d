//! The older keys that still encrypt records.

use super::SqliteStore;
use super::worker_job::JobKind;
use crate::store::StoreError;

/// A key with which records are still encrypted although another key is the ring's sealing key.
///
/// ```
/// use session_warden::seal::KeyRing;
/// use session_warden::store::Resealed;
/// use session_warden::store::sqlite::{SqliteStore, StaleKey};
/// # use session_warden::{SessionKey, Supervisor, testing::ScriptedProvider};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions.db");
///
/// const OLD: &str = "1:pXuPDMX9pSDp8xDVRuuO1HpV5LQHbS5nGGRE8rqwIVo=";
/// const NEW: &str = "2:Q0MVmZBnzcjbJJDuuxkKMWvBEdfmJv1W1BJKxMwyGJw=";
/// let ring = KeyRing::parse(OLD)?;
/// let store = SqliteStore::builder(path).key_ring(ring.clone()).open()?;
/// # let builder = Supervisor::builder().store(store.clone());
/// # let supervisor = builder.provider("fake", ScriptedProvider::new()).start().await?;
/// # let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
/// # let _ = sessions.session(SessionKey::single("device-17")?).establish(()).await?;
/// # assert!(supervisor.shutdown(std::time::Duration::from_secs(5)).await.is_clean());
///
/// // The file has one record. A tool changes the key while no supervisor runs.
/// ring.reload(KeyRing::parse(&format!("{OLD} {NEW}"))?);
/// let stale: Vec<StaleKey> = store.stale_keys().await?;
/// assert_eq!((stale[0].number, stale[0].records), (1, 1));
/// loop {
///     let Resealed { done, passed_over, ended } = store.reseal(100).await?;
///     println!("{done} records have the new key, {passed_over} were skipped");
///     if ended {
///         break;
///     }
/// }
/// // Now the old key can be removed, unless a backup needs it.
/// assert!(store.stale_keys().await?.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StaleKey {
    /// The number of the key.
    pub number: u32,
    /// How many records are encrypted with it.
    pub records: u64,
}

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
        let sealing = self.0.shared.cipher.ring()?.map(|ring| ring.sealing_number());
        let stale = keys.into_iter().filter(|(number, _)| Some(*number) != sealing);
        Ok(stale.map(|(number, records)| StaleKey { number, records }).collect())
    }
}
