//! Closes, and the revocations that the server must still get.

use std::time::Duration;

use super::fixture::{
    ALICE, BOB, Fixture, HOUR, LEASE, access, at_once, claim, conflict, done, gist, is_about,
    is_stored, leased, too_early,
};
use crate::error::LostReason;
use crate::store::{ClaimId, Close, Holder, Intent, Outcome, Owner, Phase, SettleTo, Statement};

pub(super) async fn a_close_keeps_the_tokens_that_must_be_revoked(fixture: Fixture) {
    let (active, lost) = (fixture.named("active"), fixture.named("lost"));
    active.established().await;
    lost.lost().await;
    for fixture in [active, lost] {
        assert_eq!(fixture.closed().await.attempt.base, 2);
        let stored = fixture.stored().await;
        assert_eq!(stored.due_in(), Some(Duration::ZERO), "so that somebody tells the server");
        assert_eq!((stored.access_left(), stored.refresh_left()), (None, None));
        let record = stored.record;
        assert_eq!((record.epoch, record.generation, record.phase), (1, 2, Phase::Closed));
        assert!(record.credentials.is_none());
        assert_eq!(access(record.outbox.as_deref()), "access-first");
        assert_eq!((record.lost, record.suspect), (None, false));
        assert!(fixture.is_to_be_looked_at().await);
    }
}

pub(super) async fn a_close_hands_its_claim_to_the_closer(fixture: Fixture) {
    let refresh = fixture.refreshing().await;
    let close = Close { generation: 1, claim: ClaimId(77), owner: BOB, lease: HOUR };
    let closed = done(fixture.apply(Statement::Close(close)).await);
    assert!(closed.fence > refresh.attempt.fence);
    assert_eq!(closed.fence, closed.version, "it is a claim as others are");
    let stored = fixture.stored().await;
    is_about(stored.lease_left(), HOUR);
    let lease = stored.record.lease.unwrap();
    assert_eq!((lease.claim, lease.owner), (ClaimId(77), BOB));
    assert_eq!((lease.intent, lease.holder), (Intent::Revoke, Holder::Alive));
    // The process that closed need not claim, and no other can.
    leased(fixture.claim(claim(ALICE, Intent::Revoke, Some((1, 2)))).await);
    conflict(fixture.settle(refresh, SettleTo::Before).await);
    assert_eq!(fixture.claimed_by().await, Some(ClaimId(77)));
}

pub(super) async fn a_close_that_is_sent_twice_is_done_once(fixture: Fixture) {
    fixture.established().await;
    let close = Close { generation: 1, claim: ClaimId(77), owner: ALICE, lease: LEASE };
    let first = done(fixture.apply(Statement::Close(close)).await);
    // The generation of the credentials, whose acknowledgement was lost, and the tombstone's.
    for generation in [1, 2] {
        let again = Statement::Close(Close { generation, ..close });
        assert_eq!(done(fixture.apply(again).await), first);
        assert_eq!(done(fixture.close(generation).await), first, "somebody else's close");
        assert_eq!(access(fixture.record().await.outbox.as_deref()), "access-first");
        assert_eq!(fixture.claimed_by().await, Some(ClaimId(77)));
    }
    let record = fixture.record().await;
    assert_eq!((record.version, record.generation), (first.version, 2));
    let revoke = fixture.closed_as(close).await;
    done(fixture.settle(revoke, SettleTo::Revoked).await);
    let closed = done(fixture.close(1).await);
    assert_eq!((closed.generation, closed.phase), (2, Phase::Closed));
    assert!(!fixture.is_due().await, "the server got the revocation, and gets no other");
    assert_eq!(fixture.record().await.lease, None);
}

pub(super) async fn a_close_of_a_stale_generation_gets_the_record(fixture: Fixture) {
    let refresh = fixture.refreshing().await;
    is_stored(fixture.commit(refresh, "second").await, 1, 2);
    for generation in [0, 1, 3] {
        let record = conflict(fixture.close(generation).await).unwrap();
        assert_eq!((record.epoch, record.generation), (1, 2));
    }
    assert_eq!(fixture.gist().await, gist(1, 2, Phase::Active, "second"));
    assert_eq!(fixture.closed().await.attempt.base, 3);
    for generation in [1, 4] {
        assert!(conflict(fixture.close(generation).await).is_some());
    }
}

pub(super) async fn a_close_ends_a_claim(fixture: Fixture) {
    let refresh = fixture.silently_refreshing().await;
    let closed = fixture.closed().await;
    assert_eq!(closed.attempt.base, 2);
    for to in [SettleTo::Before, SettleTo::InDoubt] {
        conflict(fixture.settle(refresh, to).await);
    }
    conflict(fixture.take_over(refresh.id()).await);
    let record = fixture.record().await;
    assert_eq!(record.phase, Phase::Closed);
    assert_eq!(record.lease.map(|lease| lease.claim), Some(closed.id()));
    assert_eq!(access(record.outbox.as_deref()), "access-first");
    // A first grant's claim has nothing that the server knows.
    let fixture = fixture.named("vacant");
    fixture.granted(ALICE, Intent::Establish).await;
    assert_eq!(fixture.closed().await.attempt.base, 1);
    let record = fixture.record().await;
    assert!(record.phase == Phase::Closed && record.outbox.is_none(), "{record:?}");
    assert_eq!(record.lease, None, "there is nothing to tell, and so nothing to claim");
    assert!(!fixture.is_due().await);
}

pub(super) async fn a_close_while_a_grant_runs_keeps_the_outbox(fixture: Fixture) {
    fixture.uninformed().await;
    let grant = fixture.granted(BOB, Intent::Establish).await;
    assert_eq!(access(fixture.record().await.outbox.as_deref()), "access-first");
    assert!(fixture.is_to_be_looked_at().await);
    // It is closed already: the grant goes on, and stands if it succeeds.
    assert_eq!(done(fixture.close(2).await).generation, 2);
    let record = fixture.record().await;
    assert_eq!(record.lease.map(|lease| lease.claim), Some(grant.id()));
    assert_eq!(access(record.outbox.as_deref()), "access-first");
    done(fixture.settle(grant, SettleTo::Before).await);
    let revoke = fixture.granted(ALICE, Intent::Revoke).await;
    done(fixture.settle(revoke, SettleTo::Revoked).await);
    assert!(fixture.record().await.outbox.is_none());
}

pub(super) async fn an_owed_revocation_is_claimed_by_one_alone(fixture: Fixture) {
    fixture.uninformed().await;
    let claims = (0..16).map(|owner| {
        let fixture = fixture.clone();
        let claim = claim(Owner(owner), Intent::Revoke, Some((1, 2)));
        async move { fixture.claim(claim).await }
    });
    let claimed = at_once(claims).await;
    let granted = claimed.iter().filter(|outcome| matches!(outcome, Outcome::Done(_)));
    assert_eq!(granted.count(), 1);
    let others = claimed.iter().filter(|outcome| matches!(outcome, Outcome::Leased(_)));
    assert_eq!(others.count(), 15);
    // Under a generation that is not the tombstone's, no process may revoke.
    for generation in [1, 3] {
        conflict(fixture.claim(claim(BOB, Intent::Revoke, Some((1, generation)))).await);
    }
    assert_eq!(access(fixture.record().await.outbox.as_deref()), "access-first");
}

pub(super) async fn a_revocation_that_was_sent_is_not_due_any_more(fixture: Fixture) {
    fixture.established().await;
    let closed = fixture.closed().await;
    let settled = done(fixture.settle(closed, SettleTo::Revoked).await);
    assert_eq!((settled.phase, settled.generation), (Phase::Closed, 2));
    let record = fixture.record().await;
    assert!(record.outbox.is_none() && record.made_by.is_none(), "{record:?}");
    assert_eq!((record.lease, record.due_at, record.retry_at), (None, None, None));
    assert!(!fixture.is_due().await);
    conflict(fixture.claim(claim(BOB, Intent::Revoke, Some((1, 2)))).await);
    conflict(fixture.settle(closed, SettleTo::Revoked).await);
    let grant = fixture.granted(BOB, Intent::Establish).await;
    is_stored(fixture.commit(grant, "second").await, 2, 3);
}

pub(super) async fn a_revocation_that_failed_is_due_when_it_may_be_tried(fixture: Fixture) {
    fixture.established().await;
    let closed = fixture.closed().await;
    done(fixture.settle_for(closed, SettleTo::Before, Some(HOUR)).await);
    is_about(fixture.stored().await.due_in(), HOUR);
    let next = claim(BOB, Intent::Revoke, Some((1, 2)));
    let (left, found) = too_early(fixture.claim(next).await);
    is_about(Some(left), HOUR);
    assert_eq!(access(found.outbox.as_deref()), "access-first");
    let fixture = fixture.named("soon");
    fixture.established().await;
    let closed = fixture.closed().await;
    done(fixture.settle_for(closed, SettleTo::Before, Some(Duration::ZERO)).await);
    assert!(fixture.is_to_be_looked_at().await);
    let revoke = fixture.granted(BOB, Intent::Revoke).await;
    assert_eq!(fixture.record().await.tries, 1);
    done(fixture.settle(revoke, SettleTo::Revoked).await);
}

pub(super) async fn the_outbox_is_emptied_under_its_claim_alone(fixture: Fixture) {
    fixture.established().await;
    let closed = fixture.closed().await;
    done(fixture.settle(closed, SettleTo::Before).await);
    let revoke = fixture.granted(BOB, Intent::Revoke).await;
    // The closer's claim has ended.
    conflict(fixture.settle(closed, SettleTo::Revoked).await);
    assert_eq!(access(fixture.record().await.outbox.as_deref()), "access-first");
    assert!(fixture.is_to_be_looked_at().await);
    done(fixture.settle(revoke, SettleTo::Before).await);
    // The end of a grant's claim is not the end of a revocation.
    let grant = fixture.granted(ALICE, Intent::Establish).await;
    conflict(fixture.settle(revoke, SettleTo::Revoked).await);
    done(fixture.settle(grant, SettleTo::BeforeSuspect).await);
    let record = fixture.record().await;
    assert_eq!((record.phase, record.suspect), (Phase::Closed, false));
    assert_eq!(access(record.outbox.as_deref()), "access-first");
    let fixture = fixture.named("active");
    let refresh = fixture.refreshing().await;
    done(fixture.settle(refresh, SettleTo::Revoked).await);
    assert_eq!(fixture.gist().await, gist(1, 1, Phase::Active, "first"));
    is_about(fixture.stored().await.due_in(), HOUR);
    let refresh = fixture.granted(ALICE, Intent::Refresh).await;
    is_stored(fixture.commit(refresh, "second").await, 1, 2);
}

pub(super) async fn a_tombstone_stays_closed_however_a_claim_on_it_ends(fixture: Fixture) {
    fixture.uninformed().await;
    for to in [SettleTo::InDoubt, SettleTo::Lost(LostReason::Rejected), SettleTo::BeforeSuspect] {
        for intent in [Intent::Revoke, Intent::Establish] {
            let claim = fixture.granted(ALICE, intent).await;
            assert_eq!(done(fixture.settle(claim, to).await).phase, Phase::Closed, "{to:?}");
            let record = fixture.record().await;
            assert_eq!((record.lost, record.suspect, record.lease), (None, false, None));
            assert_eq!(access(record.outbox.as_deref()), "access-first");
        }
    }
}
