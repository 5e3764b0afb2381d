//! Slow requests.

use super::*;
use crate::policy::{SLOW_AFTER, SLOW_RETRY};

impl Setup {
    /// An exchange whose request is slow.
    pub(super) fn slow(&self) -> Permit {
        let mut permit = self.enter().unwrap();
        self.hold(&mut permit, SLOW_AFTER);
        permit
    }

    /// Keeps a request open for this time, and drops it then.
    fn hold(&self, permit: &mut Permit, time: Duration) {
        let mut open = Box::pin(permit.while_open(&self.clock, pending::<()>()));
        assert!(poll(&mut open).is_pending());
        self.clock.advance(time);
        assert!(poll(&mut open).is_pending());
    }

    fn beside(&self) -> Result<Permit, Rejected> {
        let session = device(1);
        let entry = self.admission.enter_untracked(&self.clock, Some(&session), None);
        entry.now_or_never().expect("it waits for a permit")
    }
}

#[tokio::test]
async fn a_slow_request_admits_another_exchange_once() {
    let setup = Setup::new();
    let (mut first, _second) = (setup.enter().unwrap(), setup.enter().unwrap());
    let mut third = Box::pin(setup.entry());
    assert!(poll(&mut third).is_pending());
    setup.hold(&mut first, SLOW_AFTER - Duration::from_millis(1));
    assert!(poll(&mut third).is_pending(), "it is not slow yet");
    setup.hold(&mut first, SLOW_AFTER);
    let _third = third.now_or_never().unwrap().ok().unwrap();
    // The permit stays slow at its next request, and gives nothing back again.
    setup.hold(&mut first, SLOW_AFTER);
    let mut fourth = Box::pin(setup.entry());
    assert!(poll(&mut fourth).is_pending());
    drop(first);
    assert!(poll(&mut fourth).is_pending());
}

#[tokio::test]
async fn an_answer_within_the_time_gives_the_permit_back_with_it_alone() {
    let setup = Setup::new();
    let mut permit = setup.enter().unwrap();
    assert_eq!(permit.while_open(&setup.clock, async { 7 }).await, 7);
    assert_eq!(setup.admission.slow.count(), 0);
    setup.hold(&mut permit, SLOW_AFTER);
    assert_eq!(setup.admission.slow.count(), 1);
    drop(permit);
    assert_eq!(setup.admission.slow.count(), 0);
}

#[tokio::test]
async fn while_too_many_requests_are_slow_nothing_new_is_sent() {
    let setup = Setup::new();
    let slow = [setup.slow(), setup.slow(), setup.slow()];
    let sign_in = setup.enter_as(&device(2), Lane::SignIn);
    for rejected in [setup.enter(), sign_in, setup.beside()] {
        let rejected = rejected.err().unwrap();
        let actual =
            (rejected.error.kind(), rejected.error.outcome(), rejected.error.retry_after());
        let expected = (ErrorKind::RetryLater, Some(ExchangeOutcome::NotSent), Some(SLOW_RETRY));
        assert_eq!((actual, rejected.paced), (expected, false));
        assert_eq!(rejected.until, setup.clock.now().boot.after(SLOW_RETRY));
    }
    let [first, ..] = slow;
    drop(first);
    let _fourth = setup.enter().unwrap();
    let _beside = setup.beside().unwrap();
}

#[tokio::test]
async fn an_exchange_that_queued_before_the_bound_is_not_sent_either() {
    let setup = Setup::new();
    let _slow = [setup.slow(), setup.slow()];
    let (mut first, _second) = (setup.enter().unwrap(), setup.enter().unwrap());
    let mut queued = Box::pin(setup.entry());
    assert!(poll(&mut queued).is_pending());
    setup.hold(&mut first, SLOW_AFTER);
    let rejected = queued.now_or_never().unwrap().err().unwrap();
    assert_eq!(rejected.error.kind(), ErrorKind::RetryLater);
}
