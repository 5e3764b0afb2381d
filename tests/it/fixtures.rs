//! A process under test: a supervisor of one provider on a store that fails on demand, with a clock
//! that the test moves.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, SystemTime};

use futures_util::{FutureExt, StreamExt};
use session_warden::clock::Clock;
use session_warden::event::{EventKind, Events};
use session_warden::policy::Policy;
use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::provider::{Provider, Registration};
use session_warden::session::State;
use session_warden::store::{MemoryStore, Record, Store};
use session_warden::supervisor::SupervisorBuilder;
use session_warden::testing::{
    Chaos, FakeAuthServer, Faults, FaultyStore, ManualClock, Reply, Script, ScriptedProvider,
    StoreCall,
};
use session_warden::transport::TransportConfig;
use session_warden::{Error, ErrorKind, Establishment, PermissionToken, Session, Supervisor};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{LIFE, SECOND, key, provider_of, until};

/// A supervisor, its clock and store, and one session of it.
pub struct Fixture<P: Provider, S = MemoryStore> {
    pub clock: ManualClock,
    /// The store behind the faults.
    pub store: S,
    pub faults: Faults,
    pub supervisor: Supervisor,
    pub session: Session<P>,
    pub events: Events,
}

/// A fixture at a standard OAuth 2.0 server, which the test holds.
pub type OAuth2Fixture = Fixture<OAuth2>;

impl<P: Provider, S: Store + Clone> Fixture<P, S> {
    /// One more process on this store, with a session that it does not establish.
    pub async fn start_at(
        name: &str,
        provider: impl Into<Registration<P>>,
        store: &S,
        clock: &ManualClock,
    ) -> Self {
        Self::start_at_with(name, provider, (store, clock), |builder, _| builder).await
    }

    /// The same, with other settings, or with faults from the start.
    pub async fn start_at_with(
        name: &str,
        provider: impl Into<Registration<P>>,
        (store, clock): (&S, &ManualClock),
        set: impl FnOnce(SupervisorBuilder, &Faults) -> SupervisorBuilder,
    ) -> Self {
        let faulty = FaultyStore::new(store.clone());
        let faults = faulty.faults();
        let builder = Supervisor::builder()
            .clock(clock.clone())
            .store(faulty)
            .transport(TransportConfig::default().allow_loopback_http());
        let builder = set(builder, &faults).provider(name, provider);
        let supervisor = builder.start().await.unwrap();
        let session = supervisor.sessions(name).unwrap().session(key("device"));
        let events = supervisor.subscribe();
        Self { clock: clock.clone(), store: store.clone(), faults, supervisor, session, events }
    }

    pub fn chaos(&self) -> Chaos {
        Chaos::of(&self.supervisor)
    }

    pub fn wall(&self) -> SystemTime {
        self.clock.now().wall
    }

    /// Runs `future` to its end while time goes on.
    pub async fn until<T>(&self, future: impl Future<Output = T>) -> T {
        until(&self.clock, future).await
    }

    pub async fn token(&self) -> Result<PermissionToken, Error> {
        self.until(self.session.permission_token()).await
    }

    pub async fn state(&self) -> State {
        self.session.status().await.unwrap().state
    }

    pub async fn is_saved(&self) -> bool {
        self.session.status().await.unwrap().saved
    }

    pub async fn record(&self) -> Record {
        self.store.load(self.session.id()).await.unwrap().unwrap().record
    }

    /// The generation and the refresh token in the store.
    pub async fn stored(&self) -> (u64, String) {
        let record = self.record().await;
        let credentials = record.credentials.unwrap();
        let refresh = credentials.tokens().refresh_token().unwrap().expose_secret().to_owned();
        (record.generation, refresh)
    }

    /// The events since the last call, after all tasks that can run now have run.
    pub async fn happened(&mut self) -> Vec<EventKind> {
        self.clock.advance(Duration::ZERO).await;
        self.news()
    }

    /// The events since the last call.
    pub fn news(&mut self) -> Vec<EventKind> {
        let mut news = Vec::new();
        while let Some(Some(event)) = self.events.next().now_or_never() {
            news.push(event.kind);
        }
        news
    }
}

/// A fixture whose provider plays a script.
pub struct ScriptedFixture<S = MemoryStore> {
    pub fixture: Fixture<ScriptedProvider, S>,
    pub script: Script,
}

/// With one session that was never established.
pub async fn fixture() -> ScriptedFixture {
    fixture_of(ScriptedProvider::new().lifetime(LIFE), Policy::default()).await
}

/// The same, established.
pub async fn established() -> ScriptedFixture {
    let fixture = fixture().await;
    let _ = fixture.session.establish(()).await.unwrap();
    fixture
}

pub async fn fixture_of(provider: ScriptedProvider, policy: Policy) -> ScriptedFixture {
    let script = provider.script();
    registered(provider.into(), script, policy).await
}

/// With a registration of the provider whose script this is.
pub async fn registered(
    provider: Registration<ScriptedProvider>,
    script: Script,
    policy: Policy,
) -> ScriptedFixture {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let set = |builder: SupervisorBuilder, _: &Faults| builder.policy(policy);
    let fixture = Fixture::start_at_with("p", provider, (&store, &clock), set).await;
    ScriptedFixture { fixture, script }
}

impl ScriptedFixture {
    /// One more process on this store.
    pub async fn start(store: &MemoryStore, clock: &ManualClock) -> Self {
        Self::start_with(store, clock, |_| {}).await
    }

    /// The same, with faults from the start.
    pub async fn start_with(
        store: &MemoryStore,
        clock: &ManualClock,
        plan: impl FnOnce(&Faults),
    ) -> Self {
        let provider: ScriptedProvider = ScriptedProvider::new().lifetime(LIFE);
        let script = provider.script();
        let set = |builder, faults: &Faults| {
            plan(faults);
            builder
        };
        let fixture = Fixture::start_at_with("p", provider, (store, clock), set).await;
        Self { fixture, script }
    }

    /// With a session of which `access-1` is served.
    pub async fn established() -> Self {
        let mut fixture = Self::start(&MemoryStore::new(), &ManualClock::new()).await;
        let _ = fixture.session.establish(()).await.unwrap();
        assert_eq!(fixture.news(), [EventKind::Established]);
        fixture
    }

    /// With a session whose access token has expired.
    pub async fn expired() -> Self {
        let fixture = Self::established().await;
        fixture.clock.advance(LIFE + SECOND).await;
        fixture
    }

    /// With `access-2` served and not saved: no commit succeeds until the faults say so.
    pub async fn unsaved() -> Self {
        let mut fixture = Self::expired().await;
        fixture.faults.fail_always(StoreCall::Commit, true);
        assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-2");
        assert_eq!(fixture.news(), [EventKind::Refreshed, EventKind::Unsaved]);
        fixture
    }

    /// A refresh that is out, and stays so until the script lets it go.
    pub async fn held_refresh(&self) -> JoinHandle<Result<PermissionToken, Error>> {
        self.script.refresh(Reply::Hold);
        let session = self.session.clone();
        let refreshing = tokio::spawn(async move { session.refresh().await });
        self.script.held(1).await;
        refreshing
    }

    /// So many callers that wait for a token now.
    pub async fn callers(&self, many: usize) -> JoinSet<Result<PermissionToken, Error>> {
        let mut callers = JoinSet::new();
        for _ in 0..many {
            let session = self.session.clone();
            callers.spawn(async move { session.permission_token().await });
        }
        self.clock.advance(Duration::ZERO).await;
        callers
    }
}

impl<S> Deref for ScriptedFixture<S> {
    type Target = Fixture<ScriptedProvider, S>;

    fn deref(&self) -> &Self::Target {
        &self.fixture
    }
}

impl<S> DerefMut for ScriptedFixture<S> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.fixture
    }
}

/// A fixture with a server of its own, which runs by the same clock.
pub struct ServerFixture<P: Provider> {
    pub fixture: Fixture<P>,
    pub server: FakeAuthServer,
}

impl<P: Provider> ServerFixture<P> {
    /// A process at this server, with a store of its own.
    pub async fn start(
        name: &str,
        server: FakeAuthServer,
        provider: impl Into<Registration<P>>,
        clock: &ManualClock,
    ) -> Self {
        let fixture = Fixture::start_at(name, provider, &MemoryStore::new(), clock).await;
        Self { fixture, server }
    }
}

impl<P: Provider> Deref for ServerFixture<P> {
    type Target = Fixture<P>;

    fn deref(&self) -> &Self::Target {
        &self.fixture
    }
}

impl<P: Provider> DerefMut for ServerFixture<P> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.fixture
    }
}

/// A process at `server`, which should run by the same clock.
pub async fn oauth2_fixture(server: &FakeAuthServer, clock: ManualClock) -> OAuth2Fixture {
    oauth2_fixture_with(provider_of(server), clock, MemoryStore::new()).await
}

pub async fn oauth2_fixture_with(
    provider: OAuth2,
    clock: ManualClock,
    store: MemoryStore,
) -> OAuth2Fixture {
    Fixture::start_at("oauth2", provider, &store, &clock).await
}

impl OAuth2Fixture {
    pub async fn sign_in(&self) -> Result<Establishment<OAuth2>, Error> {
        self.session.establish(Password::new("ada", "ok")).await
    }

    /// A new process on the same store, whose configuration names another server.
    pub async fn at(&self, server: &FakeAuthServer) -> Self {
        oauth2_fixture_with(provider_of(server), self.clock.clone(), self.store.clone()).await
    }
}

pub fn kind(outcome: Result<PermissionToken, Error>) -> ErrorKind {
    outcome.unwrap_err().kind()
}
