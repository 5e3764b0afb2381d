//! A client whose secret the server does not accept.

use session_warden::event::{EventKind, Events};
use session_warden::provider::oauth2::OAuth2;
use session_warden::store::MemoryStore;
use session_warden::supervisor::Sessions;
use session_warden::testing::ManualClock;
use session_warden::{ErrorKind, Session};

use crate::sessions::{
    PROVIDER, SECOND, all, callers, happened, sessions, sign_in, split, supervised,
};
use crate::wsgi_peer::{CLIENT_SECRET, Counts, Kind, WsgiPeer};

const SESSIONS: usize = 20;
const EACH: u64 = SESSIONS as u64;

/// The interval at which a rejected client is tried again.
const PROBE: u32 = 60;

/// The secret is changed at the server, and changed back there; then it is changed again, and this
/// time here too.
pub async fn a_wrong_client_secret_is_reported_once_and_heals_and_no_session_is_lost(kind: Kind) {
    let peer = WsgiPeer::start(kind, 600).await;
    let clock = ManualClock::new();
    let builder = supervised(&MemoryStore::new(), peer.client()).clock(clock.clone());
    let supervisor = builder.start().await.unwrap();
    let devices = sessions(&supervisor, SESSIONS);
    for signed_in in all(callers(devices.clone(), async |s| sign_in(&s).await)).await {
        signed_in.unwrap();
    }
    let mut events = supervisor.subscribe();
    happened(&mut events);

    peer.set_client_secret("new").await;
    is_rejected(&devices, &mut events).await;
    let rejected = peer.counts().await;
    assert_eq!(rejected.refreshes, 0);
    refresh_all(&devices).await.into_iter().for_each(|outcome| assert!(outcome.is_err()));
    assert_eq!(peer.counts().await, rejected, "the client is not tried before the probe");
    for session in &devices {
        assert_eq!(session.permission_token().await.unwrap().generation(), 1);
    }

    peer.set_client_secret(CLIENT_SECRET).await;
    // One session is the probe. Then the wait of those that were kept out during it ends.
    clock.advance(PROBE * SECOND).await;
    let healed = refresh_all(&devices).await.into_iter().filter(Result::is_ok).count();
    assert!(healed >= 1);
    clock.advance(PROBE * SECOND).await;
    refresh_all(&devices).await.into_iter().for_each(Result::unwrap);
    assert_eq!(peer.counts().await.refreshes, healed as u64 + EACH);
    let (of_sessions, of_server) = split(happened(&mut events));
    assert!(of_sessions.iter().all(|kind| *kind == EventKind::Refreshed), "{of_sessions:?}");
    assert_eq!(of_server, ["provider_recovered"]);

    peer.set_client_secret("new").await;
    is_rejected(&devices, &mut events).await;
    let all: Sessions<OAuth2> = supervisor.sessions(PROVIDER).unwrap();
    all.replace(peer.client().client_secret_basic("new")).await.unwrap();
    refresh_all(&devices).await.into_iter().for_each(Result::unwrap);
    let (of_sessions, of_server) = split(happened(&mut events));
    assert_eq!(of_sessions, [const { EventKind::Refreshed }; SESSIONS]);
    assert_eq!(of_server, ["provider_recovered"]);
    let expected =
        Counts { refreshes: healed as u64 + 2 * EACH, established: EACH, ..peer.counts().await };
    assert_eq!(peer.counts().await, expected);
}

/// All callers get that the client is rejected, and one event says it.
async fn is_rejected(devices: &[Session<OAuth2>], events: &mut Events) {
    for outcome in refresh_all(devices).await {
        assert_eq!(outcome.unwrap_err(), ErrorKind::Misconfigured);
    }
    let happened = happened(events);
    assert!(matches!(&happened[..], [EventKind::ProviderRejecting(_)]), "{happened:?}");
}

async fn refresh_all(devices: &[Session<OAuth2>]) -> Vec<Result<(), ErrorKind>> {
    let refresh = async |session: Session<OAuth2>| {
        session.refresh().await.map(drop).map_err(|error| error.kind())
    };
    all(callers(devices.to_vec(), refresh)).await
}
