//! Defaults, and what follows from them.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_defaults_are_what_their_reasons_say() {
    let policy = Policy::default();
    assert_eq!(policy.fault(), None);
    assert_eq!(policy.lease, policy.exchange_budget + 5 * SECOND + 5 * SECOND);
    assert_eq!((policy.max_waiters, policy.max_queued_grants, policy.events), (65_536, 16, 1024));
    assert_eq!((policy.wait, policy.save_wait), (30 * SECOND, 2 * SECOND));
    assert_eq!((policy.challenge, policy.hold), (600 * SECOND, 30 * SECOND));
    assert_eq!(Restarts::default().intensity, 5);
    assert_eq!(ProviderLimits::default().exchanges, 64);
    assert!(ProviderLimits::default().turn < policy.wait);
}

#[test]
fn a_token_is_due_at_four_fifths_of_its_life_within_the_bounds() {
    let policy = RefreshPolicy::default();
    assert_eq!(policy.due_after(900 * SECOND, 0.0), 720 * SECOND);
    assert_eq!(policy.due_after(20 * SECOND, 0.0), 10 * SECOND, "half, not less");
    assert_eq!(policy.due_after(SECOND, 1.0), SECOND / 2);
    assert_eq!(policy.due_after(36_000 * SECOND, 0.0), 35_700 * SECOND, "at most 5 min ahead");
    assert_eq!(policy.due_after(900 * SECOND, 1.0), 630 * SECOND, "jitter comes earlier");
}

#[test]
fn a_wait_doubles_to_its_cap_and_never_vanishes() {
    let backoff = Backoff { base: SECOND, cap: 300 * SECOND };
    assert_eq!(backoff.wait(1, 1.0), SECOND);
    assert_eq!(backoff.wait(4, 1.0), 8 * SECOND);
    assert_eq!(backoff.wait(400, 1.0), 300 * SECOND);
    assert_eq!(backoff.wait(1, 0.0), SECOND / 10);
}
