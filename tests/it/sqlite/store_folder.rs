//! A folder with a database, and stores that open it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use session_warden::key::{ProviderName, SessionId};
use session_warden::provider::Rotation;
use session_warden::seal::KeyRing;
use session_warden::store::sqlite::{SqliteBuilder, SqliteStore};
use session_warden::store::{
    Changes, Cursor, Due, DuePage, Listed, Outcome, Owner, Presence, Record, RecordFilter,
    Resealed, Statement, Store, StoreContext, StoreError, Stored,
};
use session_warden::supervisor::SupervisorBuilder;
use session_warden::testing::{Faults, ManualClock, ScriptedProvider};
use tempfile::TempDir;

use crate::fixtures::{Fixture, ScriptedFixture};
pub use crate::store_statements::{
    LEASE, access, claim, close, commit, credentials, delete, done, exchange, found, granted, id,
    id_of, ring, take_over,
};
use crate::support::LIFE;

/// A folder that is deleted with its test, and the clock of the stores in it.
pub struct Folder {
    dir: TempDir,
    pub clock: ManualClock,
}

impl Folder {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: ManualClock::new() }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Lets time go on for the stores in it.
    pub fn later(&self, seconds: u64) {
        self.clock.suspend(Duration::from_secs(seconds));
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("sessions.db")
    }

    /// A store on its database, with key 1.
    pub fn store(&self) -> SqliteStore {
        self.builder().open().unwrap()
    }

    pub fn builder(&self) -> SqliteBuilder {
        SqliteStore::builder(self.database()).key_ring(ring(1)).clock(self.clock.clone())
    }

    /// The bytes of all its files: the database, its log and all others.
    pub fn bytes(&self) -> Vec<u8> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        entries.flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
    }
}

/// A process on a file, with one session. Time stands still until the test moves it, so that no
/// wait for the disk counts.
pub type Process = ScriptedFixture<SqliteStore>;

impl Process {
    pub async fn open(folder: &Folder, clock: &ManualClock, rotation: Rotation) -> Self {
        let store = SqliteStore::open(folder.database()).unwrap();
        Self::on(store, ring(1), clock, rotation).await
    }

    pub async fn on(
        store: SqliteStore,
        keys: KeyRing,
        clock: &ManualClock,
        rotation: Rotation,
    ) -> Self {
        let provider = ScriptedProvider::new().lifetime(LIFE).rotation(rotation);
        let script = provider.script();
        let set = |builder: SupervisorBuilder, _: &Faults| builder.key_ring(keys);
        let fixture = Fixture::start_at_with("p", provider, (&store, clock), set).await;
        Self { fixture, script }
    }

    /// The one record.
    pub async fn record(&self) -> Record<()> {
        let listed = self.store.list(&Default::default(), None, 2).await.unwrap();
        listed.into_iter().next().unwrap().stored.record
    }

    /// As if it were killed: its file is let go of, and nothing that it holds in memory is written.
    pub async fn die(self) {
        self.store.shutdown().await;
        drop(self);
    }
}

/// A store that uses several handles on one file in turn.
pub struct AlternatingStore {
    handles: Vec<SqliteStore>,
    turn: AtomicUsize,
    _folder: Folder,
}

impl AlternatingStore {
    pub fn of(count: usize) -> Self {
        let folder = Folder::new();
        let handles = (0..count).map(|_| folder.store()).collect();
        Self { handles, turn: AtomicUsize::new(0), _folder: folder }
    }

    pub fn in_clear() -> Self {
        let folder = Folder::new();
        let handle = SqliteStore::builder(folder.database()).tokens_in_clear().open().unwrap();
        Self { handles: vec![handle], turn: AtomicUsize::new(0), _folder: folder }
    }

    fn next(&self) -> &SqliteStore {
        &self.handles[self.turn.fetch_add(1, Ordering::Relaxed) % self.handles.len()]
    }
}

#[async_trait]
impl Store for AlternatingStore {
    fn prepare(&self, context: &StoreContext) -> Result<(), StoreError> {
        self.handles.iter().try_for_each(|handle| handle.prepare(context))
    }

    fn key_ring(&self) -> Option<KeyRing> {
        self.next().key_ring()
    }

    async fn presence(&self, owner: Owner, presence: Presence) -> Result<(), StoreError> {
        for handle in &self.handles {
            handle.presence(owner, presence).await?;
        }
        Ok(())
    }

    async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        self.next().reseal(limit).await
    }

    async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError> {
        self.next().load(id).await
    }

    async fn load_many(&self, ids: &[SessionId]) -> Vec<Result<Option<Stored>, StoreError>> {
        self.next().load_many(ids).await
    }

    async fn apply(&self, id: &SessionId, statement: Statement) -> Result<Outcome, StoreError> {
        self.next().apply(id, statement).await
    }

    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        self.next().due(provider, within, after, limit).await
    }

    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        self.next().list(filter, after, limit).await
    }

    async fn changes(
        &self,
        since: Option<&Cursor>,
        limit: usize,
    ) -> Result<Option<Changes>, StoreError> {
        self.next().changes(since, limit).await
    }
}
