//! A supervisor over a scripted provider, with time in the test's hand.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use session_warden::event::{Event, EventKind, Events};
use session_warden::policy::Policy;
use session_warden::provider::Registration;
use session_warden::store::MemoryStore;
use session_warden::testing::{Chaos, ManualClock, Script, ScriptedProvider};
use session_warden::{Session, SessionKey, Supervisor};
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

    /// Runs `future` to its end while time goes on.
    pub async fn until<T>(&self, future: impl Future<Output = T>) -> T {
        until(&self.clock, future).await
    }

    /// What has happened so far and was not asked for yet.
    pub async fn happened(&mut self) -> Vec<EventKind> {
        self.clock.advance(Duration::ZERO).await;
        let mut kinds = Vec::new();
        while let Some(Some(Event { kind, .. })) =
            futures_util::FutureExt::now_or_never(self.events.next())
        {
            kinds.push(kind);
        }
        kinds
    }
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
