//! A store that keeps sessions in PostgreSQL, for backends that run on several machines.
//!
//! ```no_run
//! use session_warden::Supervisor;
//! use session_warden::seal::KeyRing;
//! use session_warden::store::postgres::PostgresStore;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "postgres://warden:password@db.example.com/app";
//! let supervisor = Supervisor::builder()
//!     .key_ring(KeyRing::from_env("WARDEN_KEYS")?)
//!     .store(PostgresStore::connect(url).await?)
//!     .start()
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! All processes together do what one process does: each session is refreshed by only one of them
//! at a time. If PostgreSQL runs with `synchronous_commit = on`, its default, then a claim,
//! credentials, a close and a deletion are on its disk before they are confirmed. The clocks of the
//! processes may differ, because only the database's clock decides whether a lease or a wait is
//! over. The chapter [`replicas`](crate::guide::replicas) says what happens when a process or the
//! database fails.
//!
//! # Behind PgBouncer
//!
//! The store works behind PgBouncer in transaction mode. Each statement commits itself, and leaves
//! no state on its connection.
//!
//! # Connections
//!
//! A store has up to five connections: one for claims, one for commits, and
//! [three for reads](PostgresBuilder::read_connections). Connections to other machines are encrypted,
//! and the server's certificate is verified (`sslmode=verify-full`), unless the URL says
//! `sslmode=disable`.

mod batch;
mod change_feed;
mod client_rows;
mod connections;
mod database_clock;
mod ended_records;
mod failover;
mod holder_rows;
mod known_rows;
mod list_pages;
mod login_rows;
mod pause_rows;
mod pending_write;
mod postgres_builder;
mod postgres_fault;
mod read_lane;
mod read_rows;
mod recent_writes;
mod restored_record;
mod row_reader;
mod schema;
mod ssl_mode;
mod statements;
mod update_sql;
mod wal_position;
mod write_again;
mod write_lane;
mod write_rows;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Config;
use tokio_postgres::types::Type;

use self::connections::Connections;
use self::database_clock::{DatabaseClock, DatabaseTime};
use self::failover::FailoverGuard;
use self::known_rows::KnownRows;
use self::pause_rows::RecentPauses;
pub use self::postgres_builder::PostgresBuilder;
pub use self::postgres_fault::PostgresFault;
use self::read_lane::{Load, LoadResult, MAX_QUEUED_LOADS};
use self::schema::TableNames;
use self::statements::Statements;
use self::wal_position::WalPosition;
use self::write_lane::{Job, Lane, MAX_QUEUE};
use super::record_cipher::{RecordCipher, RowTags, SealedColumn};
use super::resealing::{self, ResealPositions};
use super::{
    Changes, ClientChange, ClientKey, ClientOutcome, ClientPage, Cursor, Due, DuePage, Ended,
    ListPage, LoginClaim, LoginOutcome, Outcome, Owner, Pauses, Presence, RecordFilter,
    RemovedEnded, Resealed, StaleKey, Statement, Store, StoreContext, StoreError, StoreResult,
    Stored,
};
use crate::clock::{Clock, SystemClock};
use crate::key::{PauseScope, ProviderName, SessionId};
use crate::log::LogLimit;
use crate::seal::KeyRing;
use crate::{task, transport};

/// Keeps sessions in PostgreSQL and encrypts their credentials. Clones share one store. See the
/// examples of [the module](self) and of [`PostgresBuilder`].
#[derive(Clone)]
pub struct PostgresStore(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    claims: mpsc::Sender<Job>,
    commits: mpsc::Sender<Job>,
    loads: mpsc::Sender<Load>,
    /// Where the next page of [`reseal`](PostgresStore::reseal) begins, by session.
    reseal_positions: ResealPositions<SessionId>,
}

/// What the store shares with its tasks.
struct Shared {
    connections: Connections,
    names: TableNames,
    statements: Statements,
    cipher: RecordCipher,
    tags: Mutex<RowTags>,
    /// The store's own clock, or that of the first supervisor.
    clock: OnceLock<Arc<dyn Clock>>,
    /// Used until `clock` is set.
    system: SystemClock,
    database_clock: DatabaseClock,
    known: KnownRows,
    failover: FailoverGuard,
    pauses: RecentPauses,
    /// Names this store in the changes that it makes.
    maker: i64,
    /// The supervisors on this very store that have not ended.
    local_owners: Mutex<BTreeSet<Owner>>,
    /// Whether several supervisors have used this very store at one time. Each must then see the
    /// others' changes, also the last ones of one that has ended.
    is_shared: AtomicBool,
    /// Many rows may be damaged, and a list meets each of them every time.
    log_limit: LogLimit,
}

impl Shared {
    fn clock(&self) -> &dyn Clock {
        self.clock.get().map_or(&self.system as &dyn Clock, |clock| &**clock)
    }

    /// Notes a time that the database has just answered.
    fn note_time(&self, time: DatabaseTime) {
        self.database_clock.note(time, self.clock());
    }

    /// The time of the database now, or somewhat earlier.
    fn estimated_now(&self) -> Option<DatabaseTime> {
        self.database_clock.estimate(self.clock())
    }
}

impl PostgresBuilder {
    /// Connects, makes or migrates the tables, and opens the store. Its tasks run on the current
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// As [`PostgresStore::connect`]. Also if the records are encrypted and this opens them in
    /// clear, or the other way round.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; a migration is then done as a whole or not at all.
    pub async fn open(mut self) -> Result<PostgresStore, StoreError> {
        let names = self.names()?;
        let url = self.connection_url()?;
        let mut pem = self.root_pem.take();
        if let Some(file) = &url.root_file {
            let read = std::fs::read(file).map_err(|_| PostgresFault::InvalidRoots)?;
            pem.get_or_insert_default().extend(read);
        }
        let roots = pem.map(|pem| transport::read_roots(&pem)).transpose();
        let roots = roots.map_err(|_| PostgresFault::InvalidRoots)?.unwrap_or_default();
        let connections = Connections::new(url.config, url.mode, &roots, self.read_connections)?;
        let mut connection = connections.get(&connections.commits).await?;
        schema::open(connection.client()?, &names, self.migrate).await?;
        let statements = Statements::new(&names);
        let sealed = !self.in_clear;
        let parameters = [(&sealed as _, Type::BOOL)];
        let opened = connection.query(&statements.open, &parameters).await?;
        let opened = opened.first().ok_or(PostgresFault::NotMigrated)?;
        let found: bool = opened.try_get(0).map_err(PostgresFault::from)?;
        let failover = FailoverGuard::default();
        let wal = WalPosition::read(opened.try_get(1).map_err(PostgresFault::from)?);
        let since: Option<i64> = opened.try_get(2).map_err(PostgresFault::from)?;
        let since = since.map(|since| Duration::from_nanos(u64::try_from(since).unwrap_or(0)));
        if found != sealed {
            let fault = if found { PostgresFault::Sealed } else { PostgresFault::InClear };
            return Err(fault.into());
        }
        drop(connection);
        let keys = self.keys.take();
        let cipher =
            if self.in_clear { RecordCipher::Plaintext } else { RecordCipher::with_keys(keys) };
        let clock = self.clock.take().map_or_else(OnceLock::new, OnceLock::from);
        failover.begin(wal, since);
        let shared = Arc::new(Shared {
            connections,
            names,
            statements,
            cipher,
            tags: Mutex::default(),
            clock,
            system: SystemClock::new(),
            database_clock: DatabaseClock::default(),
            known: KnownRows::default(),
            failover,
            pauses: RecentPauses::default(),
            maker: fastrand::i64(..),
            local_owners: Mutex::default(),
            is_shared: AtomicBool::new(false),
            log_limit: LogLimit::new(Arc::new(SystemClock::new())),
        });
        shared.report_unknown_wal();
        PostgresStore::start(shared)
    }
}

impl PostgresStore {
    /// Opens the store at this URL, for encrypted records: `postgres://user:password@host/database`,
    /// with the parameters that the crate `tokio-postgres` knows, and `sslmode` and `sslrootcert`.
    /// The store itself sets the keepalives and how long a connection may take (3 s). It has no
    /// client certificates. Makes the tables if there are none. The store gets its keys from the
    /// supervisor ([`key_ring`](crate::supervisor::SupervisorBuilder::key_ring)), which does not
    /// start without keys.
    ///
    /// # Errors
    ///
    /// [`StoreError`] with a [`PostgresFault`] as its cause, for example if the URL cannot be read,
    /// if the server cannot be reached or is older than PostgreSQL 13, or if a newer version of
    /// this crate made the tables.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; a migration is then done as a whole or not at all.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder(url).open().await
    }

    /// Makes a builder, with which you open the store with other settings.
    pub fn builder(url: &str) -> PostgresBuilder {
        PostgresBuilder::of_url(url)
    }

    /// Makes a builder from a configuration of the driver `tokio-postgres`. Of its `ssl_mode`, only
    /// `Disable` leaves a connection to another machine in clear; all others verify the server's
    /// certificate.
    pub fn builder_from(config: Config) -> PostgresBuilder {
        PostgresBuilder::of_config(config)
    }

    /// Reads at most `limit` records that are encrypted with older keys of the ring, and encrypts
    /// them with the sealing key. Each call continues where the last call ended. A supervisor does
    /// this by itself when the keys change. Without a supervisor, call this again and again, with
    /// pauses, until [`ended`](Resealed::ended) is true. This skips records that are claimed, that
    /// hold credentials which must still be revoked, or that cannot be decrypted.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if records could not be read or written. The next call tries them again.
    ///
    /// # Cancel safety
    ///
    /// May be dropped. Records that are encrypted again by then stay so.
    pub async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        let Inner { shared, reseal_positions, .. } = &*self.0;
        let Some(position) = reseal_positions.next(&shared.cipher)? else {
            return Ok(Resealed { done: 0, passed_over: 0, ended: true });
        };
        let limit = limit.clamp(1, write_lane::MAX_BATCH);
        let page = shared.reseal_page(position.key, position.after.as_ref(), limit).await?;
        let ended = reseal_positions.advance(position, page.last.filter(|_| page.rows == limit));
        Ok(Resealed { done: page.done, passed_over: page.rows - page.done, ended })
    }

    /// Returns the keys other than the sealing key with which records are still encrypted, with the
    /// number of records of each. Do not remove a key that is named here from the ring.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the tables could not be read.
    ///
    /// # Cancel safety
    ///
    /// May be dropped: it only reads.
    pub async fn stale_keys(&self) -> Result<Vec<StaleKey>, StoreError> {
        let keys = self.0.shared.keys().await?;
        resealing::stale_keys(&self.0.shared.cipher, keys)
    }

    /// Starts the tasks of the store.
    fn start(shared: Arc<Shared>) -> Result<Self, StoreError> {
        let (claims, claim_queue) = mpsc::channel(MAX_QUEUE);
        let (commits, commit_queue) = mpsc::channel(MAX_QUEUE);
        let (loads, load_queue) = mpsc::channel(MAX_QUEUED_LOADS);
        let started =
            task::spawn_here(write_lane::run(Arc::clone(&shared), Lane::Claims, claim_queue))
                && task::spawn_here(write_lane::run(
                    Arc::clone(&shared),
                    Lane::Commits,
                    commit_queue,
                ))
                && task::spawn_here(read_lane::run(Arc::clone(&shared), load_queue));
        task::spawn_here(holder_rows::beat(Arc::downgrade(&shared)));
        let begun = shared.failover.begun();
        task::spawn_here(write_again::run(Arc::downgrade(&shared), begun));
        if !started {
            return Err(PostgresFault::Closed.into());
        }
        let reseal_positions = ResealPositions::default();
        Ok(Self(Arc::new(Inner { shared, claims, commits, loads, reseal_positions })))
    }

    async fn load_sealed(&self, id: &SessionId) -> LoadResult {
        let (reply, answer) = oneshot::channel();
        let load = Load { id: id.clone(), reply };
        self.0.loads.send(load).await.map_err(|_| PostgresFault::Closed)?;
        answer.await.map_err(|_| PostgresFault::Closed)?
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("schema", &self.0.shared.names.schema)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn prepare(&self, context: &StoreContext) -> Result<(), StoreError> {
        self.0.shared.cipher.set_supervisor_keys(&context.keys)?;
        self.0.shared.clock.get_or_init(|| Arc::clone(&context.clock));
        Ok(())
    }

    fn key_ring(&self) -> Option<KeyRing> {
        self.0.shared.cipher.ring().ok().flatten()
    }

    async fn presence(&self, owner: Owner, presence: Presence) -> Result<(), StoreError> {
        Ok(self.0.shared.note_presence(owner, presence).await?)
    }

    async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        self.reseal(limit).await
    }

    async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError> {
        let found = self.load_sealed(id).await?;
        let opened = found.map(|stored| self.0.shared.cipher.open_stored(id, stored));
        Ok(opened.transpose()?)
    }

    async fn load_many(&self, ids: &[SessionId]) -> Vec<Result<Option<Stored>, StoreError>> {
        // The lane makes batches of them, and holds back what does not fit.
        join_all(ids.iter().map(|id| self.load(id))).await
    }

    async fn apply(&self, id: &SessionId, statement: Statement) -> Result<Outcome, StoreError> {
        let cipher = &self.0.shared.cipher;
        let lane = lane_of(&statement);
        let statement = statement.try_map(|made, epoch, credentials| {
            cipher.seal(id, (epoch, made), SealedColumn::Credentials, &credentials)
        })?;
        let (reply, answer) = oneshot::channel();
        let job = Job { id: id.clone(), statement, reply };
        let queue = match lane {
            Lane::Claims => &self.0.claims,
            Lane::Commits => &self.0.commits,
        };
        queue.send(job).await.map_err(|_| PostgresFault::Closed)?;
        let outcome = answer.await.map_err(|_| PostgresFault::Closed)??;
        Ok(cipher.open_outcome(id, outcome)?)
    }

    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        Ok(self.0.shared.due(provider, within, after, limit).await?)
    }

    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> ListPage {
        self.0.shared.list(filter, after, limit).await
    }

    async fn remove_ended(
        &self,
        keep: Duration,
        after: Option<&Ended>,
        limit: usize,
    ) -> StoreResult<Option<RemovedEnded>> {
        Ok(Some(self.0.shared.remove_ended(keep, after, limit).await?))
    }

    async fn changes(&self, since: Option<&Cursor>, limit: usize) -> StoreResult<Option<Changes>> {
        Ok(Some(self.0.shared.changes(since, limit).await?))
    }

    async fn set_paused(&self, scope: &PauseScope, paused: bool) -> StoreResult<Option<bool>> {
        Ok(Some(self.0.shared.set_paused(scope, paused).await?))
    }

    async fn pauses(&self) -> StoreResult<Option<Pauses>> {
        Ok(Some(self.0.shared.pauses().await?))
    }

    async fn client(
        &self,
        client: &ClientKey,
        change: ClientChange,
    ) -> StoreResult<Option<ClientOutcome>> {
        Ok(Some(self.0.shared.client(client, &change).await?))
    }

    async fn clients(
        &self,
        after: Option<&ClientKey>,
        limit: usize,
    ) -> StoreResult<Option<ClientPage>> {
        Ok(Some(self.0.shared.clients(after, limit).await?))
    }

    async fn claim_login(&self, claim: &LoginClaim) -> StoreResult<Option<LoginOutcome>> {
        Ok(Some(self.0.shared.claim_login(claim).await?))
    }
}

/// Credentials that end an exchange have a lane of their own.
fn lane_of<C>(statement: &Statement<C>) -> Lane {
    match statement {
        Statement::Claim(_)
        | Statement::Renew(_)
        | Statement::TakeOver(_)
        | Statement::Suspect(_)
        | Statement::Reschedule(_) => Lane::Claims,
        Statement::Commit(_)
        | Statement::Settle(_)
        | Statement::Close(_)
        | Statement::Lose(_)
        | Statement::Restore(_)
        | Statement::Import(_)
        | Statement::RemoveEnded { .. }
        | Statement::Delete => Lane::Commits,
    }
}
