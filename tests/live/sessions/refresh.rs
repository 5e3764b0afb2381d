//! Refreshes: one for all callers, even if callers are dropped or actors crash.

use session_warden::event::EventKind;
use session_warden::policy::{Policy, Restarts};
use session_warden::store::MemoryStore;
use session_warden::testing::{Chaos, ManualClock};
use session_warden::{Session, Supervisor};

use super::{
    OAuth2, SECOND, all, callers, client, event, handles, session, sessions, sign_in, supervised,
};
use crate::oidc_peer::{Counts, OidcPeer, Options};

/// In real time. The token lives long enough for a machine that stands still for some seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_200_callers_at_expiry_one_refreshes_and_all_get_its_token() {
    let peer = OidcPeer::start(Options { access_ttl_s: 8, ..Options::default() }).await;
    // The end of a refresh token is told when half of its life is over. That is the timer of this
    // test: by then the access token has expired, and nobody has asked for another.
    let client = client(&peer).refresh_lifetime(17 * SECOND);
    let supervisor = supervised(&MemoryStore::new(), client).start().await.unwrap();
    let mut events = supervisor.subscribe();
    let session = session(&supervisor, "device");
    sign_in(&session).await.unwrap();
    let first = session.permission_token().await.unwrap();
    event(&mut events, |kind| matches!(kind, EventKind::RefreshExpiring { .. })).await;
    assert!(!peer.introspect(first.expose_secret()).await);
    one_refresh_for_200_callers(&peer, &session, 1).await;
}

/// The same again and again, in time that the test moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_every_expiry_one_of_200_callers_refreshes() {
    let peer = OidcPeer::start(Options { access_ttl_s: 60, ..Options::default() }).await;
    let clock = ManualClock::new();
    let builder = supervised(&MemoryStore::new(), client(&peer)).clock(clock.clone());
    let supervisor = builder.start().await.unwrap();
    let session = session(&supervisor, "device");
    sign_in(&session).await.unwrap();
    for expiry in 1..=20 {
        clock.advance(60 * SECOND).await;
        one_refresh_for_200_callers(&peer, &session, expiry).await;
    }
    let token = session.permission_token().await.unwrap();
    assert!(peer.introspect(token.expose_secret()).await);
}

async fn one_refresh_for_200_callers(peer: &OidcPeer, session: &Session<OAuth2>, expiry: u64) {
    assert!(session.try_permission_token().is_none(), "it has expired");
    let tokens = callers(handles(session, 200), async |s| s.permission_token().await);
    for token in all(tokens).await {
        assert_eq!(token.unwrap().generation(), expiry + 1);
    }
    let expected = Counts {
        token_requests: expiry + 1,
        established: 1,
        refreshes: expiry,
        ..Counts::default()
    };
    assert_eq!(peer.counts().await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killing_session_actors_and_the_supervisor_actor_in_the_middle_of_exchanges_loses_nothing()
{
    const SESSIONS: usize = 50;
    const ROUNDS: u64 = 16;
    let peer = OidcPeer::start(Options { access_ttl_s: 600, ..Options::default() }).await;
    // No session is quarantined, however often its actor is killed.
    let restarts = Restarts { intensity: u32::MAX, ..Restarts::default() };
    let policy = Policy { restarts, events: 1 << 16, ..Policy::default() };
    let builder = supervised(&MemoryStore::new(), client(&peer)).policy(policy);
    let supervisor = builder.start().await.unwrap();
    let devices = sessions(&supervisor, SESSIONS);
    let each = SESSIONS as u64;
    peer.delay_answers(150).await;
    let mut killed = Killed::default();

    let established = callers(devices.clone(), async |s| sign_in(&s).await);
    peer.until(|counts| counts.established >= each / 2).await;
    killed.all(&supervisor, &devices, true).await;
    all(established).await.into_iter().for_each(Result::unwrap);

    for round in 0..ROUNDS {
        let refreshed = callers(devices.clone(), async |s| s.refresh().await);
        // In each round at another stage: first when nothing is sent, last when all is committed
        // at the server and every answer is still to come.
        let stage = each * round + each * round / (ROUNDS - 1);
        peer.until(|counts| counts.refreshes >= stage).await;
        killed.all(&supervisor, &devices, round % 2 == 0).await;
        for token in all(refreshed).await {
            assert_eq!(token.unwrap().generation(), round + 2);
        }
    }

    for session in &devices {
        let token = session.permission_token().await.unwrap();
        assert!(peer.introspect(token.expose_secret()).await);
    }
    let expected = Counts {
        token_requests: each * (ROUNDS + 1),
        established: each,
        refreshes: each * ROUNDS,
        ..Counts::default()
    };
    assert_eq!(peer.counts().await, expected, "nothing came twice");
    assert!(killed.in_the_middle > each * ROUNDS / 4, "{killed:?}");
    assert!(killed.actors > each, "{killed:?}");
    assert_eq!(killed.supervisors, ROUNDS / 2 + 1);
}

#[derive(Debug, Default)]
struct Killed {
    actors: u64,
    supervisors: u64,
    /// Exchanges that ran at that moment.
    in_the_middle: u64,
}

impl Killed {
    async fn all(
        &mut self,
        supervisor: &Supervisor,
        sessions: &[Session<OAuth2>],
        with_supervisor: bool,
    ) {
        let chaos = Chaos::of(supervisor);
        let mut events = supervisor.subscribe();
        self.in_the_middle += supervisor.snapshot().exchanging as u64;
        for session in sessions {
            self.actors += u64::from(chaos.kill_session(session.id()));
        }
        if with_supervisor {
            assert!(chaos.kill_supervisor(), "it has come back since it was last killed");
            self.supervisors += 1;
            event(&mut events, |kind| *kind == EventKind::SupervisorRestarted).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shutdown_in_the_middle_of_refreshes_keeps_all_for_the_next_supervisor() {
    const SESSIONS: usize = 20;
    let peer = OidcPeer::start(Options { access_ttl_s: 600, ..Options::default() }).await;
    let store = MemoryStore::new();
    let supervisor = supervised(&store, client(&peer)).start().await.unwrap();
    let devices = sessions(&supervisor, SESSIONS);
    for session in &devices {
        sign_in(session).await.unwrap();
    }
    // Longer than the server needs for all of them.
    peer.delay_answers(1500).await;
    let refreshed = callers(devices, async |s| s.refresh().await);
    peer.until(|counts| counts.refreshes == SESSIONS as u64).await;
    assert_eq!(supervisor.snapshot().exchanging, SESSIONS, "the server has done it all");

    let report = supervisor.shutdown(10 * SECOND).await;
    assert!(report.is_clean(), "{report:?}");
    for token in all(refreshed).await {
        assert_eq!(token.unwrap().generation(), 2, "who waited has got it");
    }

    peer.delay_answers(0).await;
    let successor = supervised(&store, client(&peer)).start().await.unwrap();
    for session in sessions(&successor, SESSIONS) {
        let token = session.permission_token().await.unwrap();
        assert_eq!((token.epoch(), token.generation()), (1, 2));
        assert!(peer.introspect(token.expose_secret()).await);
        assert_eq!(session.refresh().await.unwrap().generation(), 3);
    }
    let expected =
        Counts { token_requests: 60, established: 20, refreshes: 40, ..Counts::default() };
    assert_eq!(peer.counts().await, expected);
}
