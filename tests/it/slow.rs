//! Servers that take long to answer: a slow answer is not a lost one.

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

use crate::support::{
    LIFE, OAuthWorld, SECOND, key, oauth2, provider_of, registered, session, until, world_of,
};

/// A session that is signed in at a server that rotates strictly, by one clock.
async fn signed_in() -> (FakeAuthServer, OAuthWorld) {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock.clone()).start().await.unwrap();
    let world = oauth2(&server, clock).await;
    let _ = world.sign_in().await.unwrap();
    (server, world)
}

/// A refresh whose answer the server keeps.
async fn held_refresh(
    server: &FakeAuthServer,
    world: &OAuthWorld,
) -> JoinHandle<Result<PermissionToken, Error>> {
    server.fail_next(Endpoint::RefreshToken, Fault::HoldUntilReleased);
    let session = world.session.clone();
    let refreshing = tokio::spawn(async move { session.refresh().await });
    server.held(1).await;
    refreshing
}

/// The server took the refresh token at once, so that a second request would end the session.
#[tokio::test]
async fn a_late_answer_is_taken_and_its_session_lives() {
    for late in [4, 6, 12, 45] {
        let (server, mut world) = signed_in().await;
        let refreshing = held_refresh(&server, &world).await;
        let old = world.session.try_permission_token().unwrap();
        world.session.invalidate(&old);
        world.clock.advance(late * SECOND).await;
        if late < 30 {
            assert_eq!(world.session.status().await.unwrap().state, State::Refreshing);
            server.release();
            assert_eq!(refreshing.await.unwrap().unwrap().generation(), 2, "{late} s");
        } else {
            assert_eq!(refreshing.await.unwrap().unwrap_err().kind(), ErrorKind::RetryLater);
            assert_eq!(world.session.status().await.unwrap().state, State::Refreshing);
            server.release();
        }
        let token = world.until(world.session.permission_token()).await.unwrap();
        assert_eq!((token.generation(), server.refreshes()), (2, 1), "{late} s");
        assert!(server.is_active(token.expose_secret()));
        assert_eq!(world.happened().await, [EventKind::Established, EventKind::Refreshed]);
        // What it brought can be refreshed in turn.
        assert_eq!(world.session.refresh().await.unwrap().generation(), 3);
        assert_eq!((server.presented_twice(), server.reuses_detected()), (0, 0));
    }
}

#[tokio::test]
async fn while_an_answer_is_late_callers_get_the_token_in_hand() {
    let (server, world) = signed_in().await;
    let refreshing = held_refresh(&server, &world).await;
    for _ in 0..45 {
        world.clock.advance(SECOND).await;
        assert_eq!(world.session.permission_token().await.unwrap().generation(), 1);
    }
    assert_eq!(refreshing.await.unwrap().unwrap().generation(), 1, "its time was over");
    server.release();
    let token = world.until(world.session.refresh()).await.unwrap();
    assert_eq!((token.generation(), server.refreshes()), (2, 1));
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_its_time_is_lost() {
    let (server, mut world) = signed_in().await;
    drop(held_refresh(&server, &world).await);
    world.clock.advance(Policy::default().answer_timeout - Duration::from_millis(1)).await;
    assert_eq!(world.session.status().await.unwrap().state, State::Refreshing);
    world.clock.advance(Duration::from_millis(1)).await;
    assert_eq!(world.happened().await, [EventKind::Established, EventKind::InDoubt]);
    assert_eq!(world.session.status().await.unwrap().state, State::InDoubt);
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
    let world = registered(provider, script, Policy::default()).await;
    let other = session(&world.supervisor, "other");
    let _ = world.session.establish(()).await.unwrap();
    let _ = other.establish(()).await.unwrap();
    let refreshing = world.held_refresh().await;
    world.clock.advance(SLOW_AFTER).await;
    let error = other.refresh().await.unwrap_err();
    let seen = (error.kind(), error.outcome());
    assert_eq!(seen, (ErrorKind::RetryLater, Some(ExchangeOutcome::NotSent)));
    assert_eq!((error.retry_after(), world.script.refreshes()), (Some(SLOW_RETRY), 1));
    // Its token is served, and its user may sign in when there is room again.
    assert_eq!(other.permission_token().await.unwrap().generation(), 1);
    assert_eq!(other.establish(()).await.unwrap_err().kind(), ErrorKind::RetryLater);
    world.script.release();
    assert_eq!(refreshing.await.unwrap().unwrap().generation(), 2);
    world.clock.advance(SLOW_RETRY).await;
    assert_eq!(other.refresh().await.unwrap().generation(), 2);
}

#[tokio::test]
async fn the_lifetimes_of_a_late_answer_count_from_its_sending() {
    let (server, world) = signed_in().await;
    server.set_access_lifetime(100 * SECOND);
    world.clock.advance(3 * SECOND).await;
    let sent = world.wall();
    let refreshing = held_refresh(&server, &world).await;
    world.clock.advance(25 * SECOND).await;
    server.release();
    let token = refreshing.await.unwrap().unwrap();
    assert_eq!(token.expires_at(), Some(sent + 100 * SECOND));
}

#[tokio::test]
async fn a_token_that_lives_shorter_than_its_answer_took_is_used_at_least_once() {
    for (life, late) in [(5, 6), (10, 25), (6, 6)] {
        let (server, world) = signed_in().await;
        server.set_access_lifetime(life * SECOND);
        let refreshing = held_refresh(&server, &world).await;
        world.clock.advance(late * SECOND).await;
        server.release();
        let token = refreshing.await.unwrap().unwrap();
        assert_eq!(token.expires_at(), Some(world.wall() + SECOND), "{life} s");
        assert_eq!(
            world.session.permission_token().await.unwrap().generation(),
            token.generation()
        );
        world.clock.advance(SECOND / 2 - Duration::from_millis(1)).await;
        assert_eq!(
            world.session.permission_token().await.unwrap().generation(),
            token.generation()
        );
        assert_eq!(server.refreshes(), 1, "it is not due yet");
        world.clock.advance(SECOND).await;
        let next = world.session.permission_token().await.unwrap();
        assert_eq!((next.generation(), server.refreshes()), (3, 2));
    }
}

/// Three failures, then a success whose token lives for a second: the next refresh waits as long as
/// after the failures.
#[tokio::test]
async fn a_token_that_hardly_lives_does_not_end_the_back_off() {
    let wait = 100 * SECOND;
    let policy = Policy { backoff: Backoff { base: wait, cap: wait }, ..Policy::default() };
    let world = world_of(ScriptedProvider::new().lifetime(5 * SECOND), policy).await;
    let _ = world.session.establish(()).await.unwrap();
    world.clock.advance(6 * SECOND).await;
    world.script.refresh(Reply::Fail(FailureClass::NotProcessed));
    world.session.permission_token().await.unwrap_err();
    world.clock.advance(wait).await;

    world.script.refresh(Reply::Hold);
    let asking = world.session.clone();
    let refreshing = tokio::spawn(async move { asking.permission_token().await });
    world.script.held(1).await;
    world.clock.advance(6 * SECOND).await;
    world.script.release();
    let token = refreshing.await.unwrap().unwrap();
    assert_eq!(world.session.permission_token().await.unwrap().generation(), token.generation());
    world.clock.advance(2 * SECOND).await;
    let error = world.session.permission_token().await.unwrap_err();
    assert_eq!((error.kind(), world.script.refreshes()), (ErrorKind::RetryLater, 2));
    assert!(error.retry_after().unwrap() <= wait);
    world.clock.advance(wait).await;
    // This one is as usual, and ends it.
    assert!(world.session.permission_token().await.unwrap().generation() > token.generation());
    world.clock.advance(6 * SECOND).await;
    world.session.permission_token().await.unwrap();
    assert_eq!(world.script.refreshes(), 4);
}
