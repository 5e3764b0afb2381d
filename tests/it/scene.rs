//! A supervisor on a store that fails on demand.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use session_warden::event::{EventKind, Events};
use session_warden::store::{MemoryStore, Record, Store};
use session_warden::testing::{
    Faults, FaultyStore, ManualClock, Script, ScriptedProvider, StoreCall,
};
use session_warden::{Error, ErrorKind, PermissionToken, Session, Supervisor};
use tokio::task::JoinSet;

use crate::support::{LIFE, SECOND, session, until};

/// A supervisor on a store that fails on demand, and one session of it.
pub struct Scene {
    pub clock: ManualClock,
    pub store: MemoryStore,
    pub faults: Faults,
    pub script: Script,
    pub supervisor: Supervisor,
    pub session: Session<ScriptedProvider>,
    pub events: Events,
}

impl Scene {
    /// One more supervisor on this store.
    pub async fn start(store: &MemoryStore, clock: &ManualClock) -> Self {
        Self::start_with(store, clock, |_| {}).await
    }

    /// The same, with faults from the start.
    pub async fn start_with(
        store: &MemoryStore,
        clock: &ManualClock,
        plan: impl FnOnce(&Faults),
    ) -> Self {
        let faulty = FaultyStore::new(store.clone());
        let provider: ScriptedProvider = ScriptedProvider::new().lifetime(LIFE);
        let (faults, script) = (faulty.faults(), provider.script());
        plan(&faults);
        let builder = Supervisor::builder().clock(clock.clone()).store(faulty);
        let supervisor = builder.provider("p", provider).start().await.unwrap();
        let (session, events) = (session(&supervisor, "device"), supervisor.subscribe());
        let (store, clock) = (store.clone(), clock.clone());
        Self { clock, store, faults, script, supervisor, session, events }
    }

    /// With a session of which `access-1` is served.
    pub async fn established() -> Self {
        let mut scene = Self::start(&MemoryStore::new(), &ManualClock::new()).await;
        let _ = scene.session.establish(()).await.unwrap();
        assert_eq!(scene.news(), [EventKind::Established]);
        scene
    }

    /// With a session whose access token has ended.
    pub async fn expired() -> Self {
        let scene = Self::established().await;
        scene.clock.advance(LIFE + SECOND).await;
        scene
    }

    /// With `access-2` served and not saved: no commit succeeds until the faults say so.
    pub async fn owed() -> Self {
        let mut scene = Self::expired().await;
        scene.faults.fail_always(StoreCall::Commit, true);
        assert_eq!(scene.token().await.unwrap().expose_secret(), "access-2");
        assert_eq!(scene.news(), [EventKind::Refreshed, EventKind::Unsaved]);
        scene
    }

    pub async fn token(&self) -> Result<PermissionToken, Error> {
        until(&self.clock, self.session.permission_token()).await
    }

    /// Callers for a token who wait now.
    pub async fn callers(&self, many: usize) -> JoinSet<Result<PermissionToken, Error>> {
        let mut callers = JoinSet::new();
        for _ in 0..many {
            let session = self.session.clone();
            callers.spawn(async move { session.permission_token().await });
        }
        self.clock.advance(Duration::ZERO).await;
        callers
    }

    pub async fn record(&self) -> Record {
        self.store.load(self.session.id()).await.unwrap().unwrap().record
    }

    /// Generation and refresh token in the store.
    pub async fn stored(&self) -> (u64, String) {
        let record = self.record().await;
        let credentials = record.credentials.unwrap();
        let refresh = credentials.tokens().refresh_token().unwrap().expose_secret().to_owned();
        (record.generation, refresh)
    }

    pub async fn is_saved(&self) -> bool {
        self.session.status().await.unwrap().saved
    }

    /// What was reported since the last look.
    pub fn news(&mut self) -> Vec<EventKind> {
        let mut news = Vec::new();
        while let Some(Some(event)) = self.events.next().now_or_never() {
            news.push(event.kind);
        }
        news
    }
}

pub fn kind(outcome: Result<PermissionToken, Error>) -> ErrorKind {
    outcome.unwrap_err().kind()
}
