//! A supervisor over a scripted provider, with time in the test's hand.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use session_warden::clock::Clock;
use session_warden::event::{Event, EventKind, Events};
use session_warden::policy::Policy;
use session_warden::provider::Registration;
use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::store::MemoryStore;
use session_warden::testing::{
    Chaos, FakeAuthServer, ManualClock, Reply, Script, ScriptedProvider,
};
use session_warden::transport::TransportConfig;
use session_warden::{Error, Establishment, PermissionToken, Session, SessionKey, Supervisor};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;

pub const SECOND: Duration = Duration::from_secs(1);

/// How long the tokens of a world live, unless its script says otherwise.
pub const LIFE: Duration = Duration::from_secs(900);

pub struct World {
    pub clock: ManualClock,
    pub supervisor: Supervisor,
    pub session: Session<ScriptedProvider>,
    pub script: Script,
    pub store: MemoryStore,
    pub events: Events,
}

/// A supervisor with one session that was never established.
pub async fn world() -> World {
    world_of(ScriptedProvider::new().lifetime(LIFE), Policy::default()).await
}

/// The same, established.
pub async fn established() -> World {
    let world = world().await;
    let _ = world.session.establish(()).await.unwrap();
    world
}

pub async fn world_of(provider: ScriptedProvider, policy: Policy) -> World {
    let script = provider.script();
    registered(provider.into(), script, policy).await
}

pub async fn registered(
    provider: Registration<ScriptedProvider>,
    script: Script,
    policy: Policy,
) -> World {
    let clock = ManualClock::new();
    let store = MemoryStore::new();
    let supervisor = Supervisor::builder()
        .clock(clock.clone())
        .store(store.clone())
        .policy(policy)
        .provider("p", provider)
        .start()
        .await
        .unwrap();
    let session = session(&supervisor, "device");
    let events = supervisor.subscribe();
    World { clock, supervisor, session, script, store, events }
}

pub fn session(supervisor: &Supervisor, name: &str) -> Session<ScriptedProvider> {
    supervisor.sessions("p").unwrap().session(key(name))
}

pub fn key(name: &str) -> SessionKey {
    SessionKey::new("tenant", name).unwrap()
}

impl World {
    pub fn chaos(&self) -> Chaos {
        Chaos::of(&self.supervisor)
    }

    pub fn clock_wall(&self) -> SystemTime {
        self.clock.now().wall
    }

    /// A refresh that is out, and stays so until the script lets it go.
    pub async fn held_refresh(&self) -> JoinHandle<Result<PermissionToken, Error>> {
        self.script.refresh(Reply::Hold);
        let session = self.session.clone();
        let refreshing = tokio::spawn(async move { session.refresh().await });
        self.script.held(1).await;
        refreshing
    }

    /// Runs `future` to its end while time goes on.
    pub async fn until<T>(&self, future: impl Future<Output = T>) -> T {
        until(&self.clock, future).await
    }

    /// What has happened so far and was not asked for yet.
    pub async fn happened(&mut self) -> Vec<EventKind> {
        happened(&self.clock, &mut self.events).await
    }
}

async fn happened(clock: &ManualClock, events: &mut Events) -> Vec<EventKind> {
    clock.advance(Duration::ZERO).await;
    let mut kinds = Vec::new();
    while let Some(Some(Event { kind, .. })) = events.next().now_or_never() {
        kinds.push(kind);
    }
    kinds
}

/// Runs `future` to its end while time goes on.
pub async fn until<T>(clock: &ManualClock, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..200_000 {
        tokio::select! {
            biased;
            done = &mut future => return done,
            () = clock.advance(Duration::from_millis(5)) => {}
        }
    }
    panic!("it does not end");
}

/// Spawns `count` callers of `call`, so that all of them ask at once.
pub fn callers<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    count: usize,
    call: impl Fn() -> F,
) -> tokio::task::JoinSet<T> {
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..count {
        set.spawn(call());
    }
    set
}

/// A supervisor over a standard OAuth 2.0 server.
pub struct OAuthWorld {
    pub clock: ManualClock,
    pub supervisor: Supervisor,
    pub session: Session<OAuth2>,
    pub store: MemoryStore,
    pub events: Events,
}

/// A supervisor over `server`, which should run by the same clock.
pub async fn oauth2(server: &FakeAuthServer, clock: ManualClock) -> OAuthWorld {
    oauth2_with(provider_of(server), clock, MemoryStore::new()).await
}

pub fn provider_of(server: &FakeAuthServer) -> OAuth2 {
    let token = format!("{}/token", server.url());
    let provider = OAuth2::new(&token, "client").unwrap().client_secret_basic("secret");
    provider.revocation_endpoint(&format!("{}/revoke", server.url())).unwrap()
}

pub async fn oauth2_with(provider: OAuth2, clock: ManualClock, store: MemoryStore) -> OAuthWorld {
    let supervisor = Supervisor::builder()
        .clock(clock.clone())
        .store(store.clone())
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("oauth2", provider)
        .start()
        .await
        .unwrap();
    let session = supervisor.sessions("oauth2").unwrap().session(key("device"));
    let events = supervisor.subscribe();
    OAuthWorld { clock, supervisor, session, store, events }
}

impl OAuthWorld {
    pub async fn sign_in(&self) -> Result<Establishment<OAuth2>, Error> {
        self.session.establish(Password::new("ada", "ok")).await
    }

    pub fn wall(&self) -> SystemTime {
        self.clock.now().wall
    }

    /// Runs `future` to its end while time goes on.
    pub async fn until<T>(&self, future: impl Future<Output = T>) -> T {
        until(&self.clock, future).await
    }

    /// What has happened so far and was not asked for yet.
    pub async fn happened(&mut self) -> Vec<EventKind> {
        happened(&self.clock, &mut self.events).await
    }

    /// A new process on the same store, whose configuration names another site.
    pub async fn at(&self, server: &FakeAuthServer) -> Self {
        oauth2_with(provider_of(server), self.clock.clone(), self.store.clone()).await
    }
}
