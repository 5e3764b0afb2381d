//! A store that keeps sessions in an SQLite file. They survive the process and a loss of power.
//!
//! Most programs need only [`SqliteStore::open`]:
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
//! # Crash behaviour
//!
//! A claim is the written intent to refresh. It survives if the process is killed. New credentials,
//! closes and deletions survive a loss of power as well: the store confirms them when the disk has
//! them. Statements of several sessions that run at the same time share one write to the disk.
//!
//! # Several processes
//!
//! On Linux and Android, several processes of one machine may open the same file. Each process
//! claims a session before it refreshes the session, and the other processes wait for the result.
//! If the process that has a claim has ended, the others notice it at once, because the operating
//! system has released its lock. If that process hangs, the others wait until its lease has ended.
//! Each process finds the changes of the others within a second. On other systems only one process
//! at a time may open a file, and a second process gets [`SqliteFault::InUse`]. Never put the file
//! on a network volume: SQLite's locks do not work there.

mod apply;
mod busy_retry;
mod change_log;
mod columns;
mod database;
mod ended_records;
mod file_permissions;
mod free_space;
mod holder_table;
mod list_query;
mod liveness;
mod login_table;
mod migration;
mod open_options;
mod opening;
mod pause_table;
mod row_reader;
mod schema_check;
mod sqlite_fault;
mod stale_key;
mod statement_error;
mod step_limit;
#[cfg(test)]
mod tests;
mod worker;
mod worker_handle;
mod worker_job;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;

use self::apply::ResealedRecord;
use self::database::Database;
pub use self::open_options::{SqliteBuilder, Synchronous};
pub use self::sqlite_fault::SqliteFault;
use self::statement_error::{Result, StatementError};
use self::worker_handle::WorkerHandle;
use self::worker_job::JobKind;
use super::record_cipher::{RecordCipher, SealedColumn, SealedCredentials};
use super::resealing::{self, ResealPositions};
use super::{
    Changes, Cursor, Due, DuePage, Ended, ListPage, Listed, LoginClaim, LoginOutcome, Outcome,
    Owner, Pauses, Presence, Record, RecordFilter, RemovedEnded, Resealed, Statement, Store,
    StoreContext, StoreError, StoreResult, Stored,
};
use crate::clock::{Clock, Now, SystemClock};
use crate::key::{PauseScope, ProviderName, SessionId};
use crate::log::LogLimit;
use crate::policy::PAUSES_POLL;
use crate::seal::KeyRing;

/// How many records the worker's thread reads in one job. Defaults to 256, which take some
/// milliseconds, so that no other job waits longer behind them.
const LOADED_AT_ONCE: usize = 256;

/// Keeps sessions in an SQLite file and encrypts their credentials. Clones share one store. See the
/// examples of [the module](self), of [`SqliteBuilder`] and of [`StaleKey`](super::StaleKey).
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    path: PathBuf,
    worker: WorkerHandle,
    shared: Arc<Shared>,
    /// Where the next page of [`reseal`](SqliteStore::reseal) begins, by row number.
    reseal_positions: ResealPositions<i64>,
}

/// What the store shares with the worker's thread.
struct Shared {
    cipher: RecordCipher,
    /// The store's own clock, or that of the first supervisor.
    clock: OnceLock<Arc<dyn Clock>>,
    /// Used until `clock` is set.
    system: SystemClock,
    /// The newest form of records that this store reads.
    form: i64,
    /// Many rows may be damaged, and a list meets each of them every time.
    log_limit: LogLimit,
}

impl Shared {
    fn now(&self) -> Now {
        self.clock.get().map_or_else(|| self.system.now(), |clock| clock.now())
    }
}

impl SqliteBuilder {
    /// Opens or creates the file.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::open`]. Also if the records of the file are encrypted and this opens them
    /// in clear, or the other way round.
    pub fn open(mut self) -> Result<SqliteStore, StoreError> {
        let keys = self.keys.take();
        let cipher =
            if self.in_clear { RecordCipher::Plaintext } else { RecordCipher::with_keys(keys) };
        let clock = self.clock.take().map_or_else(OnceLock::new, OnceLock::from);
        let log_limit = LogLimit::new(Arc::new(SystemClock::new()));
        let shared =
            Shared { cipher, clock, system: SystemClock::new(), form: self.form, log_limit };
        let (path, shared) = (self.path.clone(), Arc::new(shared));
        let worker = WorkerHandle::open(self, Arc::clone(&shared))
            .map_err(|refused| refused.at(&cannot_open(&path)))?;
        let reseal_positions = ResealPositions::default();
        Ok(SqliteStore(Arc::new(Inner { path, worker, shared, reseal_positions })))
    }
}

impl SqliteStore {
    /// Opens or creates the file, for encrypted records. The store gets its keys from the
    /// supervisor ([`key_ring`](crate::supervisor::SupervisorBuilder::key_ring)), which does not
    /// start without keys. This blocks while it reads and writes the file, so call it when your
    /// program starts.
    ///
    /// The store migrates a file of version 0.1 as soon as it has keys: here if it has keys of its
    /// own ([`SqliteBuilder::key_ring`]), and otherwise when a supervisor starts with it. No
    /// process of version 0.1 may have the file open at that time.
    ///
    /// # Errors
    ///
    /// [`StoreError`] with a [`SqliteFault`] as its cause, for example if the file cannot be opened
    /// or written, if a newer version wrote it or has it open, if another program wrote or changed
    /// it, or if other users can write or own it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::builder(path).open()
    }

    /// Makes a builder, with which you open the file with other settings.
    pub fn builder(path: impl AsRef<Path>) -> SqliteBuilder {
        SqliteBuilder::new(path.as_ref().to_owned())
    }

    /// Reads at most `limit` records that are encrypted with older keys of the ring, and encrypts
    /// them with the sealing key. Each call continues where the last call ended. A supervisor does
    /// this by itself when the keys change. Without a supervisor, call this again and again, with
    /// pauses, until [`ended`](Resealed::ended) is true. This skips records that are claimed, that
    /// hold credentials which must still be revoked, or that cannot be decrypted. Keep a key in the
    /// ring as long as [`stale_keys`](Self::stale_keys) names it or a backup has records of it. See
    /// the example of [`StaleKey`](super::StaleKey).
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the file could not be read or written, or is full. The next call tries the
    /// same records again.
    ///
    /// # Cancel safety
    ///
    /// May be dropped. Records that are encrypted again by then stay so.
    pub async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        let Inner { worker, shared, reseal_positions, .. } = &*self.0;
        let Some(position) = reseal_positions.next(&shared.cipher)? else {
            return Ok(Resealed { done: 0, passed_over: 0, ended: true });
        };
        let limit = limit.max(1);
        let (key, after) = (position.key, position.after.unwrap_or(i64::MIN));
        let read = move |db: &mut Database<'_>| db.sealed_by(key, after, limit);
        let page = worker.call(JobKind::Read, read).await?;
        let (rows, last) = (page.rows, page.last);
        let anew =
            |(id, record): (SessionId, Record<SealedCredentials>)| -> Option<ResealedRecord> {
                let with = (&shared.cipher, &shared.log_limit);
                let credentials = resealing::credentials_anew(with, &id, &record)?;
                Some((id, record, credentials))
            };
        let anew: Vec<_> = page.records.into_iter().filter_map(anew).collect();
        let any = !anew.is_empty();
        let write = move |db: &mut Database<'_>| apply::reseal(db, &anew);
        // Durable, because the user may throw the old key away once no record needs it. A loss of
        // power would then bring back records that nobody can open.
        let done = if any { worker.call(JobKind::Durable, write).await? } else { 0 };
        let ended = reseal_positions.advance(position, (rows == limit).then_some(last));
        Ok(Resealed { done, passed_over: rows - done, ended })
    }

    /// Runs all statements that were sent before, and then closes the file. Later statements fail,
    /// also those of clones. Without this call, the store closes the file soon after the last clone
    /// is dropped.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the store closes the file in any case.
    pub async fn shutdown(&self) {
        self.0.worker.stop().await;
    }
}

/// Loads a record. The inner error is one of this record alone.
fn load(
    db: &mut Database<'_>,
    id: &SessionId,
) -> Result<Result<Option<Stored<SealedCredentials>>, StoreError>> {
    let now = db.now();
    match db.find(id) {
        Ok(found) => Ok(Ok(found.map(|(record, _)| Stored { record, now }))),
        Err(StatementError::Rejected(error)) => Ok(Err(error)),
        Err(undone) => Err(undone),
    }
}

/// The beginning of the text of an error about a file. `Debug` escapes what could break a line.
fn cannot_open(path: &Path) -> String {
    format!("the SQLite file {path:?} cannot be opened")
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.0.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn prepare(&self, context: &StoreContext) -> Result<(), StoreError> {
        let Shared { cipher, clock, .. } = &*self.0.shared;
        // Both before the worker learns of it: the migration seals with these keys, and nothing may
        // be written by another clock than later statements.
        let given = cipher.set_supervisor_keys(&context.keys);
        given.map_err(|refused| StoreError::from(refused).at(&cannot_open(&self.0.path)))?;
        clock.get_or_init(|| Arc::clone(&context.clock));
        self.0.worker.keys_available().map_err(|refused| refused.at(&cannot_open(&self.0.path)))
    }

    fn key_ring(&self) -> Option<KeyRing> {
        self.0.shared.cipher.ring().ok().flatten()
    }

    async fn presence(&self, owner: Owner, presence: Presence) -> Result<(), StoreError> {
        if presence == Presence::Renew {
            // The lock of its process shows that it is alive, so nothing needs to be written.
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
        let opened = found.map(|stored| self.0.shared.cipher.open_stored(id, stored));
        Ok(opened.transpose()?)
    }

    async fn load_many(&self, ids: &[SessionId]) -> Vec<Result<Option<Stored>, StoreError>> {
        let (mut records, cipher) = (Vec::with_capacity(ids.len()), &self.0.shared.cipher);
        for ids in ids.chunks(LOADED_AT_ONCE) {
            let of = ids.to_vec();
            let read = move |db: &mut Database<'_>| {
                of.iter().map(|id| load(db, id)).collect::<Result<Vec<_>>>()
            };
            match self.0.worker.call(JobKind::Read, read).await {
                Ok(read) => records.extend(ids.iter().zip(read).map(|(id, found)| {
                    let opened = found?.map(|stored| cipher.open_stored(id, stored));
                    Ok(opened.transpose()?)
                })),
                // The read failed as a whole, so each record has the same kind of error.
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
        Ok(cipher.open_outcome(id, outcome)?)
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
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> ListPage {
        let (filter, after) = (filter.clone(), after.cloned());
        let work = move |db: &mut Database<'_>| {
            let now = db.now();
            let found = db.list(&filter, after.as_ref(), limit)?.into_iter();
            let listed = |(id, record)| Listed { id, stored: Stored { record, now } };
            Ok(found.map(listed).collect())
        };
        self.0.worker.call(JobKind::Read, work).await
    }

    async fn remove_ended(
        &self,
        keep: Duration,
        after: Option<&Ended>,
        limit: usize,
    ) -> StoreResult<Option<RemovedEnded>> {
        Ok(Some(ended_records::remove(&self.0.worker, keep, after, limit).await?))
    }

    async fn changes(&self, since: Option<&Cursor>, limit: usize) -> StoreResult<Option<Changes>> {
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

    async fn set_paused(&self, scope: &PauseScope, paused: bool) -> StoreResult<Option<bool>> {
        let scope = scope.clone();
        let write = move |db: &mut Database<'_>| pause_table::set(db, &scope, paused);
        // Durable, because a pause must survive a loss of power.
        Ok(Some(self.0.worker.call(JobKind::Durable, write).await?))
    }

    async fn pauses(&self) -> StoreResult<Option<Pauses>> {
        let scopes = self.0.worker.call(JobKind::Read, |db| pause_table::read(db)).await?;
        Ok(Some(Pauses { scopes, next_in: PAUSES_POLL }))
    }

    async fn claim_login(&self, claim: &LoginClaim) -> StoreResult<Option<LoginOutcome>> {
        let claim = claim.clone();
        let write = move |db: &mut Database<'_>| login_table::claim(db, &claim);
        Ok(Some(self.0.worker.call(JobKind::Claim, write).await?))
    }
}

/// How a statement is written. Those that end an exchange wait for the lock as long as it takes.
/// Those whose content no server would give again are durable.
fn job_kind<C>(statement: &Statement<C>) -> JobKind {
    match statement {
        Statement::Claim(_)
        | Statement::Renew(_)
        | Statement::TakeOver(_)
        | Statement::RemoveEnded { .. } => JobKind::Claim,
        Statement::Settle(_) | Statement::Suspect(_) | Statement::Reschedule(_) => JobKind::Write,
        Statement::Commit(_)
        | Statement::Close(_)
        | Statement::Lose(_)
        | Statement::Restore(_)
        | Statement::Import(_)
        | Statement::Delete => JobKind::Durable,
    }
}
