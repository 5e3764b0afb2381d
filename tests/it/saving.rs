//! New credentials are never lost if the store fails, and nothing is sent without a claim.

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

use crate::fixtures::{ScriptedFixture, kind};
use crate::support::{LIFE, SECOND, session, until};

#[tokio::test]
async fn a_refresh_whose_save_fails_is_served_reported_and_saved_later() {
    let mut fixture = ScriptedFixture::expired().await;
    fixture.faults.fail_next(StoreCall::Commit, 3);
    let token = fixture.session.permission_token().await.unwrap();
    assert_eq!((token.expose_secret(), token.generation()), ("access-2", 2));
    assert!(!fixture.is_saved().await);
    assert_eq!(fixture.supervisor.snapshot().unsaved, 1);
    assert_eq!(fixture.stored().await, (1, "refresh-1".to_owned()));
    assert_eq!(fixture.news(), [EventKind::Refreshed, EventKind::Unsaved]);
    fixture.clock.advance(30 * SECOND).await;
    assert!(fixture.is_saved().await);
    assert_eq!(fixture.stored().await, (2, "refresh-2".to_owned()));
    assert_eq!(fixture.news(), [EventKind::Saved]);
    assert_eq!(fixture.supervisor.snapshot().unsaved, 0);
    // The grant's, three that failed, and the one that did not.
    assert_eq!((fixture.faults.count(StoreCall::Commit), fixture.script.refreshes()), (5, 1));
}

#[tokio::test]
async fn a_grant_whose_save_fails_is_a_session_all_the_same() {
    let mut fixture = ScriptedFixture::start(&MemoryStore::new(), &ManualClock::new()).await;
    fixture.faults.fail_next(StoreCall::Commit, 1);
    let _ = fixture.session.establish(()).await.unwrap();
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-1");
    assert_eq!(fixture.news(), [EventKind::Established, EventKind::Unsaved]);
    fixture.clock.advance(30 * SECOND).await;
    assert_eq!(fixture.stored().await, (1, "refresh-1".to_owned()));
    assert_eq!(fixture.news(), [EventKind::Saved]);
    assert_eq!(fixture.script.establishes(), 1);
}

#[tokio::test]
async fn a_save_that_takes_longer_than_two_seconds_is_served_as_owed_and_settles_once() {
    let mut fixture = ScriptedFixture::expired().await;
    fixture.faults.hold(StoreCall::Commit);
    let mut callers = fixture.callers(10).await;
    fixture.faults.held(StoreCall::Commit, 1).await;
    fixture.clock.advance(2 * SECOND - Duration::from_millis(1)).await;
    assert!(callers.try_join_next().is_none(), "nobody is served before");
    fixture.clock.advance(Duration::from_millis(1)).await;
    while let Some(token) = callers.join_next().await {
        assert_eq!(token.unwrap().unwrap().expose_secret(), "access-2");
    }
    assert!(!fixture.is_saved().await);
    assert_eq!(fixture.news(), [EventKind::Refreshed, EventKind::Unsaved]);
    // The payer asks again and again, each time for as long as a store may take.
    fixture.clock.advance(30 * SECOND).await;
    fixture.faults.held(StoreCall::Commit, 2).await;
    fixture.faults.release(StoreCall::Commit);
    fixture.clock.advance(30 * SECOND).await;
    assert!(fixture.is_saved().await);
    assert_eq!(fixture.stored().await, (2, "refresh-2".to_owned()));
    assert_eq!(fixture.news(), [EventKind::Saved]);
    let asked = fixture.faults.count(StoreCall::Commit);
    assert!((3..=9).contains(&asked), "{asked} commits in 30 s");
    assert_eq!(fixture.script.refreshes(), 1);
}

#[tokio::test]
async fn a_lost_acknowledgement_of_a_commit_causes_no_second_refresh() {
    let mut fixture = ScriptedFixture::expired().await;
    fixture.faults.fail_after_writing(StoreCall::Commit, 2);
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-2");
    assert_eq!(fixture.stored().await, (2, "refresh-2".to_owned()));
    assert_eq!(fixture.news(), [EventKind::Refreshed, EventKind::Unsaved]);
    fixture.clock.advance(30 * SECOND).await;
    assert_eq!(fixture.news(), [EventKind::Saved]);
    assert_eq!(fixture.stored().await, (2, "refresh-2".to_owned()), "it found its own attempt");
    assert_eq!(fixture.script.refreshes(), 1);
    fixture.clock.advance(LIFE).await;
    assert_eq!(fixture.token().await.unwrap().generation(), 3);
    assert_eq!(
        (fixture.stored().await, fixture.script.refreshes()),
        ((3, "refresh-3".to_owned()), 2)
    );
}

#[tokio::test]
async fn a_lost_acknowledgement_of_a_claim_sends_nothing_and_heals() {
    let fixture = ScriptedFixture::expired().await;
    fixture.faults.fail_after_writing(StoreCall::Claim, 1);
    assert_eq!(kind(fixture.token().await), ErrorKind::Store);
    assert!(fixture.record().await.lease.is_some());
    assert_eq!(fixture.script.refreshes(), 0);
    fixture.clock.advance(5 * SECOND).await;
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-2");
    assert_eq!(
        (fixture.stored().await, fixture.script.refreshes()),
        ((2, "refresh-2".to_owned()), 1)
    );
}

#[tokio::test]
async fn a_lost_acknowledgement_of_a_settle_leaves_the_session_usable() {
    let fixture = ScriptedFixture::expired().await;
    fixture.script.refresh(Reply::Fail(FailureClass::NotSent));
    fixture.faults.fail_after_writing(StoreCall::Settle, 1);
    assert_eq!(kind(fixture.token().await), ErrorKind::RetryLater);
    fixture.script.refresh(Reply::Fail(FailureClass::NotSent));
    fixture.faults.fail_next(StoreCall::Settle, 1);
    fixture.clock.advance(5 * SECOND).await;
    assert_eq!(kind(fixture.token().await), ErrorKind::RetryLater);
    assert!(fixture.record().await.lease.is_some(), "the settle was not written");
    fixture.clock.advance(10 * SECOND).await;
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-2");
    assert_eq!((fixture.stored().await.0, fixture.script.refreshes()), (2, 3));
}

#[tokio::test]
async fn a_lost_acknowledgement_of_a_close_is_made_good_by_the_next_one() {
    let fixture = ScriptedFixture::established().await;
    fixture.faults.fail_after_writing(StoreCall::Close, 1);
    let failed = until(&fixture.clock, fixture.session.revoke()).await.unwrap_err();
    assert_eq!((failed.kind(), fixture.script.revocations()), (ErrorKind::Store, 0));
    assert_eq!(fixture.record().await.phase, Phase::Closed);
    let revoked = until(&fixture.clock, fixture.session.revoke()).await.unwrap();
    assert_eq!((revoked, fixture.script.revocations()), (Revocation::AtServer, 1));
    let record = fixture.record().await;
    assert!(record.outbox.is_none() && record.due_at.is_none(), "{record:?}");
    assert_eq!(kind(fixture.token().await), ErrorKind::NotEstablished);
}

#[tokio::test]
async fn a_close_saves_what_is_owed_first() {
    let fixture = ScriptedFixture::unsaved().await;
    let failed = until(&fixture.clock, fixture.session.revoke()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Store);
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-2", "it is as it was");
    fixture.faults.fail_always(StoreCall::Commit, false);
    // So that the record still has the tokens that must be revoked.
    fixture.script.revoke(Reply::Fail(FailureClass::NotSent));
    let revoked = until(&fixture.clock, fixture.session.revoke()).await.unwrap();
    assert_eq!(revoked, Revocation::Queued);
    let outbox = fixture.record().await.outbox.unwrap();
    assert_eq!(outbox.tokens().refresh_token().unwrap().expose_secret(), "refresh-2");
    assert_eq!(fixture.supervisor.snapshot().unsaved, 0);
}

#[tokio::test]
async fn while_owed_and_due_no_exchange_is_started() {
    let fixture = ScriptedFixture::unsaved().await;
    fixture.clock.advance(LIFE - 10 * SECOND).await;
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-2", "due, and still good");
    fixture.clock.advance(11 * SECOND).await;
    assert_eq!(kind(fixture.token().await), ErrorKind::RetryLater);
    assert_eq!(fixture.script.refreshes(), 1);
    fixture.faults.fail_always(StoreCall::Commit, false);
    fixture.clock.advance(30 * SECOND).await;
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-3");
    assert_eq!(
        (fixture.stored().await, fixture.script.refreshes()),
        ((3, "refresh-3".to_owned()), 2)
    );
}

#[tokio::test]
async fn who_wants_a_newer_token_while_one_is_owed_is_told_to_wait_and_not_to_sign_in() {
    let fixture = ScriptedFixture::unsaved().await;
    let refreshed = until(&fixture.clock, fixture.session.refresh()).await;
    assert_eq!(kind(refreshed), ErrorKind::RetryLater);
    let token = fixture.token().await.unwrap();
    fixture.session.invalidate(&token);
    assert_eq!(kind(fixture.token().await), ErrorKind::RetryLater);
    assert_eq!(fixture.script.refreshes(), 1);
    fixture.faults.fail_always(StoreCall::Commit, false);
    fixture.clock.advance(30 * SECOND).await;
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-3");
}

#[tokio::test]
async fn a_shutdown_waits_for_an_owed_save_and_asks_at_once() {
    let fixture = ScriptedFixture::unsaved().await;
    // Far into the payer's waiting times.
    fixture.clock.advance(300 * SECOND).await;
    let before = fixture.faults.count(StoreCall::Commit);
    fixture.faults.fail_always(StoreCall::Commit, false);
    let report = fixture.supervisor.shutdown(10 * SECOND).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(fixture.faults.count(StoreCall::Commit), before + 1);
    assert_eq!(fixture.stored().await, (2, "refresh-2".to_owned()));
}

#[tokio::test]
async fn a_shutdown_names_what_stays_unsaved() {
    let fixture = ScriptedFixture::unsaved().await;
    let report = until(&fixture.clock, fixture.supervisor.shutdown(10 * SECOND)).await;
    assert_eq!(
        (report.exchanges_cut, &report.unsaved[..]),
        (0, &[fixture.session.id().clone()][..])
    );
    assert!(!report.is_clean());
    assert_eq!(fixture.stored().await, (1, "refresh-1".to_owned()));
}

#[tokio::test]
async fn callers_of_an_unreadable_session_cause_one_read_and_get_one_outcome() {
    let former = ScriptedFixture::established().await;
    let fixture = ScriptedFixture::start(&former.store, &former.clock).await;
    fixture.faults.hold(StoreCall::Load);
    let mut callers = fixture.callers(1000).await;
    fixture.faults.held(StoreCall::Load, 1).await;
    fixture.faults.fail_next(StoreCall::Load, 1);
    fixture.faults.release(StoreCall::Load);
    while let Some(outcome) = callers.join_next().await {
        assert_eq!(kind(outcome.unwrap()), ErrorKind::Store);
    }
    let failed = fixture.session.permission_token().await.unwrap_err();
    assert!(failed.is_transient() && failed.retry_after().is_some(), "{failed:?}");
    assert_eq!(fixture.session.status().await.unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(fixture.faults.count(StoreCall::Load), 1, "nobody reads before it is time");
    fixture.clock.advance(2 * SECOND).await;
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-1");
    assert_eq!((fixture.faults.count(StoreCall::Load), fixture.script.refreshes()), (2, 0));
}

#[tokio::test]
async fn a_session_that_cannot_be_read_is_never_taken_for_one_that_does_not_exist() {
    let former = ScriptedFixture::established().await;
    let fixture = ScriptedFixture::start(&former.store, &former.clock).await;
    fixture.faults.fail_always(StoreCall::Load, true);
    for _ in 0..20 {
        assert_eq!(kind(fixture.token().await), ErrorKind::Store);
        let granted = until(&fixture.clock, fixture.session.establish(())).await;
        assert_eq!(granted.unwrap_err().kind(), ErrorKind::Store);
        let revoked = until(&fixture.clock, fixture.session.revoke()).await;
        assert_eq!(revoked.unwrap_err().kind(), ErrorKind::Store);
        fixture.clock.advance(10 * SECOND).await;
    }
    fixture.faults.fail_always(StoreCall::Load, false);
    fixture.faults.hold(StoreCall::Load);
    fixture.clock.advance(300 * SECOND).await;
    assert_eq!(kind(fixture.token().await), ErrorKind::Store, "nor one that is slow");
    fixture.faults.release(StoreCall::Load);
    fixture.clock.advance(300 * SECOND).await;
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-1");
    assert_eq!((fixture.script.establishes(), fixture.script.revocations()), (0, 0));
}

#[tokio::test]
async fn a_claim_that_cannot_be_written_sends_nothing() {
    let fixture = ScriptedFixture::established().await;
    fixture.faults.fail_always(StoreCall::Claim, true);
    fixture.clock.advance(LIFE - 10 * SECOND).await;
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-1", "due, and still good");
    fixture.clock.advance(11 * SECOND).await;
    let failed = fixture.token().await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Store);
    assert_eq!(failed.outcome(), Some(ExchangeOutcome::NotSent));
    assert!(fixture.faults.count(StoreCall::Claim) >= 2);
    assert_eq!((fixture.script.refreshes(), fixture.stored().await.0), (0, 1));
    fixture.faults.fail_always(StoreCall::Claim, false);
    fixture.clock.advance(10 * SECOND).await;
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-2");
    assert_eq!(fixture.script.refreshes(), 1);
}

#[tokio::test]
async fn a_claim_that_is_not_answered_sends_nothing() {
    let fixture = ScriptedFixture::expired().await;
    fixture.faults.hold(StoreCall::Claim);
    assert_eq!(kind(fixture.token().await), ErrorKind::Store);
    fixture.faults.release(StoreCall::Claim);
    fixture.clock.advance(SECOND / 100).await;
    assert_eq!(fixture.script.refreshes(), 0);
    fixture.clock.advance(5 * SECOND).await;
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-2");
    assert_eq!(fixture.script.refreshes(), 1);
}

/// The lease is 20 s, of which 10 have to be left when a request is sent.
#[tokio::test]
async fn a_claim_that_is_answered_when_hardly_any_of_its_lease_is_left_sends_nothing() {
    let (clock, faulty) = (ManualClock::new(), FaultyStore::new(MemoryStore::new()));
    let provider: ScriptedProvider = ScriptedProvider::new().lifetime(LIFE);
    let (faults, script) = (faulty.faults(), provider.script());
    let policy = Policy { store_timeout: 30 * SECOND, ..Policy::default() };
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
    let fixture = ScriptedFixture::start(&MemoryStore::new(), &ManualClock::new()).await;
    fixture.faults.fail_next(StoreCall::Claim, 1);
    let failed = until(&fixture.clock, fixture.session.establish(())).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Store);
    assert_eq!(
        (failed.outcome(), fixture.script.establishes()),
        (Some(ExchangeOutcome::NotSent), 0)
    );
    assert_eq!(kind(fixture.token().await), ErrorKind::NotEstablished);
    let _ = until(&fixture.clock, fixture.session.establish(())).await.unwrap();
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-1");
}

#[tokio::test]
async fn credentials_are_saved_before_they_are_published() {
    let mut fixture = ScriptedFixture::expired().await;
    fixture.faults.hold(StoreCall::Commit);
    let mut callers = fixture.callers(100).await;
    fixture.faults.held(StoreCall::Commit, 1).await;
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.script.ended(), 2, "the answer is here");
    assert!(callers.try_join_next().is_none());
    assert!(fixture.session.try_permission_token().is_none());
    assert_eq!((fixture.stored().await.0, fixture.news()), (1, vec![]));
    fixture.faults.release(StoreCall::Commit);
    while let Some(token) = callers.join_next().await {
        assert_eq!(token.unwrap().unwrap().expose_secret(), "access-2");
        assert_eq!(fixture.stored().await, (2, "refresh-2".to_owned()));
    }
    assert_eq!(fixture.news(), [EventKind::Refreshed]);
}

#[tokio::test]
async fn the_old_token_is_served_while_the_new_one_is_being_saved() {
    let fixture = ScriptedFixture::established().await;
    fixture.clock.advance(LIFE - 10 * SECOND).await;
    fixture.faults.hold(StoreCall::Commit);
    assert_eq!(fixture.session.permission_token().await.unwrap().expose_secret(), "access-1");
    fixture.faults.held(StoreCall::Commit, 1).await;
    assert_eq!(fixture.session.permission_token().await.unwrap().expose_secret(), "access-1");
    fixture.faults.release(StoreCall::Commit);
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.session.permission_token().await.unwrap().expose_secret(), "access-2");
}

#[tokio::test]
async fn a_grant_is_saved_before_its_caller_hears_of_it() {
    let fixture = ScriptedFixture::start(&MemoryStore::new(), &ManualClock::new()).await;
    fixture.faults.hold(StoreCall::Commit);
    let session = fixture.session.clone();
    let mut granted = JoinSet::new();
    granted.spawn(async move { session.establish(()).await.map(drop) });
    fixture.faults.held(StoreCall::Commit, 1).await;
    fixture.clock.advance(SECOND).await;
    assert!(granted.try_join_next().is_none());
    assert!(fixture.session.try_permission_token().is_none());
    fixture.faults.release(StoreCall::Commit);
    granted.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(fixture.stored().await, (1, "refresh-1".to_owned()));
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_costs_no_refresh() {
    let fixture = ScriptedFixture::established().await;
    for round in 1..=20 {
        fixture.clock.advance(LIFE + SECOND).await;
        let failing = StoreCall::ALL[round % StoreCall::ALL.len()];
        fixture.faults.fail_next(failing, 3);
        fixture.faults.fail_after_writing(StoreCall::Commit, u32::try_from(round % 3).unwrap());
        // Commits before claims: the unsaved credentials of one round are saved before the next one
        // claims.
        while fixture.token().await.is_err() {
            fixture.clock.advance(10 * SECOND).await;
        }
        fixture.clock.advance(60 * SECOND).await;
        fixture.faults.fail_next(failing, 0);
    }
    assert_eq!(fixture.script.refreshes(), 20);
    assert_eq!(fixture.stored().await, (21, "refresh-21".to_owned()));
    assert!(fixture.is_saved().await);
}
