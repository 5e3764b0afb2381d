//! A folder with a database in it, and stores on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use session_warden::clock::{BootTime, Now};
use session_warden::event::Events;
use session_warden::key::{ProviderName, SessionId};
use session_warden::provider::Rotation;
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::sqlite::{SqliteBuilder, SqliteStore};
use session_warden::store::{
    Attempt, Claim, Claimed, Close, Closed, Commit, Committed, Due, Filter, Intent, Listed, Owner,
    Phase, Record, Settle, Settled, Store, StoreError, TakeOver,
};
use session_warden::testing::{Faults, FaultyStore, ManualClock, Script, ScriptedProvider};
use session_warden::token::{Credentials, Tokens};
use session_warden::{Session, SessionKey, Supervisor};

use crate::support::{LIFE, session};

/// A folder that goes with its test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let name = format!("session-warden-it-{:016x}", fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn database(&self) -> PathBuf {
        self.0.join("sessions.db")
    }

    /// A store on its database, with key 1.
    pub fn store(&self) -> SqliteStore {
        self.builder().open().unwrap()
    }

    pub fn builder(&self) -> SqliteBuilder {
        SqliteStore::builder(self.database()).key_ring(ring(1))
    }

    /// What lies in it, the database, its log and whatever else.
    pub fn bytes(&self) -> Vec<u8> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        entries.flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A ring of one key, the same for each number.
pub fn ring(number: u8) -> KeyRing {
    KeyRing::new(number.into(), MasterKey::from([number; 32]))
}

/// What ends with a process: a supervisor on a file, with one session.
pub struct Process {
    pub supervisor: Supervisor,
    pub session: Session<ScriptedProvider>,
    pub script: Script,
    pub store: SqliteStore,
    pub faults: Faults,
    pub events: Events,
}

impl Process {
    /// Time stands still but for what the test says, so that no wait for the disk counts.
    pub async fn start(folder: &Folder, clock: &ManualClock, rotation: Rotation) -> Self {
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
        let faulty = FaultyStore::new(store.clone());
        let faults = faulty.faults();
        let supervisor = Supervisor::builder()
            .clock(clock.clone())
            .key_ring(keys)
            .store(faulty)
            .provider("p", provider)
            .start()
            .await
            .unwrap();
        let session = session(&supervisor, "device");
        let events = supervisor.subscribe();
        Self { supervisor, session, script, store, faults, events }
    }

    pub async fn phase(&self) -> Phase {
        let listed = self.store.list(&Default::default(), None, 2).await.unwrap();
        listed.first().unwrap().record.phase
    }

    /// As if it were killed: its file is let go of, and nothing that it holds in memory is written.
    pub async fn die(self) {
        self.store.shutdown().await;
        drop(self.supervisor);
    }
}

/// Handles on one file, asked by turns.
pub struct Shared {
    handles: Vec<SqliteStore>,
    turn: AtomicUsize,
    _folder: Folder,
}

impl Shared {
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
impl Store for Shared {
    async fn load(&self, id: &SessionId) -> Result<Option<Record>, StoreError> {
        self.next().load(id).await
    }

    async fn claim(&self, id: &SessionId, claim: Claim) -> Result<Claimed, StoreError> {
        self.next().claim(id, claim).await
    }

    async fn commit(&self, id: &SessionId, commit: Commit) -> Result<Committed, StoreError> {
        self.next().commit(id, commit).await
    }

    async fn settle(&self, id: &SessionId, settle: Settle) -> Result<Settled, StoreError> {
        self.next().settle(id, settle).await
    }

    async fn take_over(&self, id: &SessionId, take: TakeOver) -> Result<bool, StoreError> {
        self.next().take_over(id, take).await
    }

    async fn close(&self, id: &SessionId, close: Close) -> Result<Closed, StoreError> {
        self.next().close(id, close).await
    }

    async fn outbox(&self, id: &SessionId, generation: u64) -> Result<(), StoreError> {
        self.next().outbox(id, generation).await
    }

    async fn due(&self, after: Option<&Due>, limit: usize) -> Result<Vec<Due>, StoreError> {
        self.next().due(after, limit).await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        self.next().list(filter, after, limit).await
    }

    async fn delete(&self, id: &SessionId) -> Result<bool, StoreError> {
        self.next().delete(id).await
    }
}

pub fn id(name: &str) -> SessionId {
    id_of("tenant", name)
}

pub fn id_of(tenant: &str, name: &str) -> SessionId {
    let key = SessionKey::new(tenant, name).unwrap();
    SessionId::new(ProviderName::new("p").unwrap(), key)
}

pub fn wall(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

pub fn now(seconds: u64) -> Now {
    let after = Duration::from_secs(seconds);
    Now::new(wall(seconds), BootTime::new(Duration::from_secs(1000) + after), after)
}

pub fn credentials(name: &str) -> Arc<Credentials> {
    let attributes: Arc<str> = Arc::from(format!("{{\"name\":\"{name}\"}}"));
    let tokens = Tokens::new(attributes)
        .access(format!("access-{name}"), Some(wall(900)))
        .refresh(format!("refresh-{name}"), None)
        .token_secret(format!("secret-{name}"));
    Arc::new(Credentials::new(tokens, "https://login.example.com", "client"))
}

/// The access token of a record.
pub fn access(record: &Record) -> Option<&str> {
    let credentials = record.credentials.as_ref()?;
    credentials.tokens().access_token().map(|token| token.expose_secret())
}

pub fn claim(owner: Owner, intent: Intent, (epoch, generation): (u64, u64), at: Now) -> Claim {
    Claim { owner, intent, epoch, generation, at, lease: Duration::from_secs(20) }
}

/// Claims and commits, as an exchange that succeeds does; how the record is counted then.
pub async fn exchange(
    store: &impl Store,
    id: &SessionId,
    intent: Intent,
    name: &str,
) -> Result<Committed, StoreError> {
    let found = store.load(id).await?;
    let counters = found.map_or((0, 0), |record| (record.epoch, record.generation));
    let claim = claim(Owner(1), intent, counters, now(0));
    let Claimed::Granted { fence } = store.claim(id, claim).await? else {
        panic!("the claim was not granted");
    };
    let attempt = Attempt { base: counters.1, fence };
    let (epoch, credentials) = (counters.0, credentials(name));
    let commit = Commit { intent, epoch, attempt, credentials, due_at: Some(wall(700)) };
    store.commit(id, commit).await
}
