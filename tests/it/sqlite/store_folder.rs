//! A folder with a database, and stores that open it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use session_warden::SessionKey;
use session_warden::key::{ProviderName, SessionId};
use session_warden::provider::Rotation;
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::sqlite::{SqliteBuilder, SqliteStore};
use session_warden::store::{
    Attempt, Changes, Claim, ClaimId, Close, Commit, Cursor, Done, Due, DuePage, Ends, Intent,
    Listed, Outcome, Owner, Presence, Record, RecordFilter, Resealed, Statement, Store,
    StoreContext, StoreError, Stored, TakeOver,
};
use session_warden::supervisor::SupervisorBuilder;
use session_warden::testing::{Faults, ManualClock, ScriptedProvider};
use session_warden::token::{Credentials, Tokens};
use tempfile::TempDir;

use crate::fixtures::{Fixture, ScriptedFixture};
use crate::support::LIFE;

/// How long the claims of these tests hold.
pub const LEASE: Duration = Duration::from_secs(20);

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

/// A ring of one key, the same for each number.
pub fn ring(number: u8) -> KeyRing {
    KeyRing::new(number.into(), MasterKey::from([number; 32]))
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

pub fn id(name: &str) -> SessionId {
    id_of("tenant", name)
}

pub fn id_of(tenant: &str, name: &str) -> SessionId {
    let key = SessionKey::new(tenant, name).unwrap();
    SessionId::new(ProviderName::new("p").unwrap(), key)
}

pub fn credentials(name: &str) -> Arc<Credentials> {
    let attributes: Arc<str> = Arc::from(format!("{{\"name\":\"{name}\"}}"));
    let tokens = Tokens::new(attributes)
        .with_access_token(
            format!("access-{name}"),
            Some(SystemTime::UNIX_EPOCH + ManualClock::START_WALL + LIFE),
        )
        .with_refresh_token(format!("refresh-{name}"), None)
        .with_token_secret(format!("secret-{name}"));
    Arc::new(Credentials::new(tokens, "https://login.example.com", "client"))
}

/// When they end, and when they are due.
pub const ENDS: Ends = Ends {
    access_in: Some(LIFE),
    refresh_in: None,
    due_in: Some(Duration::from_secs(700)),
    announce_in: None,
    retry_in: None,
};

/// The access token of a record.
pub fn access(record: &Record) -> Option<&str> {
    let credentials = record.credentials.as_ref()?;
    credentials.tokens().access_token().map(|token| token.expose_secret())
}

/// The stored record of a session.
pub async fn found(store: &impl Store, id: &SessionId) -> Record {
    store.load(id).await.unwrap().unwrap().record
}

pub fn claim(owner: Owner, intent: Intent, known: Option<(u64, u64)>) -> Claim {
    let (id, replaces) = (ClaimId(fastrand::u64(..)), None);
    let (epoch, generation) = (known.map(|known| known.0), known.map_or(0, |known| known.1));
    Claim { id, replaces, owner, intent, epoch, generation, lease: LEASE }
}

/// The attempt under a claim that was granted.
pub fn attempt(claim: &Claim, done: Done) -> Attempt {
    Attempt { base: done.generation, fence: done.fence, claim: claim.id }
}

/// Claims a session that must be free.
pub async fn granted(
    store: &impl Store,
    id: &SessionId,
    claim: Claim,
) -> Result<(u64, Attempt), StoreError> {
    let done = done(Ok(store.apply(id, Statement::Claim(claim)).await?));
    Ok((done.epoch, attempt(&claim, done)))
}

/// The commit of the tokens that an exchange under this claim got.
pub fn commit(intent: Intent, (epoch, attempt): (u64, Attempt), name: &str) -> Statement {
    let credentials = credentials(name);
    Statement::Commit(Commit { intent, epoch, attempt, credentials, ends: ENDS })
}

pub fn close(generation: u64) -> Statement {
    let claim = ClaimId(fastrand::u64(..));
    Statement::Close(Close { generation, claim, owner: Owner(1), lease: LEASE })
}

/// By a process that waits only for the end of the lease, or of its holder.
pub fn take_over(claim: ClaimId) -> Statement {
    let (hold, hold_of_dead) = (Duration::ZERO, Duration::ZERO);
    Statement::TakeOver(TakeOver { claim, hold, hold_of_dead, hold_back: hold })
}

/// The outcome, which must be `Done`.
#[track_caller]
pub fn done(outcome: Result<Outcome, StoreError>) -> Done {
    match outcome {
        Ok(Outcome::Done(done)) => done,
        other => panic!("not done: {other:?}"),
    }
}

/// Claims and commits, like an exchange that succeeds. Returns the record after that.
pub async fn exchange(
    store: &impl Store,
    id: &SessionId,
    intent: Intent,
    name: &str,
) -> Result<Done, StoreError> {
    let known = store.load(id).await?.map(|found| (found.record.epoch, found.record.generation));
    let claim = granted(store, id, claim(Owner(1), intent, known)).await?;
    Ok(done(Ok(store.apply(id, commit(intent, claim, name)).await?)))
}

/// Deletes a session that must exist.
pub async fn delete(store: &impl Store, id: &SessionId) -> Done {
    done(store.apply(id, Statement::Delete).await)
}
