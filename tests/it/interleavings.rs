//! Interleavings: each test has one, and its comments number the steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use session_warden::error::{ExchangeOutcome, LostReason, Refusal};
use session_warden::event::EventKind;
use session_warden::policy::Policy;
use session_warden::provider::{FailureClass, Rotation};
use session_warden::session::{Invalidation, Revocation, State};
use session_warden::testing::{Reply, ScriptedProvider};
use session_warden::{ErrorKind, Establishment, Supervisor};
use tokio::task::JoinSet;

use crate::fixtures::{established, fixture, fixture_of};
use crate::support::{LIFE, SECOND, session};

/// 1. The actor has nothing to do and asks to be let go. 2. A message is sent to it. 3. It is let
/// go. The message must be answered, by this actor or by the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_message_that_races_the_stop_of_an_idle_actor_is_answered() {
    let provider = ScriptedProvider::new();
    let script = provider.script();
    let supervisor = Supervisor::builder().provider("p", provider).start().await.unwrap();
    let _ = session(&supervisor, "device").establish(()).await.unwrap();
    let mut asking = JoinSet::new();
    for _ in 0..8 {
        let session = session(&supervisor, "device");
        asking.spawn(async move {
            for _ in 0..1_000 {
                session.status().await.unwrap();
                session.refresh().await.unwrap();
            }
        });
    }
    asking.join_all().await;
    assert!(script.refreshes() <= 8_000);
    assert_eq!(supervisor.snapshot().actor_restarts, 0);
}

/// 1. A refresh is out. 2. Its actor is killed. 3. The answer comes.
#[tokio::test]
async fn a_killed_actor_takes_nothing_with_it() {
    let fixture = established().await;
    let refreshing = fixture.held_refresh().await;
    assert!(fixture.chaos().kill_session(fixture.session.id()));
    fixture.clock.advance(SECOND).await;
    fixture.script.release();
    assert_eq!(refreshing.await.unwrap().unwrap().generation(), 2);
    assert_eq!((fixture.script.refreshes(), fixture.supervisor.snapshot().actor_restarts), (1, 1));
}

/// 1. The supervisor actor is killed. 2. A reader sees that the token is due and tells it. 3. A new
/// one is started. The next reader has to tell it again.
#[tokio::test]
async fn a_due_token_is_refreshed_although_the_one_that_was_told_died() {
    let fixture = established().await;
    fixture.clock.advance(LIFE - SECOND).await;
    assert!(fixture.chaos().kill_supervisor());
    assert!(fixture.session.try_permission_token().is_some());
    assert!(fixture.session.try_permission_token().is_some());
    fixture.clock.advance(SECOND / 2).await;
    assert_eq!(
        (fixture.script.refreshes(), fixture.supervisor.snapshot().supervisor_restarts),
        (0, 1)
    );
    assert_eq!(fixture.session.try_permission_token().unwrap().generation(), 1);
    fixture.clock.advance(Duration::ZERO).await;
    assert_eq!(fixture.script.refreshes(), 1);
}

/// 1. A refresh is out, its former token is served. 2. An API rejects that token. 3. The answer
/// comes and is published. The rejected one is never served again, its successor is.
#[tokio::test]
async fn an_invalidate_before_the_publish_hides_the_old_token_only() {
    let fixture = established().await;
    let old = fixture.session.permission_token().await.unwrap();
    let refreshing = fixture.held_refresh().await;
    assert_eq!(fixture.session.try_permission_token().unwrap().generation(), 1);
    fixture.session.invalidate(&old);
    assert!(fixture.session.try_permission_token().is_none());
    fixture.script.release();
    assert_eq!(refreshing.await.unwrap().unwrap().generation(), 2);
    fixture.session.invalidate(&old);
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 2);
    assert_eq!(fixture.script.refreshes(), 1);
}

/// Readers, refreshers and invalidators on several threads: after `invalidate` has returned, no
/// reader that begins then gets that generation.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_reader_gets_a_token_after_its_invalidation_has_returned() {
    let supervisor =
        Supervisor::builder().provider("p", ScriptedProvider::new()).start().await.unwrap();
    let shared = session(&supervisor, "device");
    let _ = shared.establish(()).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        let (session, over) = (shared.clone(), Arc::clone(&over));
        tasks.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let token = session.permission_token().await.unwrap();
                let answer = session.invalidate(&token);
                let next = session.try_permission_token();
                if let (Invalidation::Refresh, Some(next)) = (answer, next) {
                    assert!(next.generation() > token.generation());
                }
                tokio::task::yield_now().await;
            }
        });
    }
    for _ in 0..500 {
        shared.refresh().await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    tasks.join_all().await;
}

/// 1. A refresh is out. 2. A user signs in. The grant waits for the refresh's end, then runs.
#[tokio::test]
async fn an_establish_during_a_refresh_waits_and_then_stands() {
    let fixture = established().await;
    let refreshing = fixture.held_refresh().await;
    let establishing = fixture.session.clone();
    let establishing = tokio::spawn(async move { establishing.establish(()).await });
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.script.establishes(), 1, "one exchange at a time");
    fixture.script.release();
    assert_eq!(refreshing.await.unwrap().unwrap().generation(), 2);
    assert!(matches!(establishing.await.unwrap(), Ok(Establishment::Active(()))));
    let token = fixture.session.permission_token().await.unwrap();
    assert_eq!((token.epoch(), token.generation()), (2, 3));
}

/// Two users sign in to one session at once. Each gets the outcome of the own grant.
#[tokio::test]
async fn two_establishes_at_once_are_two_exchanges_with_an_outcome_each() {
    let fixture = fixture().await;
    fixture.script.establish(Reply::HoldThenFail(FailureClass::Refused(Refusal::WrongCredentials)));
    let first = fixture.session.clone();
    let first = tokio::spawn(async move { first.establish(()).await });
    fixture.script.held(1).await;
    let second = fixture.session.clone();
    let second = tokio::spawn(async move { second.establish(()).await });
    fixture.clock.advance(SECOND).await;
    fixture.script.release();
    let refused = first.await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused(Refusal::WrongCredentials));
    assert!(matches!(second.await.unwrap(), Ok(Establishment::Active(()))));
    assert_eq!(fixture.script.establishes(), 2);
    assert_eq!(fixture.session.permission_token().await.unwrap().epoch(), 1);
}

/// A caller that gave up before its grant's turn came: the grant is not sent.
#[tokio::test]
async fn a_grant_whose_caller_left_before_its_turn_is_not_sent() {
    let fixture = established().await;
    let refreshing = fixture.held_refresh().await;
    let establishing = fixture.session.clone();
    let establishing = tokio::spawn(async move { establishing.establish(()).await });
    fixture.clock.advance(SECOND).await;
    establishing.abort();
    assert!(establishing.await.unwrap_err().is_cancelled());
    fixture.script.release();
    refreshing.await.unwrap().unwrap();
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.script.establishes(), 1);
}

/// 1. A refresh is out. 2. The user logs out. 3. The answer comes. The session ends closed, and
/// the newest token is revoked at the server.
#[tokio::test]
async fn a_close_that_races_the_answer_of_a_refresh_ends_closed() {
    let mut fixture = established().await;
    let refreshing = fixture.held_refresh().await;
    let closing = fixture.session.clone();
    let closing = tokio::spawn(async move { closing.revoke().await });
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.script.revocations(), 0);
    fixture.script.release();
    refreshing.await.unwrap().unwrap();
    assert_eq!(closing.await.unwrap().unwrap(), Revocation::AtServer);
    assert!(fixture.session.try_permission_token().is_none());
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEstablished);
    assert_eq!(fixture.session.status().await.unwrap().state, State::Closed);
    let happened = fixture.happened().await;
    assert_eq!(happened, [EventKind::Established, EventKind::Refreshed, EventKind::Revoked]);
    assert_eq!((fixture.script.refreshes(), fixture.script.revocations()), (1, 1));
}

/// The provider's future never ends: callers wait as long as a call may, nobody starts a second
/// exchange beside it, and at 70 s it is dropped, as ambiguous.
#[tokio::test]
async fn a_provider_future_that_never_ends_is_waited_for_and_later_dropped() {
    let mut fixture = established().await;
    fixture.script.refresh(Reply::Hang);
    let refreshing = fixture.session.clone();
    let refreshing = tokio::spawn(async move { refreshing.refresh().await });
    fixture.script.held(1).await;
    let old = fixture.session.try_permission_token().unwrap();
    fixture.session.invalidate(&old);
    fixture.clock.advance(29 * SECOND).await;
    assert!(!refreshing.is_finished());
    fixture.clock.advance(SECOND).await;
    assert_eq!(refreshing.await.unwrap().unwrap_err().kind(), ErrorKind::RetryLater);
    let error = fixture.until(fixture.session.permission_token()).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::RetryLater, None));
    assert_eq!(fixture.session.status().await.unwrap().state, State::Refreshing);
    assert_eq!(fixture.script.refreshes(), 1);
    fixture.clock.advance(10 * SECOND).await;
    assert!(fixture.happened().await.contains(&EventKind::InDoubt));
    fixture.clock.advance(30 * SECOND).await;
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 2);
    assert_eq!(fixture.script.refreshes(), 2);
}

/// The same with a grant: its caller gets `Deadline`, and when the answer comes after all it
/// stands.
#[tokio::test]
async fn the_caller_of_a_slow_grant_gets_a_deadline_and_the_late_answer_stands() {
    let fixture = fixture().await;
    fixture.script.establish(Reply::Hold);
    let establishing = fixture.session.clone();
    let establishing = tokio::spawn(async move { establishing.establish(()).await });
    fixture.script.held(1).await;
    fixture.clock.advance(30 * SECOND).await;
    let error = establishing.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Deadline, None));
    assert_eq!(fixture.session.status().await.unwrap().state, State::Establishing);
    fixture.script.release();
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.session.permission_token().await.unwrap().epoch(), 1);
    assert_eq!(fixture.script.establishes(), 1);
}

/// A caller whose time is over gets the token in hand while that lives. The exchange goes on for
/// whoever asks later.
#[tokio::test]
async fn a_caller_whose_time_is_over_gets_the_token_in_hand_or_is_told_to_come_again() {
    let fixture = established().await;
    let refreshing = fixture.held_refresh().await;
    fixture.clock.advance(30 * SECOND).await;
    assert_eq!(refreshing.await.unwrap().unwrap().generation(), 1);
    let old = fixture.session.try_permission_token().unwrap();
    fixture.session.invalidate(&old);
    let error = fixture.until(fixture.session.refresh()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RetryLater);
    assert_eq!(error.session(), Some(fixture.session.id()));
    fixture.script.release();
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 2);
    assert_eq!(fixture.script.refreshes(), 1);
}

/// An answer that is lost after the server's grace has passed: a retry at once would be reuse.
#[tokio::test]
async fn a_doubt_that_outlasted_the_grace_is_not_tried_at_once() {
    let grace = Duration::from_secs(12);
    for (held_for, retried) in [(3, 2), (9, 1)] {
        let provider = ScriptedProvider::new().lifetime(LIFE).rotation(Rotation::Fork(grace));
        let fixture = fixture_of(provider, Policy::default()).await;
        let _ = fixture.session.establish(()).await.unwrap();
        fixture.script.refresh(Reply::HoldThenFail(FailureClass::Ambiguous));
        let refreshing = fixture.session.clone();
        let refreshing = tokio::spawn(async move { refreshing.refresh().await });
        fixture.script.held(1).await;
        fixture.clock.advance(held_for * SECOND).await;
        fixture.script.release();
        fixture.clock.advance(SECOND).await;
        assert_eq!(fixture.script.refreshes(), retried, "held for {held_for} s");
        assert_eq!(refreshing.await.unwrap().is_ok(), retried == 2);
    }
}

/// A panic in a provider is an answer that was lost: in doubt, then the one retry.
#[tokio::test]
async fn a_provider_that_panics_leaves_the_session_in_doubt_and_its_waiters_with_an_error() {
    let mut fixture = established().await;
    fixture.clock.advance(LIFE + SECOND).await;
    fixture.script.refresh(Reply::Panic);
    fixture.script.refresh(Reply::Fail(FailureClass::Rejected));
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RetryLater);
    assert_eq!(error.outcome(), None, "a doubt is told from memory, with its time");
    let wait = error.retry_after().unwrap();
    assert_eq!(wait, 20 * SECOND);
    fixture.session.permission_token().await.unwrap_err();
    assert_eq!(fixture.script.refreshes(), 1);
    fixture.clock.advance(wait).await;
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::LostInDoubt));
    fixture.session.permission_token().await.unwrap_err();
    assert_eq!(fixture.script.refreshes(), 2);
    let happened = fixture.happened().await;
    let lost = EventKind::Lost(LostReason::LostInDoubt);
    assert_eq!(happened, [EventKind::Established, EventKind::InDoubt, lost]);
}

/// A grant whose answer was lost may have ended the session before it: that is refreshed before
/// it is used again.
#[tokio::test]
async fn a_lost_answer_to_a_grant_makes_the_former_session_suspect() {
    let fixture = established().await;
    fixture.script.establish(Reply::Fail(FailureClass::Ambiguous));
    let error = fixture.session.establish(()).await.unwrap_err();
    assert_eq!(error.outcome(), Some(ExchangeOutcome::Ambiguous));
    assert!(fixture.session.try_permission_token().is_none());
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 2);
    assert_eq!((fixture.script.establishes(), fixture.script.refreshes()), (2, 1));
}

/// A session whose actor crashes again and again is quarantined, and the others are not affected.
#[tokio::test]
async fn an_actor_that_keeps_dying_is_set_aside_until_its_user_signs_in() {
    let policy = Policy { call_timeout: Duration::from_secs(600), ..Policy::default() };
    let provider = ScriptedProvider::new().lifetime(LIFE);
    let mut fixture = fixture_of(provider, policy).await;
    let _ = fixture.session.establish(()).await.unwrap();
    for _ in 0..6 {
        fixture.script.refresh(Reply::Hold);
        let refreshing = fixture.session.clone();
        let refreshing = tokio::spawn(async move { refreshing.refresh().await });
        fixture.script.held(fixture.script.refreshes()).await;
        fixture.clock.advance(Duration::from_millis(1)).await;
        assert!(fixture.chaos().kill_session(fixture.session.id()));
        fixture.clock.advance(Duration::from_millis(1)).await;
        fixture.script.release();
        refreshing.await.unwrap().unwrap();
        fixture.clock.advance(Duration::from_millis(400)).await;
    }
    let pause = Duration::from_secs(60);
    assert!(fixture.happened().await.contains(&EventKind::Quarantined { pause }));
    fixture.session.permission_token().await.unwrap();
    let error = fixture.session.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RetryLater);
    assert!(error.retry_after().unwrap() <= pause);
    let other = session(&fixture.supervisor, "other");
    let _ = other.establish(()).await.unwrap();
    other.refresh().await.unwrap();
    let _ = fixture.session.establish(()).await.unwrap();
    fixture.session.refresh().await.unwrap();
}
