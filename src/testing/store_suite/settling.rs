//! The ends of claims that gave nothing.

use std::time::Duration;

use super::fixture::{
    ALICE, BOB, Fixture, GrantedClaim, HOUR, conflict, done, gist, is_about, is_stored,
};
use crate::error::LostReason;
use crate::store::{Failures, Intent, Phase, Settle, SettleTo, Statement};

pub(super) async fn a_harmless_failure_leaves_what_was_before(fixture: Fixture) {
    fixture.established().await;
    let due_in = fixture.stored().await.due_in().unwrap();
    for (intent, retry_in) in [(Intent::Refresh, Duration::ZERO), (Intent::Establish, HOUR)] {
        let claim = fixture.granted(ALICE, intent).await;
        done(fixture.settle_for(claim, SettleTo::Before, Some(retry_in)).await);
        assert_eq!(fixture.gist().await, gist(1, 1, Phase::Active, "first"));
        let stored = fixture.stored().await;
        is_about(Some(stored.retry_in().unwrap_or_default()), retry_in);
        is_about(stored.due_in(), due_in);
        let record = stored.record;
        assert_eq!((record.lease, record.suspect), (None, false));
        assert_eq!(record.fence, claim.attempt.fence);
    }
    assert_eq!(fixture.record().await.tries, 2);
    let grant = fixture.granted(BOB, Intent::Establish).await;
    is_stored(fixture.commit(grant, "second").await, 2, 2);
    assert_eq!((fixture.record().await.tries, fixture.record().await.retry_at), (0, None));
}

pub(super) async fn a_lost_grant_leaves_what_was_before_as_suspect(fixture: Fixture) {
    fixture.established().await;
    let grant = fixture.granted(ALICE, Intent::Establish).await;
    assert!(done(fixture.settle(grant, SettleTo::BeforeSuspect).await).suspect);
    assert_eq!(fixture.gist().await, gist(1, 1, Phase::Active, "first"));
    let record = fixture.record().await;
    assert_eq!((record.lease, record.suspect), (None, true));
    // A harmless failure does not dispel it.
    let refresh = fixture.granted(ALICE, Intent::Refresh).await;
    done(fixture.settle(refresh, SettleTo::Before).await);
    assert!(fixture.is_suspect().await);
}

pub(super) async fn a_lost_answer_leaves_a_session_in_doubt(fixture: Fixture) {
    let refresh = fixture.refreshing().await;
    let to = SettleTo::InDoubt;
    assert_eq!(done(fixture.settle_for(refresh, to, Some(HOUR)).await).phase, Phase::InDoubt);
    assert_eq!(fixture.gist().await, gist(1, 1, Phase::InDoubt, "first"));
    let stored = fixture.stored().await;
    is_about(stored.retry_in(), HOUR);
    assert_eq!((stored.record.lease, stored.record.lost), (None, None));
    assert!(fixture.is_due().await);
    // As an answer that came after all.
    is_stored(fixture.commit(refresh, "second").await, 1, 2);
    assert_eq!(fixture.gist().await, gist(1, 2, Phase::Active, "second"));
    assert_eq!(fixture.stored().await.retry_in(), None);
}

pub(super) async fn a_harmless_failure_leaves_a_doubt_as_it_was(fixture: Fixture) {
    let refresh = fixture.refreshing().await;
    done(fixture.settle(refresh, SettleTo::InDoubt).await);
    for intent in [Intent::Refresh, Intent::Establish] {
        let claim = fixture.granted(BOB, intent).await;
        assert_eq!(fixture.record().await.phase, Phase::InDoubt, "while it is claimed");
        done(fixture.settle(claim, SettleTo::Before).await);
        assert_eq!(fixture.gist().await, gist(1, 1, Phase::InDoubt, "first"));
    }
}

pub(super) async fn a_rejected_refresh_leaves_a_lost_session(fixture: Fixture) {
    let refresh = fixture.refreshing().await;
    done(fixture.settle(refresh, SettleTo::Lost(LostReason::Rejected)).await);
    assert_eq!(fixture.gist().await, gist(1, 1, Phase::Lost, "first"));
    let record = fixture.record().await;
    assert_eq!((record.lease, record.lost), (None, Some(LostReason::Rejected)));
    assert_eq!(record.due_at, None);
    assert!(!fixture.is_due().await);
}

pub(super) async fn a_refused_grant_leaves_a_lost_session_lost_for_its_reason(fixture: Fixture) {
    fixture.lost().await;
    let reason = LostReason::LostInDoubt;
    for to in [SettleTo::Before, SettleTo::BeforeSuspect] {
        let grant = fixture.granted(ALICE, Intent::Establish).await;
        done(fixture.settle(grant, to).await);
        let record = fixture.record().await;
        assert_eq!((record.phase, record.lost), (Phase::Lost, Some(reason)));
    }
    let grant = fixture.silent(ALICE, Intent::Establish).await;
    done(fixture.take_over(grant.id()).await);
    let record = fixture.record().await;
    assert_eq!((record.phase, record.lost), (Phase::Lost, Some(reason)));
    assert!(!fixture.is_due().await);
}

pub(super) async fn a_settle_of_a_claim_that_was_ended_changes_nothing(fixture: Fixture) {
    let old = fixture.silently_refreshing().await;
    done(fixture.take_over(old.id()).await);
    let new = fixture.granted(BOB, Intent::Refresh).await;
    let all = [
        SettleTo::Before,
        SettleTo::BeforeSuspect,
        SettleTo::InDoubt,
        SettleTo::Lost(LostReason::Rejected),
        SettleTo::Revoked,
    ];
    for to in all {
        let found = conflict(fixture.settle(old, to).await).unwrap();
        assert_eq!(found.lease.map(|lease| lease.claim), Some(new.id()));
        assert_eq!(fixture.gist().await, gist(1, 1, Phase::InDoubt, "first"));
        let record = fixture.record().await;
        assert_eq!((record.version, record.fence), (new.attempt.fence, new.attempt.fence));
        assert_eq!((record.lost, record.suspect), (None, false));
    }
    is_stored(fixture.commit(new, "second").await, 1, 2);
}

pub(super) async fn a_settle_that_is_sent_twice_changes_nothing_more(fixture: Fixture) {
    let refresh = fixture.refreshing().await;
    done(fixture.settle(refresh, SettleTo::Before).await);
    let version = fixture.record().await.version;
    for to in [SettleTo::Before, SettleTo::InDoubt] {
        conflict(fixture.settle(refresh, to).await);
        assert_eq!(fixture.gist().await, gist(1, 1, Phase::Active, "first"));
        assert!(!fixture.is_suspect().await);
        assert_eq!(fixture.record().await.version, version);
    }
}

pub(super) async fn a_late_rejection_makes_a_sibling_suspect(fixture: Fixture) {
    for (name, to) in [
        ("in-doubt", SettleTo::InDoubt),
        ("lost", SettleTo::Lost(LostReason::Rejected)),
        ("perhaps", SettleTo::BeforeSuspect),
    ] {
        let fixture = fixture.named(name);
        let old = fixture.silently_refreshing().await;
        done(fixture.take_over(old.id()).await);
        let new = fixture.granted(BOB, Intent::Refresh).await;
        is_stored(fixture.commit(new, "sibling").await, 1, 2);
        let version = fixture.record().await.version;
        // Both sent the same refresh token: the server may have taken it for a theft.
        let found = conflict(fixture.settle(old, to).await).unwrap();
        assert!(found.suspect && found.version > version, "{to:?}: {found:?}");
        assert_eq!(fixture.gist().await, gist(1, 2, Phase::Active, "sibling"));
        assert!(fixture.is_suspect().await, "{to:?}");
    }
}

pub(super) async fn a_late_failure_makes_nothing_else_suspect(fixture: Fixture) {
    let lost = SettleTo::Lost(LostReason::Rejected);
    let old = fixture.silently_refreshing().await;
    done(fixture.take_over(old.id()).await);
    let new = fixture.granted(BOB, Intent::Refresh).await;
    is_stored(fixture.commit(new, "sibling").await, 1, 2);
    conflict(fixture.settle(old, SettleTo::Before).await);
    assert!(!fixture.is_suspect().await, "nothing of it was processed");
    let next = fixture.granted(BOB, Intent::Refresh).await;
    is_stored(fixture.commit(next, "grandchild").await, 1, 3);
    conflict(fixture.settle(old, lost).await);
    assert!(!fixture.is_suspect().await, "it was used since, and lives");
    let grant = fixture.granted(BOB, Intent::Establish).await;
    is_stored(fixture.commit(grant, "granted").await, 2, 4);
    conflict(fixture.settle(old, lost).await);
    assert!(!fixture.is_suspect().await, "another grant");
    fixture.closed().await;
    conflict(fixture.settle(old, lost).await);
    let record = fixture.record().await;
    assert_eq!((record.phase, record.suspect), (Phase::Closed, false));
}

pub(super) async fn what_a_claimant_says_of_the_next_look_does_not_count_where_it_is_over(
    fixture: Fixture,
) {
    let (lost, closed) = (fixture.named("lost"), fixture.named("closed"));
    let refresh = lost.refreshing().await;
    done(lost.lose(LostReason::Revoked).await);
    done(lost.settle_until(refresh, (SettleTo::Before, None), Some(9 * HOUR)).await);
    assert_eq!(lost.record().await.due_at, None);
    closed.uninformed().await;
    let due_at = closed.record().await.due_at;
    let grant = closed.granted(ALICE, Intent::Establish).await;
    done(closed.settle_until(grant, (SettleTo::Before, None), Some(9 * HOUR)).await);
    assert_eq!(closed.record().await.due_at, due_at, "its revocation");
}

pub(super) async fn what_failed_is_remembered_until_a_success(fixture: Fixture) {
    let mut refresh = fixture.refreshing().await;
    let mut since = None;
    for unclassified in [1, 2, 0] {
        let failures = Failures {
            unclassified,
            since: None,
            status: Some(503),
            code: Some("server_error".into()),
        };
        let GrantedClaim { epoch, attempt, .. } = refresh;
        let (to, retry_in, due_in) = (SettleTo::Before, None, None);
        let failed = Some(Box::new(failures.clone()));
        let settle = Settle { epoch, attempt, to, retry_in, due_in, failures: failed };
        done(fixture.apply(Statement::Settle(settle)).await);
        let found = *fixture.record().await.failures.unwrap();
        assert_eq!(Failures { since: None, ..found.clone() }, failures);
        assert_eq!(found.since.is_some(), unclassified > 0);
        since = since.or(found.since);
        assert!(unclassified == 0 || found.since == since, "since the first of them");
        refresh = fixture.granted(ALICE, Intent::Refresh).await;
    }
    is_stored(fixture.commit(refresh, "second").await, 1, 2);
    assert_eq!(fixture.record().await.failures, None);
}

pub(super) async fn what_is_lost_provisionally_is_due_and_can_be_claimed_for_a_refresh(
    fixture: Fixture,
) {
    let reason = LostReason::Unclassified;
    let (lost, at_once) = (SettleTo::Lost(reason), Some(Duration::ZERO));
    let refresh = fixture.refreshing().await;
    done(fixture.settle_for(refresh, lost, at_once).await);
    // A try that was not processed leaves it so, and one that fails again does too.
    for to in [SettleTo::Before, lost] {
        let refresh = fixture.granted(BOB, Intent::Refresh).await;
        assert_eq!(fixture.record().await.lost, Some(reason), "while it is claimed");
        done(fixture.settle_for(refresh, to, at_once).await);
        assert_eq!(fixture.gist().await, gist(1, 1, Phase::Lost, "first"));
        let stored = fixture.stored().await;
        assert_eq!((stored.record.lost, stored.due_in()), (Some(reason), at_once));
        assert!(fixture.is_due().await);
    }
    let refresh = fixture.granted(ALICE, Intent::Refresh).await;
    is_stored(fixture.commit(refresh, "second").await, 1, 2);
    assert_eq!(fixture.gist().await, gist(1, 2, Phase::Active, "second"));
    assert_eq!((fixture.record().await.lost, fixture.is_suspect().await), (None, false));
    // It is due when it may be tried, not when its token would have been refreshed.
    for to in [lost, SettleTo::Before] {
        let refresh = fixture.granted(ALICE, Intent::Refresh).await;
        let retry_in = if to == lost { Duration::ZERO } else { 5 * HOUR };
        done(fixture.settle_for(refresh, to, Some(retry_in)).await);
        is_about(fixture.stored().await.due_in(), retry_in);
    }
}
