//! Sessions at a real server.

mod device_logins;
mod doubt;
mod ends;
mod grants;
mod logins;
mod middleware;
mod quickstart;
mod refresh;

use std::future::Future;
use std::time::Duration;

use futures_util::FutureExt;
use session_warden::event::{Event, EventKind, Events};
use session_warden::provider::Registration;
use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::store::{MemoryStore, Store};
use session_warden::supervisor::SupervisorBuilder;
use session_warden::transport::TransportConfig;
use session_warden::{Error, Establishment, Session, SessionKey, Supervisor};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;

use crate::oidc_peer::{CLIENT_ID, CLIENT_SECRET, OidcPeer};
use crate::peer::in_time;

pub const SECOND: Duration = Duration::from_secs(1);

/// The name under which the peer's client is registered.
pub const PROVIDER: &str = "oidc";

/// The peer's client as a user configures it: only issuer, id and secret are known.
fn client(peer: &OidcPeer) -> OAuth2 {
    OAuth2::discover(peer.issuer(), CLIENT_ID).unwrap().client_secret_basic(CLIENT_SECRET)
}

/// A supervisor of that client, to be started.
pub fn supervised(
    store: &MemoryStore,
    client: impl Into<Registration<OAuth2>>,
) -> SupervisorBuilder {
    Supervisor::builder()
        .store(store.clone())
        .transport(TransportConfig::default().allow_loopback_http())
        .provider(PROVIDER, client)
}

pub fn session(supervisor: &Supervisor, name: &str) -> Session<OAuth2> {
    let key = SessionKey::new("tenant", name).unwrap();
    supervisor.sessions(PROVIDER).unwrap().session(key)
}

pub fn sessions(supervisor: &Supervisor, count: usize) -> Vec<Session<OAuth2>> {
    (0..count).map(|n| session(supervisor, &format!("device-{n}"))).collect()
}

/// The peer takes this of any user.
fn password() -> Password {
    Password::new("alice", "ok")
}

pub async fn sign_in(session: &Session<OAuth2>) -> Result<(), Error> {
    match session.establish(password()).await? {
        Establishment::Active(_) => Ok(()),
        Establishment::Challenge(never) => match never {},
    }
}

/// The session's refresh token, which only its store has.
async fn refresh_token(store: &MemoryStore, session: &Session<OAuth2>) -> String {
    let found = store.load(session.id()).await.unwrap().expect("the session was established");
    let credentials = found.record.credentials.expect("it has credentials");
    credentials.tokens().refresh_token().expect("a refresh token").expose_secret().to_owned()
}

/// Spawns `call` for each, so that all of them ask at once.
pub fn callers<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    sessions: impl IntoIterator<Item = Session<OAuth2>>,
    call: impl Fn(Session<OAuth2>) -> F,
) -> JoinSet<T> {
    sessions.into_iter().map(call).collect()
}

/// So many handles to one session.
pub fn handles(session: &Session<OAuth2>, count: usize) -> impl Iterator<Item = Session<OAuth2>> {
    std::iter::repeat_n(session.clone(), count)
}

/// What all of them got.
pub async fn all<T: 'static>(calls: JoinSet<T>) -> Vec<T> {
    in_time(calls.join_all()).await
}

/// Waits for an event of this kind; those before it are dropped.
pub async fn event(events: &mut Events, wanted: impl Fn(&EventKind) -> bool) -> Event {
    in_time(async {
        loop {
            let event = events.next().await.expect("the supervisor runs");
            if wanted(&event.kind) {
                return event;
            }
        }
    })
    .await
}

/// What has happened and was not asked for yet.
pub fn happened(events: &mut Events) -> Vec<EventKind> {
    std::iter::from_fn(|| events.next().now_or_never().flatten()).map(|event| event.kind).collect()
}

/// The events of sessions, and the names of those of the provider's server.
pub fn split(events: Vec<EventKind>) -> (Vec<EventKind>, Vec<&'static str>) {
    let is_of_server = |kind: &EventKind| kind.name().starts_with("provider_");
    let (of_server, of_sessions): (Vec<_>, Vec<_>) = events.into_iter().partition(is_of_server);
    (of_sessions, of_server.iter().map(EventKind::name).collect())
}
