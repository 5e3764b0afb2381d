//! Who gets through, and what the server's answers come to.

use std::future::{Future, pending};
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use futures_util::future::join;

use super::*;
use crate::error::Refusal;
use crate::key::{ProviderName, SessionKey};
use crate::provider::test_bench::StillClock;

mod permit_lanes;
mod slow;

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> ProviderLimits {
    let (admission_timeout, probe, longest_retry_after) = (25 * SECOND, 60 * SECOND, 600 * SECOND);
    ProviderLimits { exchanges: 2, slow_requests: 3, admission_timeout, probe, longest_retry_after }
}

/// A gate, and the clock that it is asked by.
struct Bench {
    admission: Admission,
    clock: StillClock,
}

impl Bench {
    fn new() -> Self {
        Self { admission: Admission::after(limits(), None), clock: StillClock::new() }
    }

    /// Enters at once, or is shut out at once.
    fn enter(&self) -> Result<Permit, Rejected> {
        self.enter_as(&device(0), OWN)
    }

    fn enter_as(&self, session: &SessionId, lane: Lane) -> Result<Permit, Rejected> {
        let mut entry = Box::pin(self.entry_as(session, lane));
        match entry.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(entered) => entered,
            Poll::Pending => panic!("it waits for its turn"),
        }
    }

    /// Waits for its turn.
    async fn entry(&self) -> Result<Permit, Rejected> {
        self.entry_as(&device(0), OWN).await
    }

    async fn entry_as(&self, session: &SessionId, lane: Lane) -> Result<Permit, Rejected> {
        self.admission.enter(&self.clock, Entrant { session, lane }, None, pending()).await
    }

    fn rejected(&self) -> Rejected {
        self.enter().err().unwrap()
    }

    fn fail(&self, of: Exchanged, failed: &ExchangeError) -> Alarm {
        self.fail_as(&device(0), of, failed)
    }

    fn fail_as(&self, session: &SessionId, of: Exchanged, failed: &ExchangeError) -> Alarm {
        self.admission.report(self.clock.now().boot, of, Some(session), Err(failed))
    }

    fn succeed(&self) {
        self.succeed_as(&device(0));
    }

    fn succeed_as(&self, session: &SessionId) {
        let now = self.clock.now().boot;
        let news = self.admission.report(now, Exchanged::Own, Some(session), Ok(()));
        assert_eq!(news, Alarm::None);
    }

    /// So many sessions got this answer at their refresh, one a second.
    fn met(&self, sessions: std::ops::Range<u32>, failed: &ExchangeError) {
        for n in sessions {
            self.fail_as(&device(n), Exchanged::Own, failed);
            self.clock.advance(SECOND);
        }
    }
}

const OWN: Lane = Lane::Own { again: false, scheduled: false };
const AGAIN: Lane = Lane::Own { again: true, scheduled: false };
const SCHEDULED: Lane = Lane::Own { again: false, scheduled: true };

fn device(n: u32) -> SessionId {
    session_of("tenant", n)
}

fn session_of(tenant: &str, n: u32) -> SessionId {
    let key = SessionKey::new(tenant, format!("device-{n}")).unwrap();
    SessionId::new(ProviderName::new("p").unwrap(), key)
}

fn failed(class: FailureClass) -> ExchangeError {
    ExchangeError::new(class)
}

fn throttled(seconds: u64) -> ExchangeError {
    failed(FailureClass::Throttled).with_retry_after(Some(Duration::from_secs(seconds)))
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn no_more_are_in_flight_than_there_are_permits_and_who_leaves_lets_one_in() {
    let bench = Bench::new();
    let first = bench.enter().unwrap();
    let _second = bench.enter().unwrap();
    let mut third = Box::pin(bench.entry());
    let mut context = Context::from_waker(Waker::noop());
    assert!(third.as_mut().poll(&mut context).is_pending());
    drop(first);
    let _third = third.await.ok().unwrap();
    let mut fourth = Box::pin(bench.entry());
    assert!(fourth.as_mut().poll(&mut context).is_pending());
}

#[tokio::test]
async fn who_waits_longer_than_its_turn_gives_up_unsent() {
    let bench = Bench::new();
    let _held = (bench.enter().unwrap(), bench.enter().unwrap());
    let late = async { bench.clock.advance(25 * SECOND) };
    let (entered, ()) = join(bench.entry(), late).await;
    let rejected = entered.err().unwrap();
    assert_eq!(rejected.error.kind(), ErrorKind::Capacity);
    assert_eq!(rejected.error.outcome(), Some(ExchangeOutcome::NotSent));
    assert_eq!(rejected.until, BootTime::new(26 * SECOND));
}

#[tokio::test]
async fn who_gave_up_waiting_holds_no_permit() {
    let bench = Bench::new();
    let held = (bench.enter().unwrap(), bench.enter().unwrap());
    let mut entry = Box::pin(bench.entry());
    assert!(entry.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(held);
    drop(entry);
    let _again = (bench.enter().unwrap(), bench.enter().unwrap());
}

#[test]
fn a_throttled_gate_is_shut_for_as_long_as_the_server_asked() {
    let bench = Bench::new();
    assert_eq!(bench.fail(Exchanged::Grant, &throttled(30)), Alarm::None);
    // A shorter wait does not cut the longer one.
    bench.fail(Exchanged::Own, &throttled(5));
    let rejected = bench.rejected();
    assert_eq!(rejected.until, BootTime::new(30 * SECOND));
    assert_eq!(rejected.error.kind(), ErrorKind::RetryLater);
    assert_eq!(rejected.error.outcome(), Some(ExchangeOutcome::NotSent));
    assert_eq!(rejected.error.retry_after(), Some(30 * SECOND));
    bench.clock.advance(29 * SECOND);
    assert_eq!(bench.rejected().error.retry_after(), Some(SECOND));
    bench.clock.advance(SECOND);
    let _all = (bench.enter().unwrap(), bench.enter().unwrap());
}

#[test]
fn no_wait_is_obeyed_that_is_longer_than_the_limit_and_none_is_a_second() {
    let bench = Bench::new();
    bench.fail(Exchanged::Own, &failed(FailureClass::Throttled));
    assert_eq!(bench.rejected().until, BootTime::new(SECOND));
    bench.fail(Exchanged::Own, &throttled(u64::MAX));
    assert_eq!(bench.rejected().until, BootTime::new(600 * SECOND));
}

#[test]
fn an_answer_to_an_earlier_request_does_not_end_the_servers_wish_to_be_left_alone() {
    let bench = Bench::new();
    bench.fail(Exchanged::Own, &throttled(30));
    bench.succeed();
    bench.fail(Exchanged::Own, &failed(FailureClass::Rejected));
    assert_eq!(bench.rejected().until, BootTime::new(30 * SECOND));
}

#[tokio::test]
async fn who_queued_while_the_gate_shut_is_shut_out() {
    let bench = Bench::new();
    let held = (bench.enter().unwrap(), bench.enter().unwrap());
    let shutting = async {
        bench.fail(Exchanged::Own, &throttled(30));
        drop(held);
    };
    let (entered, ()) = join(bench.entry(), shutting).await;
    assert_eq!(entered.err().unwrap().until, BootTime::new(30 * SECOND));
}

#[test]
fn a_rejected_client_alarms_once_and_is_probed_once_an_interval_until_it_is_taken() {
    let bench = Bench::new();
    let failure = failed(FailureClass::InvalidClient);
    assert_eq!(bench.fail(Exchanged::Own, &failure), Alarm::Raise);
    assert_eq!(bench.fail(Exchanged::Own, &failure), Alarm::None);
    for _ in 0..3 {
        let rejected = bench.rejected();
        assert_eq!(rejected.error.kind(), ErrorKind::Misconfigured);
        assert_eq!(rejected.error.outcome(), Some(ExchangeOutcome::NotSent));
        assert_eq!(rejected.error.retry_after(), Some(60 * SECOND));
        bench.clock.advance(60 * SECOND);
        let _probe = bench.enter().unwrap();
        assert_eq!(bench.rejected().error.kind(), ErrorKind::Misconfigured);
        assert_eq!(bench.fail(Exchanged::Own, &failure), Alarm::None);
    }
    bench.clock.advance(60 * SECOND);
    let probe = bench.enter().unwrap();
    bench.succeed();
    drop(probe);
    let _all = (bench.enter().unwrap(), bench.enter().unwrap());
    assert_eq!(bench.fail(Exchanged::Own, &failure), Alarm::Raise, "it is news again");
}

#[tokio::test]
async fn what_is_no_exchange_waits_for_the_probe_like_all_and_does_not_take_it() {
    let bench = Bench::new();
    bench.fail(Exchanged::Own, &failed(FailureClass::InvalidClient));
    let rejected =
        bench.admission.enter_untracked(&bench.clock, Some(&device(0)), None).await.err().unwrap();
    assert_eq!(rejected.error.kind(), ErrorKind::Misconfigured);
    bench.clock.advance(60 * SECOND);
    drop(bench.admission.enter_untracked(&bench.clock, Some(&device(0)), None).await.ok().unwrap());
    let _probe = bench.enter().unwrap();
    assert_eq!(bench.rejected().error.retry_after(), Some(60 * SECOND));
    bench.admission.enter_untracked(&bench.clock, Some(&device(0)), None).await.err().unwrap();
}

#[test]
fn a_probe_that_says_nothing_of_the_client_leaves_the_gate_to_the_next_probe() {
    let bench = Bench::new();
    bench.fail(Exchanged::Own, &failed(FailureClass::InvalidClient));
    for class in [
        FailureClass::NotSent,
        FailureClass::NotProcessed,
        FailureClass::Ambiguous,
        FailureClass::Unclassified,
    ] {
        bench.clock.advance(60 * SECOND);
        let _probe = bench.enter().unwrap();
        assert_eq!(bench.fail(Exchanged::Own, &failed(class)), Alarm::None);
        assert_eq!(bench.rejected().error.retry_after(), Some(60 * SECOND), "{class:?}");
    }
}

#[test]
fn a_server_that_judges_what_it_was_sent_took_the_client() {
    for class in [FailureClass::Rejected, FailureClass::Refused(Refusal::WrongCredentials)] {
        let bench = Bench::new();
        bench.fail(Exchanged::Own, &failed(FailureClass::InvalidClient));
        assert_eq!(bench.fail(Exchanged::Grant, &failed(class)), Alarm::None);
        bench.enter().map(drop).unwrap();
    }
}

#[test]
fn a_refused_certificate_alarms_once_and_shuts_nothing() {
    let bench = Bench::new();
    let untrusted = failed(FailureClass::Untrusted);
    assert_eq!(bench.fail(Exchanged::Grant, &untrusted), Alarm::Raise);
    assert_eq!(bench.fail(Exchanged::Own, &untrusted), Alarm::None);
    bench.enter().map(drop).unwrap();
    bench.succeed();
    assert_eq!(bench.fail(Exchanged::Own, &untrusted), Alarm::Raise);
}

#[test]
fn the_longer_of_two_waits_holds() {
    let bench = Bench::new();
    bench.fail(Exchanged::Own, &throttled(300));
    bench.fail(Exchanged::Own, &failed(FailureClass::InvalidClient));
    assert_eq!(bench.rejected().until, BootTime::new(300 * SECOND));
}

#[test]
fn an_answer_that_names_nobody_stops_nobody() {
    let bench = Bench::new();
    for class in [FailureClass::Unclassified, FailureClass::Misconfigured] {
        for of in [Exchanged::Own, Exchanged::Grant] {
            assert_eq!(bench.fail(of, &failed(class)), Alarm::None);
            for lane in [OWN, AGAIN, SCHEDULED, Lane::SignIn] {
                bench.enter_as(&device(1), lane).map(drop).unwrap();
            }
        }
    }
}

#[test]
fn a_rejected_client_stops_the_refreshes_of_the_tenant_that_was_told_so_and_nothing_else() {
    let bench = Bench::new();
    let (told, other) = (session_of("told", 1), session_of("other", 1));
    bench.enter_as(&told, OWN).map(drop).unwrap();
    bench.enter_as(&other, OWN).map(drop).unwrap();
    let rejected = failed(FailureClass::InvalidClient);
    assert_eq!(bench.fail_as(&told, Exchanged::Own, &rejected), Alarm::Raise);
    for n in 1..3 {
        let rejected = bench.enter_as(&session_of("told", n), OWN).err().unwrap();
        assert_eq!(rejected.error.kind(), ErrorKind::Misconfigured);
    }
    bench.enter_as(&told, Lane::SignIn).map(drop).unwrap();
    bench.enter_as(&other, OWN).map(drop).unwrap();
    // Others succeed with the client. What the server holds against this tenant stays.
    bench.succeed_as(&other);
    bench.enter_as(&told, OWN).err().unwrap();
    bench.succeed_as(&session_of("told", 9));
    bench.enter_as(&told, OWN).map(drop).unwrap();
}

#[test]
fn a_client_that_a_second_tenant_is_told_of_is_stopped_for_all_until_any_success() {
    let bench = Bench::new();
    let rejected = failed(FailureClass::InvalidClient);
    let all = ["a", "b", "c"].map(|tenant| session_of(tenant, 1));
    for session in &all {
        bench.enter_as(session, OWN).map(drop).unwrap();
    }
    bench.fail_as(&all[0], Exchanged::Own, &rejected);
    bench.fail_as(&all[0], Exchanged::Own, &rejected);
    bench.enter_as(&all[2], OWN).map(drop).unwrap();
    assert_eq!(bench.fail_as(&all[1], Exchanged::Grant, &rejected), Alarm::None, "told once");
    for session in &all {
        bench.enter_as(session, OWN).err().unwrap();
        let beside = bench.admission.enter_untracked(&bench.clock, Some(session), None);
        beside.now_or_never().unwrap().err().unwrap();
    }
    bench.succeed_as(&all[2]);
    for session in &all {
        bench.enter_as(session, OWN).map(drop).unwrap();
    }
}

#[test]
fn no_session_is_the_probe_twice_in_a_row_while_others_are_kept_out() {
    let bench = Bench::new();
    let rejected = failed(FailureClass::InvalidClient);
    bench.fail(Exchanged::Own, &rejected);
    bench.enter_as(&device(1), OWN).err().unwrap();
    bench.clock.advance(60 * SECOND);
    bench.enter().map(drop).unwrap();
    bench.fail(Exchanged::Own, &rejected);
    bench.enter_as(&device(1), OWN).err().unwrap();
    bench.clock.advance(60 * SECOND);
    assert_eq!(bench.rejected().error.retry_after(), Some(60 * SECOND), "the other one goes first");
    bench.enter_as(&device(1), OWN).map(drop).unwrap();
    bench.fail_as(&device(1), Exchanged::Own, &rejected);
    bench.clock.advance(60 * SECOND);
    bench.enter().map(drop).unwrap();
    // Nobody else comes: the client is tried all the same.
    bench.enter_as(&device(1), OWN).err().unwrap();
    bench.clock.advance(119 * SECOND);
    bench.enter().err().unwrap();
    bench.clock.advance(SECOND);
    bench.enter().map(drop).unwrap();
}

#[tokio::test]
async fn a_sign_in_that_waits_is_the_next_probe_and_the_others_wait_for_its_end() {
    let bench = Bench::new();
    let rejected = failed(FailureClass::InvalidClient);
    bench.fail(Exchanged::Own, &rejected);
    bench.enter_as(&device(5), Lane::SignIn).err().unwrap();
    bench.clock.advance(50 * SECOND);
    let (first, second) = (device(1), device(2));
    let sign_in = |session| bench.entry_as(session, Lane::SignIn);
    let (mut first, mut second) = (Box::pin(sign_in(&first)), Box::pin(sign_in(&second)));
    let mut context = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert!(second.as_mut().poll(&mut context).is_pending());
    bench.clock.advance(10 * SECOND);
    bench.enter().err().unwrap();
    let Poll::Ready(Ok(_probe)) = first.as_mut().poll(&mut context) else {
        panic!("it is the probe")
    };
    assert!(second.as_mut().poll(&mut context).is_pending());
    bench.succeed_as(&device(1));
    let Poll::Ready(Ok(_)) = second.as_mut().poll(&mut context) else {
        panic!("the client is accepted")
    };
}

#[tokio::test]
async fn a_sign_in_waits_for_a_probe_no_longer_than_for_its_turn() {
    let bench = Bench::new();
    bench.fail(Exchanged::Own, &failed(FailureClass::InvalidClient));
    bench.clock.advance(60 * SECOND);
    let _probe = bench.enter().unwrap();
    let session = device(1);
    let late = async { bench.clock.advance(25 * SECOND) };
    let (entered, ()) = join(bench.entry_as(&session, Lane::SignIn), late).await;
    assert_eq!(entered.err().unwrap().error.kind(), ErrorKind::Misconfigured);
    assert_eq!(bench.admission.state.lock().stop.waiting_sign_ins, 0);
}

#[test]
fn retries_are_paced_when_five_sessions_get_one_answer_within_a_minute() {
    let bench = Bench::new();
    let forbidden = failed(FailureClass::Unclassified).with_status(http::StatusCode::FORBIDDEN);
    bench.met(0..4, &forbidden);
    bench.met(0..4, &forbidden);
    let other = failed(FailureClass::Unclassified).with_code("invalid_scope");
    bench.met(4..6, &other);
    for _ in 0..3 {
        bench.enter_as(&device(0), AGAIN).map(drop).unwrap();
    }
    bench.met(4..5, &forbidden);
    let mut sent = 0;
    for _ in 0..100 {
        sent += u32::from(bench.enter_as(&device(0), AGAIN).is_ok());
        bench.clock.advance(SECOND / 10);
    }
    assert_eq!(sent, 10, "one a second");
    for lane in [OWN, Lane::SignIn] {
        for _ in 0..10 {
            bench.enter_as(&device(9), lane).map(drop).unwrap();
        }
    }
    bench.succeed_as(&device(9));
    for _ in 0..3 {
        bench.enter_as(&device(0), AGAIN).map(drop).unwrap();
    }
}

#[test]
fn sessions_that_get_an_answer_further_apart_are_not_paced_and_neither_are_grants_counted() {
    let bench = Bench::new();
    let unknown = failed(FailureClass::Unclassified);
    for n in 0..20 {
        bench.fail_as(&device(n), Exchanged::Own, &unknown);
        bench.fail_as(&device(n), Exchanged::Grant, &unknown);
        bench.clock.advance(16 * SECOND);
    }
    for _ in 0..3 {
        bench.enter_as(&device(0), AGAIN).map(drop).unwrap();
    }
}

#[test]
fn while_retries_are_paced_the_schedule_has_one_refresh_in_flight() {
    let bench = Bench::new();
    bench.met(0..5, &failed(FailureClass::Unclassified));
    let first = bench.enter_as(&device(7), SCHEDULED).unwrap();
    let rejected = bench.enter_as(&device(8), SCHEDULED).err().unwrap();
    assert!(rejected.paced && rejected.error.kind() == ErrorKind::RetryLater);
    bench.enter_as(&device(8), OWN).map(drop).unwrap();
    drop(first);
    bench.enter_as(&device(8), SCHEDULED).map(drop).unwrap();
}

#[test]
fn answers_that_name_nobody_are_told_apart_up_to_a_bound() {
    let bench = Bench::new();
    for n in 0..20 {
        let code = format!("vendor_{n}");
        bench.fail(Exchanged::Own, &failed(FailureClass::Unclassified).with_code(&code));
    }
    assert_eq!(bench.admission.state.lock().pace.kinds(), crate::policy::FAULT_KINDS);
}

#[test]
fn a_session_asks_when_another_one_last_succeeded() {
    let bench = Bench::new();
    let healthy = |n| bench.admission.other_success_at(&device(n));
    assert_eq!(healthy(1), None);
    bench.succeed_as(&device(1));
    assert_eq!((healthy(1), healthy(2)), (None, Some(BootTime::default())));
    bench.clock.advance(SECOND);
    bench.succeed_as(&device(2));
    let now = Some(BootTime::new(SECOND));
    assert_eq!((healthy(1), healthy(2), healthy(3)), (now, Some(BootTime::default()), now));
}

#[test]
fn a_call_for_no_session_stops_no_tenant_where_several_use_the_client() {
    let bench = Bench::new();
    let rejected = failed(FailureClass::InvalidClient);
    let told = || {
        let now = bench.clock.now().boot;
        bench.admission.report(now, Exchanged::Grant, None, Err(&rejected))
    };
    let all = ["a", "b"].map(|tenant| session_of(tenant, 1));
    for session in &all {
        bench.enter_as(session, OWN).map(drop).unwrap();
    }
    assert_eq!((told(), told()), (Alarm::Raise, Alarm::None));
    for session in &all {
        bench.enter_as(session, OWN).map(drop).unwrap();
    }
}
