//! Slow servers: a slow response is not a lost response.

use std::time::Duration;

use session_warden::error::ExchangeOutcome;
use session_warden::event::EventKind;
use session_warden::policy::{Backoff, Policy, ProviderLimits, SLOW_AFTER, SLOW_RETRY};
use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::provider::{FailureClass, Registration};
use session_warden::session::State;
use session_warden::testing::{
    Endpoint, FakeAuthServer, Fault, ManualClock, Reply, ScriptedProvider,
};
use session_warden::transport::TransportConfig;
use session_warden::{Error, ErrorKind, PermissionToken, Session, Supervisor};
use tokio::task::{JoinHandle, JoinSet};

use crate::fixtures::{OAuth2Fixture, fixture_of, oauth2_fixture, registered};
use crate::support::{LIFE, SECOND, key, provider_of, session, until};

/// A session that is signed in at a server that rotates strictly, by one clock.
async fn signed_in() -> (FakeAuthServer, OAuth2Fixture) {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock.clone()).start().await.unwrap();
    let fixture = oauth2_fixture(&server, clock).await;
    let _ = fixture.sign_in().await.unwrap();
    (server, fixture)
}

/// A refresh whose answer the server keeps.
async fn held_refresh(
    server: &FakeAuthServer,
    fixture: &OAuth2Fixture,
) -> JoinHandle<Result<PermissionToken, Error>> {
    server.fail_next(Endpoint::RefreshToken, Fault::HoldUntilReleased);
    let session = fixture.session.clone();
    let refreshing = tokio::spawn(async move { session.refresh().await });
    server.held(1).await;
    refreshing
}

/// The server took the refresh token at once, so that a second request would end the session.
#[tokio::test]
async fn a_late_answer_is_taken_and_its_session_lives() {
    for late in [4, 6, 12, 45] {
        let (server, mut fixture) = signed_in().await;
        let refreshing = held_refresh(&server, &fixture).await;
        let old = fixture.session.try_permission_token().unwrap();
        fixture.session.invalidate(&old);
        fixture.clock.advance(late * SECOND).await;
        if late < 30 {
            assert_eq!(fixture.session.status().await.unwrap().state, State::Refreshing);
            server.release();
            assert_eq!(refreshing.await.unwrap().unwrap().generation(), 2, "{late} s");
        } else {
            assert_eq!(refreshing.await.unwrap().unwrap_err().kind(), ErrorKind::RetryLater);
            assert_eq!(fixture.session.status().await.unwrap().state, State::Refreshing);
            server.release();
        }
        let token = fixture.until(fixture.session.permission_token()).await.unwrap();
        assert_eq!((token.generation(), server.refreshes()), (2, 1), "{late} s");
        assert!(server.is_active(token.expose_secret()));
        assert_eq!(fixture.happened().await, [EventKind::Established, EventKind::Refreshed]);
        // Its tokens can be refreshed in turn.
        assert_eq!(fixture.session.refresh().await.unwrap().generation(), 3);
        assert_eq!((server.presented_twice(), server.reuses_detected()), (0, 0));
    }
}

#[tokio::test]
async fn while_an_answer_is_late_callers_get_the_token_in_hand() {
    let (server, fixture) = signed_in().await;
    let refreshing = held_refresh(&server, &fixture).await;
    for _ in 0..45 {
        fixture.clock.advance(SECOND).await;
        assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 1);
    }
    assert_eq!(refreshing.await.unwrap().unwrap().generation(), 1, "its time was over");
    server.release();
    let token = fixture.until(fixture.session.refresh()).await.unwrap();
    assert_eq!((token.generation(), server.refreshes()), (2, 1));
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_its_time_is_lost() {
    let (server, mut fixture) = signed_in().await;
    drop(held_refresh(&server, &fixture).await);
    fixture.clock.advance(Policy::default().answer_timeout - Duration::from_millis(1)).await;
    assert_eq!(fixture.session.status().await.unwrap().state, State::Refreshing);
    fixture.clock.advance(Duration::from_millis(1)).await;
    assert_eq!(fixture.happened().await, [EventKind::Established, EventKind::InDoubt]);
    assert_eq!(fixture.session.status().await.unwrap().state, State::InDoubt);
    assert_eq!(server.refreshes(), 1);
}

/// Forty sessions at a server that is slow for all of them: each is refreshed once.
#[tokio::test]
async fn a_slow_server_costs_none_of_many_sessions() {
    const SESSIONS: usize = 40;
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock.clone()).start().await.unwrap();
    let limits = ProviderLimits { exchanges: 16, ..ProviderLimits::default() };
    let supervisor = Supervisor::builder()
        .clock(clock.clone())
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("oauth2", Registration::new(provider_of(&server)).limits(limits))
        .start()
        .await
        .unwrap();
    let all = supervisor.sessions("oauth2").unwrap();
    let sessions: Vec<Session<OAuth2>> =
        (0..SESSIONS).map(|n| all.session(key(&format!("device-{n}")))).collect();
    for session in &sessions {
        let _ = session.establish(Password::new("ada", "ok")).await.unwrap();
    }
    server.fail_always(Endpoint::RefreshToken, Some(Fault::HoldUntilReleased));
    let mut refreshing = JoinSet::new();
    for session in &sessions {
        let session = session.clone();
        refreshing.spawn(async move { session.refresh().await.map(|token| token.generation()) });
    }
    // The slow ones make room: 16 at once, 16 after 10 s, 8 after 20 s.
    until(&clock, server.held(SESSIONS)).await;
    server.fail_always(Endpoint::RefreshToken, None);
    server.release();
    let generations = until(&clock, refreshing.join_all()).await;
    assert!(generations.into_iter().all(|generation| generation.unwrap() == 2));
    let sent_again = (server.presented_twice(), server.reuses_detected());
    assert_eq!((server.refreshes(), sent_again), (SESSIONS as u64, (0, 0)));
    assert_eq!(server.live_grants(), SESSIONS);
}

#[tokio::test]
async fn nothing_new_is_sent_while_too_many_requests_are_slow() {
    let limits = ProviderLimits { exchanges: 1, slow_requests: 1, ..ProviderLimits::default() };
    let provider = ScriptedProvider::new().lifetime(LIFE);
    let script = provider.script();
    let provider = Registration::new(provider).limits(limits);
    let fixture = registered(provider, script, Policy::default()).await;
    let other = session(&fixture.supervisor, "other");
    let _ = fixture.session.establish(()).await.unwrap();
    let _ = other.establish(()).await.unwrap();
    let refreshing = fixture.held_refresh().await;
    fixture.clock.advance(SLOW_AFTER).await;
    let error = other.refresh().await.unwrap_err();
    let seen = (error.kind(), error.outcome());
    assert_eq!(seen, (ErrorKind::RetryLater, Some(ExchangeOutcome::NotSent)));
    assert_eq!((error.retry_after(), fixture.script.refreshes()), (Some(SLOW_RETRY), 1));
    // Its token is served, and its user may sign in when there is room again.
    assert_eq!(other.permission_token().await.unwrap().generation(), 1);
    assert_eq!(other.establish(()).await.unwrap_err().kind(), ErrorKind::RetryLater);
    fixture.script.release();
    assert_eq!(refreshing.await.unwrap().unwrap().generation(), 2);
    fixture.clock.advance(SLOW_RETRY).await;
    assert_eq!(other.refresh().await.unwrap().generation(), 2);
}

#[tokio::test]
async fn the_lifetimes_of_a_late_answer_count_from_its_sending() {
    let (server, fixture) = signed_in().await;
    server.set_access_lifetime(100 * SECOND);
    fixture.clock.advance(3 * SECOND).await;
    let sent = fixture.wall();
    let refreshing = held_refresh(&server, &fixture).await;
    fixture.clock.advance(25 * SECOND).await;
    server.release();
    let token = refreshing.await.unwrap().unwrap();
    assert_eq!(token.expires_at(), Some(sent + 100 * SECOND));
}

#[tokio::test]
async fn a_token_that_lives_shorter_than_its_answer_took_is_used_at_least_once() {
    for (life, late) in [(5, 6), (10, 25), (6, 6)] {
        let (server, fixture) = signed_in().await;
        server.set_access_lifetime(life * SECOND);
        let refreshing = held_refresh(&server, &fixture).await;
        fixture.clock.advance(late * SECOND).await;
        server.release();
        let token = refreshing.await.unwrap().unwrap();
        assert_eq!(token.expires_at(), Some(fixture.wall() + SECOND), "{life} s");
        assert_eq!(
            fixture.session.permission_token().await.unwrap().generation(),
            token.generation()
        );
        fixture.clock.advance(SECOND / 2 - Duration::from_millis(1)).await;
        assert_eq!(
            fixture.session.permission_token().await.unwrap().generation(),
            token.generation()
        );
        assert_eq!(server.refreshes(), 1, "it is not due yet");
        fixture.clock.advance(SECOND).await;
        let next = fixture.session.permission_token().await.unwrap();
        assert_eq!((next.generation(), server.refreshes()), (3, 2));
    }
}

/// Three failures, then a success whose token lives for a second: the next refresh waits as long as
/// after the failures.
#[tokio::test]
async fn a_token_that_hardly_lives_does_not_end_the_back_off() {
    let wait = 100 * SECOND;
    let policy = Policy { backoff: Backoff { base: wait, cap: wait }, ..Policy::default() };
    let fixture = fixture_of(ScriptedProvider::new().lifetime(5 * SECOND), policy).await;
    let _ = fixture.session.establish(()).await.unwrap();
    fixture.clock.advance(6 * SECOND).await;
    fixture.script.refresh(Reply::Fail(FailureClass::NotProcessed));
    fixture.session.permission_token().await.unwrap_err();
    fixture.clock.advance(wait).await;

    fixture.script.refresh(Reply::Hold);
    let asking = fixture.session.clone();
    let refreshing = tokio::spawn(async move { asking.permission_token().await });
    fixture.script.held(1).await;
    fixture.clock.advance(6 * SECOND).await;
    fixture.script.release();
    let token = refreshing.await.unwrap().unwrap();
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), token.generation());
    fixture.clock.advance(2 * SECOND).await;
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!((error.kind(), fixture.script.refreshes()), (ErrorKind::RetryLater, 2));
    assert!(error.retry_after().unwrap() <= wait);
    fixture.clock.advance(wait).await;
    // This one is as usual, and ends it.
    assert!(fixture.session.permission_token().await.unwrap().generation() > token.generation());
    fixture.clock.advance(6 * SECOND).await;
    fixture.session.permission_token().await.unwrap();
    assert_eq!(fixture.script.refreshes(), 4);
}
