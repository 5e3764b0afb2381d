//! Invariants, one test each. Other tests check the same guarantees in more detail.

use std::time::Duration;

use session_warden::error::{ExchangeOutcome, LostReason, Refusal};
use session_warden::event::EventKind;
use session_warden::policy::{Policy, ProviderLimits, SHORTEST_LIFE};
use session_warden::provider::{FailureClass, Registration};
use session_warden::session::State;
use session_warden::store::Store;
use session_warden::testing::{Endpoint, FakeAuthServer, ManualClock, Reply, ScriptedProvider};
use session_warden::{ErrorKind, Supervisor};
use tokio_stream::StreamExt;

use crate::fixtures::{established, fixture, fixture_of, oauth2_fixture, registered};
use crate::support::{LIFE, SECOND, callers, key, session, until};

#[tokio::test]
async fn invariant_1_at_most_one_exchange_of_a_session_is_in_flight() {
    let fixture = established().await;
    let mut tasks = tokio::task::JoinSet::new();
    for round in 0..20 {
        for _ in 0..20 {
            let session = fixture.session.clone();
            tasks.spawn(async move { drop(session.refresh().await) });
        }
        let session = fixture.session.clone();
        tasks.spawn(async move { drop(session.establish(()).await) });
        fixture.clock.advance(Duration::from_millis(round)).await;
        let _ = fixture.chaos().kill_session(fixture.session.id());
        if round == 10 {
            assert!(fixture.chaos().kill_supervisor());
        }
    }
    fixture.until(tasks.join_all()).await;
    assert_eq!(fixture.script.most_at_once(), 1);
    assert!(fixture.script.refreshes() > 1);
}

#[tokio::test]
async fn invariant_2_an_exchange_ends_and_is_kept_whoever_is_dropped_or_killed() {
    let fixture = established().await;
    fixture.clock.advance(LIFE + SECOND).await;
    fixture.script.refresh(Reply::Hold);
    let mut dropped = callers(100, || {
        let session = fixture.session.clone();
        async move { drop(session.permission_token().await) }
    });
    let stays = fixture.session.clone();
    let stays = tokio::spawn(async move { stays.permission_token().await });
    fixture.script.held(1).await;
    dropped.shutdown().await;
    assert!(fixture.chaos().kill_session(fixture.session.id()));
    assert!(fixture.chaos().kill_supervisor());
    fixture.clock.advance(SECOND).await;
    fixture.script.release();
    assert_eq!(fixture.until(stays).await.unwrap().unwrap().generation(), 2);
    let record = fixture.store.load(fixture.session.id()).await.unwrap().unwrap().record;
    let saved = record.credentials.unwrap();
    assert_eq!(record.generation, 2);
    assert_eq!(saved.tokens().refresh_token().unwrap().expose_secret(), "refresh-2");
    assert_eq!((fixture.script.refreshes(), fixture.script.ended()), (1, 2));
}

#[tokio::test]
async fn invariant_4_waiters_share_one_outcome_and_a_failure_is_not_retried_per_waiter() {
    let fixture = established().await;
    fixture.clock.advance(LIFE + SECOND).await;
    fixture.script.refresh(Reply::FailFor(FailureClass::NotProcessed, 30 * SECOND));
    let ask = || {
        let session = fixture.session.clone();
        async move { session.permission_token().await }
    };
    for got in fixture.until(callers(50, ask).join_all()).await {
        assert_eq!(got.unwrap_err().kind(), ErrorKind::RetryLater);
    }
    for _ in 0..50 {
        let late = fixture.session.permission_token().await.unwrap_err();
        assert!(late.retry_after().unwrap() <= 30 * SECOND);
        assert_eq!(late.outcome(), Some(ExchangeOutcome::NotProcessed));
    }
    assert_eq!(fixture.script.refreshes(), 1);
    fixture.clock.advance(30 * SECOND).await;
    fixture.session.permission_token().await.unwrap();
    assert_eq!(fixture.script.refreshes(), 2);
}

#[tokio::test]
async fn invariant_5_no_expired_and_no_older_token_is_handed_out() {
    let fixture = established().await;
    let mut newest = 0;
    for step in 0..200_u32 {
        match step % 7 {
            2 => drop(fixture.session.refresh().await.unwrap()),
            4 => {
                fixture.session.invalidate(&fixture.session.permission_token().await.unwrap());
            }
            6 => drop(fixture.session.establish(()).await.unwrap()),
            _ => fixture.clock.advance(LIFE / 3 + SECOND * (step % 5)).await,
        }
        let token = fixture.session.permission_token().await.unwrap();
        assert!(token.expires_at().unwrap() > fixture.wall());
        assert!(token.generation() >= newest);
        let replaced = step % 7 == 2 || step % 7 == 4 || step % 7 == 6;
        assert!(!replaced || token.generation() > newest);
        newest = token.generation();
    }
    fixture.session.revoke().await.unwrap();
    assert!(fixture.session.try_permission_token().is_none());
}

#[tokio::test]
async fn invariant_6_a_401_refreshes_only_if_its_generation_is_current() {
    let fixture = established().await;
    let first = fixture.session.permission_token().await.unwrap();
    let second = fixture.session.refresh().await.unwrap();
    for _ in 0..10 {
        fixture.session.invalidate(&first);
        assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 2);
    }
    assert_eq!(fixture.script.refreshes(), 1);
    fixture.session.invalidate(&second);
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 3);
    assert_eq!(fixture.script.refreshes(), 2);
}

#[tokio::test]
async fn invariant_7_a_session_is_lost_only_by_a_recorded_rejection_or_expiry() {
    let harmless = [
        FailureClass::NotSent,
        FailureClass::Untrusted,
        FailureClass::NotProcessed,
        FailureClass::Throttled,
        FailureClass::Ambiguous,
        FailureClass::InvalidClient,
        FailureClass::Unclassified,
        FailureClass::Misconfigured,
    ];
    for class in harmless {
        let fixture = established().await;
        for _ in 0..5 {
            fixture.script.refresh(Reply::Fail(class));
            let error = fixture.session.refresh().await.unwrap_err();
            assert!(!matches!(error.kind(), ErrorKind::SignInAgain(_)), "{class:?}");
            fixture.clock.advance(LIFE).await;
        }
        fixture.script.clear();
        fixture.clock.advance(LIFE).await;
        fixture.session.permission_token().await.unwrap();
    }
    let mut fixture = established().await;
    fixture.script.establish(Reply::Fail(FailureClass::Refused(Refusal::WrongCredentials)));
    fixture.session.establish(()).await.unwrap_err();
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 1);
    fixture.script.refresh(Reply::Fail(FailureClass::Rejected));
    let error = fixture.session.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::Rejected));
    let lost = EventKind::Lost(LostReason::Rejected);
    assert_eq!(fixture.happened().await, [EventKind::Established, lost]);
}

#[tokio::test]
async fn invariant_8_the_end_of_a_refresh_token_is_told_ahead_and_when_it_comes() {
    let day = 24 * 3600 * SECOND;
    let provider = ScriptedProvider::new().lifetime(LIFE).refresh_lifetime(30 * day);
    let mut fixture = fixture_of(provider, Policy::default()).await;
    let _ = fixture.session.establish(()).await.unwrap();
    // Suspended for most of it, so that tasks wake up only at its end.
    fixture.clock.suspend(28 * day);
    fixture.clock.advance(day - SECOND).await;
    assert_eq!(fixture.happened().await, [EventKind::Established]);
    fixture.clock.advance(2 * SECOND).await;
    let [EventKind::RefreshExpiring { left }] = fixture.happened().await[..] else {
        panic!("not told ahead");
    };
    assert!(left <= day && left + SECOND >= day);
    fixture.clock.advance(day).await;
    assert_eq!(fixture.happened().await, [EventKind::Lost(LostReason::RefreshExpired)]);
    assert_eq!(fixture.session.status().await.unwrap().state, State::Lost);
    assert_eq!(fixture.script.refreshes(), 0);
}

#[tokio::test]
async fn invariant_9_tenants_and_providers_do_not_reach_each_other() {
    let clock = ManualClock::new();
    let start = |name: &'static str| (name, ScriptedProvider::new().lifetime(LIFE));
    let [(a, one), (b, two)] = [start("a"), start("b")];
    let supervisor = Supervisor::builder().clock(clock).provider(a, one).provider(b, two);
    let supervisor = supervisor.start().await.unwrap();
    let a = supervisor.sessions::<ScriptedProvider>("a").unwrap().session(key("device"));
    let b = supervisor.sessions::<ScriptedProvider>("b").unwrap().session(key("device"));
    let other = session_warden::SessionKey::new("another tenant", "device").unwrap();
    let other = supervisor.sessions::<ScriptedProvider>("a").unwrap().session(other);
    let _ = a.establish(()).await.unwrap();
    for stranger in [&b, &other] {
        let error = stranger.permission_token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotEstablished);
    }
    let _ = b.establish(()).await.unwrap();
    a.revoke().await.unwrap();
    b.refresh().await.unwrap();
    assert_eq!(a.permission_token().await.unwrap_err().kind(), ErrorKind::NotEstablished);
    let both: Vec<session_warden::Session> = vec![a.into(), b.clone().into()];
    assert_eq!(both[1].permission_token().await.unwrap().generation(), 2);
    both[1].clone().downcast::<ScriptedProvider>().unwrap();
    both[1].clone().downcast::<session_warden::provider::oauth2::OAuth2>().unwrap_err();
}

#[tokio::test]
async fn invariant_9_nothing_is_sent_to_an_authority_that_did_not_issue_the_credentials() {
    let issuer = FakeAuthServer::start().await.unwrap();
    let moved_to = FakeAuthServer::start().await.unwrap();
    let first = oauth2_fixture(&issuer, ManualClock::new()).await;
    let _ = first.sign_in().await.unwrap();
    let mut second = first.at(&moved_to).await;
    let error = second.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert_eq!(second.session.refresh().await.unwrap_err().kind(), ErrorKind::Misconfigured);
    second.clock.advance(10 * LIFE).await;
    assert_eq!(
        second.session.permission_token().await.unwrap_err().kind(),
        ErrorKind::Misconfigured
    );
    assert_eq!(moved_to.count(Endpoint::Token), 0, "no byte left for the new site");
    assert!(second.events.next().await.is_some_and(|e| e.kind == EventKind::IssuerMismatch));
    // The record is kept: at the old site the session goes on, at the new one a user signs in.
    let third = second.at(&issuer).await;
    third.session.permission_token().await.unwrap();
    let _ = second.sign_in().await.unwrap();
    assert_eq!(second.session.permission_token().await.unwrap().epoch(), 2);
}

#[tokio::test]
async fn invariant_11_each_bound_is_reached_and_told_as_such() {
    let small = Policy {
        max_sessions: 2,
        max_waiters: 2,
        max_queued_grants: 1,
        call_timeout: 3 * SECOND,
        ..Policy::default()
    };
    let limits =
        ProviderLimits { exchanges: 1, admission_timeout: 2 * SECOND, ..ProviderLimits::default() };
    let provider = ScriptedProvider::new().lifetime(LIFE);
    let script = provider.script();
    let fixture = registered(Registration::new(provider).limits(limits), script, small).await;
    let other = session(&fixture.supervisor, "other");
    let _ = fixture.session.establish(()).await.unwrap();
    let _ = other.establish(()).await.unwrap();

    let third = session(&fixture.supervisor, "third");
    assert_eq!(third.establish(()).await.unwrap_err().kind(), ErrorKind::Capacity, "sessions");

    fixture.script.refresh(Reply::Hold);
    let waiting = callers(2, || {
        let session = fixture.session.clone();
        async move { session.refresh().await }
    });
    fixture.script.held(1).await;
    let full = fixture.session.refresh().await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Capacity, "waiters");

    let no_turn = fixture.until(other.refresh()).await.unwrap_err();
    assert_eq!(no_turn.kind(), ErrorKind::Capacity, "exchanges in flight");
    assert_eq!(no_turn.outcome(), Some(ExchangeOutcome::NotSent));

    for got in fixture.until(waiting.join_all()).await {
        assert_eq!(got.unwrap().generation(), 1, "the token in hand");
    }
    let queued = callers(1, || {
        let session = fixture.session.clone();
        async move { session.establish(()).await.map(drop) }
    });
    fixture.clock.advance(Duration::from_millis(1)).await;
    let full = fixture.session.establish(()).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Capacity, "queued grants");
    fixture.script.release();
    assert!(fixture.until(queued.join_all()).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn invariant_11_a_slow_subscriber_is_told_what_it_missed() {
    let policy = Policy { events: 4, ..Policy::default() };
    let mut fixture = fixture_of(ScriptedProvider::new().lifetime(LIFE), policy).await;
    for _ in 0..10 {
        let _ = fixture.session.establish(()).await.unwrap();
    }
    let happened = fixture.happened().await;
    assert_eq!(happened[0], EventKind::Missed(6));
    assert_eq!(happened.len(), 5);
}

#[tokio::test]
async fn invariant_11_a_slot_that_holds_nothing_is_not_kept() {
    let fixture = fixture().await.fixture;
    for number in 0..100 {
        let stranger = session(&fixture.supervisor, &format!("device-{number}"));
        let error = stranger.permission_token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotEstablished);
        fixture.clock.advance(Duration::ZERO).await;
    }
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.supervisor.snapshot().sessions, 0);
    let _ = fixture.session.establish(()).await.unwrap();
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.supervisor.snapshot().sessions, 1);
    fixture.session.revoke().await.unwrap();
    fixture.clock.advance(SECOND).await;
    drop(fixture.session);
    assert_eq!(fixture.supervisor.snapshot().sessions, 0);
}

#[tokio::test]
async fn invariant_12_a_session_whose_actor_keeps_dying_is_set_aside_and_the_rest_go_on() {
    let mut fixture = established().await;
    let other = session(&fixture.supervisor, "other");
    let _ = other.establish(()).await.unwrap();
    let mut pauses = Vec::new();
    for _ in 0..2 {
        while pauses.len() < 2 {
            fixture.script.refresh(Reply::Hold);
            let held = fixture.script.refreshes() + 1;
            let refreshing = fixture.session.clone();
            let refreshing = tokio::spawn(async move { refreshing.refresh().await });
            until(&fixture.clock, fixture.script.held(held)).await;
            assert!(fixture.chaos().kill_session(fixture.session.id()));
            fixture.clock.advance(Duration::from_millis(700)).await;
            fixture.script.release();
            fixture.until(refreshing).await.unwrap().unwrap();
            for kind in fixture.happened().await {
                if let EventKind::Quarantined { pause } = kind {
                    pauses.push(pause);
                    fixture.session.permission_token().await.unwrap();
                    let set_aside = fixture.session.refresh().await.unwrap_err();
                    assert_eq!(set_aside.kind(), ErrorKind::RetryLater);
                    other.permission_token().await.unwrap();
                    fixture.clock.advance(pause).await;
                }
            }
        }
    }
    assert_eq!(pauses, [60 * SECOND, 120 * SECOND]);
}

#[tokio::test]
async fn a_token_that_is_said_to_live_for_no_time_lives_for_a_second() {
    let fixture = fixture().await;
    fixture.script.establish(Reply::IssueFor(Some(Duration::ZERO)));
    let _ = fixture.session.establish(()).await.unwrap();
    let token = fixture.session.permission_token().await.unwrap();
    assert_eq!(token.expires_at(), Some(fixture.wall() + SHORTEST_LIFE));
}
