//! Logins for which one process polls. A store whose `Store::claim_login` returns `None` keeps no such
//! claims, and passes these cases.

use std::time::Duration;

use super::fixture::{Fixture, at_once, is_about};
use crate::store::{ClaimId, LoginClaim, LoginId, LoginOutcome};

const LEASE: Duration = Duration::from_secs(1200);
const INTERVAL: Duration = Duration::from_secs(5);

fn claim(claim: u64) -> LoginClaim {
    LoginClaim { login: LoginId([7; 16]), claim: ClaimId(claim), lease: LEASE, interval: INTERVAL }
}

fn end(of: u64) -> LoginClaim {
    LoginClaim { lease: Duration::ZERO, ..claim(of) }
}

/// None from a store that keeps no claims of logins.
async fn claimed(fixture: &Fixture, claim: &LoginClaim) -> Option<LoginOutcome> {
    fixture.store.claim_login(claim).await.unwrap()
}

fn granted() -> Option<LoginOutcome> {
    Some(LoginOutcome::Claimed { interval: INTERVAL })
}

pub(super) async fn a_login_is_polled_by_one_claim_until_that_ends(fixture: Fixture) {
    let Some(first) = claimed(&fixture, &claim(u64::MAX)).await else { return };
    assert_eq!(Some(first), granted());
    for _ in 0..2 {
        let Some(LoginOutcome::Held { left }) = claimed(&fixture, &claim(2)).await else {
            panic!("two poll");
        };
        is_about(Some(left), LEASE);
    }
    let other = LoginClaim { login: LoginId([8; 16]), ..claim(2) };
    assert_eq!(claimed(&fixture, &other).await, granted(), "another login is free");
    assert_eq!(claimed(&fixture, &claim(u64::MAX)).await, granted(), "it renews its own claim");
    assert!(matches!(claimed(&fixture, &end(2)).await, Some(LoginOutcome::Held { .. })));
    assert!(matches!(claimed(&fixture, &claim(2)).await, Some(LoginOutcome::Held { .. })));
    assert_eq!(claimed(&fixture, &end(u64::MAX)).await, granted());
    assert_eq!(claimed(&fixture, &claim(2)).await, granted());
    assert!(matches!(claimed(&fixture, &claim(u64::MAX)).await, Some(LoginOutcome::Held { .. })));
}

pub(super) async fn a_claim_whose_lease_is_over_does_not_hold_a_login(fixture: Fixture) {
    let short = LoginClaim { lease: Duration::from_nanos(1), ..claim(1) };
    if claimed(&fixture, &short).await.is_none() {
        return;
    }
    while claimed(&fixture, &claim(2)).await != granted() {}
    assert!(matches!(claimed(&fixture, &claim(1)).await, Some(LoginOutcome::Held { .. })));
}

pub(super) async fn the_longest_pause_of_a_login_is_kept_for_the_next_claim(fixture: Fixture) {
    let slow = LoginClaim { interval: 3 * INTERVAL, ..claim(1) };
    let Some(first) = claimed(&fixture, &claim(1)).await else { return };
    assert_eq!(Some(first), granted());
    let slower = Some(LoginOutcome::Claimed { interval: 3 * INTERVAL });
    assert_eq!(claimed(&fixture, &slow).await, slower);
    assert_eq!(claimed(&fixture, &end(1)).await, slower);
    assert_eq!(claimed(&fixture, &claim(2)).await, slower);
}

pub(super) async fn of_16_claims_of_a_login_at_once_one_is_granted(fixture: Fixture) {
    if claimed(&fixture, &end(99)).await.is_none() {
        return;
    }
    let claims = (0..16).map(|number| {
        let fixture = fixture.clone();
        async move { claimed(&fixture, &claim(number)).await }
    });
    let outcomes = at_once(claims).await;
    assert_eq!(outcomes.into_iter().filter(|outcome| *outcome == granted()).count(), 1);
}
