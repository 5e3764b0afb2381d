//! The schedule's lane beside the callers', and when the schedule need not try.

use std::future::ready;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Wake;

use tokio::sync::oneshot;

use super::*;
use crate::policy::{FAULT_PACE, SLOW_AFTER, SLOW_RETRY};

type Entry<'a> = Pin<Box<dyn Future<Output = Result<Permit, Rejected>> + 'a>>;

impl Setup {
    fn of(exchanges: usize) -> Self {
        let limits = ProviderLimits { exchanges, ..limits() };
        Self {
            admission: Admission::after(limits, &Arc::default(), None),
            clock: StillClock::new(),
        }
    }

    /// Takes a scheduled permit at once, if one is free.
    fn scheduled_permit(&self) -> Option<ScheduledPermit> {
        self.admission.acquire_for_schedule().now_or_never()
    }

    /// A scheduled exchange, and a sender by which a caller joins it.
    fn scheduled(
        &self,
        scheduled_permit: Option<ScheduledPermit>,
    ) -> (oneshot::Sender<()>, Entry<'_>) {
        let (join, joined) = oneshot::channel();
        // A dropped sender is a caller that has not joined.
        let joined = async move {
            if joined.await.is_err() {
                pending::<()>().await;
            }
        };
        let entry = async move {
            let session = device(7);
            let entrant = Entrant { session: &session, lane: SCHEDULED };
            self.admission.enter(&self.clock, entrant, scheduled_permit, (joined, no_store)).await
        };
        (join, Box::pin(entry))
    }

    fn enter_with_permit(&self, scheduled_permit: ScheduledPermit) -> Permit {
        let (_join, entry) = self.scheduled(Some(scheduled_permit));
        entry.now_or_never().expect("it waits for a permit").ok().unwrap()
    }

    /// Until when the schedule need not try, in seconds from now.
    fn closed_for(&self) -> Option<u64> {
        let now = self.clock.now().boot;
        self.admission.closed_to_schedule_until(now).map(|until| until.since(now).as_secs())
    }
}

#[test]
fn the_schedule_has_half_of_the_permits_at_most_and_one_at_least() {
    for (exchanges, most) in [(1, 1), (2, 1), (3, 1), (7, 3), (8, 4), (usize::MAX, 16)] {
        let setup = Setup::of(exchanges);
        let scheduled_permit: Vec<_> =
            std::iter::from_fn(|| setup.scheduled_permit()).take(16).collect();
        assert_eq!(scheduled_permit.len(), most, "of {exchanges}");
        let _callers: Vec<_> = (most..exchanges.min(8)).map(|_| setup.enter().unwrap()).collect();
    }
}

#[test]
fn with_one_permit_the_schedule_gets_it_only_while_no_caller_waits() {
    let setup = Setup::of(1);
    let caller = setup.enter().unwrap();
    let mut waiting = Box::pin(setup.entry());
    assert!(poll(&mut waiting).is_pending());
    assert!(setup.scheduled_permit().is_none());
    drop(caller);
    assert!(
        setup.scheduled_permit().is_none(),
        "it is the waiting caller's before that one has noticed"
    );
    drop(waiting.now_or_never().unwrap().ok().unwrap());
    assert!(setup.scheduled_permit().is_some());
}

#[test]
fn a_caller_who_comes_while_the_schedule_waits_is_served_first() {
    let setup = Setup::new();
    let held = [setup.enter().unwrap(), setup.enter().unwrap()];
    let mut acquire_for_schedule = Box::pin(setup.admission.acquire_for_schedule());
    assert!(poll(&mut acquire_for_schedule).is_pending());
    let mut callers = [Box::pin(setup.entry()), Box::pin(setup.entry())];
    for caller in &mut callers {
        assert!(poll(caller).is_pending());
    }
    drop(held);
    assert!(poll(&mut acquire_for_schedule).is_pending());
    let [first, second] = callers.map(|caller| caller.now_or_never().unwrap().ok().unwrap());
    assert!(poll(&mut acquire_for_schedule).is_pending());
    drop(first);
    assert!(poll(&mut acquire_for_schedule).is_ready());
    drop(second);
}

#[tokio::test]
async fn permits_that_are_given_back_wake_all_scheduled_exchanges_that_wait() {
    let setup = Setup::of(4);
    let [first, second, _third, _fourth] = [(); 4].map(|()| setup.enter().unwrap());
    // The test polls only a task that was woken.
    let given_back = async { drop((first, second)) };
    let draws =
        join(setup.admission.acquire_for_schedule(), setup.admission.acquire_for_schedule());
    let (_scheduled, ()) = join(draws, given_back).await;
}

#[tokio::test]
async fn a_caller_who_gives_up_with_a_permit_it_has_not_noticed_wakes_the_schedule() {
    let setup = Setup::of(1);
    let held = setup.enter().unwrap();
    let mut caller = Box::pin(setup.entry());
    assert!(poll(&mut caller).is_pending());
    let mut acquire_for_schedule = Box::pin(setup.admission.acquire_for_schedule());
    assert!(poll(&mut acquire_for_schedule).is_pending());
    drop(held);
    assert!(poll(&mut acquire_for_schedule).is_pending(), "it is the caller's");
    let given_up = async { drop(caller) };
    let (_scheduled, ()) = join(acquire_for_schedule, given_up).await;
}

#[tokio::test]
async fn a_slow_scheduled_request_gives_its_permit_back_in_both_lanes() {
    let setup = Setup::new();
    let mut slow = setup.enter_with_permit(setup.scheduled_permit().unwrap());
    assert!(setup.scheduled_permit().is_none());
    let mut open = Box::pin(slow.while_open(&setup.clock, pending::<()>()));
    assert!(poll(&mut open).is_pending());
    setup.clock.advance(SLOW_AFTER);
    assert!(poll(&mut open).is_pending());
    let _scheduled = setup.scheduled_permit().expect("the schedule's lane is free");
    let _caller = setup.enter().unwrap();
    drop(open);
    drop(slow);
    let mut another = Box::pin(setup.entry());
    assert!(poll(&mut another).is_pending(), "it has given nothing back twice");
}

#[tokio::test]
async fn a_scheduled_exchange_that_lost_its_permit_waits_in_the_schedules_lane_without_a_deadline()
{
    let setup = Setup::new();
    let held = [setup.enter().unwrap(), setup.enter().unwrap()];
    let (_join, mut entry) = setup.scheduled(None);
    assert!(poll(&mut entry).is_pending());
    setup.clock.advance(100 * SECOND);
    let mut caller = Box::pin(setup.entry());
    assert!(poll(&mut entry).is_pending() && poll(&mut caller).is_pending());
    let [first, second] = held;
    drop(first);
    assert!(poll(&mut entry).is_pending(), "the caller comes first");
    let _caller = caller.now_or_never().unwrap().ok().unwrap();
    drop(second);
    let Poll::Ready(Ok(_permit)) = poll(&mut entry) else { panic!("one is free") };
    assert!(setup.scheduled_permit().is_none(), "it uses the schedule's lane");
}

#[tokio::test]
async fn a_scheduled_exchange_that_a_caller_joins_moves_to_the_callers_lane() {
    let setup = Setup::new();
    let [first, second] = [setup.enter().unwrap(), setup.enter().unwrap()];
    let (join, mut entry) = setup.scheduled(None);
    assert!(poll(&mut entry).is_pending());
    join.send(()).unwrap();
    assert!(poll(&mut entry).is_pending());
    let mut later = Box::pin(setup.entry());
    assert!(poll(&mut later).is_pending());
    let mut acquire_for_schedule = Box::pin(setup.admission.acquire_for_schedule());
    assert!(poll(&mut acquire_for_schedule).is_pending());
    drop(first);
    assert!(poll(&mut later).is_pending(), "the one that was joined came first");
    let Poll::Ready(Ok(_permit)) = poll(&mut entry) else { panic!("it has no permit") };
    drop(later);
    drop(second);
    assert!(poll(&mut acquire_for_schedule).is_ready(), "the schedule's lane is free");
}

#[tokio::test]
async fn a_joined_exchange_waits_no_longer_than_a_caller() {
    let setup = Setup::new();
    let _held = (setup.enter().unwrap(), setup.enter().unwrap());
    let (join, mut entry) = setup.scheduled(None);
    assert!(poll(&mut entry).is_pending());
    setup.clock.advance(100 * SECOND);
    join.send(()).unwrap();
    assert!(poll(&mut entry).is_pending());
    setup.clock.advance(24 * SECOND);
    assert!(poll(&mut entry).is_pending(), "its wait began when it was joined");
    setup.clock.advance(SECOND);
    let Poll::Ready(Err(rejected)) = poll(&mut entry) else { panic!("it waits for ever") };
    assert_eq!(rejected.error.kind(), ErrorKind::Capacity);
}

#[test]
fn an_exchange_that_was_joined_early_keeps_its_permit_and_leaves_the_schedules_lane() {
    let setup = Setup::new();
    setup.met(0..5, &failed(FailureClass::Unclassified));
    let paced = setup.enter_with_permit(setup.scheduled_permit().unwrap());
    let session = device(8);
    let enter = |scheduled_permit, joined| {
        let entrant = Entrant { session: &session, lane: SCHEDULED };
        let entry =
            setup.admission.enter(&setup.clock, entrant, scheduled_permit, (joined, no_store));
        entry.now_or_never().expect("it waits for a permit")
    };
    drop(enter(None, ready(())).expect("a caller's refresh is not the schedule's"));
    drop(paced);
    let _joined = enter(setup.scheduled_permit(), ready(())).ok().unwrap();
    assert!(setup.scheduled_permit().is_some(), "its lane is free, and so is one permit");
}

#[test]
fn an_exchange_that_is_joined_while_it_waits_is_not_paced_as_scheduled() {
    let setup = Setup::of(4);
    setup.met(0..5, &failed(FailureClass::Unclassified));
    let scheduled_permit = setup.scheduled_permit().unwrap();
    let [first, _second, _third] = [(); 3].map(|()| setup.enter().unwrap());
    let (join, mut entry) = setup.scheduled(None);
    assert!(poll(&mut entry).is_pending());
    let _paced = setup.enter_with_permit(scheduled_permit);
    join.send(()).unwrap();
    assert!(poll(&mut entry).is_pending());
    drop(first);
    let Poll::Ready(Ok(_permit)) = poll(&mut entry) else { panic!("it is a caller's") };
}

#[test]
fn an_exchange_with_a_scheduled_permit_is_checked_like_any_other() {
    let setup = Setup::new();
    let scheduled_permit = setup.scheduled_permit().unwrap();
    setup.fail(ExchangeKind::Own, &throttled(30));
    let (_join, entry) = setup.scheduled(Some(scheduled_permit));
    let rejected = entry.now_or_never().unwrap().err().unwrap();
    assert_eq!(rejected.until, BootTime::new(30 * SECOND));
    assert!(setup.scheduled_permit().is_some(), "its permit is given back");
}

#[tokio::test]
async fn an_exchange_with_a_scheduled_permit_waits_for_no_other() {
    let setup = Setup::new();
    let scheduled_permit = setup.scheduled_permit().unwrap();
    let _caller = setup.enter().unwrap();
    let mut caller = Box::pin(setup.entry());
    assert!(poll(&mut caller).is_pending());
    let permit = setup.enter_with_permit(scheduled_permit);
    assert!(poll(&mut caller).is_pending());
    drop(permit);
    assert!(poll(&mut caller).is_ready());
}

#[test]
fn an_unused_scheduled_permit_is_given_back() {
    let setup = Setup::of(1);
    let scheduled_permit = setup.scheduled_permit().unwrap();
    assert!(setup.scheduled_permit().is_none());
    drop(scheduled_permit);
    let scheduled_permit = setup.scheduled_permit().unwrap();
    let mut caller = Box::pin(setup.entry());
    assert!(poll(&mut caller).is_pending());
    drop(scheduled_permit);
    assert!(poll(&mut caller).is_ready());
}

#[test]
fn a_permit_of_the_replaced_admission_admits_no_exchange() {
    let former = Setup::of(1);
    let setup = Setup {
        admission: Admission::after(limits(), &Arc::default(), Some(&former.admission)),
        ..Setup::new()
    };
    let _held = (setup.enter().unwrap(), setup.enter().unwrap());
    let (_join, mut entry) = setup.scheduled(former.scheduled_permit());
    assert!(poll(&mut entry).is_pending());
    assert!(former.scheduled_permit().is_some());
}

#[test]
fn the_schedule_need_not_try_during_the_servers_wait() {
    let setup = Setup::new();
    assert_eq!(setup.closed_for(), None);
    setup.fail(ExchangeKind::Own, &throttled(30));
    assert_eq!(setup.closed_for(), Some(30));
    setup.clock.advance(30 * SECOND);
    assert_eq!(setup.closed_for(), None);
}

#[test]
fn the_schedule_tries_a_rejected_client_once_an_interval() {
    let setup = Setup::new();
    let rejected = failed(FailureClass::InvalidClient);
    setup.enter().map(drop).unwrap();
    setup.fail(ExchangeKind::Own, &rejected);
    setup.fail(ExchangeKind::Own, &throttled(30));
    assert_eq!(setup.closed_for(), Some(60), "the longer of the two");
    setup.clock.advance(60 * SECOND);
    assert_eq!(setup.closed_for(), None, "the next one is the probe");
    let _probe = setup.enter_as(&device(1), SCHEDULED).unwrap();
    assert_eq!(setup.closed_for(), Some(60), "it is out");
    let mut changed = Box::pin(setup.admission.changed());
    assert!(poll(&mut changed).is_pending());
    setup.fail_as(&device(1), ExchangeKind::Own, &rejected);
    assert!(poll(&mut changed).is_ready());
    assert_eq!(setup.closed_for(), Some(60));
    setup.succeed();
    assert_eq!(setup.closed_for(), None);
}

#[test]
fn the_schedule_leaves_the_probe_to_a_sign_in_that_waits_for_it() {
    let setup = Setup::new();
    setup.fail(ExchangeKind::Own, &failed(FailureClass::InvalidClient));
    setup.clock.advance(50 * SECOND);
    let session = device(1);
    let mut sign_in = Box::pin(setup.entry_as(&session, Lane::SignIn));
    assert!(poll(&mut sign_in).is_pending());
    setup.clock.advance(10 * SECOND);
    assert_eq!(setup.closed_for(), Some(25));
    let mut changed = Box::pin(setup.admission.changed());
    drop(sign_in);
    assert!(poll(&mut changed).is_ready(), "it has given up");
    assert_eq!(setup.closed_for(), None);
}

#[test]
fn a_client_that_is_rejected_for_one_tenant_of_several_is_open_to_the_schedule() {
    let setup = Setup::new();
    let all = ["a", "b"].map(|tenant| session_of(tenant, 1));
    for session in &all {
        setup.enter_as(session, OWN).map(drop).unwrap();
    }
    setup.fail_as(&all[0], ExchangeKind::Own, &failed(FailureClass::InvalidClient));
    assert_eq!(setup.closed_for(), None);
    setup.fail_as(&all[1], ExchangeKind::Own, &failed(FailureClass::InvalidClient));
    assert_eq!(setup.closed_for(), Some(60));
}

#[test]
fn while_retries_are_paced_the_schedule_tries_when_its_one_permit_is_free() {
    let setup = Setup::of(8);
    setup.met(0..5, &failed(FailureClass::Unclassified));
    assert_eq!(setup.closed_for(), None);
    let one = setup.enter_with_permit(setup.scheduled_permit().unwrap());
    assert_eq!(setup.closed_for(), Some(FAULT_PACE.as_secs()));
    drop(one);
    assert_eq!(setup.closed_for(), None);
}

#[tokio::test]
async fn the_schedule_need_not_try_while_too_many_requests_are_slow() {
    let setup = Setup::new();
    let slow = [(); 3].map(|()| setup.slow());
    assert_eq!(setup.closed_for(), Some(SLOW_RETRY.as_secs()));
    drop(slow);
    assert_eq!(setup.closed_for(), None);
}

/// Whether it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Waits until another thread has reached this step.
fn meet(step: &AtomicUsize, at: usize) {
    for spin in 1_u32.. {
        if step.load(Ordering::SeqCst) == at {
            return;
        }
        if spin.is_multiple_of(1000) {
            std::thread::yield_now();
        }
        std::hint::spin_loop();
    }
}

#[test]
fn a_permit_that_is_given_back_while_the_schedule_tries_is_noticed() {
    const ROUNDS: usize = 40_000;
    let setup = Setup::of(1);
    let step = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                meet(&step, 4 * round);
                let held = setup.enter().unwrap();
                step.store(4 * round + 1, Ordering::SeqCst);
                meet(&step, 4 * round + 2);
                drop(held);
                step.store(4 * round + 3, Ordering::SeqCst);
            }
        });
        let mut unnoticed = 0;
        for round in 0..ROUNDS {
            let woken = Arc::<Woken>::default();
            let waker = Waker::from(Arc::clone(&woken));
            let mut acquire_for_schedule = Box::pin(setup.admission.acquire_for_schedule());
            meet(&step, 4 * round + 1);
            step.store(4 * round + 2, Ordering::SeqCst);
            // The delay differs in each round.
            (0..round % 200).for_each(|_| std::hint::spin_loop());
            let scheduled_permit =
                acquire_for_schedule.as_mut().poll(&mut Context::from_waker(&waker));
            meet(&step, 4 * round + 3);
            unnoticed +=
                u32::from(scheduled_permit.is_pending() && !woken.0.load(Ordering::SeqCst));
            drop((acquire_for_schedule, scheduled_permit));
            step.store(4 * round + 4, Ordering::SeqCst);
        }
        assert_eq!(unnoticed, 0);
    });
}
