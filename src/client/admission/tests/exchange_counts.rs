//! How many exchanges run and wait, and until when a client is held back.

use super::*;
use crate::health::HoldReason;

impl Setup {
    /// How many exchanges run and wait.
    fn counts(&self) -> (usize, usize) {
        (self.admission.in_flight(), self.admission.queued())
    }
}

#[tokio::test]
async fn exchanges_with_a_permit_run_and_those_without_wait_until_they_get_one() {
    let setup = Setup::new();
    let first = setup.enter().unwrap();
    let second = setup.admission.enter_untracked(&setup.clock, None, None).await.unwrap();
    let mut third = Box::pin(setup.entry());
    assert!(poll(&mut third).is_pending());
    assert_eq!(setup.counts(), (2, 1));
    drop(first);
    let third = third.await.unwrap();
    assert_eq!(setup.counts(), (2, 0));
    drop((second, third));
    assert_eq!(setup.counts(), (0, 0));
}

#[tokio::test]
async fn a_waiter_that_is_dropped_or_waits_too_long_does_not_count_any_more() {
    let setup = Setup::new();
    let _permits = (setup.enter().unwrap(), setup.enter().unwrap());
    let (device, other) = (device(1), device(2));
    let mut caller = Box::pin(setup.entry());
    let mut scheduled = Box::pin(setup.entry_as(&device, SCHEDULED));
    let mut untracked = Box::pin(setup.admission.enter_untracked(&setup.clock, Some(&other), None));
    assert!(poll(&mut caller).is_pending());
    assert!(poll(&mut scheduled).is_pending());
    assert!(poll(&mut untracked).is_pending());
    assert_eq!(setup.counts(), (2, 3));
    drop(scheduled);
    assert_eq!(setup.counts(), (2, 2));
    drop((caller, untracked));
    assert_eq!(setup.counts(), (2, 0));
}

#[tokio::test]
async fn a_waiter_that_has_got_its_permit_and_is_dropped_before_it_knows_counts_nowhere() {
    let setup = Setup::new();
    let permits = (setup.enter().unwrap(), setup.enter().unwrap());
    let mut waiter = Box::pin(setup.entry());
    assert!(poll(&mut waiter).is_pending());
    drop(permits);
    drop(waiter);
    assert_eq!(setup.counts(), (0, 0));
    let _permits = (setup.enter().unwrap(), setup.enter().unwrap());
}

#[tokio::test]
async fn a_scheduled_exchange_that_a_caller_joins_is_counted_once() {
    let setup = Setup::new();
    let _permits = (setup.enter().unwrap(), setup.enter().unwrap());
    let (joined, device) = (Notify::new(), device(1));
    let entrant = Entrant { session: &device, lane: SCHEDULED };
    let mut entry =
        Box::pin(setup.admission.enter(&setup.clock, entrant, None, (joined.notified(), no_store)));
    assert!(poll(&mut entry).is_pending());
    assert_eq!(setup.counts(), (2, 1));
    joined.notify_waiters();
    assert!(poll(&mut entry).is_pending());
    assert_eq!(setup.counts(), (2, 1));
}

#[tokio::test]
async fn a_client_that_replaces_another_continues_its_counts() {
    let setup = Setup::new();
    let permit = setup.enter().unwrap();
    let next = Admission::after(limits(), &Arc::default(), Some(&setup.admission));
    assert_eq!(next.in_flight(), 1);
    drop(permit);
    assert_eq!(next.in_flight(), 0);
}

#[tokio::test]
async fn a_client_is_held_back_for_the_reason_that_lasts_longest() {
    let setup = Setup::new();
    let held = || {
        let now = setup.clock.now().boot;
        setup.admission.held_back(now).map(|(why, until)| (why, until.since(now).as_secs()))
    };
    assert_eq!(held(), None);
    setup.fail(ExchangeKind::Own, &throttled(30));
    assert_eq!(held(), Some((HoldReason::Throttled, 30)));
    setup.fail(ExchangeKind::Own, &failed(FailureClass::InvalidClient));
    assert_eq!(held(), Some((HoldReason::Stopped, 60)));
    setup.clock.advance(61 * SECOND);
    assert_eq!(held(), None);
    setup.succeed();
    for n in 0..5 {
        setup.fail_as(&device(n), ExchangeKind::Own, &failed(FailureClass::Unclassified));
    }
    assert_eq!(held(), Some((HoldReason::Paced, 1)));
}
