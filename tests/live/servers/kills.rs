//! Servers that are killed and started again on their database.

use session_warden::error::{ExchangeOutcome, LostReason};
use session_warden::event::{EventKind, Events};
use session_warden::provider::oauth2::OAuth2;
use session_warden::session::State;
use session_warden::store::MemoryStore;
use session_warden::testing::ManualClock;
use session_warden::{ErrorKind, Session, Supervisor};

use crate::sessions::{SECOND, all, callers, happened, sessions, sign_in, split, supervised};
use crate::wsgi_peer::{Counts, Kind, WsgiPeer};

/// How long access tokens are valid, in seconds: longer than any of these tests takes.
const LIFETIME: u32 = 600;

const SESSIONS: usize = 10;
const EACH: u64 = SESSIONS as u64;

/// Established sessions at a server.
struct Fixture {
    peer: WsgiPeer,
    clock: ManualClock,
    store: MemoryStore,
    supervisor: Supervisor,
    events: Events,
    devices: Vec<Session<OAuth2>>,
}

impl Fixture {
    async fn start(kind: Kind) -> Self {
        let peer = WsgiPeer::start(kind, LIFETIME).await;
        let (clock, store) = (ManualClock::new(), MemoryStore::new());
        let supervisor = supervised(&store, peer.client()).clock(clock.clone()).start().await;
        let supervisor = supervisor.unwrap();
        let mut events = supervisor.subscribe();
        let devices = sessions(&supervisor, SESSIONS);
        for signed_in in all(callers(devices.clone(), async |s| sign_in(&s).await)).await {
            signed_in.unwrap();
        }
        assert_eq!(happened(&mut events), [const { EventKind::Established }; SESSIONS]);
        Self { peer, clock, store, supervisor, events, devices }
    }

    /// Puts another supervisor on the same store in the place of this one.
    async fn restart_supervisor(&mut self) {
        assert!(self.supervisor.shutdown(10 * SECOND).await.is_clean());
        let builder = supervised(&self.store, self.peer.client()).clock(self.clock.clone());
        self.supervisor = builder.start().await.unwrap();
        self.events = self.supervisor.subscribe();
        self.devices = sessions(&self.supervisor, SESSIONS);
    }

    /// Kills the server when it has done the refreshes of these sessions and answered none of them.
    async fn kill_in_the_middle_of_refreshes(&mut self, of: &[Session<OAuth2>]) {
        self.peer.delay_answers(60_000).await;
        let calls = callers(of.to_vec(), async |s| s.refresh().await);
        self.peer.until(|counts| counts.refreshes == of.len() as u64).await;
        self.peer.kill().await;
        for cut in all(calls).await {
            assert_eq!(cut.unwrap_err().kind(), ErrorKind::RetryLater);
        }
        for session in of {
            assert_eq!(session.status().await.unwrap().state, State::InDoubt);
        }
        let (of_sessions, of_server) = split(happened(&mut self.events));
        assert!(of_sessions.iter().all(|kind| *kind == EventKind::InDoubt), "{of_sessions:?}");
        assert_eq!(of_server, ["provider_unreachable"]);
    }

    async fn refresh_to(&self, sessions: &[Session<OAuth2>], generation: u64) {
        for token in all(callers(sessions.to_vec(), async |s| s.refresh().await)).await {
            let token = token.unwrap();
            assert_eq!((token.epoch(), token.generation()), (1, generation));
            assert!(self.peer.is_active(token.expose_secret()).await);
        }
    }
}

fn refreshes(refreshes: u64) -> Counts {
    Counts { token_requests: refreshes, refreshes, ..Counts::default() }
}

pub async fn sessions_outlive_a_killed_server_and_a_restart_of_this_side(kind: Kind) {
    let mut f = Fixture::start(kind).await;
    f.peer.kill().await;
    for refused in all(callers(f.devices.clone(), async |s| s.refresh().await)).await {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryLater);
        assert_eq!(error.outcome(), Some(ExchangeOutcome::NotSent));
    }
    let (events, of_server) = split(happened(&mut f.events));
    assert_eq!((events.len(), of_server), (SESSIONS, vec!["provider_unreachable"]));
    assert!(events.iter().all(|kind| matches!(kind, EventKind::BackingOff { .. })), "{events:?}");

    // It starts although the server is dead, and serves what is in the store.
    f.restart_supervisor().await;
    for token in all(callers(f.devices.clone(), async |s| s.permission_token().await)).await {
        assert_eq!(token.unwrap().generation(), 1);
    }
    f.clock.advance(2 * SECOND).await;
    for refused in all(callers(f.devices.clone(), async |s| s.refresh().await)).await {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::RetryLater);
    }
    happened(&mut f.events);

    f.peer.restart().await;
    f.clock.advance(5 * SECOND).await;
    f.refresh_to(&f.devices, 2).await;
    let (of_sessions, of_server) = split(happened(&mut f.events));
    assert_eq!(of_sessions, [const { EventKind::Refreshed }; SESSIONS]);
    assert_eq!(of_server, ["provider_recovered"]);
    assert_eq!(f.peer.counts().await, refreshes(EACH));
}

pub async fn sessions_that_a_killed_server_left_in_doubt_get_their_tokens_after_its_restart(
    kind: Kind,
) {
    let mut f = Fixture::start(kind).await;
    f.kill_in_the_middle_of_refreshes(&f.devices.clone()).await;
    f.restart_supervisor().await;
    f.peer.restart().await;
    // Longer than the back-off after the retries that the dead server refused.
    f.clock.advance(5 * SECOND).await;
    f.refresh_to(&f.devices, 2).await;
    assert_eq!(f.peer.counts().await, refreshes(EACH));
    f.refresh_to(&f.devices, 3).await;
    assert_eq!(f.peer.counts().await, refreshes(2 * EACH));
    // What the new supervisor learned of the server while it was dead is another test's matter.
    let of_sessions = split(happened(&mut f.events)).0;
    assert_eq!(of_sessions, [const { EventKind::Refreshed }; 2 * SESSIONS]);
}

pub async fn sessions_that_a_killed_server_left_in_doubt_are_lost_and_the_others_live_on(
    kind: Kind,
) {
    let mut f = Fixture::start(kind).await;
    let devices = f.devices.clone();
    let (doubtful, others) = devices.split_at(SESSIONS / 2);
    f.kill_in_the_middle_of_refreshes(doubtful).await;
    f.peer.restart().await;
    f.refresh_to(others, 2).await;
    for token in all(callers(doubtful.to_vec(), async |s| s.permission_token().await)).await {
        assert_eq!(token.unwrap().generation(), 1, "it has not expired");
    }
    assert_eq!(f.peer.counts().await, refreshes(EACH / 2), "no retry yet");
    happened(&mut f.events);

    f.clock.advance(LIFETIME * SECOND).await;
    for _ in 0..2 {
        let calls = callers(doubtful.to_vec(), async |s| s.permission_token().await);
        for lost in all(calls).await {
            let expected = ErrorKind::SignInAgain(LostReason::LostInDoubt);
            assert_eq!(lost.unwrap_err().kind(), expected);
        }
    }
    let lost = [const { EventKind::Lost(LostReason::LostInDoubt) }; SESSIONS / 2];
    let (of_sessions, of_server) = split(happened(&mut f.events));
    assert_eq!(of_sessions, lost);
    assert!(of_server.is_empty(), "too few sessions to blame the server: {of_server:?}");
    let expected = Counts {
        token_requests: EACH,
        refreshes: EACH / 2,
        refresh_errors: EACH / 2,
        ..Counts::default()
    };
    assert_eq!(f.peer.counts().await, expected, "one retry each");
    f.refresh_to(others, 3).await;
    for session in doubtful {
        sign_in(session).await.unwrap();
        assert_eq!(session.permission_token().await.unwrap().epoch(), 2);
    }
}
