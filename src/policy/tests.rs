//! The defaults, and the values that are computed from them.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_defaults_are_what_their_reasons_say() {
    let policy = Policy::default();
    assert_eq!(policy.fault(), None);
    assert_eq!(policy.lease, policy.attempt_budget + SEND_MARGIN);
    assert_eq!(policy.lease + policy.takeover_grace, policy.answer_timeout + SAVE_MARGIN);
    assert!(SAVE_MARGIN >= policy.store_timeout);
    assert_eq!((policy.max_waiters, policy.max_queued_grants, policy.events), (65_536, 16, 1024));
    assert_eq!((policy.call_timeout, policy.save_timeout), (30 * SECOND, 2 * SECOND));
    assert_eq!((policy.challenge_ttl, policy.takeover_grace), (600 * SECOND, 45 * SECOND));
    assert_eq!(policy.journal_hold, 4 * JOURNAL_POLL);
    assert_eq!(Restarts::default().intensity, 5);
    assert_eq!(ProviderLimits::default().exchanges, 64);
    assert!(ProviderLimits::default().admission_timeout < policy.call_timeout);
}

#[test]
fn sessions_leave_memory_before_the_hard_bound_is_reached() {
    let resident = |max_resident, max_sessions| {
        Policy { max_resident, max_sessions, ..Policy::default() }.resident()
    };
    assert_eq!(resident(50, 1600), 50);
    assert_eq!(resident(5000, 1600), 1500);
}

#[test]
fn a_request_needs_ten_seconds_of_the_lease_or_half_of_a_short_one() {
    let margin = |lease| Policy { lease, ..Policy::default() }.send_margin();
    assert_eq!(margin(20 * SECOND), 10 * SECOND);
    assert_eq!(margin(60 * SECOND), 10 * SECOND);
    assert_eq!(margin(3 * SECOND), 3 * SECOND / 2);
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
