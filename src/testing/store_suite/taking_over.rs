//! Claims whose holder fell silent.

use std::time::Duration;

use super::fixture::{
    ALICE, BOB, Fixture, HOUR, LEASE, access, at_once, conflict, done, gist, is_about, is_stored,
    too_early,
};
use crate::error::LostReason;
use crate::store::{Claim, ClaimId, Holder, Intent, Outcome, Phase, Presence, SettleTo};

pub(super) async fn a_claim_is_not_taken_over_before_its_lease_and_its_hold_have_ended(
    fixture: Fixture,
) {
    let (held, silent) = (fixture.named("held"), fixture.named("silent"));
    let working = held.refreshing().await;
    let gone = silent.silently_refreshing().await;
    for (fixture, claim, hold, expected) in [
        (&held, working, Duration::ZERO, LEASE),
        (&held, working, HOUR, LEASE + HOUR),
        (&silent, gone, HOUR, HOUR),
    ] {
        let outcome = fixture.take_over_after(claim.id(), hold, Duration::ZERO).await;
        let (left, found) = too_early(outcome);
        is_about(Some(left), expected);
        assert_eq!(found.version, claim.attempt.fence, "nothing is written");
        assert_eq!(fixture.gist().await, gist(1, 1, Phase::Active, "first"));
        assert_eq!(fixture.claimed_by().await, Some(claim.id()));
    }
    let unseen = silent.next_claim(ALICE, Intent::Refresh).await.id;
    for unseen in [unseen, ClaimId(gone.attempt.fence)] {
        assert!(conflict(silent.take_over(unseen).await).is_some(), "that claim is not there");
    }
    done(silent.take_over(gone.id()).await);
    done(held.settle(working, SettleTo::Before).await);
    conflict(held.take_over(working.id()).await);
    assert_eq!(held.gist().await, gist(1, 1, Phase::Active, "first"));
}

pub(super) async fn a_dead_holder_is_waited_for_from_its_claim_on(fixture: Fixture) {
    for owner in [ALICE, BOB] {
        fixture.store.presence(owner, Presence::Register).await.unwrap();
    }
    let other = fixture.named("other");
    other.established().await;
    let of_living = other.granted(BOB, Intent::Refresh).await;
    let refresh = fixture.refreshing().await;
    fixture.store.presence(ALICE, Presence::Retire).await.unwrap();
    let lease = fixture.record().await.lease.unwrap();
    assert_eq!((lease.claim, lease.holder), (refresh.id(), Holder::Dead));
    // Neither the lease counts, nor the hold for owners that may live.
    let hold_of_dead = HOUR / 2;
    let (left, _) = too_early(fixture.take_over_after(refresh.id(), HOUR, hold_of_dead).await);
    is_about(Some(left), hold_of_dead);
    done(fixture.take_over_after(refresh.id(), HOUR, Duration::ZERO).await);
    assert_eq!(fixture.gist().await, gist(1, 1, Phase::InDoubt, "first"));
    // No other owner is dead.
    let lease = other.record().await.lease.unwrap();
    assert_eq!((lease.claim, lease.holder), (of_living.id(), Holder::Alive));
    let (left, _) = too_early(other.take_over(of_living.id()).await);
    is_about(Some(left), LEASE);
}

pub(super) async fn what_may_be_in_a_journal_is_waited_for_until_that_is_replayed(
    fixture: Fixture,
) {
    for owner in [ALICE, BOB] {
        fixture.store.presence(owner, Presence::Register).await.unwrap();
    }
    let other = fixture.named("other");
    let of_other = other.silently_refreshing().await;
    assert!(!other.record().await.lease.unwrap().journal);
    fixture.established().await;
    let claim = fixture.next_claim(ALICE, Intent::Refresh).await;
    let claim = Claim { lease: Duration::ZERO, journal: true, ..claim };
    let refresh = fixture.granted_as(claim).await;
    let lease = fixture.record().await.lease.unwrap();
    assert_eq!((lease.holder, lease.journal), (Holder::Alive, true));
    let (left, _) = too_early(fixture.take_over_after_journal(refresh.id(), HOUR).await);
    is_about(Some(left), HOUR);
    // It ends, and the journal stays.
    fixture.store.presence(ALICE, Presence::LeaveJournal).await.unwrap();
    let (left, _) = too_early(fixture.take_over_after_journal(refresh.id(), HOUR).await);
    is_about(Some(left), HOUR);
    done(other.take_over_after_journal(of_other.id(), HOUR).await);
    // Another supervisor says it, perhaps twice.
    for _ in 0..2 {
        fixture.store.presence(ALICE, Presence::Replayed).await.unwrap();
        let lease = fixture.record().await.lease.unwrap();
        assert_eq!((lease.holder, lease.journal), (Holder::Dead, false));
    }
    done(fixture.take_over_after_journal(refresh.id(), HOUR).await);
    assert_eq!(fixture.gist().await, gist(1, 1, Phase::InDoubt, "first"));
}

pub(super) async fn a_silent_refresh_is_in_doubt(fixture: Fixture) {
    let refresh = fixture.silently_refreshing().await;
    let taken = done(fixture.take_over(refresh.id()).await);
    assert_eq!((taken.phase, taken.fence), (Phase::InDoubt, refresh.attempt.fence));
    assert_eq!(fixture.gist().await, gist(1, 1, Phase::InDoubt, "first"));
    let stored = fixture.stored().await;
    assert_eq!((stored.record.lease, stored.retry_in()), (None, None));
    assert!(stored.record.version > refresh.attempt.fence);
    assert!(fixture.is_due().await);
    conflict(fixture.take_over(refresh.id()).await);
    assert_eq!(fixture.record().await.version, taken.version, "once");
}

pub(super) async fn a_silent_refresh_of_what_is_lost_provisionally_is_in_doubt(fixture: Fixture) {
    let refresh = fixture.refreshing().await;
    done(fixture.settle(refresh, SettleTo::Lost(LostReason::Unclassified)).await);
    let silent = fixture.silent(BOB, Intent::Refresh).await;
    done(fixture.take_over(silent.id()).await);
    let record = fixture.record().await;
    assert_eq!((record.phase, record.lost), (Phase::InDoubt, None));
}

pub(super) async fn a_silent_establish_leaves_what_was_before_as_suspect(fixture: Fixture) {
    let (active, doubtful, closed) = (fixture.named("a"), fixture.named("d"), fixture.named("c"));
    active.established().await;
    let refresh = doubtful.refreshing().await;
    done(doubtful.settle(refresh, SettleTo::InDoubt).await);
    closed.uninformed().await;
    for (fixture, phase) in
        [(active, Phase::Active), (doubtful, Phase::InDoubt), (closed, Phase::Closed)]
    {
        let grant = fixture.silent(ALICE, Intent::Establish).await;
        let credentials = fixture.record().await.credentials.is_some();
        done(fixture.take_over(grant.id()).await);
        let record = fixture.record().await;
        assert_eq!((record.phase, record.lease), (phase, None));
        assert_eq!(record.suspect, credentials, "{phase:?}");
        assert_eq!(record.credentials.is_some(), credentials, "{phase:?}");
        assert!(record.version > grant.attempt.fence);
        conflict(fixture.settle(grant, SettleTo::Before).await);
    }
}

pub(super) async fn a_silent_first_grant_leaves_nothing_behind(fixture: Fixture) {
    let grant = fixture.silent(ALICE, Intent::Establish).await;
    too_early(fixture.take_over_after(grant.id(), HOUR, HOUR).await);
    done(fixture.take_over(grant.id()).await);
    assert!(fixture.load().await.is_none());
    assert!(conflict(fixture.settle(grant, SettleTo::BeforeSuspect).await).is_none());
    fixture.established().await;
    assert!(fixture.record().await.fence > grant.attempt.fence);
}

pub(super) async fn a_silent_revocation_is_owed_again(fixture: Fixture) {
    fixture.uninformed().await;
    let revoke = fixture.silent(ALICE, Intent::Revoke).await;
    let taken = done(fixture.take_over(revoke.id()).await);
    assert_eq!((taken.phase, taken.suspect), (Phase::Closed, false));
    assert_eq!(access(fixture.record().await.outbox.as_deref()), "access-first");
    assert!(fixture.is_due().await, "so that somebody tells the server");
    fixture.granted(BOB, Intent::Revoke).await;
}

pub(super) async fn a_holder_that_comes_back_cannot_settle_but_its_commit_counts(fixture: Fixture) {
    let late = fixture.silently_refreshing().await;
    done(fixture.take_over(late.id()).await);
    conflict(fixture.settle(late, SettleTo::Before).await);
    assert_eq!(fixture.gist().await, gist(1, 1, Phase::InDoubt, "first"));
    is_stored(fixture.commit(late, "late").await, 1, 2);
    assert_eq!(fixture.gist().await, gist(1, 2, Phase::Active, "late"));
    let record = fixture.record().await;
    assert_eq!((record.retry_at, record.suspect), (None, false));
    // Also while the process that took over sends the same refresh token again.
    let old = fixture.silent(ALICE, Intent::Refresh).await;
    done(fixture.take_over(old.id()).await);
    let new = fixture.granted(BOB, Intent::Refresh).await;
    is_stored(fixture.commit(old, "old").await, 1, 3);
    assert_eq!(fixture.gist().await, gist(1, 3, Phase::Active, "old"));
    conflict(fixture.settle(new, SettleTo::InDoubt).await);
    assert!(fixture.is_suspect().await);
}

pub(super) async fn of_16_that_take_over_at_once_one_does(fixture: Fixture) {
    let claim = fixture.silently_refreshing().await.id();
    let takers = (0..16).map(|_| {
        let fixture = fixture.clone();
        async move { fixture.take_over(claim).await }
    });
    let taken = at_once(takers).await;
    let done = taken.iter().filter(|outcome| matches!(outcome, Outcome::Done(_)));
    assert_eq!(done.count(), 1);
    let late = taken.iter().filter(|outcome| matches!(outcome, Outcome::Conflict(Some(_))));
    assert_eq!(late.count(), 15);
    assert_eq!(fixture.gist().await, gist(1, 1, Phase::InDoubt, "first"));
}
