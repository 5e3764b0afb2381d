//! N callers, one exchange.

use std::time::Duration;

use session_warden::testing::{Chaos, ManualClock, Reply, Script, ScriptedProvider};
use session_warden::{Session, SessionKey, Supervisor};

pub async fn start(provider: ScriptedProvider, clock: &ManualClock) -> Supervisor {
    Supervisor::builder().clock(clock.clone()).provider("p", provider).start().await.unwrap()
}

pub fn session(supervisor: &Supervisor, name: &str) -> Session<ScriptedProvider> {
    let key = SessionKey::new("tenant", name).unwrap();
    supervisor.sessions("p").unwrap().session(key)
}

async fn established() -> (ManualClock, Supervisor, Session<ScriptedProvider>, Script) {
    let clock = ManualClock::new();
    let provider = ScriptedProvider::new(()).lifetime(Duration::from_secs(900));
    let script = provider.script();
    let supervisor = start(provider, &clock).await;
    let session = session(&supervisor, "device");
    let _ = session.establish(()).await.unwrap();
    (clock, supervisor, session, script)
}

#[tokio::test]
async fn a_fresh_token_is_served_and_an_expired_one_is_refreshed_once() {
    let (clock, _supervisor, session, script) = established().await;
    assert_eq!(session.permission_token().await.unwrap().expose_secret(), "access-1");
    clock.advance(Duration::from_secs(901)).await;
    assert_eq!(session.permission_token().await.unwrap().expose_secret(), "access-2");
    assert_eq!(script.refreshes(), 1);
}

#[tokio::test]
async fn many_callers_share_one_refresh_though_every_actor_is_killed() {
    let (clock, supervisor, session, script) = established().await;
    clock.advance(Duration::from_secs(901)).await;
    script.refresh(Reply::Hold);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let session = session.clone();
        callers.spawn(async move { session.permission_token().await.unwrap().generation() });
    }
    script.held(1).await;
    let _ = Chaos::of(&supervisor).kill_session(session.id());
    assert!(Chaos::of(&supervisor).kill_supervisor());
    script.release();
    let served = until(&clock, async move {
        let mut served = 0;
        while let Some(generation) = callers.join_next().await {
            assert_eq!(generation.unwrap(), 2);
            served += 1;
        }
        served
    });
    assert_eq!((served.await, script.refreshes()), (10_000, 1));
}

/// Runs `future` to its end while time goes on.
pub async fn until<T>(clock: &ManualClock, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    for _ in 0..100_000 {
        tokio::select! {
            biased;
            done = &mut future => return done,
            () = clock.advance(Duration::from_millis(5)) => {}
        }
    }
    panic!("it does not end");
}
