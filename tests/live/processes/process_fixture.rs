//! A server, a store, and processes on it.

use std::path::Path;
use std::time::{Duration, Instant};

use session_warden::SessionKey;
use session_warden::key::{ProviderName, SessionId};
use session_warden::store::Record;
use tempfile::TempDir;

use super::database::{Database, StoreKind};
use super::history::History;
use super::orders::{Handed, Operation, Outcome, PROVIDER, Setup, TENANT, USUAL};
use super::replica::Replica;
use super::server::{At, Seen, Server};

/// How long a journal is waited for, if a test does not say it: longer than any of them takes.
const JOURNAL_HOLD: Duration = Duration::from_secs(600);

/// The session that most tests are about.
pub const KEY: &str = "device";

pub struct ProcessFixture {
    store: StoreKind,
    server: Server,
    setup: Setup,
    history: History,
    folder: TempDir,
}

impl ProcessFixture {
    pub async fn new((store, server): At) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::new(store, folder.path()).await;
        Self::on(database, (store, server), folder)
    }

    /// On this database.
    pub fn on(database: Database, (store, server): At, folder: TempDir) -> Self {
        let setup = Setup {
            database,
            issuer: server.issuer(),
            api: server.api(),
            rotation: server.rotates(),
            scope: server.scope().to_owned(),
            refresh_ends_access_tokens: server.ends_access_tokens(),
            waits: USUAL,
            journal: None,
            journal_hold: JOURNAL_HOLD,
            most_file_bytes: None,
            logs: None,
        };
        Self { store, server, setup, history: History::default(), folder }
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub fn store(&self) -> StoreKind {
        self.store
    }

    /// One more process.
    pub async fn process(&self) -> Replica {
        Replica::start(&self.setup, &self.history).await
    }

    /// One more process, with a journal on this volume.
    pub async fn process_on(&self, volume: &str) -> Replica {
        self.process_with(|setup| setup.journal = Some(self.folder.path().join(volume))).await
    }

    /// One more process, set up otherwise.
    pub async fn process_with(&self, change: impl FnOnce(&mut Setup)) -> Replica {
        let mut setup = self.setup.clone();
        change(&mut setup);
        Replica::start(&setup, &self.history).await
    }

    /// Where volumes are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A process that has made the session of [`KEY`].
    pub async fn established(&self) -> Replica {
        let process = self.process().await;
        let token = process.token(Operation::Establish, KEY).await;
        assert_eq!((token.epoch, token.generation), (1, 1));
        process
    }

    /// The record of the session of [`KEY`] in the store.
    pub async fn record(&self) -> Record {
        let reader = self.setup.database.reader().await;
        let key = SessionKey::new(TENANT, KEY).unwrap();
        let id = SessionId::new(ProviderName::new(PROVIDER).unwrap(), key);
        let found = reader.store().load(&id).await.unwrap().expect("it was established");
        reader.close().await;
        found.record
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    pub async fn seen(&self) -> Seen {
        self.server.seen().await
    }

    /// The session has this generation, and its access token and refresh token are valid.
    ///
    /// # Panics
    ///
    /// If not, or if the history of all processes has a fault.
    pub async fn is_good_at(&self, process: &Replica, generation: u64) -> Handed {
        let before = self.seen().await;
        let token = process.token(Operation::Use, KEY).await;
        assert_eq!((token.epoch, token.generation, token.works), (1, generation, Some(true)));
        assert_eq!(self.seen().await, before, "nothing was asked for it");
        let next = process.token(Operation::Refresh, KEY).await;
        assert_eq!((next.epoch, next.generation), (1, generation + 1));
        let next = process.token(Operation::Use, KEY).await;
        assert_eq!((next.generation, next.works), (generation + 1, Some(true)));
        assert_eq!(self.seen().await, Seen { asked: before.asked + 1, ..before });
        self.history.check();
        token
    }

    /// The session is lost in doubt, callers get that from memory, and a new grant establishes it
    /// again.
    ///
    /// # Panics
    ///
    /// If not, or if the history of all processes has a fault.
    pub async fn is_lost_in_doubt(&self, process: &Replica) {
        let before = self.seen().await;
        for operation in [Operation::Use, Operation::Refresh, Operation::Token] {
            let lost = process.ask(operation, KEY).await;
            assert!(is_lost(&lost), "{lost:?}");
        }
        assert_eq!(self.seen().await, before, "nothing more is asked");
        let token = process.token(Operation::Establish, KEY).await;
        assert_eq!(token.epoch, 2);
        let token = process.token(Operation::Use, KEY).await;
        assert_eq!((token.epoch, token.works), (2, Some(true)));
        self.history.check();
    }
}

pub fn is_lost(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed { kind, .. } if kind == "SignInAgain(LostInDoubt)")
}

pub fn is_generation(outcome: &Outcome, generation: u64) -> bool {
    matches!(outcome, Outcome::Token(token) if token.generation == generation)
}

#[expect(clippy::disallowed_methods, reason = "a process outside has no clock of ours")]
pub fn now() -> Instant {
    Instant::now()
}
