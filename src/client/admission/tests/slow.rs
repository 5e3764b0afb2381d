//! Requests that are open for long.

use super::*;
use crate::policy::{SLOW_AFTER, SLOW_RETRY};

impl Bench {
    /// An exchange whose request is slow.
    pub(super) fn slow(&self) -> Permit {
        let mut permit = self.enter().unwrap();
        self.hold(&mut permit, SLOW_AFTER);
        permit
    }

    /// A request that stays open while so much time passes, and is dropped then.
    fn hold(&self, permit: &mut Permit, time: Duration) {
        let mut open = Box::pin(permit.while_open(&self.clock, pending::<()>()));
        assert!(poll(&mut open).is_pending());
        self.clock.advance(time);
        assert!(poll(&mut open).is_pending());
    }

    fn beside(&self) -> Result<Permit, Rejected> {
        let session = device(1);
        let entry = self.admission.enter_untracked(&self.clock, Some(&session), None);
        entry.now_or_never().expect("it waits for its turn")
    }
}

#[tokio::test]
async fn a_request_that_is_open_for_long_lets_another_in_once() {
    let bench = Bench::new();
    let (mut first, _second) = (bench.enter().unwrap(), bench.enter().unwrap());
    let mut third = Box::pin(bench.entry());
    assert!(poll(&mut third).is_pending());
    bench.hold(&mut first, SLOW_AFTER - Duration::from_millis(1));
    assert!(poll(&mut third).is_pending(), "it is not slow yet");
    bench.hold(&mut first, SLOW_AFTER);
    let _third = third.now_or_never().unwrap().ok().unwrap();
    // It stays slow with its next request, and has nothing more to give back.
    bench.hold(&mut first, SLOW_AFTER);
    let mut fourth = Box::pin(bench.entry());
    assert!(poll(&mut fourth).is_pending());
    drop(first);
    assert!(poll(&mut fourth).is_pending());
}

#[tokio::test]
async fn an_answer_within_the_time_gives_the_permit_back_with_it_alone() {
    let bench = Bench::new();
    let mut permit = bench.enter().unwrap();
    assert_eq!(permit.while_open(&bench.clock, async { 7 }).await, 7);
    assert_eq!(bench.admission.slow.count(), 0);
    bench.hold(&mut permit, SLOW_AFTER);
    assert_eq!(bench.admission.slow.count(), 1);
    drop(permit);
    assert_eq!(bench.admission.slow.count(), 0);
}

#[tokio::test]
async fn while_too_many_requests_are_slow_nothing_new_is_sent() {
    let bench = Bench::new();
    let slow = [bench.slow(), bench.slow(), bench.slow()];
    let sign_in = bench.enter_as(&device(2), Lane::SignIn);
    for rejected in [bench.enter(), sign_in, bench.beside()] {
        let rejected = rejected.err().unwrap();
        let told = (rejected.error.kind(), rejected.error.outcome(), rejected.error.retry_after());
        let expected = (ErrorKind::RetryLater, Some(ExchangeOutcome::NotSent), Some(SLOW_RETRY));
        assert_eq!((told, rejected.paced), (expected, false));
        assert_eq!(rejected.until, bench.clock.now().boot.after(SLOW_RETRY));
    }
    let [first, ..] = slow;
    drop(first);
    let _fourth = bench.enter().unwrap();
    let _beside = bench.beside().unwrap();
}

#[tokio::test]
async fn one_that_queued_before_the_bound_was_reached_is_not_sent_either() {
    let bench = Bench::new();
    let _slow = [bench.slow(), bench.slow()];
    let (mut first, _second) = (bench.enter().unwrap(), bench.enter().unwrap());
    let mut queued = Box::pin(bench.entry());
    assert!(poll(&mut queued).is_pending());
    bench.hold(&mut first, SLOW_AFTER);
    let rejected = queued.now_or_never().unwrap().err().unwrap();
    assert_eq!(rejected.error.kind(), ErrorKind::RetryLater);
}
