//! Keys, providers and time for all tests.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use session_warden::provider::oauth2::OAuth2;
use session_warden::testing::{FakeAuthServer, ManualClock, ScriptedProvider};
use session_warden::{Session, SessionKey, Supervisor};

pub const SECOND: Duration = Duration::from_secs(1);

/// How long the access tokens of a [`ScriptedFixture`](crate::fixtures::ScriptedFixture) live, unless
/// its script says otherwise.
pub const LIFE: Duration = Duration::from_secs(900);

pub fn session(supervisor: &Supervisor, name: &str) -> Session<ScriptedProvider> {
    supervisor.sessions("p").unwrap().session(key(name))
}

pub fn key(name: &str) -> SessionKey {
    SessionKey::new("tenant", name).unwrap()
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

/// A confidential client of this server.
pub fn provider_of(server: &FakeAuthServer) -> OAuth2 {
    let token = format!("{}/token", server.url());
    let provider = OAuth2::new(&token, "client").unwrap().client_secret_basic("secret");
    provider.revocation_endpoint(&format!("{}/revoke", server.url())).unwrap()
}
