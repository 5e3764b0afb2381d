//! Responses that are lost after the server has spent the refresh token.

use session_warden::ErrorKind;
use session_warden::error::{ExchangeOutcome, LostReason};
use session_warden::event::EventKind;
use session_warden::provider::Rotation;
use session_warden::session::State;
use session_warden::store::MemoryStore;
use session_warden::testing::ManualClock;

use super::{SECOND, all, callers, client, event, handles, happened, session, sign_in, supervised};
use crate::oidc_peer::{Counts, OidcPeer, Options};

const LOST: ErrorKind = ErrorKind::SignInAgain(LostReason::LostInDoubt);

/// The waits of a doubt are long, so the supervisor's clock is the test's. The server has its own:
/// there the first access token lives on for the few seconds that this takes.
#[tokio::test]
async fn a_lost_answer_at_a_strict_server_is_tried_out_once_and_ends_in_one_loss_and_no_storm() {
    let peer = OidcPeer::start(Options { access_ttl_s: 20, ..Options::default() }).await;
    let clock = ManualClock::new();
    let builder = supervised(&MemoryStore::new(), client(&peer)).clock(clock.clone());
    let supervisor = builder.start().await.unwrap();
    let mut events = supervisor.subscribe();
    let session = session(&supervisor, "device");
    sign_in(&session).await.unwrap();
    let first = session.permission_token().await.unwrap();

    // At half of its life the token is due, and who asks first starts the refresh.
    peer.drop_next_answers(1).await;
    clock.advance(10 * SECOND).await;
    assert_eq!(session.permission_token().await.unwrap().generation(), 1);
    event(&mut events, |kind| *kind == EventKind::InDoubt).await;
    assert_eq!(session.status().await.unwrap().state, State::InDoubt);
    let spent = peer.counts().await;
    assert_eq!((spent.token_requests, spent.refreshes, spent.dropped), (2, 1, 1));

    // The current token is handed out while it is valid, and the server gets no request.
    clock.advance(9 * SECOND).await;
    for token in all(callers(handles(&session, 100), async |s| s.permission_token().await)).await {
        assert_eq!(token.unwrap().expose_secret(), first.expose_secret());
    }
    assert!(peer.introspect(first.expose_secret()).await);
    assert_eq!(session.refresh().await.unwrap_err().retry_after(), Some(11 * SECOND));

    // It has expired, and the first request may still run: the server gets no request either.
    clock.advance(SECOND).await;
    for early in all(callers(handles(&session, 100), async |s| s.permission_token().await)).await {
        let early = early.unwrap_err();
        assert_eq!(early.kind(), ErrorKind::RetryLater);
        assert_eq!(early.retry_after(), Some(10 * SECOND));
    }
    assert_eq!(peer.counts().await, spent);
    assert_eq!(happened(&mut events), []);

    // The one retry.
    clock.advance(10 * SECOND).await;
    for late in all(callers(handles(&session, 100), async |s| s.permission_token().await)).await {
        assert_eq!(late.unwrap_err().kind(), LOST);
    }
    clock.advance(3600 * SECOND).await;
    for late in all(callers(handles(&session, 100), async |s| s.permission_token().await)).await {
        assert_eq!(late.unwrap_err().kind(), LOST, "from memory");
    }
    assert_eq!(happened(&mut events), [EventKind::Lost(LostReason::LostInDoubt)]);
    let status = session.status().await.unwrap();
    assert_eq!((status.state, status.lost), (State::Lost, Some(LostReason::LostInDoubt)));
    let expected = Counts {
        token_requests: 3,
        established: 1,
        refreshes: 1,
        refresh_errors: 1,
        presented_again: 1,
        reuse_detected: 1,
        grants_revoked: 1,
        dropped: 1,
        ..Counts::default()
    };
    assert_eq!(peer.counts().await, expected);

    sign_in(&session).await.unwrap();
    let token = session.permission_token().await.unwrap();
    assert_eq!((token.epoch(), token.generation()), (2, 2));
    assert!(peer.introspect(token.expose_secret()).await);
}

/// The retry may revoke valid tokens, so the next process waits as long.
#[tokio::test]
async fn a_restart_in_doubt_does_not_bring_the_one_retry_forward() {
    let peer = OidcPeer::start(Options { access_ttl_s: 20, ..Options::default() }).await;
    let (clock, store) = (ManualClock::new(), MemoryStore::new());
    let start = async || {
        let supervisor = supervised(&store, client(&peer)).clock(clock.clone()).start().await;
        supervisor.unwrap()
    };
    let former = start().await;
    let mut events = former.subscribe();
    let before = session(&former, "device");
    sign_in(&before).await.unwrap();
    clock.advance(10 * SECOND).await;
    peer.drop_next_answers(1).await;
    before.permission_token().await.unwrap();
    event(&mut events, |kind| *kind == EventKind::InDoubt).await;
    assert!(former.shutdown(SECOND).await.is_clean());

    let next = start().await;
    let after = session(&next, "device");
    let known = after.status().await.unwrap();
    assert_eq!(
        (known.state, known.retry_at),
        (State::InDoubt, before.status().await.unwrap().retry_at)
    );
    clock.advance(9 * SECOND).await;
    assert!(peer.introspect(after.permission_token().await.unwrap().expose_secret()).await);
    clock.advance(SECOND).await;
    let early = after.permission_token().await.unwrap_err();
    assert_eq!((early.kind(), early.retry_after()), (ErrorKind::RetryLater, Some(10 * SECOND)));
    assert_eq!(peer.counts().await.token_requests, 2);

    clock.advance(10 * SECOND).await;
    assert_eq!(after.permission_token().await.unwrap_err().kind(), LOST);
    let counts = peer.counts().await;
    assert_eq!((counts.token_requests, counts.presented_again), (3, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_answer_at_a_server_with_an_overlap_is_asked_for_again_at_once_and_nobody_notices() {
    let options = Options { access_ttl_s: 600, overlap_s: 30, ..Options::default() };
    let peer = OidcPeer::start(options).await;
    let client = client(&peer).rotation(Rotation::Fork(30 * SECOND));
    let supervisor = supervised(&MemoryStore::new(), client).start().await.unwrap();
    let mut events = supervisor.subscribe();
    let session = session(&supervisor, "device");
    sign_in(&session).await.unwrap();

    // Held back, so that all callers are there before the answer could be.
    peer.delay_answers(300).await;
    peer.drop_next_answers(1).await;
    for token in all(callers(handles(&session, 100), async |s| s.refresh().await)).await {
        assert_eq!(token.unwrap().generation(), 2);
    }
    let token = session.permission_token().await.unwrap();
    assert!(peer.introspect(token.expose_secret()).await);
    assert_eq!(session.refresh().await.unwrap().generation(), 3, "its refresh token is good too");
    let expected = Counts {
        token_requests: 4,
        established: 1,
        refreshes: 3,
        presented_again: 1,
        dropped: 1,
        ..Counts::default()
    };
    assert_eq!(peer.counts().await, expected);
    let expected =
        [EventKind::Established, EventKind::InDoubt, EventKind::Refreshed, EventKind::Refreshed];
    assert_eq!(happened(&mut events), expected);
}

/// A grant is sent at most once: its user can give it again, and a code could not be used again.
#[tokio::test]
async fn a_grant_whose_answer_is_lost_is_not_sent_again_and_its_caller_is_told() {
    let peer = OidcPeer::start(Options::default()).await;
    let supervisor = supervised(&MemoryStore::new(), client(&peer)).start().await.unwrap();
    let session = session(&supervisor, "device");
    peer.drop_next_answers(1).await;
    let error = sign_in(&session).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RetryLater);
    assert_eq!(error.outcome(), Some(ExchangeOutcome::Ambiguous));
    assert_eq!(peer.counts().await.token_requests, 1);
    let error = session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEstablished);
    sign_in(&session).await.unwrap();
    assert!(peer.introspect(session.permission_token().await.unwrap().expose_secret()).await);
}
