//! The store in a file: sessions that survive the process, and a loss of power.
//!
//! [`SqliteStore::open`] is all that most programmes need:
//!
//! ```no_run
//! use session_warden::Supervisor;
//! use session_warden::seal::KeyRing;
//! use session_warden::store::sqlite::SqliteStore;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let supervisor = Supervisor::builder()
//!     .key_ring(KeyRing::from_env("WARDEN_KEYS")?)
//!     .store(SqliteStore::open("/data/sessions.db")?)
//!     .start()
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What survives what
//!
//! A claim, the written intent to refresh, survives a killed process. New credentials, a close and
//! a delete survive a loss of power as well: they are answered when the disk has them. Statements
//! of sessions that run at once share one write to the disk.
//!
//! # Several processes
//!
//! On Linux and Android several processes of one machine may open one file. Each claims what it
//! refreshes, and the others wait for what it gets; a claim whose holder has died is found by its
//! lock, which the system drops, and one whose holder hangs by its lease. What one stores the others
//! find within a second, while it is named in the file. Elsewhere a file is one process's at a time, and a second gets
//! [`SqliteFault::Locked`]. Never put the file on a network volume: SQLite's locks do not hold there.

mod alive;
mod asked;
mod changes;
mod code;
mod fault;
mod file;
#[cfg(test)]
mod folder;
mod owner;
mod room;
mod schema;
mod shape;
mod steps;
mod table;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

pub use self::fault::SqliteFault;
use self::owner::{Need, Queue};
use super::seal::{Sealed, Vault, with};
use super::statement::{Claiming, Closing};
use super::{
    Changes, Claim, Claimed, Close, Closed, Commit, Committed, Due, Filter, Intent, Listed, Phase,
    Record, Resealed, Settle, Settled, Store, StoreError, TakeOver,
};
use crate::clock::{Clock, SystemClock};
use crate::error::LostReason;
use crate::key::SessionId;
use crate::seal::{KeyRing, Succession};

/// Keeps sessions in an SQLite file, their credentials sealed. Clones are one store.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    path: PathBuf,
    queue: Queue,
    vault: Vault,
    /// Where the next page to be sealed anew begins; none if at the start.
    walk: Mutex<Option<Walk>>,
}

impl SqliteStore {
    /// Opens the file, or makes it, for sealed records. The keys are the supervisor's
    /// ([`key_ring`](crate::supervisor::SupervisorBuilder::key_ring)), which does not start without.
    /// Reads and writes at once, so call it at the start.
    ///
    /// # Errors
    ///
    /// [`StoreError`] with a [`SqliteFault`] as its cause: the file cannot be opened or written, a
    /// newer version wrote it, it is not this crate's or was changed, or others can write or own it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::builder(path).open()
    }

    /// A store to be configured.
    pub fn builder(path: impl AsRef<Path>) -> SqliteBuilder {
        SqliteBuilder {
            path: path.as_ref().to_owned(),
            keys: None,
            in_clear: false,
            synchronous: Synchronous::Commits,
            max_bytes: None,
            exclusive: false,
            by_group: false,
        }
    }

    /// Seals at most `limit` records anew that older keys of the ring still seal, and goes on where
    /// the last call ended. A supervisor does it by itself when the key changes; without one, call it
    /// again and again with a pause until [`ended`](Resealed::ended). Records that are claimed,
    /// closed or cannot be opened are passed over and stay as they are: as long as
    /// [`stale_keys`](Self::stale_keys) names a key, or a backup has records of it, it must stay.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the file could not be read or written, or has no room: the next call tries
    /// the same records again.
    ///
    /// # Cancel safety
    ///
    /// May be dropped: what was sealed anew stays so.
    pub async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        let succession = self.0.vault.ring()?.map(|ring| ring.succession());
        let walk = self.0.walk.lock().clone();
        let at = succession.and_then(|succession| Walk::of(walk, succession));
        let Some(Walk { succession, key, row }) = at else {
            return Ok(Resealed { done: 0, passed_over: 0, ended: true });
        };
        let limit = limit.max(1);
        let read = move |tables: &mut table::Tables<'_>| tables.sealed_by(key, row, limit);
        let page = self.0.queue.ask(Need::Read, read).await?;
        let (rows, last) = (page.rows, page.last);
        let anew: Vec<_> = page.records.into_iter().filter_map(|of| self.anew(of)).collect();
        let any = !anew.is_empty();
        let write = move |tables: &mut table::Tables<'_>| asked::reseal(tables, &anew);
        // Firm, because the old key may be thrown away when no record has it any more.
        let done = if any { self.0.queue.ask(Need::Firm, write).await? } else { 0 };
        let next = if rows == limit {
            Some(Walk { succession, key, row: last })
        } else {
            Walk::after(succession, key)
        };
        let ended = next.is_none();
        *self.0.walk.lock() = next;
        Ok(Resealed { done, passed_over: rows - done, ended })
    }

    /// The keys other than the one that seals here that still seal records, closed ones that the
    /// server must be told of among them, and how many. None that is named here can be removed
    /// without loss, and one that the ring does not have must be added again.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the file could not be read.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    pub async fn stale_keys(&self) -> Result<Vec<StaleKey>, StoreError> {
        let keys = self.0.queue.ask(Need::Read, |tables| tables.keys()).await?;
        let sealing = self.0.vault.ring()?.map(|ring| ring.sealing());
        let stale = keys.into_iter().filter(|(number, _)| Some(*number) != sealing);
        Ok(stale.map(|(number, records)| StaleKey { number, records }).collect())
    }

    /// Ends the store after what was asked before, and lets go of the file. Later statements fail,
    /// also those of clones. Without it, the file is let go of soon after the last clone is dropped.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the store ends all the same.
    pub async fn shutdown(&self) {
        self.0.queue.end().await;
    }

    /// The record with its credentials under the key that seals now; none if it is to be left alone.
    fn anew(&self, (id, record): (SessionId, Record<Sealed>)) -> Option<asked::Anew> {
        let old = record.credentials.as_ref().filter(|_| record.lease.is_none())?;
        match self.0.vault.reseal(&id, record.epoch, old) {
            Ok(new) => Some((id, record, new)),
            Err(fault) => {
                let (provider, tenant, token_id) = table::key(&id);
                tracing::warn!(provider, tenant, token_id, error = %fault, "not sealed anew");
                None
            }
        }
    }

    fn opened(&self, id: &SessionId, record: Record<Sealed>) -> Result<Record, StoreError> {
        Ok(self.0.vault.opened(id, record)?)
    }

    fn opened_if_any(
        &self,
        id: &SessionId,
        record: Option<Record<Sealed>>,
    ) -> Result<Option<Record>, StoreError> {
        record.map(|record| self.opened(id, record)).transpose()
    }

    /// One that cannot be opened is listed as lost for want of its key, so that it does not hide the
    /// others; what it is, its own `load` tells.
    fn listed(&self, id: SessionId, record: Record<Sealed>) -> Listed {
        let shown = with(&record, None, None);
        let record = self.0.vault.opened(&id, record).unwrap_or_else(|fault| {
            let (provider, tenant, token_id) = table::key(&id);
            tracing::warn!(provider, tenant, token_id, error = %fault, "a record cannot be opened");
            Record { phase: Phase::Lost, lost: Some(LostReason::KeyMissing), lease: None, ..shown }
        });
        Listed { id, record }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.0.path).finish_non_exhaustive()
    }
}

/// A store to be opened.
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct SqliteBuilder {
    path: PathBuf,
    keys: Option<KeyRing>,
    in_clear: bool,
    synchronous: Synchronous,
    max_bytes: Option<u64>,
    exclusive: bool,
    by_group: bool,
}

impl SqliteBuilder {
    /// Seals records with these keys, whatever the supervisor's are.
    pub fn key_ring(mut self, keys: KeyRing) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Writes tokens to the disk as they are, for whoever can read the file or a backup of it. A file
    /// is made for one or the other and keeps to it.
    pub fn tokens_in_clear(mut self) -> Self {
        self.in_clear = true;
        self
    }

    /// What waits for the disk. Defaults to [`Synchronous::Commits`].
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Lets the file grow to this and no further; its log is not counted. When less than 4 MiB of it
    /// are left, or of the disk, no refresh is begun any more. Defaults to what SQLite allows, 16 TB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Keeps every other process from the file for as long as this one has it, and whatever another
    /// one has claimed counts as a dead one's at once. Opening waits 5 s for a process that has it,
    /// and then fails with [`SqliteFault::Locked`]. For a backend that never runs twice on purpose:
    /// a second one started by mistake does not start, in place of sharing the sessions.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// Takes a file that its group may write. Without it, such a file is refused as
    /// [`SqliteFault::Exposed`], as one that all others may write or that another user owns always
    /// is. Kubernetes lets a group write the files of a volume (`fsGroup`); who is in that group can
    /// then change the file.
    pub fn writable_by_group(mut self) -> Self {
        self.by_group = true;
        self
    }

    /// Opens the file, or makes it.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::open`]; also if its records are sealed and this opens them in clear, or the
    /// other way round.
    pub fn open(self) -> Result<SqliteStore, StoreError> {
        let keys = self.keys.clone();
        let vault = if self.in_clear { Vault::Open } else { Vault::sealing(keys) };
        let path = self.path.clone();
        let queue = Queue::open(self)?;
        Ok(SqliteStore(Arc::new(Inner { path, queue, vault, walk: Mutex::default() })))
    }
}

/// Which writes wait until the disk has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Synchronous {
    /// New credentials, closes and deletes: they survive a loss of power. Claims survive a killed
    /// process, and reach the disk with the next commit.
    Commits,
    /// All of them. A claim that a loss of power takes along costs no more than the reason why a
    /// refresh is in doubt, so this is seldom worth twice the writes.
    Everything,
    /// None: a loss of power takes along what was written last, and the users of these sessions
    /// must sign in again. A killed process still loses nothing.
    Nothing,
}

/// A key that is not the one that seals, and what it still seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StaleKey {
    /// Its number.
    pub number: u32,
    /// How many records it seals.
    pub records: u64,
}

/// Where the next page of records to be sealed anew begins.
#[derive(Clone)]
struct Walk {
    succession: Succession,
    /// One of those that the succession is from.
    key: u32,
    /// The last row that was seen.
    row: i64,
}

impl Walk {
    /// Goes on, unless the keys are not those any more that it began with.
    fn of(walk: Option<Self>, succession: Succession) -> Option<Self> {
        let same = walk.filter(|walk| walk.succession == succession);
        same.or_else(|| {
            let key = *succession.from.first()?;
            Some(Self { succession, key, row: i64::MIN })
        })
    }

    /// The start of the next key.
    fn after(succession: Succession, key: u32) -> Option<Self> {
        let key = *succession.from.iter().find(|next| **next > key)?;
        Some(Self { succession, key, row: i64::MIN })
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn seal_with(&self, keys: &KeyRing) -> Result<(), StoreError> {
        Ok(self.0.vault.give(keys)?)
    }

    fn sealed_with(&self) -> Option<KeyRing> {
        self.0.vault.ring().ok().flatten()
    }

    async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        self.reseal(limit).await
    }

    async fn load(&self, id: &SessionId) -> Result<Option<Record>, StoreError> {
        let of = id.clone();
        let found = self.0.queue.ask(Need::Read, move |tables| asked::load(tables, &of)).await?;
        self.opened_if_any(id, found)
    }

    async fn claim(&self, id: &SessionId, claim: Claim) -> Result<Claimed, StoreError> {
        // Without keys the answer could not be kept.
        self.0.vault.ring()?;
        let of = id.clone();
        let work = move |tables: &mut table::Tables<'_>| asked::claim(tables, &of, &claim);
        Ok(match self.0.queue.ask(Need::Claim, work).await? {
            Claiming::Granted(record) => Claimed::Granted { fence: record.fence },
            Claiming::Moved(found) => Claimed::Moved(self.opened_if_any(id, found)?),
            Claiming::Leased(record) => Claimed::Leased(self.opened(id, record)?),
        })
    }

    async fn commit(&self, id: &SessionId, commit: Commit) -> Result<Committed, StoreError> {
        let Commit { intent, epoch, attempt, .. } = commit;
        let epoch = epoch_of(intent, epoch);
        let sealed = self.0.vault.seal(id, (epoch, attempt), &commit.credentials)?;
        let of = id.clone();
        let work =
            move |tables: &mut table::Tables<'_>| asked::commit(tables, &of, &commit, &sealed);
        self.0.queue.ask(Need::Firm, work).await
    }

    async fn settle(&self, id: &SessionId, settle: Settle) -> Result<Settled, StoreError> {
        let of = id.clone();
        let work = move |tables: &mut table::Tables<'_>| asked::settle(tables, &of, &settle);
        self.0.queue.ask(Need::Write, work).await
    }

    async fn take_over(&self, id: &SessionId, take: TakeOver) -> Result<bool, StoreError> {
        let of = id.clone();
        let work = move |tables: &mut table::Tables<'_>| asked::take_over(tables, &of, &take);
        self.0.queue.ask(Need::Claim, work).await
    }

    async fn close(&self, id: &SessionId, close: Close) -> Result<Closed, StoreError> {
        let of = id.clone();
        let work = move |tables: &mut table::Tables<'_>| asked::close(tables, &of, &close);
        Ok(match self.0.queue.ask(Need::Firm, work).await? {
            Closing::Done(record) => Closed::Done { generation: record.generation },
            Closing::Already(generation) => Closed::Done { generation },
            Closing::Moved(found) => Closed::Moved(self.opened_if_any(id, found)?),
        })
    }

    async fn outbox(&self, id: &SessionId, generation: u64) -> Result<(), StoreError> {
        let of = id.clone();
        let work = move |tables: &mut table::Tables<'_>| asked::outbox(tables, &of, generation);
        self.0.queue.ask(Need::Write, work).await
    }

    async fn due(&self, after: Option<&Due>, limit: usize) -> Result<Vec<Due>, StoreError> {
        let after = after.cloned();
        let work = move |tables: &mut table::Tables<'_>| tables.due(after.as_ref(), limit);
        self.0.queue.ask(Need::Read, work).await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let (filter, after) = (filter.clone(), after.cloned());
        let work =
            move |tables: &mut table::Tables<'_>| tables.list(&filter, after.as_ref(), limit);
        let found = self.0.queue.ask(Need::Read, work).await?;
        Ok(found.into_iter().map(|(id, record)| self.listed(id, record)).collect())
    }

    async fn changes(
        &self,
        since: Option<u64>,
        limit: usize,
    ) -> Result<Option<Changes>, StoreError> {
        let read = move |tables: &mut table::Tables<'_>| {
            tables.log.read(since, limit, SystemClock::new().now().boot)
        };
        let (changes, stale) = self.0.queue.ask(Need::Read, read).await?;
        if stale {
            let now = SystemClock::new().now().boot;
            self.0.queue.ask(Need::Claim, move |tables| tables.log.remove(now)).await?;
        }
        Ok(Some(changes))
    }

    async fn delete(&self, id: &SessionId) -> Result<bool, StoreError> {
        let of = id.clone();
        let work = move |tables: &mut table::Tables<'_>| asked::delete(tables, &of);
        self.0.queue.ask(Need::Firm, work).await
    }
}

/// The number of the grant that credentials belong to, from that which was claimed.
fn epoch_of(intent: Intent, claimed: u64) -> u64 {
    match intent {
        Intent::Establish => claimed.saturating_add(1),
        Intent::Refresh => claimed,
    }
}
