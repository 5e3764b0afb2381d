//! Commits: credentials are never thrown away, and never put over newer ones.

use super::bed::{ALICE, BOB, Bed, LEASE, gist, stored, wall};
use crate::store::{Committed, Intent, Phase, SettleTo, Settled};

pub(super) async fn an_establish_is_stored_as_epoch_1_and_generation_1(bed: Bed) {
    let grip = bed.established().await;
    assert_eq!(bed.gist().await, gist(1, 1, Phase::Active, "first"));
    let record = bed.record().await;
    assert_eq!((record.made_by, record.fence), (Some(grip.attempt), grip.attempt.fence));
    assert_eq!((record.lease, record.lost, record.retry_at), (None, None, None));
    assert_eq!((record.tries, record.due_at), (0, Some(wall(900))));
    assert!(!record.suspect && record.outbox.is_none());
}

pub(super) async fn a_refresh_raises_the_generation_alone(bed: Bed) {
    for generation in 2..5 {
        if generation == 2 {
            bed.established().await;
        }
        let grip = bed.grip(ALICE, Intent::Refresh).await;
        assert_eq!(bed.commit(grip, "next").await, stored(1, generation));
        assert_eq!(bed.gist().await, gist(1, generation, Phase::Active, "next"));
        let record = bed.record().await;
        assert_eq!((record.made_by, record.lease), (Some(grip.attempt), None));
    }
}

pub(super) async fn a_second_grant_raises_epoch_and_generation(bed: Bed) {
    bed.established().await;
    let grip = bed.grip(BOB, Intent::Establish).await;
    assert_eq!(bed.commit(grip, "second").await, stored(2, 2));
    assert_eq!(bed.gist().await, gist(2, 2, Phase::Active, "second"));
}

pub(super) async fn a_commit_that_is_sent_twice_is_stored_once(bed: Bed) {
    let grant = bed.established().await;
    assert_eq!(bed.commit(grant, "first").await, stored(1, 1));
    let refresh = bed.grip(ALICE, Intent::Refresh).await;
    assert_eq!(bed.commit(refresh, "second").await, stored(1, 2));
    assert_eq!(bed.commit(refresh, "second").await, stored(1, 2));
    assert_eq!(bed.gist().await, gist(1, 2, Phase::Active, "second"));
    // Also when somebody else goes on from it, whose claim stays.
    let next = bed.grip(BOB, Intent::Refresh).await;
    assert_eq!(bed.commit(refresh, "second").await, stored(1, 2));
    assert_eq!(bed.gist().await, gist(1, 2, Phase::Claimed, "second"));
    assert_eq!(bed.commit(next, "third").await, stored(1, 3));
    assert_eq!(bed.commit(refresh, "second").await, Committed::Superseded);
    assert_eq!(bed.gist().await, gist(1, 3, Phase::Active, "third"));
}

pub(super) async fn an_older_attempt_after_a_newer_one_is_superseded(bed: Bed) {
    let older = bed.refreshing().await;
    assert!(bed.take_over(older.attempt.fence, LEASE).await);
    let newer = bed.grip(BOB, Intent::Refresh).await;
    assert_eq!(bed.commit(newer, "newer").await, stored(1, 2));
    assert_eq!(bed.commit(older, "older").await, Committed::Superseded);
    assert_eq!(bed.gist().await, gist(1, 2, Phase::Active, "newer"));
}

pub(super) async fn a_newer_attempt_after_an_older_one_replaces_it(bed: Bed) {
    let older = bed.refreshing().await;
    assert!(bed.take_over(older.attempt.fence, LEASE).await);
    let newer = bed.grip(BOB, Intent::Refresh).await;
    // The older one's token was rotated first, so the newer one's is the server's newest.
    assert_eq!(bed.commit(older, "older").await, stored(1, 2));
    assert_eq!(bed.commit(newer, "newer").await, stored(1, 3));
    assert_eq!(bed.gist().await, gist(1, 3, Phase::Active, "newer"));
    assert_eq!(bed.record().await.made_by, Some(newer.attempt));
    assert_eq!(bed.commit(older, "older").await, Committed::Superseded);
    assert_eq!(bed.gist().await, gist(1, 3, Phase::Active, "newer"));
}

pub(super) async fn a_commit_never_goes_over_a_running_newer_claim(bed: Bed) {
    let older = bed.refreshing().await;
    assert!(bed.take_over(older.attempt.fence, LEASE).await);
    let newer = bed.grip(BOB, Intent::Refresh).await;
    assert_eq!(bed.commit(older, "older").await, stored(1, 2));
    let running = bed.grip(ALICE, Intent::Refresh).await;
    assert_eq!(bed.commit(newer, "newer").await, Committed::Busy);
    assert_eq!(bed.gist().await, gist(1, 2, Phase::Claimed, "older"));
    assert_eq!(bed.record().await.fence, running.attempt.fence);
    // When the running one gave nothing, the newer one counts after all.
    assert_eq!(bed.settle(running, SettleTo::Before).await, Settled::Done);
    assert_eq!(bed.commit(newer, "newer").await, stored(1, 3));
    assert_eq!(bed.gist().await, gist(1, 3, Phase::Active, "newer"));
}

pub(super) async fn a_refresh_of_a_former_grant_is_superseded(bed: Bed) {
    let refresh = bed.refreshing().await;
    assert!(bed.take_over(refresh.attempt.fence, LEASE).await);
    let grant = bed.grip(BOB, Intent::Establish).await;
    assert_eq!(bed.commit(grant, "second").await, stored(2, 2));
    assert_eq!(bed.commit(refresh, "late").await, Committed::Superseded);
    assert_eq!(bed.gist().await, gist(2, 2, Phase::Active, "second"));
    assert!(!bed.is_suspect().await);
}

pub(super) async fn a_refresh_of_a_closed_session_is_superseded(bed: Bed) {
    let refresh = bed.refreshing().await;
    let generation = bed.closed().await;
    assert_eq!(bed.commit(refresh, "late").await, Committed::Superseded);
    let record = bed.record().await;
    assert_eq!((record.phase, record.generation), (Phase::Closed, generation));
    assert!(record.credentials.is_none());
    // Neither while a grant is claimed on the tombstone.
    bed.grip(ALICE, Intent::Establish).await;
    assert_eq!(bed.commit(refresh, "late").await, Committed::Superseded);
}

pub(super) async fn a_grant_stands_although_the_session_was_closed_meanwhile(bed: Bed) {
    bed.established().await;
    let grant = bed.grip(ALICE, Intent::Establish).await;
    let generation = bed.closed().await;
    assert_eq!(bed.commit(grant, "second").await, stored(2, generation + 1));
    assert_eq!(bed.gist().await, gist(2, generation + 1, Phase::Active, "second"));
    let record = bed.record().await;
    assert!(record.outbox.is_none(), "nobody would ever empty it");
    assert_eq!(record.due_at, Some(wall(900)));
    let refresh = bed.grip(BOB, Intent::Refresh).await;
    assert_eq!(bed.commit(refresh, "third").await, stored(2, generation + 2));
}

pub(super) async fn a_refresh_brings_a_lost_session_back_suspect(bed: Bed) {
    let refresh = bed.lost().await;
    let suspect = Committed::Stored { epoch: 1, generation: 2, suspect: true };
    assert_eq!(bed.commit(refresh, "late").await, suspect);
    assert_eq!(bed.commit(refresh, "late").await, suspect, "the second answer is the first");
    assert_eq!(bed.gist().await, gist(1, 2, Phase::Active, "late"));
    let record = bed.record().await;
    assert_eq!((record.suspect, record.lost, record.due_at), (true, None, Some(wall(900))));
    let next = bed.grip(BOB, Intent::Refresh).await;
    assert_eq!(bed.commit(next, "next").await, stored(1, 3));
    assert!(!bed.is_suspect().await, "a success dispels it");
}

pub(super) async fn a_refresh_brings_a_lost_session_back_suspect_under_a_grant(bed: Bed) {
    let refresh = bed.lost().await;
    let grant = bed.grip(BOB, Intent::Establish).await;
    let suspect = Committed::Stored { epoch: 1, generation: 2, suspect: true };
    assert_eq!(bed.commit(refresh, "late").await, suspect);
    assert_eq!(bed.commit(grant, "second").await, stored(2, 3));
    assert_eq!(bed.gist().await, gist(2, 3, Phase::Active, "second"));
    assert!(!bed.is_suspect().await);
}

pub(super) async fn a_grant_brings_a_lost_session_back_clean(bed: Bed) {
    bed.lost().await;
    let grant = bed.grip(ALICE, Intent::Establish).await;
    assert_eq!(bed.commit(grant, "second").await, stored(2, 2));
    assert_eq!(bed.gist().await, gist(2, 2, Phase::Active, "second"));
    let record = bed.record().await;
    assert_eq!((record.suspect, record.lost, record.lease), (false, None, None));
    assert_eq!((record.retry_at, record.tries), (None, 0));
    assert!(bed.is_due().await);
}

pub(super) async fn of_two_first_grants_the_second_to_be_committed_is_superseded(bed: Bed) {
    let first = bed.grip(ALICE, Intent::Establish).await;
    assert!(bed.take_over(first.attempt.fence, LEASE).await);
    let second = bed.grip(BOB, Intent::Establish).await;
    assert!(second.attempt.fence > first.attempt.fence, "{second:?} {first:?}");
    assert_eq!(bed.commit(second, "second").await, stored(1, 1));
    assert_eq!(bed.commit(first, "first").await, Committed::Superseded);
    assert_eq!(bed.gist().await, gist(1, 1, Phase::Active, "second"));
    // One that comes first stands, though its claim was taken away.
    let bed = bed.named("other");
    let first = bed.grip(ALICE, Intent::Establish).await;
    assert!(bed.take_over(first.attempt.fence, LEASE).await);
    assert_eq!(bed.commit(first, "first").await, stored(1, 1));
    let next = bed.grip(BOB, Intent::Refresh).await;
    assert!(next.attempt.fence > first.attempt.fence, "{next:?} {first:?}");
    assert_eq!(bed.commit(next, "next").await, stored(1, 2));
}
