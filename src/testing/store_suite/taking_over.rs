//! Claims whose holder fell silent.

use std::time::Duration;

use super::bed::{ALICE, BOB, Bed, LEASE, at_once, gist, stored, wall};
use crate::error::LostReason;
use crate::store::{Intent, Phase, SettleTo, Settled};

pub(super) async fn a_claim_is_not_taken_over_before_its_lease_ends(bed: Bed) {
    let grip = bed.refreshing().await;
    let fence = grip.attempt.fence;
    let early = LEASE - Duration::from_millis(1);
    assert!(!bed.take_over(fence, Duration::ZERO).await);
    assert!(!bed.take_over(fence, early).await);
    for unseen in [0, fence - 1, fence + 1] {
        assert!(!bed.take_over(unseen, LEASE * 2).await, "that claim was not seen");
    }
    assert_eq!(bed.gist().await, gist(1, 1, Phase::Claimed, "first"));
    assert_eq!(bed.record().await.fence, fence);
    assert_eq!(bed.settle(grip, SettleTo::Before).await, Settled::Done);
    assert!(!bed.take_over(fence, LEASE * 2).await, "there is no claim any more");
    assert_eq!(bed.gist().await, gist(1, 1, Phase::Active, "first"));
}

pub(super) async fn a_silent_refresh_is_in_doubt(bed: Bed) {
    let fence = bed.refreshing().await.attempt.fence;
    assert!(bed.take_over(fence, LEASE).await);
    assert_eq!(bed.gist().await, gist(1, 1, Phase::InDoubt, "first"));
    let record = bed.record().await;
    assert!(record.fence > fence);
    assert_eq!((record.lease, record.retry_at), (None, Some(wall(44))));
    assert!(bed.is_due().await);
    assert!(!bed.take_over(fence, LEASE).await, "once");
}

pub(super) async fn a_silent_refresh_of_what_is_lost_provisionally_is_in_doubt(bed: Bed) {
    let grip = bed.refreshing().await;
    bed.settle(grip, SettleTo::Lost(LostReason::Unclassified)).await;
    let fence = bed.grip(BOB, Intent::Refresh).await.attempt.fence;
    assert!(bed.take_over(fence, LEASE).await);
    let record = bed.record().await;
    assert_eq!((record.phase, record.lost), (Phase::InDoubt, None));
}

pub(super) async fn a_silent_establish_leaves_what_was_before_as_suspect(bed: Bed) {
    let (active, doubtful, closed) = (bed.named("a"), bed.named("d"), bed.named("c"));
    active.established().await;
    let grip = doubtful.refreshing().await;
    doubtful.settle(grip, SettleTo::InDoubt).await;
    closed.established().await;
    closed.closed().await;
    for (bed, phase) in
        [(active, Phase::Active), (doubtful, Phase::InDoubt), (closed, Phase::Closed)]
    {
        let grip = bed.grip(ALICE, Intent::Establish).await;
        let credentials = bed.record().await.credentials.is_some();
        assert!(bed.take_over(grip.attempt.fence, LEASE).await);
        let record = bed.record().await;
        assert_eq!((record.phase, record.lease), (phase, None));
        assert_eq!(record.suspect, credentials, "{phase:?}");
        assert_eq!(record.credentials.is_some(), credentials, "{phase:?}");
        assert!(record.fence > grip.attempt.fence);
        assert_eq!(bed.settle(grip, SettleTo::Before).await, Settled::Moved);
    }
}

pub(super) async fn a_silent_first_grant_leaves_nothing_behind(bed: Bed) {
    let grip = bed.grip(ALICE, Intent::Establish).await;
    assert!(!bed.take_over(grip.attempt.fence, Duration::ZERO).await);
    assert!(bed.take_over(grip.attempt.fence, LEASE).await);
    assert!(bed.load().await.is_none());
    assert_eq!(bed.settle(grip, SettleTo::BeforeSuspect).await, Settled::Moved);
    bed.established().await;
    assert!(bed.record().await.fence > grip.attempt.fence);
}

pub(super) async fn a_holder_that_comes_back_cannot_settle_but_its_commit_counts(bed: Bed) {
    let grip = bed.refreshing().await;
    assert!(bed.take_over(grip.attempt.fence, LEASE).await);
    assert_eq!(bed.settle(grip, SettleTo::Before).await, Settled::Moved);
    assert_eq!(bed.gist().await, gist(1, 1, Phase::InDoubt, "first"));
    assert_eq!(bed.commit(grip, "late").await, stored(1, 2));
    assert_eq!(bed.gist().await, gist(1, 2, Phase::Active, "late"));
    let record = bed.record().await;
    assert_eq!((record.retry_at, record.suspect), (None, false));
    // Also while whoever took over sends the same refresh token again.
    let old = bed.grip(ALICE, Intent::Refresh).await;
    assert!(bed.take_over(old.attempt.fence, LEASE).await);
    let new = bed.grip(BOB, Intent::Refresh).await;
    assert_eq!(bed.commit(old, "old").await, stored(1, 3));
    assert_eq!(bed.gist().await, gist(1, 3, Phase::Active, "old"));
    assert_eq!(bed.settle(new, SettleTo::InDoubt).await, Settled::Moved);
    assert!(bed.is_suspect().await);
}

pub(super) async fn of_16_that_take_over_at_once_one_does(bed: Bed) {
    let fence = bed.refreshing().await.attempt.fence;
    let takers = (0..16).map(|_| {
        let bed = bed.clone();
        async move { bed.take_over(fence, LEASE).await }
    });
    let done = at_once(takers).await.into_iter().filter(|taken| *taken);
    assert_eq!(done.count(), 1);
    assert_eq!(bed.gist().await, gist(1, 1, Phase::InDoubt, "first"));
}
