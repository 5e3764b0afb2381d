//! What stores return about many records: pages of them, and changes of them.

#![expect(clippy::exhaustive_structs, reason = "stores of other crates make and read all of it")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::record::{Owner, Phase, Record, Stored};
use crate::clock::Now;
use crate::key::{PauseScope, ProviderName, SessionId, Tenant};

/// A record that has a due time. See the example of [`Store`](super::Store).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// The record's [`due_at`](Record::due_at), by the store's clock.
    pub at: SystemTime,
    /// The session.
    pub id: SessionId,
}

/// A page of records that have a due time. See the example of [`Store`](super::Store).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuePage {
    /// The records, in the order of their times.
    pub due: Vec<Due>,
    /// The store's time when they were read.
    pub now: Now,
    /// The supervisors that run, as far as the store knows. Each of them checks its share of the
    /// records. Empty if the store does not know them.
    pub holders: Vec<Owner>,
}

/// A position in the changes of a store. Only the store that made the cursor knows what its bytes
/// mean. See the example of [`Changes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub Arc<[u8]>);

/// A page of changes, as [`Store::changes`](super::Store::changes) returns it.
///
/// ```
/// use session_warden::store::{
///     Change, Changes, Cursor, MemoryStore, News, Owner, Phase, Presence, Store,
/// };
/// # use session_warden::{SessionKey, Supervisor, testing::ScriptedProvider};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = MemoryStore::new();
/// # let builder = Supervisor::builder().store(store.clone());
/// # let supervisor = builder.provider("fake", ScriptedProvider::new()).start().await?;
/// # let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
/// # let session = sessions.session(SessionKey::single("device-17")?);
///
/// // This program follows the changes of a store that a supervisor uses.
/// store.presence(Owner(7), Presence::Register).await?;
/// let start: Cursor = store.changes(None, 100).await?.expect("this store has changes").cursor;
///
/// let _ = session.establish(()).await?;
/// let page: Changes = store.changes(Some(&start), 100).await?.expect("this store has changes");
/// let news: Vec<News> = page.news.expect("the store still has all changes since the start");
/// let Change { phase, generation, .. } = news[0].of;
/// assert_eq!((&news[0].id, phase, generation), (session.id(), Some(Phase::Active), 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The value to pass as `since` in the next call.
    pub cursor: Cursor,
    /// The changes, in the order in which they were made. `None` if the store does not have them
    /// any more, or if it did not make the cursor. In that case any record may have changed.
    pub news: Option<Vec<News>>,
    /// Whether there are more changes, which the next call returns without a wait.
    pub more: bool,
    /// The last failover of the store. `None` if it had none since it was opened, or if it cannot
    /// fail over.
    pub failover: Option<Failover>,
}

/// A failover after which a store had an earlier state, without its last writes. The chapter
/// [`replicas`](crate::guide::replicas) says what the store does then.
///
/// ```
/// use session_warden::store::{Changes, Failover};
///
/// /// Describes the last failover of a store.
/// fn last_failover(changes: &Changes) -> Option<String> {
///     let Failover { count, restored, lost } = changes.failover?;
///     Some(format!("failover {count}: {restored} records written again, {lost} lost"))
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    /// How many failovers there were since the store was opened, with this one.
    pub count: u64,
    /// How many records this process has written again.
    pub restored: u64,
    /// How many records of other processes have lost newer credentials, as far as this process had
    /// read of them in the feed of changes. Only a process that has ended had these credentials.
    pub lost: u64,
}

/// A change of one record. Claims, renewals of leases, and first grants that brought no credentials
/// are not reported. See the example of [`Changes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The session.
    pub id: SessionId,
    /// The record after the change.
    pub of: Change,
}

/// The counters and the phase of a record after a change. See the example of [`Changes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The version that the change wrote.
    pub version: u64,
    /// The epoch after the change. If the record was deleted, its last epoch.
    pub epoch: u64,
    /// The generation after the change. If the record was deleted, its last generation.
    pub generation: u64,
    /// The phase after the change. `None` if the record was deleted.
    pub phase: Option<Phase>,
}

/// Which records to list. The default is all records.
///
/// ```
/// use std::sync::Arc;
/// use session_warden::clock::SystemClock;
/// use session_warden::seal::KeyRing;
/// use session_warden::store::sqlite::SqliteStore;
/// use session_warden::store::{Listed, Phase, RecordFilter, Store, StoreContext};
///
/// /// Counts the lost sessions in a file, without a supervisor.
/// async fn count_lost(path: &str, keys: KeyRing) -> Result<usize, Box<dyn std::error::Error>> {
///     let store = SqliteStore::open(path)?;
///     store.prepare(&StoreContext::new(keys, Arc::new(SystemClock::new())))?;
///     let filter = RecordFilter { phase: Some(Phase::Lost), ..RecordFilter::default() };
///     let (mut after, mut count) = (None, 0);
///     loop {
///         let page: Vec<Listed> = store.list(&filter, after.as_ref(), 1000).await?;
///         count += page.len();
///         let Some(last) = page.last() else { return Ok(count) };
///         after = Some(last.id.clone());
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions.db");
/// # let keys = KeyRing::parse("1:pXuPDMX9pSDp8xDVRuuO1HpV5LQHbS5nGGRE8rqwIVo=")?;
/// # assert_eq!(count_lost(path.to_str().unwrap_or_default(), keys).await?, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct RecordFilter {
    /// Only records of this provider.
    pub provider: Option<ProviderName>,
    /// Only records of this tenant.
    pub tenant: Option<Tenant>,
    /// Only records in this phase.
    pub phase: Option<Phase>,
}

impl RecordFilter {
    /// Whether the filter lets this record pass.
    #[must_use]
    pub fn passes<C>(&self, id: &SessionId, record: &Record<C>) -> bool {
        self.provider.as_ref().is_none_or(|provider| provider == id.provider())
            && self.tenant.as_ref().is_none_or(|tenant| tenant == id.key().tenant())
            && self.phase.is_none_or(|phase| phase == record.phase)
    }
}

/// What a backend has paused, as [`Store::pauses`](super::Store::pauses) returns it.
///
/// ```
/// use std::time::Duration;
/// use session_warden::key::{PauseScope, ProviderName};
/// use session_warden::store::{MemoryStore, Pauses, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A tool pauses a provider without a supervisor.
/// let store = MemoryStore::new();
/// let acme = PauseScope::Provider(ProviderName::new("acme")?);
/// assert_eq!(store.set_paused(&acme, true).await?, Some(true));
/// let Pauses { scopes, next_in } = store.pauses().await?.expect("this store keeps pauses");
/// assert_eq!(scopes, [acme]);
/// assert!(next_in < Duration::from_secs(60));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// What is paused, in the order of the scopes.
    pub scopes: Vec<PauseScope>,
    /// After this time, a supervisor should read it again.
    pub next_in: Duration,
}

/// A session that has ended, as a position in the order in which sessions ended. See the example of
/// [`RemovedEnded`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ended {
    /// The record's [`ended_at`](Record::ended_at), by the store's clock.
    pub at: SystemTime,
    /// The session.
    pub id: SessionId,
}

/// What one call of [`remove_ended`](super::Store::remove_ended) did.
///
/// ```
/// use std::time::Duration;
/// use session_warden::store::{Ended, MemoryStore, RemovedEnded, Store};
/// # use session_warden::{SessionKey, Supervisor, testing::ScriptedProvider};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = MemoryStore::new();
/// # let builder = Supervisor::builder().store(store.clone());
/// # let supervisor = builder.provider("fake", ScriptedProvider::new()).start().await?;
/// # let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
/// # let session = sessions.session(SessionKey::single("device-17")?);
/// # let _ = session.establish(()).await?;
/// # let _ = session.revoke().await?;
///
/// // The store has one session, which was revoked. A tool removes all ended sessions at once.
/// let (keep, mut after, mut count) = (Duration::ZERO, None::<Ended>, 0);
/// loop {
///     let page = store.remove_ended(keep, after.as_ref(), 100).await?;
///     let RemovedEnded { removed, next } = page.expect("this store removes ended sessions");
///     count += removed.len();
///     after = next;
///     if after.is_none() {
///         break;
///     }
/// }
/// assert_eq!((count, store.len()), (1, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedEnded {
    /// The records that were removed, with their last counters.
    pub removed: Vec<News>,
    /// The value to pass as `after` in the next call. `None` if there are no more.
    pub next: Option<Ended>,
}

/// What one call of [`reseal`](super::Store::reseal) did. See the example of
/// [`StaleKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// How many records are now encrypted with the sealing key.
    pub done: usize,
    /// How many records were skipped and stay as they are: they are claimed, hold credentials that
    /// must still be revoked, cannot be decrypted, or were changed meanwhile.
    pub passed_over: usize,
    /// Whether the end was reached, so that the next call begins at the start.
    pub ended: bool,
}

/// A key with which records are still encrypted although another key is the ring's sealing key.
///
/// ```
/// use session_warden::seal::KeyRing;
/// use session_warden::store::sqlite::SqliteStore;
/// use session_warden::store::{Resealed, StaleKey};
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
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StaleKey {
    /// The number of the key.
    pub number: u32,
    /// How many records are encrypted with it.
    pub records: u64,
}

/// A listed record, without its credentials. See the example of [`RecordFilter`].
#[derive(Clone, Debug)]
pub struct Listed {
    /// The session.
    pub id: SessionId,
    /// The record, as it was read.
    pub stored: Stored<()>,
}
