//! Claims: which process may send a request, and what the record shows of it.

use std::time::Duration;

use super::fixture::{
    ALICE, BOB, Fixture, HOUR, LEASE, access, at_once, claim, conflict, done, gist, is_about,
    is_stored, leased, too_early,
};
use crate::error::LostReason;
use crate::store::{
    Claim, Holder, Intent, Lease, Outcome, Owner, Phase, Renew, SettleTo, Statement,
};

/// What is the same of a lease whenever it is read.
fn whose(lease: Option<Lease>) -> Option<(Owner, Intent, Holder)> {
    lease.map(|lease| (lease.owner, lease.intent, lease.holder))
}

pub(super) async fn a_first_claim_makes_a_record_that_shows_its_lease(fixture: Fixture) {
    let grant = fixture.granted(ALICE, Intent::Establish).await;
    let stored = fixture.stored().await;
    is_about(stored.lease_left(), LEASE);
    assert_eq!(stored.silent_for(), Some(Duration::ZERO));
    let record = stored.record;
    assert_eq!((record.epoch, record.generation, record.phase), (0, 0, Phase::Vacant));
    assert_eq!(whose(record.lease), Some((ALICE, Intent::Establish, Holder::Alive)));
    assert_eq!(record.lease.map(|lease| lease.claim), Some(grant.id()));
    assert_eq!((record.fence, record.version), (grant.attempt.fence, grant.attempt.fence));
    assert!(grant.attempt.fence > 0, "0 is no claim's fence");
    assert_eq!((record.made_by, record.lost, record.tries), (None, None, 1));
    assert!(record.credentials.is_none() && record.outbox.is_none() && !record.suspect);
    assert!(!fixture.is_due().await);
}

pub(super) async fn a_claim_for_a_refresh_keeps_what_the_record_has(fixture: Fixture) {
    let first = fixture.established().await;
    let before = fixture.record().await;
    let second = fixture.granted(BOB, Intent::Refresh).await;
    assert!(second.attempt.fence > first.attempt.fence);
    assert_eq!(fixture.gist().await, gist(1, 1, Phase::Active, "first"));
    let record = fixture.record().await;
    assert_eq!(whose(record.lease), Some((BOB, Intent::Refresh, Holder::Alive)));
    assert_eq!((record.made_by, record.due_at), (Some(first.attempt), before.due_at));
    assert_eq!(record.access_expires_at, before.access_expires_at);
    assert_eq!((record.tries, record.suspect), (1, false));
    assert!(fixture.is_to_be_looked_at().await);
}

pub(super) async fn a_refused_first_grant_leaves_nothing_behind(fixture: Fixture) {
    for to in [SettleTo::Before, SettleTo::BeforeSuspect] {
        let grant = fixture.granted(ALICE, Intent::Establish).await;
        done(fixture.settle_for(grant, to, Some(HOUR)).await);
        assert!(fixture.load().await.is_none());
        assert!(!fixture.is_due().await);
    }
    let grant = fixture.granted(ALICE, Intent::Establish).await;
    is_stored(fixture.commit(grant, "first").await, 1, 1);
}

pub(super) async fn a_fence_is_not_given_again_after_a_refused_first_grant(fixture: Fixture) {
    let refused = fixture.granted(ALICE, Intent::Establish).await;
    let ended = done(fixture.settle(refused, SettleTo::Before).await);
    let next = fixture.granted(BOB, Intent::Establish).await;
    assert!(next.attempt.fence > refused.attempt.fence, "{next:?} {refused:?}");
    assert!(next.attempt.fence > ended.version, "{next:?} {ended:?}");
    // What comes late from the first must not be taken for the second's.
    conflict(fixture.settle(refused, SettleTo::Before).await);
    assert_eq!(fixture.claimed_by().await, Some(next.id()));
    is_stored(fixture.commit(next, "next").await, 1, 1);
    conflict(fixture.commit(refused, "refused").await);
    assert_eq!(fixture.gist().await, gist(1, 1, Phase::Active, "next"));
}

pub(super) async fn a_claim_from_a_stale_generation_gets_the_record(fixture: Fixture) {
    let refresh = fixture.refreshing().await;
    is_stored(fixture.commit(refresh, "second").await, 1, 2);
    for generation in [0, 1, 3] {
        let claim = claim(ALICE, Intent::Refresh, Some((1, generation)));
        let record = conflict(fixture.claim(claim).await).unwrap();
        assert_eq!((record.epoch, record.generation), (1, 2));
        assert_eq!(access(record.credentials.as_deref()), "access-second");
    }
    assert_eq!(fixture.gist().await, gist(1, 2, Phase::Active, "second"));
    assert_eq!(fixture.record().await.fence, refresh.attempt.fence);
}

pub(super) async fn a_claim_from_a_stale_epoch_gets_the_record(fixture: Fixture) {
    fixture.established().await;
    for intent in [Intent::Refresh, Intent::Establish] {
        // The last knows of no session.
        for known in [Some((0, 1)), Some((2, 1)), None] {
            let record = conflict(fixture.claim(claim(ALICE, intent, known)).await).unwrap();
            assert_eq!((record.epoch, record.generation), (1, 1));
        }
    }
    let unknown = claim(ALICE, Intent::Establish, Some((1, 1)));
    assert!(conflict(fixture.named("unknown").claim(unknown).await).is_none());
}

pub(super) async fn a_claim_for_an_establish_does_not_ask_for_the_generation(fixture: Fixture) {
    fixture.established().await;
    done(fixture.claim(claim(ALICE, Intent::Establish, Some((1, 7)))).await);
}

pub(super) async fn a_second_owner_gets_the_lease(fixture: Fixture) {
    let (held, silent) = (fixture.named("held"), fixture.named("silent"));
    held.refreshing().await;
    silent.silently_refreshing().await;
    // Also after its end: only a take-over ends another's claim.
    for (fixture, left) in [(held, LEASE), (silent, Duration::ZERO)] {
        let before = fixture.record().await;
        for intent in [Intent::Refresh, Intent::Establish] {
            let found = leased(fixture.claim(claim(BOB, intent, Some((1, 1)))).await);
            is_about(found.lease_left(), left);
            assert_eq!(whose(found.record.lease), Some((ALICE, Intent::Refresh, Holder::Alive)));
            assert_eq!(found.record.fence, before.fence);
        }
        let record = fixture.record().await;
        assert_eq!((record.version, record.fence), (before.version, before.fence));
        assert_eq!((whose(record.lease), record.tries), (whose(before.lease), 1));
    }
}

pub(super) async fn the_same_claim_id_is_the_same_claim(fixture: Fixture) {
    let claim = fixture.next_claim(ALICE, Intent::Establish).await;
    let first = done(fixture.claim(claim).await);
    assert_eq!(done(fixture.claim(claim).await), first, "its acknowledgement was lost");
    assert_eq!(fixture.record().await.tries, 1, "it is written once");
    let grant = fixture.granted_as(claim).await;
    done(fixture.settle(grant, SettleTo::Before).await);
    fixture.established().await;
    let claim = Claim { lease: Duration::ZERO, ..fixture.next_claim(BOB, Intent::Refresh).await };
    let first = done(fixture.claim(claim).await);
    // Also when its lease has ended, as long as no other process took it over.
    assert_eq!(done(fixture.claim(claim).await), first);
    let record = fixture.record().await;
    assert_eq!((record.version, record.fence), (first.version, first.fence));
}

pub(super) async fn a_claim_of_the_same_owner_is_refused_unless_it_names_the_one_it_replaces(
    fixture: Fixture,
) {
    let first = fixture.refreshing().await;
    let second = fixture.next_claim(ALICE, Intent::Refresh).await;
    let other = Some(fixture.next_claim(ALICE, Intent::Refresh).await.id);
    for replaces in [None, other] {
        let found = leased(fixture.claim(Claim { replaces, ..second }).await);
        assert_eq!(found.record.lease.map(|lease| lease.claim), Some(first.id()));
    }
    let replaces = Some(first.id());
    let others = Claim { replaces, owner: BOB, ..second };
    leased(fixture.claim(others).await);
    let second = fixture.granted_as(Claim { replaces, ..second }).await;
    assert!(second.attempt.fence > first.attempt.fence);
    let record = fixture.record().await;
    assert_eq!(record.phase, Phase::Active, "what was before the first is before the second");
    assert_eq!(record.lease.map(|lease| (lease.claim, lease.owner)), Some((second.id(), ALICE)));
    conflict(fixture.settle(first, SettleTo::InDoubt).await);
    let third = fixture.next_claim(ALICE, Intent::Establish).await;
    let third = fixture.granted_as(Claim { replaces: Some(second.id()), ..third }).await;
    done(fixture.settle(third, SettleTo::Before).await);
    assert_eq!(fixture.gist().await, gist(1, 1, Phase::Active, "first"));
    assert!(!fixture.is_suspect().await);
}

pub(super) async fn a_refresh_waits_while_its_session_is_in_doubt_or_in_back_off(fixture: Fixture) {
    for (name, to, phase) in [
        ("back-off", SettleTo::Before, Phase::Active),
        ("in-doubt", SettleTo::InDoubt, Phase::InDoubt),
    ] {
        let fixture = fixture.named(name);
        let refresh = fixture.refreshing().await;
        done(fixture.settle_for(refresh, to, Some(HOUR)).await);
        let before = fixture.record().await;
        let next = fixture.next_claim(BOB, Intent::Refresh).await;
        for _ in 0..2 {
            let (left, found) = too_early(fixture.claim(next).await);
            is_about(Some(left), HOUR);
            assert_eq!((found.phase, found.version), (phase, before.version));
        }
        assert_eq!((fixture.record().await.lease, fixture.record().await.tries), (None, 1));
        // A claim that knows another generation gets a conflict, and no wait.
        let stale = claim(BOB, Intent::Refresh, Some((1, 0)));
        assert!(conflict(fixture.claim(stale).await).is_some());
        // When it is over, it is granted.
        let fixture = fixture.named(&format!("{name}-that-is-over"));
        let refresh = fixture.refreshing().await;
        done(fixture.settle_for(refresh, to, Some(Duration::ZERO)).await);
        assert_eq!(fixture.stored().await.retry_in(), None);
        fixture.granted(BOB, Intent::Refresh).await;
    }
}

pub(super) async fn what_is_lost_provisionally_can_be_tried_at_any_time(fixture: Fixture) {
    let refresh = fixture.refreshing().await;
    let lost = SettleTo::Lost(LostReason::Unclassified);
    done(fixture.settle_for(refresh, lost, Some(HOUR)).await);
    // The schedule comes when it is due, a caller may come before that.
    is_about(fixture.stored().await.due_in(), HOUR);
    let refresh = fixture.granted(BOB, Intent::Refresh).await;
    is_stored(fixture.commit(refresh, "second").await, 1, 2);
}

pub(super) async fn a_grant_is_held_back_by_neither_doubt_nor_back_off(fixture: Fixture) {
    for (name, to) in [("back-off", SettleTo::Before), ("in-doubt", SettleTo::InDoubt)] {
        let fixture = fixture.named(name);
        let refresh = fixture.refreshing().await;
        done(fixture.settle_for(refresh, to, Some(HOUR)).await);
        let grant = fixture.granted(BOB, Intent::Establish).await;
        is_stored(fixture.commit(grant, "second").await, 2, 2);
        let stored = fixture.stored().await;
        assert_eq!((stored.retry_in(), stored.record.tries), (None, 0));
    }
}

pub(super) async fn a_claim_tells_the_phase_that_it_found(fixture: Fixture) {
    let tells = async |fixture: &Fixture, intent: Intent, phase: Phase| {
        let claim = fixture.next_claim(BOB, intent).await;
        assert_eq!(done(fixture.claim(claim).await).phase, phase, "{intent:?}");
        assert_eq!(fixture.record().await.phase, phase, "{intent:?}");
    };
    let [vacant, active, doubtful, lost, closed, untold] =
        ["vacant", "active", "doubtful", "lost", "closed", "untold"]
            .map(|name| fixture.named(name));
    tells(&vacant, Intent::Establish, Phase::Vacant).await;
    active.established().await;
    tells(&active, Intent::Refresh, Phase::Active).await;
    let refresh = doubtful.refreshing().await;
    done(doubtful.settle(refresh, SettleTo::InDoubt).await);
    tells(&doubtful, Intent::Refresh, Phase::InDoubt).await;
    lost.lost().await;
    tells(&lost, Intent::Establish, Phase::Lost).await;
    closed.uninformed().await;
    tells(&closed, Intent::Establish, Phase::Closed).await;
    untold.uninformed().await;
    tells(&untold, Intent::Revoke, Phase::Closed).await;
}

pub(super) async fn a_renewal_extends_its_own_claim_alone(fixture: Fixture) {
    let refresh = fixture.silently_refreshing().await;
    let before = fixture.record().await;
    let other = fixture.next_claim(ALICE, Intent::Refresh).await.id;
    let of_other = Renew { claim: other, lease: HOUR };
    assert!(conflict(fixture.apply(Statement::Renew(of_other)).await).is_some());
    is_about(fixture.stored().await.lease_left(), Duration::ZERO);
    let renewed =
        done(fixture.apply(Statement::Renew(Renew { claim: refresh.id(), lease: HOUR })).await);
    assert!(renewed.version > before.version);
    is_about(fixture.stored().await.lease_left(), HOUR);
    let record = fixture.record().await;
    assert_eq!((renewed.fence, record.fence), (before.fence, before.fence), "no claim is new");
    assert_eq!((record.tries, record.due_at), (before.tries, before.due_at));
    // One that comes late does not shorten it.
    done(
        fixture.apply(Statement::Renew(Renew { claim: refresh.id(), lease: Duration::ZERO })).await,
    );
    is_about(fixture.stored().await.lease_left(), HOUR);
    is_stored(fixture.commit(refresh, "second").await, 1, 2);
    let late = Renew { claim: refresh.id(), lease: HOUR };
    assert!(conflict(fixture.apply(Statement::Renew(late)).await).is_some());
    assert_eq!(fixture.record().await.lease, None);
}

pub(super) async fn only_a_grant_can_be_claimed_on_what_is_lost_or_closed(fixture: Fixture) {
    let (lost, closed) = (fixture.named("lost"), fixture.named("closed"));
    lost.lost().await;
    closed.established().await;
    let revocation = closed.closed().await;
    done(closed.settle(revocation, SettleTo::Revoked).await);
    for (fixture, phase) in [(lost, Phase::Lost), (closed, Phase::Closed)] {
        let found = Some(fixture.record().await.counters());
        for intent in [Intent::Refresh, Intent::Revoke] {
            let record = conflict(fixture.claim(claim(ALICE, intent, found)).await).unwrap();
            assert_eq!((record.phase, record.lease), (phase, None));
        }
        let grant = fixture.granted(ALICE, Intent::Establish).await;
        // Neither while the grant is claimed, by its own owner.
        let refresh = claim(ALICE, Intent::Refresh, found);
        conflict(fixture.claim(Claim { replaces: Some(grant.id()), ..refresh }).await);
        assert_eq!(fixture.claimed_by().await, Some(grant.id()));
    }
}

pub(super) async fn of_64_claims_at_once_exactly_one_is_granted(fixture: Fixture) {
    fixture.established().await;
    for name in ["device", "fresh"] {
        let fixture = fixture.named(name);
        let known = fixture.load().await.map(|stored| stored.record.counters());
        let intent = if known.is_some() { Intent::Refresh } else { Intent::Establish };
        let claims = (0..64).map(|owner| {
            let fixture = fixture.clone();
            async move { fixture.claim(claim(Owner(owner), intent, known)).await }
        });
        let (mut granted, mut held_back) = (Vec::new(), 0);
        for claimed in at_once(claims).await {
            match claimed {
                Outcome::Done(done) => granted.push(done.fence),
                Outcome::Leased(found) => {
                    assert!(found.record.lease.is_some());
                    held_back += 1;
                }
                other @ (Outcome::Conflict(_) | Outcome::Wait { .. }) => {
                    panic!("nothing was changed: {other:?}")
                }
            }
        }
        assert_eq!((granted.len(), held_back), (1, 63));
        assert_eq!(fixture.record().await.fence, granted[0]);
    }
}

pub(super) async fn statements_on_many_sessions_at_once_do_not_disturb_each_other(
    fixture: Fixture,
) {
    let lives = (0..32_u32).map(|number| {
        let fixture = fixture.named(&format!("device-{number}"));
        async move {
            fixture.established().await;
            for round in 0..number % 8 {
                let refresh = fixture.granted(ALICE, Intent::Refresh).await;
                if round % 3 == 2 {
                    done(fixture.settle(refresh, SettleTo::Before).await);
                }
                done(fixture.commit(refresh, &format!("{number}-{round}")).await);
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
        assert_eq!(fixture.named(&format!("device-{number}")).gist().await, expected);
    }
}
