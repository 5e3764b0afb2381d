//! Closes, and what the server must still be told.

use super::bed::{ALICE, BOB, Bed, LEASE, access, claim, gist, stored, wall};
use crate::store::{Claimed, Closed, Intent, Phase, SettleTo, Settled};

pub(super) async fn a_close_keeps_what_the_server_must_be_told(bed: Bed) {
    let (active, lost) = (bed.named("active"), bed.named("lost"));
    active.established().await;
    lost.lost().await;
    for bed in [active, lost] {
        assert_eq!(bed.closed().await, 2);
        let record = bed.record().await;
        assert_eq!((record.epoch, record.generation, record.phase), (1, 2, Phase::Closed));
        assert!(record.credentials.is_none());
        assert_eq!(access(record.outbox.as_deref()), "access-first");
        assert_eq!((record.lost, record.lease, record.suspect), (None, None, false));
        assert_eq!(record.due_at, Some(wall(0)), "so that somebody tells the server");
        assert!(bed.is_due().await);
    }
}

pub(super) async fn a_close_that_is_sent_twice_is_done_once(bed: Bed) {
    bed.established().await;
    // The generation of the credentials, whose acknowledgement was lost, and the tombstone's.
    for generation in [1, 1, 2] {
        let closed = bed.close(generation).await;
        assert!(matches!(closed, Closed::Done { generation: 2 }), "{closed:?}");
        assert_eq!(access(bed.record().await.outbox.as_deref()), "access-first");
    }
    bed.store.outbox(&bed.id, 2).await.unwrap();
    let closed = bed.close(1).await;
    assert!(matches!(closed, Closed::Done { generation: 2 }), "{closed:?}");
    assert!(!bed.is_due().await, "what was told is not told again");
}

pub(super) async fn a_close_of_a_stale_generation_gets_the_record(bed: Bed) {
    let grip = bed.refreshing().await;
    bed.commit(grip, "second").await;
    for generation in [0, 1, 3] {
        let closed = bed.close(generation).await;
        let Closed::Moved(Some(record)) = closed else { panic!("{closed:?}") };
        assert_eq!((record.epoch, record.generation), (1, 2));
    }
    assert_eq!(bed.gist().await, gist(1, 2, Phase::Active, "second"));
    assert_eq!(bed.closed().await, 3);
    for generation in [1, 4] {
        let closed = bed.close(generation).await;
        assert!(matches!(closed, Closed::Moved(Some(_))), "{closed:?}");
    }
}

pub(super) async fn a_close_ends_a_claim(bed: Bed) {
    let grip = bed.refreshing().await;
    assert_eq!(bed.closed().await, 2);
    for to in [SettleTo::Before, SettleTo::InDoubt] {
        assert_eq!(bed.settle(grip, to).await, Settled::Moved);
    }
    assert!(!bed.take_over(grip.attempt.fence, LEASE).await);
    let record = bed.record().await;
    assert_eq!((record.phase, record.lease), (Phase::Closed, None));
    assert_eq!(access(record.outbox.as_deref()), "access-first");
    // A first grant's claim has nothing that the server knows.
    let bed = bed.named("vacant");
    bed.grip(ALICE, Intent::Establish).await;
    assert_eq!(bed.closed().await, 1);
    let record = bed.record().await;
    assert!(record.phase == Phase::Closed && record.outbox.is_none(), "{record:?}");
    assert!(!bed.is_due().await);
}

pub(super) async fn a_close_while_a_grant_runs_keeps_the_outbox(bed: Bed) {
    bed.established().await;
    assert_eq!(bed.closed().await, 2);
    bed.grip(BOB, Intent::Establish).await;
    assert_eq!(access(bed.record().await.outbox.as_deref()), "access-first");
    assert!(bed.is_due().await);
    let generation = bed.closed().await;
    let record = bed.record().await;
    assert_eq!((record.phase, record.lease), (Phase::Closed, None));
    assert_eq!(access(record.outbox.as_deref()), "access-first");
    bed.store.outbox(&bed.id, generation).await.unwrap();
    assert!(bed.record().await.outbox.is_none());
}

pub(super) async fn the_outbox_is_emptied_for_the_named_generation_alone(bed: Bed) {
    bed.established().await;
    assert_eq!(bed.closed().await, 2);
    for generation in [0, 1, 3] {
        bed.store.outbox(&bed.id, generation).await.unwrap();
        assert_eq!(access(bed.record().await.outbox.as_deref()), "access-first");
        assert!(bed.is_due().await);
    }
    // Whoever tells the server may be slower than the next grant.
    let grant = bed.grip(ALICE, Intent::Establish).await;
    bed.store.outbox(&bed.id, 2).await.unwrap();
    bed.store.outbox(&bed.id, 2).await.unwrap();
    assert!(bed.record().await.outbox.is_none());
    assert!(!bed.is_due().await);
    assert_eq!(bed.settle(grant, SettleTo::Before).await, Settled::Done);
    assert_eq!(bed.record().await.phase, Phase::Closed);
    let claimed = bed.claim(claim(BOB, Intent::Establish, (1, 2))).await;
    assert!(matches!(claimed, Claimed::Granted { .. }), "{claimed:?}");
    let bed = bed.named("active");
    bed.established().await;
    bed.store.outbox(&bed.id, 1).await.unwrap();
    assert_eq!(bed.gist().await, gist(1, 1, Phase::Active, "first"));
    assert_eq!(bed.record().await.due_at, Some(wall(900)), "an active one has no outbox");
    let grip = bed.grip(ALICE, Intent::Refresh).await;
    assert_eq!(bed.commit(grip, "second").await, stored(1, 2));
}
