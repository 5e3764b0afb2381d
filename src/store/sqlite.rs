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
//! lock, which the system drops, and one whose holder hangs by its lease. What one stores the
//! others find within a second, while it is named in the file. Elsewhere a file is one process's at
//! a time, and a second gets [`SqliteFault::Locked`]. Never put the file on a network volume:
//! SQLite's locks do not hold there.

mod apply;
mod busy_retry;
mod change_log;
mod columns;
mod database;
mod encoding;
mod file_permissions;
mod free_space;
mod holder_table;
mod job;
mod list_query;
mod liveness;
mod migration;
mod open_options;
mod opening;
mod row;
mod row_reader;
mod schema_check;
mod sqlite_fault;
mod statement_error;
mod step_limit;
#[cfg(test)]
mod tests;
mod worker;
mod worker_handle;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use self::database::Database;
use self::job::JobKind;
pub use self::open_options::{SqliteBuilder, Synchronous};
pub use self::sqlite_fault::SqliteFault;
use self::statement_error::{Result, StatementError};
use self::worker_handle::WorkerHandle;
use super::record_cipher::{RecordCipher, SealedColumn, SealedCredentials};
use super::{
    Changes, Cursor, Due, DuePage, Filter, Listed, Outcome, Owner, Presence, Record, Resealed,
    Statement, Store, StoreContext, StoreError, Stored,
};
use crate::clock::{Clock, Now, SystemClock};
use crate::key::{ProviderName, SessionId};
use crate::seal::{KeyRing, Succession};

/// How many records are read in one turn of the file's thread. Defaults to 256, which take some
/// milliseconds, so that nobody waits for longer behind them.
const LOADED_AT_ONCE: usize = 256;

/// Keeps sessions in an SQLite file, their credentials sealed. Clones are one store.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    path: PathBuf,
    worker: WorkerHandle,
    shared: Arc<Shared>,
    /// Where the next page to be sealed anew begins; none if at the start.
    reseal_position: Mutex<Option<ResealPosition>>,
}

/// What the file's thread needs beside the file.
struct Shared {
    cipher: RecordCipher,
    /// The store's own, or the first supervisor's.
    clock: OnceLock<Arc<dyn Clock>>,
    /// Before there is one.
    system: SystemClock,
    /// The newest form of records that this store reads.
    form: i64,
}

impl Shared {
    fn now(&self) -> Now {
        self.clock.get().map_or_else(|| self.system.now(), |clock| clock.now())
    }
}

impl SqliteStore {
    /// Opens the file, or makes it, for sealed records. The keys are the supervisor's
    /// ([`key_ring`](crate::supervisor::SupervisorBuilder::key_ring)), which does not start
    /// without. Reads and writes at once, so call it at the start.
    ///
    /// A file of version 0.1 is brought forward, when there are keys: here if the store has its
    /// own, or when a supervisor is started on it. No process of that version may have it open
    /// then.
    ///
    /// # Errors
    ///
    /// [`StoreError`] with a [`SqliteFault`] as its cause: the file cannot be opened or written, a
    /// newer version wrote it or has it open, it is not this crate's or was changed, or others can
    /// write or own it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::builder(path).open()
    }

    /// A store to be configured.
    pub fn builder(path: impl AsRef<Path>) -> SqliteBuilder {
        SqliteBuilder::new(path.as_ref().to_owned())
    }

    /// Seals at most `limit` records anew that older keys of the ring still seal, and goes on where
    /// the last call ended. A supervisor does it by itself when the key changes; without one, call
    /// it again and again with a pause until [`ended`](Resealed::ended). Records that are claimed,
    /// that a server must still be told of, or that cannot be opened are passed over and stay as
    /// they are: as long as [`stale_keys`](Self::stale_keys) names a key, or a backup has records
    /// of it, it must stay.
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
        let succession = self.0.shared.cipher.ring()?.map(|ring| ring.succession());
        let position = self.0.reseal_position.lock().clone();
        let at = succession.and_then(|succession| {
            let goes_on = position.filter(|position| position.succession == succession);
            goes_on.or_else(|| ResealPosition::after(succession, None))
        });
        let Some(ResealPosition { succession, key, row }) = at else {
            return Ok(Resealed { done: 0, passed_over: 0, ended: true });
        };
        let limit = limit.max(1);
        let read = move |db: &mut Database<'_>| db.sealed_by(key, row, limit);
        let page = self.0.worker.call(JobKind::Read, read).await?;
        let (rows, last) = (page.rows, page.last);
        let anew: Vec<_> = page.records.into_iter().filter_map(|of| self.anew(of)).collect();
        let any = !anew.is_empty();
        let write = move |db: &mut Database<'_>| apply::reseal(db, &anew);
        // Firm, because the old key may be thrown away when no record has it any more.
        let done = if any { self.0.worker.call(JobKind::Durable, write).await? } else { 0 };
        let next = if rows == limit {
            Some(ResealPosition { succession, key, row: last })
        } else {
            ResealPosition::after(succession, Some(key))
        };
        let ended = next.is_none();
        *self.0.reseal_position.lock() = next;
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
        let keys = self.0.worker.call(JobKind::Read, |db| db.keys()).await?;
        let sealing = self.0.shared.cipher.ring()?.map(|ring| ring.sealing_number());
        let stale = keys.into_iter().filter(|(number, _)| Some(*number) != sealing);
        Ok(stale.map(|(number, records)| StaleKey { number, records }).collect())
    }

    /// Ends the store after what was asked before, and lets go of the file. Later statements fail,
    /// also those of clones. Without it, the file is let go of soon after the last clone is
    /// dropped.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the store ends all the same.
    pub async fn shutdown(&self) {
        self.0.worker.stop().await;
    }

    /// The record with its credentials under the key that seals now; none if it is to be left
    /// alone.
    fn anew(
        &self,
        (id, record): (SessionId, Record<SealedCredentials>),
    ) -> Option<apply::ResealedRecord> {
        // Never a tombstone's outbox, which is gone soon.
        if record.lease.is_some() || record.outbox.is_some() {
            return None;
        }
        let Some(old) = record.credentials.as_ref() else { return Some((id, record, None)) };
        let made = (record.epoch, record.made_by?);
        match self.0.shared.cipher.reseal(&id, made, SealedColumn::Credentials, old) {
            Ok(new) => Some((id, record, Some(new))),
            Err(fault) => {
                let (provider, tenant, token_id) = columns::id_columns(&id);
                tracing::warn!(provider, tenant, token_id, error = %fault, "not sealed anew");
                None
            }
        }
    }

    fn opened(
        &self,
        id: &SessionId,
        stored: Stored<SealedCredentials>,
    ) -> Result<Stored, StoreError> {
        let Stored { record, now } = stored;
        Ok(Stored { record: self.0.shared.cipher.open_record(id, record)?, now })
    }

    fn outcome(
        &self,
        id: &SessionId,
        outcome: Outcome<SealedCredentials>,
    ) -> Result<Outcome, StoreError> {
        let opened = |stored| self.opened(id, stored);
        Ok(match outcome {
            Outcome::Done(done) => Outcome::Done(done),
            Outcome::Conflict(found) => Outcome::Conflict(found.map(opened).transpose()?),
            Outcome::Leased(found) => Outcome::Leased(opened(found)?),
            Outcome::Wait { left, found } => Outcome::Wait { left, found: opened(found)? },
        })
    }
}

/// The record, or why it alone could not be read.
fn load(
    db: &mut Database<'_>,
    id: &SessionId,
) -> Result<Result<Option<Stored<SealedCredentials>>, StoreError>> {
    let now = db.now();
    match db.find(id) {
        Ok(found) => Ok(Ok(found.map(|(record, _)| Stored { record, now }))),
        Err(StatementError::Rejected(told)) => Ok(Err(told)),
        Err(undone) => Err(undone),
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.0.path).finish_non_exhaustive()
    }
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
struct ResealPosition {
    succession: Succession,
    /// One of those that the succession is from.
    key: u32,
    /// The last row that was seen.
    row: i64,
}

impl ResealPosition {
    /// The start of the next key, or of the first.
    fn after(succession: Succession, key: Option<u32>) -> Option<Self> {
        let key = *succession.from.iter().find(|next| key.is_none_or(|key| **next > key))?;
        Some(Self { succession, key, row: i64::MIN })
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn prepare(&self, context: &StoreContext) -> Result<(), StoreError> {
        let Shared { cipher, clock, .. } = &*self.0.shared;
        cipher.set_supervisor_keys(&context.keys)?;
        clock.get_or_init(|| Arc::clone(&context.clock));
        self.0.worker.keys_available()
    }

    fn key_ring(&self) -> Option<KeyRing> {
        self.0.shared.cipher.ring().ok().flatten()
    }

    async fn presence(&self, owner: Owner, presence: Presence) -> Result<(), StoreError> {
        if presence == Presence::Renew {
            // Its process's lock says that it lives: nothing is written for that.
            let there = move |db: &mut Database<'_>| db.rows.holder_table.is_registered(owner);
            if self.0.worker.call(JobKind::Read, there).await? {
                return Ok(());
            }
        }
        let work = move |db: &mut Database<'_>| db.rows.holder_table.presence(owner, presence);
        self.0.worker.call(JobKind::Claim, work).await
    }

    async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        self.reseal(limit).await
    }

    async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError> {
        let of = id.clone();
        let found = self.0.worker.call(JobKind::Read, move |db| load(db, &of)).await??;
        found.map(|stored| self.opened(id, stored)).transpose()
    }

    async fn load_many(&self, ids: &[SessionId]) -> Vec<Result<Option<Stored>, StoreError>> {
        let mut records = Vec::with_capacity(ids.len());
        for ids in ids.chunks(LOADED_AT_ONCE) {
            let of = ids.to_vec();
            let read = move |db: &mut Database<'_>| {
                of.iter().map(|id| load(db, id)).collect::<Result<Vec<_>>>()
            };
            match self.0.worker.call(JobKind::Read, read).await {
                Ok(read) => {
                    records.extend(ids.iter().zip(read).map(|(id, found)| {
                        found?.map(|stored| self.opened(id, stored)).transpose()
                    }))
                }
                // As a whole, so that each is told the same.
                Err(failed) => {
                    let kind = failed.kind();
                    records.push(Err(failed));
                    let others = ids.iter().skip(1);
                    records.extend(others.map(|_| Err(StoreError::new(kind))));
                }
            }
        }
        records
    }

    async fn apply(&self, id: &SessionId, statement: Statement) -> Result<Outcome, StoreError> {
        let (kind, cipher) = (job_kind(&statement), &self.0.shared.cipher);
        let sealed = statement.try_map(|made, epoch, credentials| {
            cipher.seal(id, (epoch, made), SealedColumn::Credentials, &credentials)
        })?;
        let of = id.clone();
        let work = move |db: &mut Database<'_>| apply::apply(db, &of, &sealed);
        let outcome = self.0.worker.call(kind, work).await?;
        self.outcome(id, outcome)
    }

    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        let (provider, after) = (provider.clone(), after.cloned());
        let work = move |db: &mut Database<'_>| {
            let now = db.now();
            let due = db.due(&provider, (within, now), after.as_ref(), limit)?;
            Ok(DuePage { due, now, holders: db.rows.holder_table.living_owners()? })
        };
        self.0.worker.call(JobKind::Read, work).await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let (filter, after) = (filter.clone(), after.cloned());
        let work = move |db: &mut Database<'_>| {
            let now = db.now();
            let found = db.list(&filter, after.as_ref(), limit)?.into_iter();
            let listed = |(id, record)| Listed { id, stored: Stored { record, now } };
            Ok(found.map(listed).collect())
        };
        self.0.worker.call(JobKind::Read, work).await
    }

    async fn changes(
        &self,
        since: Option<&Cursor>,
        limit: usize,
    ) -> Result<Option<Changes>, StoreError> {
        let since = since.cloned();
        let read = move |db: &mut Database<'_>| {
            let now = SystemClock::new().now().boot;
            db.change_log.read(
                since.as_ref(),
                limit,
                (db.rows.holder_table.has_several_owners(), now),
            )
        };
        let (changes, stale) = self.0.worker.call(JobKind::Read, read).await?;
        if stale {
            let now = SystemClock::new().now().boot;
            self.0.worker.call(JobKind::Claim, move |db| db.change_log.remove_expired(now)).await?;
        }
        Ok(Some(changes))
    }
}

/// What a statement needs. What ends an exchange waits for as long as it takes. What a loss of
/// power must not take along is what no server tells again.
fn job_kind<C>(statement: &Statement<C>) -> JobKind {
    match statement {
        Statement::Claim(_) | Statement::Renew(_) | Statement::TakeOver(_) => JobKind::Claim,
        Statement::Settle(_) | Statement::Suspect(_) | Statement::Reschedule(_) => JobKind::Write,
        Statement::Commit(_)
        | Statement::Close(_)
        | Statement::Lose(_)
        | Statement::Restore(_)
        | Statement::Delete => JobKind::Durable,
    }
}
