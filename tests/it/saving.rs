//! New credentials are never lost, whatever the store does, and never sent on a guess.

use std::time::Duration;

use session_warden::error::ExchangeOutcome;
use session_warden::event::EventKind;
use session_warden::policy::Policy;
use session_warden::provider::FailureClass;
use session_warden::session::Revocation;
use session_warden::store::{MemoryStore, Phase};
use session_warden::testing::{FaultyStore, ManualClock, Reply, ScriptedProvider, StoreCall};
use session_warden::{ErrorKind, Session, Supervisor};
use tokio::task::JoinSet;

use crate::scene::{Scene, kind};
use crate::support::{LIFE, SECOND, session, until};

#[tokio::test]
async fn a_refresh_whose_save_fails_is_served_reported_and_saved_later() {
    let mut scene = Scene::expired().await;
    scene.faults.fail_next(StoreCall::Commit, 3);
    let token = scene.session.permission_token().await.unwrap();
    assert_eq!((token.expose_secret(), token.generation()), ("access-2", 2));
    assert!(!scene.is_saved().await);
    assert_eq!(scene.supervisor.snapshot().unsaved, 1);
    assert_eq!(scene.stored().await, (1, "refresh-1".to_owned()));
    assert_eq!(scene.news(), [EventKind::Refreshed, EventKind::Unsaved]);
    scene.clock.advance(30 * SECOND).await;
    assert!(scene.is_saved().await);
    assert_eq!(scene.stored().await, (2, "refresh-2".to_owned()));
    assert_eq!(scene.news(), [EventKind::Saved]);
    assert_eq!(scene.supervisor.snapshot().unsaved, 0);
    // The grant's, three that failed, and the one that did not.
    assert_eq!((scene.faults.count(StoreCall::Commit), scene.script.refreshes()), (5, 1));
}

#[tokio::test]
async fn a_grant_whose_save_fails_is_a_session_all_the_same() {
    let mut scene = Scene::start(&MemoryStore::new(), &ManualClock::new()).await;
    scene.faults.fail_next(StoreCall::Commit, 1);
    let _ = scene.session.establish(()).await.unwrap();
    assert_eq!(scene.token().await.unwrap().expose_secret(), "access-1");
    assert_eq!(scene.news(), [EventKind::Established, EventKind::Unsaved]);
    scene.clock.advance(30 * SECOND).await;
    assert_eq!(scene.stored().await, (1, "refresh-1".to_owned()));
    assert_eq!(scene.news(), [EventKind::Saved]);
    assert_eq!(scene.script.establishes(), 1);
}

#[tokio::test]
async fn a_save_that_takes_longer_than_two_seconds_is_served_as_owed_and_settles_once() {
    let mut scene = Scene::expired().await;
    scene.faults.hold(StoreCall::Commit);
    let mut callers = scene.callers(10).await;
    scene.faults.held(StoreCall::Commit, 1).await;
    scene.clock.advance(2 * SECOND - Duration::from_millis(1)).await;
    assert!(callers.try_join_next().is_none(), "nobody is served before");
    scene.clock.advance(Duration::from_millis(1)).await;
    while let Some(token) = callers.join_next().await {
        assert_eq!(token.unwrap().unwrap().expose_secret(), "access-2");
    }
    assert!(!scene.is_saved().await);
    assert_eq!(scene.news(), [EventKind::Refreshed, EventKind::Unsaved]);
    // The payer asks again and again, each time for as long as a store may take.
    scene.clock.advance(30 * SECOND).await;
    scene.faults.held(StoreCall::Commit, 2).await;
    scene.faults.release(StoreCall::Commit);
    scene.clock.advance(30 * SECOND).await;
    assert!(scene.is_saved().await);
    assert_eq!(scene.stored().await, (2, "refresh-2".to_owned()));
    assert_eq!(scene.news(), [EventKind::Saved]);
    let asked = scene.faults.count(StoreCall::Commit);
    assert!((3..=9).contains(&asked), "{asked} commits in 30 s");
    assert_eq!(scene.script.refreshes(), 1);
}

#[tokio::test]
async fn a_lost_acknowledgement_of_a_commit_causes_no_second_refresh() {
    let mut scene = Scene::expired().await;
    scene.faults.fail_after_writing(StoreCall::Commit, 2);
    assert_eq!(scene.token().await.unwrap().expose_secret(), "access-2");
    assert_eq!(scene.stored().await, (2, "refresh-2".to_owned()));
    assert_eq!(scene.news(), [EventKind::Refreshed, EventKind::Unsaved]);
    scene.clock.advance(30 * SECOND).await;
    assert_eq!(scene.news(), [EventKind::Saved]);
    assert_eq!(scene.stored().await, (2, "refresh-2".to_owned()), "it found its own attempt");
    assert_eq!(scene.script.refreshes(), 1);
    scene.clock.advance(LIFE).await;
    assert_eq!(scene.token().await.unwrap().generation(), 3);
    assert_eq!((scene.stored().await, scene.script.refreshes()), ((3, "refresh-3".to_owned()), 2));
}

#[tokio::test]
async fn a_lost_acknowledgement_of_a_claim_sends_nothing_and_heals() {
    let scene = Scene::expired().await;
    scene.faults.fail_after_writing(StoreCall::Claim, 1);
    assert_eq!(kind(scene.token().await), ErrorKind::Store);
    assert!(scene.record().await.lease.is_some());
    assert_eq!(scene.script.refreshes(), 0);
    scene.clock.advance(5 * SECOND).await;
    assert_eq!(scene.token().await.unwrap().expose_secret(), "access-2");
    assert_eq!((scene.stored().await, scene.script.refreshes()), ((2, "refresh-2".to_owned()), 1));
}

#[tokio::test]
async fn a_lost_acknowledgement_of_a_settle_leaves_the_session_usable() {
    let scene = Scene::expired().await;
    scene.script.refresh(Reply::Fail(FailureClass::NotSent));
    scene.faults.fail_after_writing(StoreCall::Settle, 1);
    assert_eq!(kind(scene.token().await), ErrorKind::RetryLater);
    scene.script.refresh(Reply::Fail(FailureClass::NotSent));
    scene.faults.fail_next(StoreCall::Settle, 1);
    scene.clock.advance(5 * SECOND).await;
    assert_eq!(kind(scene.token().await), ErrorKind::RetryLater);
    assert!(scene.record().await.lease.is_some(), "the settle was not written");
    scene.clock.advance(10 * SECOND).await;
    assert_eq!(scene.token().await.unwrap().expose_secret(), "access-2");
    assert_eq!((scene.stored().await.0, scene.script.refreshes()), (2, 3));
}

#[tokio::test]
async fn a_lost_acknowledgement_of_a_close_is_made_good_by_the_next_one() {
    let scene = Scene::established().await;
    scene.faults.fail_after_writing(StoreCall::Close, 1);
    let failed = until(&scene.clock, scene.session.revoke()).await.unwrap_err();
    assert_eq!((failed.kind(), scene.script.revocations()), (ErrorKind::Store, 0));
    assert_eq!(scene.record().await.phase, Phase::Closed);
    let revoked = until(&scene.clock, scene.session.revoke()).await.unwrap();
    assert_eq!((revoked, scene.script.revocations()), (Revocation::AtServer, 1));
    let record = scene.record().await;
    assert!(record.outbox.is_none() && record.due_at.is_none(), "{record:?}");
    assert_eq!(kind(scene.token().await), ErrorKind::NotEstablished);
}

#[tokio::test]
async fn a_close_saves_what_is_owed_first() {
    let scene = Scene::owed().await;
    let failed = until(&scene.clock, scene.session.revoke()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Store);
    assert_eq!(scene.token().await.unwrap().expose_secret(), "access-2", "it is as it was");
    scene.faults.fail_always(StoreCall::Commit, false);
    // So that what the server must be told is still there to be looked at.
    scene.script.revoke(Reply::Fail(FailureClass::NotSent));
    let revoked = until(&scene.clock, scene.session.revoke()).await.unwrap();
    assert_eq!(revoked, Revocation::Queued);
    let outbox = scene.record().await.outbox.unwrap();
    assert_eq!(outbox.tokens().refresh_token().unwrap().expose_secret(), "refresh-2");
    assert_eq!(scene.supervisor.snapshot().unsaved, 0);
}

#[tokio::test]
async fn while_owed_and_due_no_exchange_is_started() {
    let scene = Scene::owed().await;
    scene.clock.advance(LIFE - 10 * SECOND).await;
    assert_eq!(scene.token().await.unwrap().expose_secret(), "access-2", "due, and still good");
    scene.clock.advance(11 * SECOND).await;
    assert_eq!(kind(scene.token().await), ErrorKind::RetryLater);
    assert_eq!(scene.script.refreshes(), 1);
    scene.faults.fail_always(StoreCall::Commit, false);
    scene.clock.advance(30 * SECOND).await;
    assert_eq!(scene.token().await.unwrap().expose_secret(), "access-3");
    assert_eq!((scene.stored().await, scene.script.refreshes()), ((3, "refresh-3".to_owned()), 2));
}

#[tokio::test]
async fn who_wants_a_newer_token_while_one_is_owed_is_told_to_wait_and_not_to_sign_in() {
    let scene = Scene::owed().await;
    let refreshed = until(&scene.clock, scene.session.refresh()).await;
    assert_eq!(kind(refreshed), ErrorKind::RetryLater);
    let token = scene.token().await.unwrap();
    scene.session.invalidate(&token);
    assert_eq!(kind(scene.token().await), ErrorKind::RetryLater);
    assert_eq!(scene.script.refreshes(), 1);
    scene.faults.fail_always(StoreCall::Commit, false);
    scene.clock.advance(30 * SECOND).await;
    assert_eq!(scene.token().await.unwrap().expose_secret(), "access-3");
}

#[tokio::test]
async fn a_shutdown_waits_for_an_owed_save_and_asks_at_once() {
    let scene = Scene::owed().await;
    // Far into the payer's waiting times.
    scene.clock.advance(300 * SECOND).await;
    let before = scene.faults.count(StoreCall::Commit);
    scene.faults.fail_always(StoreCall::Commit, false);
    let report = scene.supervisor.shutdown(10 * SECOND).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(scene.faults.count(StoreCall::Commit), before + 1);
    assert_eq!(scene.stored().await, (2, "refresh-2".to_owned()));
}

#[tokio::test]
async fn a_shutdown_names_what_stays_unsaved() {
    let scene = Scene::owed().await;
    let report = until(&scene.clock, scene.supervisor.shutdown(10 * SECOND)).await;
    assert_eq!((report.exchanges_cut, &report.unsaved[..]), (0, &[scene.session.id().clone()][..]));
    assert!(!report.is_clean());
    assert_eq!(scene.stored().await, (1, "refresh-1".to_owned()));
}

#[tokio::test]
async fn callers_of_an_unreadable_session_cause_one_read_and_get_one_outcome() {
    let former = Scene::established().await;
    let scene = Scene::start(&former.store, &former.clock).await;
    scene.faults.hold(StoreCall::Load);
    let mut callers = scene.callers(1000).await;
    scene.faults.held(StoreCall::Load, 1).await;
    scene.faults.fail_next(StoreCall::Load, 1);
    scene.faults.release(StoreCall::Load);
    while let Some(outcome) = callers.join_next().await {
        assert_eq!(kind(outcome.unwrap()), ErrorKind::Store);
    }
    let failed = scene.session.permission_token().await.unwrap_err();
    assert!(failed.is_transient() && failed.retry_after().is_some(), "{failed:?}");
    assert_eq!(scene.session.status().await.unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(scene.faults.count(StoreCall::Load), 1, "nobody reads before it is time");
    scene.clock.advance(2 * SECOND).await;
    assert_eq!(scene.token().await.unwrap().expose_secret(), "access-1");
    assert_eq!((scene.faults.count(StoreCall::Load), scene.script.refreshes()), (2, 0));
}

#[tokio::test]
async fn a_session_that_cannot_be_read_is_never_taken_for_one_that_does_not_exist() {
    let former = Scene::established().await;
    let scene = Scene::start(&former.store, &former.clock).await;
    scene.faults.fail_always(StoreCall::Load, true);
    for _ in 0..20 {
        assert_eq!(kind(scene.token().await), ErrorKind::Store);
        let granted = until(&scene.clock, scene.session.establish(())).await;
        assert_eq!(granted.unwrap_err().kind(), ErrorKind::Store);
        let revoked = until(&scene.clock, scene.session.revoke()).await;
        assert_eq!(revoked.unwrap_err().kind(), ErrorKind::Store);
        scene.clock.advance(10 * SECOND).await;
    }
    scene.faults.fail_always(StoreCall::Load, false);
    scene.faults.hold(StoreCall::Load);
    scene.clock.advance(300 * SECOND).await;
    assert_eq!(kind(scene.token().await), ErrorKind::Store, "nor one that is slow");
    scene.faults.release(StoreCall::Load);
    scene.clock.advance(300 * SECOND).await;
    assert_eq!(scene.token().await.unwrap().expose_secret(), "access-1");
    assert_eq!((scene.script.establishes(), scene.script.revocations()), (0, 0));
}

#[tokio::test]
async fn a_claim_that_cannot_be_written_sends_nothing() {
    let scene = Scene::established().await;
    scene.faults.fail_always(StoreCall::Claim, true);
    scene.clock.advance(LIFE - 10 * SECOND).await;
    assert_eq!(scene.token().await.unwrap().expose_secret(), "access-1", "due, and still good");
    scene.clock.advance(11 * SECOND).await;
    let failed = scene.token().await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Store);
    assert_eq!(failed.outcome(), Some(ExchangeOutcome::NotSent));
    assert!(scene.faults.count(StoreCall::Claim) >= 2);
    assert_eq!((scene.script.refreshes(), scene.stored().await.0), (0, 1));
    scene.faults.fail_always(StoreCall::Claim, false);
    scene.clock.advance(10 * SECOND).await;
    assert_eq!(scene.token().await.unwrap().expose_secret(), "access-2");
    assert_eq!(scene.script.refreshes(), 1);
}

#[tokio::test]
async fn a_claim_that_is_not_answered_sends_nothing() {
    let scene = Scene::expired().await;
    scene.faults.hold(StoreCall::Claim);
    assert_eq!(kind(scene.token().await), ErrorKind::Store);
    scene.faults.release(StoreCall::Claim);
    scene.clock.advance(SECOND / 100).await;
    assert_eq!(scene.script.refreshes(), 0);
    scene.clock.advance(5 * SECOND).await;
    assert_eq!(scene.token().await.unwrap().expose_secret(), "access-2");
    assert_eq!(scene.script.refreshes(), 1);
}

/// The lease is 20 s, of which 10 have to be left when a request is sent.
#[tokio::test]
async fn a_claim_that_is_answered_when_hardly_any_of_its_lease_is_left_sends_nothing() {
    let (clock, faulty) = (ManualClock::new(), FaultyStore::new(MemoryStore::new()));
    let provider: ScriptedProvider = ScriptedProvider::new().lifetime(LIFE);
    let (faults, script) = (faulty.faults(), provider.script());
    let policy = Policy { store_wait: 30 * SECOND, ..Policy::default() };
    let builder = Supervisor::builder().clock(clock.clone()).policy(policy).store(faulty);
    let supervisor = builder.provider("p", provider).start().await.unwrap();
    let session = session(&supervisor, "device");
    let _ = session.establish(()).await.unwrap();
    for (late, sent) in [(11, 0), (9, 1)] {
        clock.advance(LIFE).await;
        faults.hold(StoreCall::Claim);
        let asked = session.clone();
        let refreshing = tokio::spawn(async move { asked.refresh().await.map(drop) });
        faults.held(StoreCall::Claim, 1).await;
        clock.advance(late * SECOND).await;
        faults.release(StoreCall::Claim);
        let outcome = refreshing.await.unwrap().map_err(|failed| failed.outcome());
        let not_sent = Err(Some(ExchangeOutcome::NotSent));
        assert_eq!(outcome, if sent == 0 { not_sent } else { Ok(()) }, "{late} s");
        assert_eq!(script.refreshes(), sent, "{late} s");
    }
}

/// By a clock that goes on while the store is asked.
#[tokio::test]
async fn an_exchange_claims_and_commits_once_and_renews_nothing_while_its_server_is_fast() {
    let faulty = FaultyStore::new(MemoryStore::new());
    let faults = faulty.faults();
    let provider: ScriptedProvider = ScriptedProvider::new();
    let builder = Supervisor::builder().store(faulty).provider("p", provider);
    let supervisor = builder.start().await.unwrap();
    let session: Session<ScriptedProvider> = session(&supervisor, "device");
    let _ = session.establish(()).await.unwrap();
    session.refresh().await.unwrap();
    let counts = [StoreCall::Claim, StoreCall::Commit, StoreCall::Renew, StoreCall::Load];
    assert_eq!(counts.map(|call| faults.count(call)), [2, 2, 0, 1]);
}

#[tokio::test]
async fn a_grant_whose_claim_cannot_be_written_is_not_sent() {
    let scene = Scene::start(&MemoryStore::new(), &ManualClock::new()).await;
    scene.faults.fail_next(StoreCall::Claim, 1);
    let failed = until(&scene.clock, scene.session.establish(())).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Store);
    assert_eq!((failed.outcome(), scene.script.establishes()), (Some(ExchangeOutcome::NotSent), 0));
    assert_eq!(kind(scene.token().await), ErrorKind::NotEstablished);
    let _ = until(&scene.clock, scene.session.establish(())).await.unwrap();
    assert_eq!(scene.token().await.unwrap().expose_secret(), "access-1");
}

#[tokio::test]
async fn credentials_are_saved_before_they_are_published() {
    let mut scene = Scene::expired().await;
    scene.faults.hold(StoreCall::Commit);
    let mut callers = scene.callers(100).await;
    scene.faults.held(StoreCall::Commit, 1).await;
    scene.clock.advance(SECOND).await;
    assert_eq!(scene.script.ended(), 2, "the answer is here");
    assert!(callers.try_join_next().is_none());
    assert!(scene.session.try_permission_token().is_none());
    assert_eq!((scene.stored().await.0, scene.news()), (1, vec![]));
    scene.faults.release(StoreCall::Commit);
    while let Some(token) = callers.join_next().await {
        assert_eq!(token.unwrap().unwrap().expose_secret(), "access-2");
        assert_eq!(scene.stored().await, (2, "refresh-2".to_owned()));
    }
    assert_eq!(scene.news(), [EventKind::Refreshed]);
}

#[tokio::test]
async fn the_old_token_is_served_while_the_new_one_is_being_saved() {
    let scene = Scene::established().await;
    scene.clock.advance(LIFE - 10 * SECOND).await;
    scene.faults.hold(StoreCall::Commit);
    assert_eq!(scene.session.permission_token().await.unwrap().expose_secret(), "access-1");
    scene.faults.held(StoreCall::Commit, 1).await;
    assert_eq!(scene.session.permission_token().await.unwrap().expose_secret(), "access-1");
    scene.faults.release(StoreCall::Commit);
    scene.clock.advance(SECOND).await;
    assert_eq!(scene.session.permission_token().await.unwrap().expose_secret(), "access-2");
}

#[tokio::test]
async fn a_grant_is_saved_before_its_caller_hears_of_it() {
    let scene = Scene::start(&MemoryStore::new(), &ManualClock::new()).await;
    scene.faults.hold(StoreCall::Commit);
    let session = scene.session.clone();
    let mut granted = JoinSet::new();
    granted.spawn(async move { session.establish(()).await.map(drop) });
    scene.faults.held(StoreCall::Commit, 1).await;
    scene.clock.advance(SECOND).await;
    assert!(granted.try_join_next().is_none());
    assert!(scene.session.try_permission_token().is_none());
    scene.faults.release(StoreCall::Commit);
    granted.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(scene.stored().await, (1, "refresh-1".to_owned()));
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_costs_no_refresh() {
    let scene = Scene::established().await;
    for round in 1..=20 {
        scene.clock.advance(LIFE + SECOND).await;
        let failing = StoreCall::ALL[round % StoreCall::ALL.len()];
        scene.faults.fail_next(failing, 3);
        scene.faults.fail_after_writing(StoreCall::Commit, u32::try_from(round % 3).unwrap());
        // Commits before claims: what one round owes is saved before the next one claims.
        while scene.token().await.is_err() {
            scene.clock.advance(10 * SECOND).await;
        }
        scene.clock.advance(60 * SECOND).await;
        scene.faults.fail_next(failing, 0);
    }
    assert_eq!(scene.script.refreshes(), 20);
    assert_eq!(scene.stored().await, (21, "refresh-21".to_owned()));
    assert!(scene.is_saved().await);
}
