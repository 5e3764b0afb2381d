//! Claims: who may send something, and what the record shows of it.

use std::time::Duration;

use super::bed::{ALICE, BOB, Bed, LEASE, access, at_once, claim, gist, now, stored, wall};
use crate::store::{
    Claim, Claimed, Committed, Holder, Intent, Lease, Owner, Phase, SettleTo, Settled,
};

pub(super) async fn a_first_claim_makes_a_record_that_shows_its_lease(bed: Bed) {
    let grip = bed.grip(ALICE, Intent::Establish).await;
    let record = bed.record().await;
    assert_eq!((record.epoch, record.generation, record.phase), (0, 0, Phase::Claimed));
    let until = now(LEASE).boot;
    let lease = Lease {
        owner: ALICE,
        intent: Intent::Establish,
        until,
        holder: Holder::Alive,
        before: Phase::Vacant,
    };
    assert_eq!((record.lease, record.fence), (Some(lease), grip.attempt.fence));
    assert!(grip.attempt.fence > 0, "0 is no claim's fence");
    assert_eq!((record.made_by, record.lost, record.tries), (None, None, 1));
    assert!(record.credentials.is_none() && record.outbox.is_none() && !record.suspect);
    assert!(!bed.is_due().await);
}

pub(super) async fn a_claim_for_a_refresh_keeps_what_the_record_has(bed: Bed) {
    let first = bed.established().await;
    let second = bed.grip(BOB, Intent::Refresh).await;
    assert!(second.attempt.fence > first.attempt.fence);
    assert_eq!(bed.gist().await, gist(1, 1, Phase::Claimed, "first"));
    let record = bed.record().await;
    let until = now(LEASE).boot;
    let lease = Lease {
        owner: BOB,
        intent: Intent::Refresh,
        until,
        holder: Holder::Alive,
        before: Phase::Active,
    };
    assert_eq!(record.lease, Some(lease));
    assert_eq!((record.made_by, record.due_at), (Some(first.attempt), Some(wall(900))));
    assert_eq!((record.tries, record.suspect), (1, false));
}

pub(super) async fn a_refused_first_grant_leaves_nothing_behind(bed: Bed) {
    for to in [SettleTo::Before, SettleTo::BeforeSuspect] {
        let grip = bed.grip(ALICE, Intent::Establish).await;
        assert_eq!(bed.settle(grip, to).await, Settled::Done);
        assert!(bed.load().await.is_none());
        assert!(!bed.is_due().await);
    }
    bed.established().await;
}

pub(super) async fn a_fence_is_not_given_again_after_a_refused_first_grant(bed: Bed) {
    let refused = bed.grip(ALICE, Intent::Establish).await;
    bed.settle(refused, SettleTo::Before).await;
    let next = bed.grip(BOB, Intent::Establish).await;
    assert!(next.attempt.fence > refused.attempt.fence, "{next:?} {refused:?}");
    // What comes late from the first must not be taken for the second's.
    assert_eq!(bed.settle(refused, SettleTo::Before).await, Settled::Moved);
    assert_eq!(bed.record().await.phase, Phase::Claimed);
    assert_eq!(bed.commit(next, "next").await, stored(1, 1));
    assert_eq!(bed.commit(refused, "refused").await, Committed::Superseded);
    assert_eq!(bed.gist().await, gist(1, 1, Phase::Active, "next"));
}

pub(super) async fn a_claim_from_a_stale_generation_gets_the_record(bed: Bed) {
    let grip = bed.refreshing().await;
    bed.commit(grip, "second").await;
    for generation in [0, 1, 3] {
        let claimed = bed.claim(claim(ALICE, Intent::Refresh, (1, generation))).await;
        let Claimed::Moved(Some(record)) = claimed else { panic!("{claimed:?}") };
        assert_eq!((record.epoch, record.generation), (1, 2));
        assert_eq!(access(record.credentials.as_deref()), "access-second");
    }
    assert_eq!(bed.gist().await, gist(1, 2, Phase::Active, "second"));
    assert_eq!(bed.record().await.fence, grip.attempt.fence);
}

pub(super) async fn a_claim_from_a_stale_epoch_gets_the_record(bed: Bed) {
    bed.established().await;
    for intent in [Intent::Refresh, Intent::Establish] {
        for epoch in [0, 2] {
            let claimed = bed.claim(claim(ALICE, intent, (epoch, 1))).await;
            let Claimed::Moved(Some(record)) = claimed else { panic!("{claimed:?}") };
            assert_eq!((record.epoch, record.generation), (1, 1));
        }
    }
    let unknown = bed.named("unknown").claim(claim(ALICE, Intent::Establish, (1, 1))).await;
    assert!(matches!(unknown, Claimed::Moved(None)), "{unknown:?}");
}

pub(super) async fn a_claim_for_an_establish_does_not_ask_for_the_generation(bed: Bed) {
    bed.established().await;
    let claimed = bed.claim(claim(ALICE, Intent::Establish, (1, 7))).await;
    assert!(matches!(claimed, Claimed::Granted { .. }), "{claimed:?}");
}

pub(super) async fn a_second_owner_is_told_of_the_lease(bed: Bed) {
    let held = bed.refreshing().await;
    let expected = bed.record().await.lease;
    for intent in [Intent::Refresh, Intent::Establish] {
        // Also after its end: only a take-over ends another's claim.
        for after in [Duration::ZERO, LEASE * 2] {
            let claim = Claim { at: now(after), ..claim(BOB, intent, (1, 1)) };
            let claimed = bed.claim(claim).await;
            let Claimed::Leased(record) = claimed else { panic!("{claimed:?}") };
            assert_eq!((record.lease, record.fence), (expected, held.attempt.fence));
        }
    }
    let record = bed.record().await;
    assert_eq!((record.lease, record.fence, record.tries), (expected, held.attempt.fence, 1));
}

pub(super) async fn an_owner_takes_its_own_left_behind_claim_again(bed: Bed) {
    let first = bed.refreshing().await;
    let second = bed.grip(ALICE, Intent::Refresh).await;
    assert!(second.attempt.fence > first.attempt.fence);
    let lease = bed.record().await.lease.unwrap();
    assert_eq!((lease.owner, lease.before), (ALICE, Phase::Active), "not Claimed before Claimed");
    assert_eq!(bed.settle(first, SettleTo::InDoubt).await, Settled::Moved);
    let third = bed.grip(ALICE, Intent::Establish).await;
    assert_eq!(bed.settle(third, SettleTo::Before).await, Settled::Done);
    assert_eq!(bed.gist().await, gist(1, 1, Phase::Active, "first"));
    assert!(!bed.is_suspect().await);
}

pub(super) async fn only_a_grant_can_be_claimed_on_what_is_lost_or_closed(bed: Bed) {
    let (lost, closed) = (bed.named("lost"), bed.named("closed"));
    lost.lost().await;
    closed.established().await;
    closed.closed().await;
    for (bed, phase) in [(lost, Phase::Lost), (closed, Phase::Closed)] {
        let record = bed.record().await;
        let counters = (record.epoch, record.generation);
        let claimed = bed.claim(claim(ALICE, Intent::Refresh, counters)).await;
        let Claimed::Moved(Some(record)) = claimed else { panic!("{claimed:?}") };
        assert_eq!(record.phase, phase);
        bed.grip(ALICE, Intent::Establish).await;
        let lease = bed.record().await.lease.unwrap();
        assert_eq!((lease.before, lease.intent), (phase, Intent::Establish));
        // Neither while the grant is claimed, by its own owner.
        let claimed = bed.claim(claim(ALICE, Intent::Refresh, counters)).await;
        assert!(matches!(claimed, Claimed::Moved(Some(_))), "{claimed:?}");
    }
}

pub(super) async fn of_64_claims_at_once_exactly_one_is_granted(bed: Bed) {
    bed.established().await;
    for name in ["device", "fresh"] {
        let bed = bed.named(name);
        let (intent, counters) = match bed.load().await {
            Some(_) => (Intent::Refresh, (1, 1)),
            None => (Intent::Establish, (0, 0)),
        };
        let claims = (0..64).map(|owner| {
            let bed = bed.clone();
            async move { bed.claim(claim(Owner(owner), intent, counters)).await }
        });
        let (mut granted, mut leased) = (Vec::new(), 0);
        for claimed in at_once(claims).await {
            match claimed {
                Claimed::Granted { fence } => granted.push(fence),
                Claimed::Leased(record) => {
                    assert_eq!(record.phase, Phase::Claimed);
                    leased += 1;
                }
                Claimed::Moved(record) => panic!("nothing moved: {record:?}"),
            }
        }
        assert_eq!((granted.len(), leased), (1, 63));
        assert_eq!(bed.record().await.fence, granted[0]);
    }
}

pub(super) async fn statements_on_many_sessions_at_once_do_not_disturb_each_other(bed: Bed) {
    let lives = (0..32_u32).map(|number| {
        let bed = bed.named(&format!("device-{number}"));
        async move {
            bed.established().await;
            for round in 0..number % 8 {
                let grip = bed.grip(ALICE, Intent::Refresh).await;
                if round % 3 == 2 {
                    assert_eq!(bed.settle(grip, SettleTo::Before).await, Settled::Done);
                }
                let committed = bed.commit(grip, &format!("{number}-{round}")).await;
                assert!(matches!(committed, Committed::Stored { .. }), "{committed:?}");
            }
        }
    });
    at_once(lives).await;
    for number in 0..32_u32 {
        let rounds = number % 8;
        let name = match rounds {
            0 => "first".to_owned(),
            rounds => format!("{number}-{}", rounds - 1),
        };
        let expected = gist(1, u64::from(rounds) + 1, Phase::Active, &name);
        assert_eq!(bed.named(&format!("device-{number}")).gist().await, expected);
    }
}
