//! Sessions that one supervisor leaves in the store and another one takes over.

use std::time::Duration;

use session_warden::ErrorKind;
use session_warden::clock::Clock;
use session_warden::event::EventKind;
use session_warden::provider::FailureClass;
use session_warden::session::{Adopt, Revocation, State};
use session_warden::store::{MemoryStore, Phase};
use session_warden::testing::{ManualClock, Reply, StoreCall};
use session_warden::token::Tokens;
use tokio::task::JoinSet;

use crate::fixtures::{ScriptedFixture, kind};
use crate::support::{LIFE, SECOND, until};

#[tokio::test]
async fn a_session_that_was_left_at_rest_is_found_on_first_use() {
    let former = ScriptedFixture::established().await;
    assert!(former.supervisor.shutdown(SECOND).await.is_clean());
    let fixture = ScriptedFixture::start(&former.store, &former.clock).await;
    let token = fixture.token().await.unwrap();
    let seen = (token.expose_secret(), token.epoch(), token.generation());
    assert_eq!(seen, ("access-1", 1, 1));
    assert_eq!(fixture.session.status().await.unwrap().state, State::Active);
    assert_eq!((fixture.script.establishes(), fixture.script.refreshes()), (0, 0));
    fixture.clock.advance(LIFE).await;
    assert_eq!(fixture.token().await.unwrap().generation(), 2);
    assert_eq!((fixture.script.establishes(), fixture.script.refreshes()), (0, 1));
}

/// A session whose refresh is at the server, as another supervisor finds it.
async fn left_mid_refresh(reply: Reply) -> (ScriptedFixture, ScriptedFixture) {
    let former = ScriptedFixture::expired().await;
    former.script.refresh(reply);
    drop(former.callers(1).await);
    former.script.held(1).await;
    assert!(former.record().await.lease.is_some());
    let fixture = ScriptedFixture::start(&former.store, &former.clock).await;
    (former, fixture)
}

/// The same, when its lease has ended because it does not reach the store, and how long it is held
/// back from then on.
async fn fell_silent(reply: Reply) -> (ScriptedFixture, ScriptedFixture, Duration) {
    let (former, fixture) = left_mid_refresh(reply).await;
    former.faults.fail_always(StoreCall::Renew, true);
    let begun = fixture.clock.now().boot;
    let failed = fixture.token().await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::RetryLater);
    assert!(fixture.clock.now().boot.since(begun) >= 20 * SECOND, "its lease is waited for");
    assert_eq!(fixture.session.status().await.unwrap().state, State::InDoubt);
    let hold = failed.retry_after().unwrap();
    (former, fixture, hold)
}

#[tokio::test]
async fn a_session_that_was_left_mid_refresh_is_retried_after_lease_and_hold() {
    let (former, fixture, hold) = fell_silent(Reply::Hang).await;
    assert!(hold > 44 * SECOND && hold <= 45 * SECOND, "{hold:?}");
    fixture.clock.advance(hold - Duration::from_millis(1)).await;
    assert_eq!(kind(fixture.session.permission_token().await), ErrorKind::RetryLater);
    assert_eq!((fixture.script.refreshes(), fixture.faults.count(StoreCall::TakeOver)), (0, 0));
    fixture.clock.advance(Duration::from_millis(1)).await;
    assert_eq!(fixture.token().await.unwrap().generation(), 2);
    let asked = (fixture.script.refreshes(), fixture.faults.count(StoreCall::TakeOver));
    assert_eq!(asked, (1, 1));
    assert_eq!((fixture.record().await.phase, former.script.refreshes()), (Phase::Active, 1));
}

#[tokio::test]
async fn a_holder_that_comes_back_within_the_hold_spares_the_retry() {
    let (former, fixture, hold) = fell_silent(Reply::Hold).await;
    fixture.clock.advance(hold / 2).await;
    former.script.release();
    fixture.clock.advance(hold / 2).await;
    let token = fixture.token().await.unwrap();
    assert_eq!((token.expose_secret(), token.generation()), ("access-2", 2));
    assert_eq!((fixture.script.refreshes(), former.script.refreshes()), (0, 1));
}

#[tokio::test]
async fn a_refresh_that_another_supervisor_runs_serves_those_who_wait_here() {
    let (former, fixture) = left_mid_refresh(Reply::Hold).await;
    let mut callers = fixture.callers(10).await;
    fixture.clock.advance(3 * SECOND).await;
    assert_eq!(callers.len(), 10);
    assert!(callers.try_join_next().is_none(), "they wait");
    former.script.release();
    fixture.clock.advance(SECOND / 2).await;
    while let Some(token) = callers.join_next().await {
        assert_eq!(token.unwrap().unwrap().expose_secret(), "access-2");
    }
    assert_eq!((fixture.script.refreshes(), former.script.refreshes()), (0, 1));
}

#[tokio::test]
async fn a_refresh_that_another_supervisor_saw_fail_is_not_tried_here_at_once() {
    let reply = Reply::HoldThenFail(FailureClass::NotProcessed);
    let (former, fixture) = left_mid_refresh(reply).await;
    let mut callers = fixture.callers(1).await;
    former.script.release();
    let failed = until(&fixture.clock, callers.join_next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!((failed.kind(), fixture.script.refreshes()), (ErrorKind::RetryLater, 0));
    assert!(failed.retry_after().unwrap() <= SECOND, "its back-off is this one's too");
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.token().await.unwrap().generation(), 2);
}

#[tokio::test]
async fn of_two_grants_at_two_supervisors_one_follows_the_other_and_the_last_one_stands() {
    let former = ScriptedFixture::established().await;
    let fixture = ScriptedFixture::start(&former.store, &former.clock).await;
    let session = former.session.clone();
    former.script.establish(Reply::Hold);
    let first = tokio::spawn(async move { session.establish(()).await.map(drop) });
    former.script.held(1).await;
    let session = fixture.session.clone();
    let second = tokio::spawn(async move { session.establish(()).await.map(drop) });
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.script.establishes(), 0, "it waits for its turn");
    former.script.release();
    until(&fixture.clock, first).await.unwrap().unwrap();
    until(&fixture.clock, second).await.unwrap().unwrap();
    let record = fixture.record().await;
    assert_eq!((record.epoch, fixture.script.establishes()), (3, 1));
    assert_eq!(fixture.token().await.unwrap().epoch(), 3);
}

#[tokio::test]
async fn a_revocation_ends_what_another_supervisor_refreshed_meanwhile() {
    let former = ScriptedFixture::established().await;
    let fixture = ScriptedFixture::start(&former.store, &former.clock).await;
    assert_eq!(fixture.token().await.unwrap().generation(), 1);
    until(&former.clock, former.session.refresh()).await.unwrap();
    let revoked = until(&fixture.clock, fixture.session.revoke()).await.unwrap();
    assert_eq!(revoked, Revocation::AtServer);
    let record = fixture.record().await;
    assert_eq!((record.phase, record.generation), (Phase::Closed, 3));
}

#[tokio::test]
async fn a_token_of_two_answers_to_one_claim_can_be_rejected_like_any_other() {
    let (former, fixture, hold) = fell_silent(Reply::Hold).await;
    fixture.script.refresh(Reply::Hold);
    fixture.clock.advance(hold).await;
    let mut callers = fixture.callers(1).await;
    fixture.script.held(1).await;
    // Both answers arrive: the earlier claim's first, so the later one's gets the number after.
    former.script.release();
    fixture.clock.advance(SECOND / 100).await;
    assert_eq!(fixture.record().await.generation, 2);
    fixture.script.release();
    let token = callers.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!((token.generation(), fixture.record().await.generation), (3, 3));
    fixture.session.invalidate(&token);
    assert_eq!(fixture.token().await.unwrap().generation(), 4);
    assert_eq!(fixture.script.refreshes(), 2);
}

#[tokio::test]
async fn a_save_that_must_wait_for_a_newer_claim_ends_with_what_that_one_got() {
    let (former, mut fixture, hold) = fell_silent(Reply::Hold).await;
    fixture.script.refresh(Reply::Hold);
    fixture.clock.advance(hold).await;
    let mut callers = fixture.callers(1).await;
    fixture.script.held(1).await;
    // The former's answer is stored, and its next refresh runs when the other answer comes.
    former.script.release();
    former.clock.advance(SECOND / 100).await;
    former.script.refresh(Reply::Hold);
    let session = former.session.clone();
    let mut refreshed = JoinSet::new();
    refreshed.spawn(async move { session.refresh().await });
    former.script.held(2).await;
    fixture.script.release();
    assert_eq!(callers.join_next().await.unwrap().unwrap().unwrap().generation(), 2);
    assert_eq!(fixture.news(), [EventKind::Refreshed, EventKind::Unsaved]);
    assert!(fixture.record().await.lease.is_some() && fixture.record().await.generation == 2);
    former.script.release();
    assert_eq!(refreshed.join_next().await.unwrap().unwrap().unwrap().generation(), 3);
    fixture.clock.advance(30 * SECOND).await;
    assert_eq!(fixture.supervisor.snapshot().unsaved, 0);
    let token = fixture.token().await.unwrap();
    assert_eq!((token.expose_secret(), token.generation()), ("access-3", 3));
    assert_eq!((former.script.refreshes(), fixture.script.refreshes()), (2, 1));
    // The unsaved credentials are of the session's current grant.
    assert_eq!((former.script.revocations(), fixture.script.revocations()), (0, 0));
    assert!(!fixture.news().contains(&EventKind::TokensSuperseded));
}

#[tokio::test]
async fn what_the_server_was_not_told_is_told_later_though_the_due_scan_fails_at_first() {
    let former = ScriptedFixture::established().await;
    former.script.revoke(Reply::Fail(FailureClass::NotSent));
    let revoked = until(&former.clock, former.session.revoke()).await.unwrap();
    assert_eq!(revoked, Revocation::Queued);
    assert!(former.supervisor.shutdown(SECOND).await.is_clean());
    let fixture = ScriptedFixture::start_with(&former.store, &former.clock, |faults| {
        faults.fail_next(StoreCall::Due, 2);
    });
    let fixture = fixture.await;
    fixture.clock.advance(SECOND).await;
    assert_eq!((fixture.faults.count(StoreCall::Due), fixture.script.revocations()), (1, 0));
    fixture.clock.advance(30 * SECOND).await;
    assert_eq!(fixture.script.revocations(), 1);
    let record = fixture.record().await;
    assert!(record.outbox.is_none() && record.due_at.is_none(), "{record:?}");
}

#[tokio::test]
async fn an_owed_save_that_finds_its_session_lost_is_not_trusted() {
    let former = ScriptedFixture::unsaved().await;
    let mut fixture = ScriptedFixture::start(&former.store, &former.clock).await;
    assert_eq!(kind(fixture.token().await), ErrorKind::RetryLater);
    fixture.script.refresh(Reply::Fail(FailureClass::Rejected));
    fixture.clock.advance(50 * SECOND).await;
    assert!(matches!(kind(fixture.token().await), ErrorKind::SignInAgain(_)));
    assert_eq!(fixture.record().await.phase, Phase::Lost);
    assert!(matches!(fixture.news()[..], [EventKind::Lost(_)]));
    // The server got the old refresh token a second time: the tokens of the first response may be
    // dead.
    former.faults.fail_always(StoreCall::Commit, false);
    former.clock.advance(30 * SECOND).await;
    let record = former.record().await;
    assert_eq!((record.phase, record.suspect, record.generation), (Phase::Active, true, 2));
    assert_eq!(former.token().await.unwrap().expose_secret(), "access-3");
    assert_eq!(former.script.refreshes(), 2, "so it is tried before it is handed out");
    assert!(!former.record().await.suspect);
}

#[tokio::test]
async fn a_restart_does_not_put_off_the_report_that_a_refresh_token_will_end() {
    let former = ScriptedFixture::start(&MemoryStore::new(), &ManualClock::new()).await;
    let end = former.clock.now().wall + 1000 * SECOND;
    let tokens = Tokens::new(()).with_refresh_token("refresh", Some(end));
    former.session.adopt(tokens, Adopt::IfVacant).await.unwrap();
    former.clock.advance(400 * SECOND).await;
    assert!(former.supervisor.shutdown(SECOND).await.is_clean());
    let mut fixture = ScriptedFixture::start(&former.store, &former.clock).await;
    assert_eq!(fixture.session.status().await.unwrap().state, State::Active);
    fixture.clock.advance(99 * SECOND).await;
    assert_eq!(fixture.news(), []);
    fixture.clock.advance(2 * SECOND).await;
    assert!(matches!(fixture.news()[..], [EventKind::RefreshExpiring { .. }]));
}
