//! Commits: credentials are never thrown away, and never put over newer ones.

use std::time::Duration;

use super::fixture::{
    ALICE, BOB, ENDS, Fixture, HOUR, conflict, done, gist, is_about, is_stored, leased,
};
use crate::store::{Ends, Intent, Outcome, Phase, SettleTo};

/// A commit that must be stored as suspect.
#[track_caller]
fn is_stored_suspect(outcome: Outcome, epoch: u64, generation: u64) {
    let done = done(outcome);
    assert_eq!((done.epoch, done.generation, done.suspect), (epoch, generation, true));
}

pub(super) async fn an_establish_is_stored_as_epoch_1_and_generation_1(fixture: Fixture) {
    let grant = fixture.established().await;
    assert_eq!(fixture.gist().await, gist(1, 1, Phase::Active, "first"));
    let stored = fixture.stored().await;
    is_about(stored.due_in(), HOUR);
    is_about(stored.access_left(), HOUR);
    let record = stored.record;
    assert_eq!((record.made_by, record.fence), (Some(grant.attempt), grant.attempt.fence));
    assert_eq!((record.lease, record.lost, record.retry_at), (None, None, None));
    assert_eq!((record.tries, record.refresh_expires_at), (0, None));
    assert!(!record.suspect && record.outbox.is_none());
}

pub(super) async fn a_refresh_raises_the_generation_alone(fixture: Fixture) {
    fixture.established().await;
    for generation in 2..5 {
        let refresh = fixture.granted(ALICE, Intent::Refresh).await;
        is_stored(fixture.commit(refresh, "next").await, 1, generation);
        assert_eq!(fixture.gist().await, gist(1, generation, Phase::Active, "next"));
        let record = fixture.record().await;
        assert_eq!((record.made_by, record.lease), (Some(refresh.attempt), None));
    }
}

pub(super) async fn a_refresh_that_brings_no_access_token_is_stored_with_its_backoff(
    fixture: Fixture,
) {
    fixture.established().await;
    let refresh = fixture.granted(ALICE, Intent::Refresh).await;
    let ends = Ends { retry_in: Some(HOUR), ..ENDS };
    is_stored(fixture.commit_with(refresh, "next", ends).await, 1, 2);
    assert_eq!(fixture.gist().await, gist(1, 2, Phase::Active, "next"));
    let stored = fixture.stored().await;
    is_about(stored.retry_in(), HOUR);
    assert_eq!((stored.record.tries, stored.record.lease), (1, None));
    let claim = fixture.next_claim(BOB, Intent::Refresh).await;
    assert!(matches!(fixture.claim(claim).await, Outcome::Wait { .. }));
    // A grant need not wait, and ends the backoff.
    let grant = fixture.granted(BOB, Intent::Establish).await;
    is_stored(fixture.commit(grant, "second").await, 2, 3);
    let record = fixture.record().await;
    assert_eq!((record.tries, record.retry_at), (0, None));
}

pub(super) async fn a_second_grant_raises_epoch_and_generation(fixture: Fixture) {
    fixture.established().await;
    let grant = fixture.granted(BOB, Intent::Establish).await;
    is_stored(fixture.commit(grant, "second").await, 2, 2);
    assert_eq!(fixture.gist().await, gist(2, 2, Phase::Active, "second"));
}

pub(super) async fn a_commit_that_is_sent_twice_is_stored_once(fixture: Fixture) {
    let grant = fixture.established().await;
    is_stored(fixture.commit(grant, "first").await, 1, 1);
    let refresh = fixture.granted(ALICE, Intent::Refresh).await;
    is_stored(fixture.commit(refresh, "second").await, 1, 2);
    let version = fixture.record().await.version;
    is_stored(fixture.commit(refresh, "second").await, 1, 2);
    assert_eq!(fixture.gist().await, gist(1, 2, Phase::Active, "second"));
    assert_eq!(fixture.record().await.version, version, "it is written once");
    // Also when another process goes on from it, whose claim stays.
    let next = fixture.granted(BOB, Intent::Refresh).await;
    is_stored(fixture.commit(refresh, "second").await, 1, 2);
    assert_eq!(fixture.gist().await, gist(1, 2, Phase::Active, "second"));
    assert_eq!(fixture.claimed_by().await, Some(next.id()));
    is_stored(fixture.commit(next, "third").await, 1, 3);
    conflict(fixture.commit(refresh, "second").await);
    assert_eq!(fixture.gist().await, gist(1, 3, Phase::Active, "third"));
}

pub(super) async fn an_older_attempt_after_a_newer_one_is_superseded(fixture: Fixture) {
    let older = fixture.silently_refreshing().await;
    done(fixture.take_over(older.id()).await);
    let newer = fixture.granted(BOB, Intent::Refresh).await;
    is_stored(fixture.commit(newer, "newer").await, 1, 2);
    conflict(fixture.commit(older, "older").await);
    assert_eq!(fixture.gist().await, gist(1, 2, Phase::Active, "newer"));
}

pub(super) async fn a_newer_attempt_after_an_older_one_replaces_it(fixture: Fixture) {
    let older = fixture.silently_refreshing().await;
    done(fixture.take_over(older.id()).await);
    let newer = fixture.granted(BOB, Intent::Refresh).await;
    // The older one's token was rotated first, so the newer one's is the server's newest.
    is_stored(fixture.commit(older, "older").await, 1, 2);
    is_stored(fixture.commit(newer, "newer").await, 1, 3);
    assert_eq!(fixture.gist().await, gist(1, 3, Phase::Active, "newer"));
    assert_eq!(fixture.record().await.made_by, Some(newer.attempt));
    conflict(fixture.commit(older, "older").await);
    assert_eq!(fixture.gist().await, gist(1, 3, Phase::Active, "newer"));
}

pub(super) async fn a_commit_never_goes_over_a_running_newer_claim(fixture: Fixture) {
    let older = fixture.silently_refreshing().await;
    done(fixture.take_over(older.id()).await);
    let newer = fixture.granted(BOB, Intent::Refresh).await;
    is_stored(fixture.commit(older, "older").await, 1, 2);
    let running = fixture.granted(ALICE, Intent::Refresh).await;
    let found = leased(fixture.commit(newer, "newer").await);
    assert_eq!(found.record.lease.map(|lease| lease.claim), Some(running.id()));
    assert_eq!(fixture.gist().await, gist(1, 2, Phase::Active, "older"));
    assert_eq!(fixture.record().await.fence, running.attempt.fence);
    assert_eq!(fixture.claimed_by().await, Some(running.id()));
    // When the running one gave nothing, the newer one counts after all.
    done(fixture.settle(running, SettleTo::Before).await);
    is_stored(fixture.commit(newer, "newer").await, 1, 3);
    assert_eq!(fixture.gist().await, gist(1, 3, Phase::Active, "newer"));
}

pub(super) async fn a_refresh_of_a_former_grant_is_superseded(fixture: Fixture) {
    let refresh = fixture.silently_refreshing().await;
    done(fixture.take_over(refresh.id()).await);
    let grant = fixture.granted(BOB, Intent::Establish).await;
    is_stored(fixture.commit(grant, "second").await, 2, 2);
    conflict(fixture.commit(refresh, "late").await);
    assert_eq!(fixture.gist().await, gist(2, 2, Phase::Active, "second"));
    assert!(!fixture.is_suspect().await);
}

pub(super) async fn a_refresh_of_a_closed_session_is_superseded(fixture: Fixture) {
    let refresh = fixture.refreshing().await;
    let closed = fixture.closed().await;
    conflict(fixture.commit(refresh, "late").await);
    let record = fixture.record().await;
    assert_eq!((record.phase, record.generation), (Phase::Closed, closed.attempt.base));
    assert!(record.credentials.is_none());
    // Neither while a grant is claimed on the tombstone.
    done(fixture.settle(closed, SettleTo::Before).await);
    fixture.granted(ALICE, Intent::Establish).await;
    conflict(fixture.commit(refresh, "late").await);
}

pub(super) async fn a_grant_stands_although_the_session_was_closed_meanwhile(fixture: Fixture) {
    fixture.established().await;
    let grant = fixture.granted(ALICE, Intent::Establish).await;
    let closed = fixture.closed().await;
    let generation = closed.attempt.base;
    is_stored(fixture.commit(grant, "second").await, 2, generation + 1);
    assert_eq!(fixture.gist().await, gist(2, generation + 1, Phase::Active, "second"));
    let stored = fixture.stored().await;
    is_about(stored.due_in(), HOUR);
    assert!(stored.record.outbox.is_none(), "nobody would ever empty it");
    assert_eq!(stored.record.lease, None);
    conflict(fixture.settle(closed, SettleTo::Revoked).await);
    let refresh = fixture.granted(BOB, Intent::Refresh).await;
    is_stored(fixture.commit(refresh, "third").await, 2, generation + 2);
}

pub(super) async fn a_refresh_brings_a_lost_session_back_suspect(fixture: Fixture) {
    let refresh = fixture.lost().await;
    is_stored_suspect(fixture.commit(refresh, "late").await, 1, 2);
    // The second answer is the first.
    is_stored_suspect(fixture.commit(refresh, "late").await, 1, 2);
    assert_eq!(fixture.gist().await, gist(1, 2, Phase::Active, "late"));
    let stored = fixture.stored().await;
    is_about(stored.due_in(), HOUR);
    assert_eq!((stored.record.suspect, stored.record.lost), (true, None));
    let next = fixture.granted(BOB, Intent::Refresh).await;
    is_stored(fixture.commit(next, "next").await, 1, 3);
    assert!(!fixture.is_suspect().await, "a success dispels it");
}

pub(super) async fn a_refresh_brings_a_lost_session_back_suspect_under_a_grant(fixture: Fixture) {
    let refresh = fixture.lost().await;
    let grant = fixture.granted(BOB, Intent::Establish).await;
    is_stored_suspect(fixture.commit(refresh, "late").await, 1, 2);
    is_stored(fixture.commit(grant, "second").await, 2, 3);
    assert_eq!(fixture.gist().await, gist(2, 3, Phase::Active, "second"));
    assert!(!fixture.is_suspect().await);
}

pub(super) async fn a_grant_brings_a_lost_session_back_clean(fixture: Fixture) {
    fixture.lost().await;
    let grant = fixture.granted(ALICE, Intent::Establish).await;
    is_stored(fixture.commit(grant, "second").await, 2, 2);
    assert_eq!(fixture.gist().await, gist(2, 2, Phase::Active, "second"));
    let record = fixture.record().await;
    assert_eq!((record.suspect, record.lost, record.lease), (false, None, None));
    assert_eq!((record.retry_at, record.tries), (None, 0));
    assert!(fixture.is_due().await);
}

pub(super) async fn of_two_first_grants_the_second_to_be_committed_is_superseded(fixture: Fixture) {
    let first = fixture.silent(ALICE, Intent::Establish).await;
    done(fixture.take_over(first.id()).await);
    let second = fixture.granted(BOB, Intent::Establish).await;
    assert!(second.attempt.fence > first.attempt.fence, "{second:?} {first:?}");
    is_stored(fixture.commit(second, "second").await, 1, 1);
    conflict(fixture.commit(first, "first").await);
    assert_eq!(fixture.gist().await, gist(1, 1, Phase::Active, "second"));
    // One that comes first stands, though its claim was taken away.
    let fixture = fixture.named("other");
    let first = fixture.silent(ALICE, Intent::Establish).await;
    done(fixture.take_over(first.id()).await);
    is_stored(fixture.commit(first, "first").await, 1, 1);
    let next = fixture.granted(BOB, Intent::Refresh).await;
    assert!(next.attempt.fence > first.attempt.fence, "{next:?} {first:?}");
    is_stored(fixture.commit(next, "next").await, 1, 2);
}

pub(super) async fn what_a_commit_says_of_the_next_look_replaces_what_was_said(fixture: Fixture) {
    let refresh = fixture.refreshing().await;
    done(fixture.settle_for(refresh, SettleTo::InDoubt, Some(Duration::ZERO)).await);
    let next = fixture.granted(BOB, Intent::Refresh).await;
    is_stored(fixture.commit(next, "second").await, 1, 2);
    let stored = fixture.stored().await;
    is_about(stored.due_in(), HOUR);
    assert_eq!((stored.retry_in(), stored.record.retry_at, stored.record.tries), (None, None, 0));
}
