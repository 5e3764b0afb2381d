//! Answers that are lost after the server has spent the refresh token.

use http::{Response, StatusCode};
use session_warden::error::LostReason;
use session_warden::event::{EventKind, Events};
use session_warden::provider::oauth2::OAuth2;
use session_warden::session::{State, Verdict};
use session_warden::store::MemoryStore;
use session_warden::testing::ManualClock;
use session_warden::{ErrorKind, Session, Supervisor};

use crate::sessions::{SECOND, all, callers, handles, happened, session, sign_in, supervised};
use crate::wsgi_peer::{Counts, Kind, WsgiPeer};

/// The waits of a doubt are long, so the supervisor's clock is the test's; the server has its own.
struct InDoubt {
    peer: WsgiPeer,
    clock: ManualClock,
    _supervisor: Supervisor,
    events: Events,
    session: Session<OAuth2>,
}

impl InDoubt {
    /// A session whose access token is valid for 60 s, and whose refresh has just got no answer.
    async fn start(kind: Kind) -> Self {
        let peer = WsgiPeer::start(kind, 60).await;
        let clock = ManualClock::new();
        let builder = supervised(&MemoryStore::new(), peer.client()).clock(clock.clone());
        let supervisor = builder.start().await.unwrap();
        let mut events = supervisor.subscribe();
        let session = session(&supervisor, "device");
        sign_in(&session).await.unwrap();
        peer.drop_next_answers(1).await;
        let error = session.refresh().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryLater);
        // 10 s before the access token expires.
        assert_eq!(error.retry_after(), Some(50 * SECOND));
        assert_eq!(happened(&mut events), [EventKind::Established, EventKind::InDoubt]);
        let expected = Counts {
            token_requests: 2,
            established: 1,
            refreshes: 1,
            dropped: 1,
            ..Counts::default()
        };
        assert_eq!(peer.counts().await, expected);
        Self { peer, clock, _supervisor: supervisor, events, session }
    }

    /// So many callers ask for a token, and the server gets no request.
    async fn nothing_is_sent_for_100_callers(&self) {
        let before = self.peer.counts().await;
        let calls = callers(handles(&self.session, 100), async |s| s.permission_token().await);
        for token in all(calls).await {
            assert_eq!(token.unwrap().generation(), 1);
        }
        assert_eq!(self.peer.counts().await, before);
        assert_eq!(self.session.status().await.unwrap().state, State::InDoubt);
    }

    /// One retry is sent for all callers, now and later, and the session is lost.
    async fn one_retry_ends_it(mut self) {
        for _ in 0..2 {
            let calls = callers(handles(&self.session, 100), async |s| s.permission_token().await);
            for late in all(calls).await {
                let lost = ErrorKind::SignInAgain(LostReason::LostInDoubt);
                assert_eq!(late.unwrap_err().kind(), lost);
            }
            self.clock.advance(3600 * SECOND).await;
        }
        assert_eq!(happened(&mut self.events), [EventKind::Lost(LostReason::LostInDoubt)]);
        let expected = Counts {
            token_requests: 3,
            established: 1,
            refreshes: 1,
            refresh_errors: 1,
            presented_again: 1,
            dropped: 1,
        };
        assert_eq!(self.peer.counts().await, expected);

        sign_in(&self.session).await.unwrap();
        let token = self.session.permission_token().await.unwrap();
        assert_eq!(token.epoch(), 2);
        assert!(self.peer.is_active(token.expose_secret()).await);
    }
}

pub async fn after_a_lost_answer_one_retry_comes_late_and_ends_in_one_loss(kind: Kind) {
    let doubt = InDoubt::start(kind).await;
    for _ in 0..2 {
        doubt.nothing_is_sent_for_100_callers().await;
        doubt.clock.advance(24 * SECOND).await;
    }
    let early = doubt.session.refresh().await.unwrap_err();
    assert_eq!((early.kind(), early.retry_after()), (ErrorKind::RetryLater, Some(2 * SECOND)));
    doubt.nothing_is_sent_for_100_callers().await;
    // Now the access token has expired.
    doubt.clock.advance(12 * SECOND).await;
    doubt.one_retry_ends_it().await;
}

/// The lost refresh has ended the access token.
pub async fn an_api_that_rejects_the_token_brings_the_retry_forward_but_not_too_early(kind: Kind) {
    let doubt = InDoubt::start(kind).await;
    let token = doubt.session.permission_token().await.unwrap();
    assert!(!doubt.peer.is_active(token.expose_secret()).await);
    let response = Response::builder()
        .status(StatusCode::UNAUTHORIZED)
        .header("www-authenticate", "Bearer error=\"invalid_token\"");
    let (response, ()) = response.body(()).unwrap().into_parts();
    assert_eq!(doubt.session.rejected(&token, &response, b""), Verdict::Retry);
    let before = doubt.peer.counts().await;
    // The first request may still run.
    doubt.clock.advance(19 * SECOND).await;
    let early = doubt.session.permission_token().await.unwrap_err();
    assert_eq!((early.kind(), early.retry_after()), (ErrorKind::RetryLater, Some(SECOND)));
    assert_eq!(doubt.peer.counts().await, before);
    doubt.clock.advance(SECOND).await;
    doubt.one_retry_ends_it().await;
}

pub async fn after_a_lost_answer_the_retry_gets_the_same_tokens_and_no_caller_notices(kind: Kind) {
    let peer = WsgiPeer::start(kind, 60).await;
    let supervisor = supervised(&MemoryStore::new(), peer.client()).start().await.unwrap();
    let mut events = supervisor.subscribe();
    let session = session(&supervisor, "device");
    sign_in(&session).await.unwrap();

    // Held back, so that all callers are there before the answer could be.
    peer.delay_answers(500).await;
    peer.drop_next_answers(1).await;
    for token in all(callers(handles(&session, 100), async |s| s.refresh().await)).await {
        assert_eq!(token.unwrap().generation(), 2);
    }
    let token = session.permission_token().await.unwrap();
    assert!(peer.is_active(token.expose_secret()).await);
    peer.delay_answers(0).await;
    let next = session.refresh().await.unwrap();
    assert_eq!(next.generation(), 3, "the refresh token of the replay is good too");
    assert!(peer.is_active(next.expose_secret()).await);
    let expected = Counts {
        token_requests: 4,
        established: 1,
        refreshes: 3,
        refresh_errors: 0,
        presented_again: 1,
        dropped: 1,
    };
    assert_eq!(peer.counts().await, expected);
    let expected =
        [EventKind::Established, EventKind::InDoubt, EventKind::Refreshed, EventKind::Refreshed];
    assert_eq!(happened(&mut events), expected);
}
