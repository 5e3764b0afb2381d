//! The ends of claims that gave nothing.

use super::bed::{ALICE, BOB, Bed, LEASE, gist, stored, wall};
use crate::error::LostReason;
use crate::store::{Intent, Phase, SettleTo, Settled};

pub(super) async fn a_harmless_failure_leaves_what_was_before(bed: Bed) {
    bed.established().await;
    for intent in [Intent::Refresh, Intent::Establish] {
        let grip = bed.grip(ALICE, intent).await;
        assert_eq!(bed.settle(grip, SettleTo::Before).await, Settled::Done);
        assert_eq!(bed.gist().await, gist(1, 1, Phase::Active, "first"));
        let record = bed.record().await;
        assert_eq!((record.lease, record.suspect), (None, false));
        assert_eq!((record.retry_at, record.due_at), (Some(wall(33)), Some(wall(900))));
        assert_eq!(record.fence, grip.attempt.fence);
    }
    assert_eq!(bed.record().await.tries, 2);
    let grip = bed.grip(BOB, Intent::Refresh).await;
    assert_eq!(bed.commit(grip, "second").await, stored(1, 2));
    assert_eq!((bed.record().await.tries, bed.record().await.retry_at), (0, None));
}

pub(super) async fn a_lost_grant_leaves_what_was_before_as_suspect(bed: Bed) {
    bed.established().await;
    let grip = bed.grip(ALICE, Intent::Establish).await;
    assert_eq!(bed.settle(grip, SettleTo::BeforeSuspect).await, Settled::Done);
    assert_eq!(bed.gist().await, gist(1, 1, Phase::Active, "first"));
    let record = bed.record().await;
    assert_eq!((record.lease, record.suspect), (None, true));
    // A harmless failure does not dispel it.
    let grip = bed.grip(ALICE, Intent::Refresh).await;
    assert_eq!(bed.settle(grip, SettleTo::Before).await, Settled::Done);
    assert!(bed.is_suspect().await);
}

pub(super) async fn a_lost_answer_leaves_a_session_in_doubt(bed: Bed) {
    let grip = bed.refreshing().await;
    assert_eq!(bed.settle(grip, SettleTo::InDoubt).await, Settled::Done);
    assert_eq!(bed.gist().await, gist(1, 1, Phase::InDoubt, "first"));
    let record = bed.record().await;
    assert_eq!((record.lease, record.lost, record.retry_at), (None, None, Some(wall(33))));
    assert!(bed.is_due().await);
    let grip = bed.grip(BOB, Intent::Refresh).await;
    assert_eq!(bed.commit(grip, "second").await, stored(1, 2));
    assert_eq!(bed.gist().await, gist(1, 2, Phase::Active, "second"));
}

pub(super) async fn a_harmless_failure_leaves_a_doubt_as_it_was(bed: Bed) {
    let grip = bed.refreshing().await;
    bed.settle(grip, SettleTo::InDoubt).await;
    for intent in [Intent::Refresh, Intent::Establish] {
        let grip = bed.grip(BOB, intent).await;
        assert_eq!(bed.record().await.lease.unwrap().before, Phase::InDoubt);
        assert_eq!(bed.settle(grip, SettleTo::Before).await, Settled::Done);
        assert_eq!(bed.gist().await, gist(1, 1, Phase::InDoubt, "first"));
    }
}

pub(super) async fn a_rejected_refresh_leaves_a_lost_session(bed: Bed) {
    let grip = bed.refreshing().await;
    assert_eq!(bed.settle(grip, SettleTo::Lost(LostReason::Rejected)).await, Settled::Done);
    assert_eq!(bed.gist().await, gist(1, 1, Phase::Lost, "first"));
    let record = bed.record().await;
    assert_eq!((record.lease, record.lost), (None, Some(LostReason::Rejected)));
    assert_eq!(record.due_at, None);
    assert!(!bed.is_due().await);
}

pub(super) async fn a_refused_grant_leaves_a_lost_session_lost_for_its_reason(bed: Bed) {
    bed.lost().await;
    for to in [SettleTo::Before, SettleTo::BeforeSuspect] {
        let grip = bed.grip(ALICE, Intent::Establish).await;
        assert_eq!(bed.settle(grip, to).await, Settled::Done);
        let record = bed.record().await;
        assert_eq!((record.phase, record.lost), (Phase::Lost, Some(LostReason::LostInDoubt)));
    }
    let grip = bed.grip(ALICE, Intent::Establish).await;
    assert!(bed.take_over(grip.attempt.fence, LEASE).await);
    let record = bed.record().await;
    assert_eq!((record.phase, record.lost), (Phase::Lost, Some(LostReason::LostInDoubt)));
    assert!(!bed.is_due().await);
}

pub(super) async fn a_settle_under_an_old_fence_changes_nothing(bed: Bed) {
    let old = bed.refreshing().await;
    assert!(bed.take_over(old.attempt.fence, LEASE).await);
    let new = bed.grip(BOB, Intent::Refresh).await;
    let all = [
        SettleTo::Before,
        SettleTo::BeforeSuspect,
        SettleTo::InDoubt,
        SettleTo::Lost(LostReason::Rejected),
    ];
    for to in all {
        assert_eq!(bed.settle(old, to).await, Settled::Moved);
        assert_eq!(bed.gist().await, gist(1, 1, Phase::Claimed, "first"));
        let record = bed.record().await;
        assert_eq!((record.fence, record.suspect), (new.attempt.fence, false));
        assert_eq!(record.lost, None);
    }
    assert_eq!(bed.commit(new, "second").await, stored(1, 2));
}

pub(super) async fn a_settle_that_is_sent_twice_changes_nothing_more(bed: Bed) {
    let grip = bed.refreshing().await;
    assert_eq!(bed.settle(grip, SettleTo::Before).await, Settled::Done);
    assert_eq!(bed.settle(grip, SettleTo::InDoubt).await, Settled::Moved);
    assert_eq!(bed.gist().await, gist(1, 1, Phase::Active, "first"));
    assert!(!bed.is_suspect().await);
}

pub(super) async fn a_fenced_out_rejection_makes_a_sibling_suspect(bed: Bed) {
    for (name, to) in [
        ("in-doubt", SettleTo::InDoubt),
        ("lost", SettleTo::Lost(LostReason::Rejected)),
        ("perhaps", SettleTo::BeforeSuspect),
    ] {
        let bed = bed.named(name);
        let old = bed.refreshing().await;
        assert!(bed.take_over(old.attempt.fence, LEASE).await);
        let new = bed.grip(BOB, Intent::Refresh).await;
        assert_eq!(bed.commit(new, "sibling").await, stored(1, 2));
        // Both sent the same refresh token: the server may have taken it for a theft.
        assert_eq!(bed.settle(old, to).await, Settled::Moved);
        assert_eq!(bed.gist().await, gist(1, 2, Phase::Active, "sibling"));
        assert!(bed.is_suspect().await, "{to:?}");
    }
}

pub(super) async fn a_fenced_out_failure_makes_nothing_else_suspect(bed: Bed) {
    let lost = SettleTo::Lost(LostReason::Rejected);
    let old = bed.refreshing().await;
    assert!(bed.take_over(old.attempt.fence, LEASE).await);
    let new = bed.grip(BOB, Intent::Refresh).await;
    assert_eq!(bed.commit(new, "sibling").await, stored(1, 2));
    assert_eq!(bed.settle(old, SettleTo::Before).await, Settled::Moved);
    assert!(!bed.is_suspect().await, "nothing of it was processed");
    let next = bed.grip(BOB, Intent::Refresh).await;
    assert_eq!(bed.commit(next, "grandchild").await, stored(1, 3));
    assert_eq!(bed.settle(old, lost).await, Settled::Moved);
    assert!(!bed.is_suspect().await, "it was used since, and lives");
    let grant = bed.grip(BOB, Intent::Establish).await;
    assert_eq!(bed.commit(grant, "granted").await, stored(2, 4));
    assert_eq!(bed.settle(old, lost).await, Settled::Moved);
    assert!(!bed.is_suspect().await, "another grant");
    bed.closed().await;
    assert_eq!(bed.settle(old, lost).await, Settled::Moved);
    let record = bed.record().await;
    assert_eq!((record.phase, record.suspect), (Phase::Closed, false));
}

pub(super) async fn what_is_lost_provisionally_is_due_and_can_be_claimed_for_a_refresh(bed: Bed) {
    let lost = SettleTo::Lost(LostReason::Unclassified);
    let grip = bed.refreshing().await;
    assert_eq!(bed.settle(grip, lost).await, Settled::Done);
    // A try that was not processed leaves it so, and one that fails again does too.
    for to in [SettleTo::Before, lost] {
        let grip = bed.grip(BOB, Intent::Refresh).await;
        assert_eq!(bed.record().await.lost, Some(LostReason::Unclassified), "while it is claimed");
        assert_eq!(bed.settle(grip, to).await, Settled::Done);
        assert_eq!(bed.gist().await, gist(1, 1, Phase::Lost, "first"));
        let record = bed.record().await;
        assert_eq!((record.lost, record.due_at), (Some(LostReason::Unclassified), Some(wall(33))));
        assert!(bed.is_due().await);
    }
    let grip = bed.grip(ALICE, Intent::Refresh).await;
    assert_eq!(bed.commit(grip, "second").await, stored(1, 2));
    assert_eq!(bed.gist().await, gist(1, 2, Phase::Active, "second"));
    assert_eq!((bed.record().await.lost, bed.is_suspect().await), (None, false));
}
