//! Which exchanges are admitted, and how the server's answers change that.

use std::future::{Future, pending, ready};
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use futures_util::future::join;

use super::*;
use crate::error::Refusal;
use crate::health::Condition;
use crate::key::{ProviderName, SessionKey};
use crate::provider::test_bench::StillClock;

mod exchange_counts;
mod permit_lanes;
mod slow;

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> ProviderLimits {
    let (admission_timeout, probe, longest_retry_after) = (25 * SECOND, 60 * SECOND, 600 * SECOND);
    ProviderLimits { exchanges: 2, slow_requests: 3, admission_timeout, probe, longest_retry_after }
}

/// An admission with its clock.
struct Setup {
    admission: Admission,
    clock: StillClock,
}

impl Setup {
    fn new() -> Self {
        Self {
            admission: Admission::after(limits(), &Arc::default(), None),
            clock: StillClock::new(),
        }
    }

    /// Enters at once, or is rejected at once.
    fn enter(&self) -> Result<Permit, Rejected> {
        self.enter_as(&device(0), OWN)
    }

    fn enter_as(&self, session: &SessionId, lane: Lane) -> Result<Permit, Rejected> {
        let mut entry = Box::pin(self.entry_as(session, lane));
        match entry.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(entered) => entered,
            Poll::Pending => panic!("it waits for a permit"),
        }
    }

    /// Waits for its permit.
    async fn entry(&self) -> Result<Permit, Rejected> {
        self.entry_as(&device(0), OWN).await
    }

    async fn entry_as(&self, session: &SessionId, lane: Lane) -> Result<Permit, Rejected> {
        self.admission
            .enter(&self.clock, Entrant { session, lane }, None, (pending(), || ready(())))
            .await
    }

    fn rejected(&self) -> Rejected {
        self.enter().err().unwrap()
    }

    fn fail(&self, of: ExchangeKind, failed: &ExchangeError) -> Option<Condition> {
        self.fail_as(&device(0), of, failed)
    }

    fn fail_as(
        &self,
        session: &SessionId,
        of: ExchangeKind,
        failed: &ExchangeError,
    ) -> Option<Condition> {
        let change = self.admission.report(self.clock.now(), of, Some(session), Err(failed));
        change.map(|change| change.to)
    }

    fn succeed(&self) {
        self.succeed_as(&device(0));
    }

    fn succeed_as(&self, session: &SessionId) {
        self.admission.report(self.clock.now(), ExchangeKind::Own, Some(session), Ok(()));
    }

    /// These sessions got this answer to their refresh, one each second.
    fn met(&self, sessions: std::ops::Range<u32>, failed: &ExchangeError) {
        for n in sessions {
            self.fail_as(&device(n), ExchangeKind::Own, failed);
            self.clock.advance(SECOND);
        }
    }
}

const REJECTING: Option<Condition> = Some(Condition::Rejecting);
const UNREACHABLE: Option<Condition> = Some(Condition::Unreachable);
const OWN: Lane = Lane::Own { again: false, scheduled: false };
const AGAIN: Lane = Lane::Own { again: true, scheduled: false };
const SCHEDULED: Lane = Lane::Own { again: false, scheduled: true };

/// No store says which process may probe.
async fn no_store() {}

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
async fn no_more_exchanges_run_than_there_are_permits_and_a_returned_permit_admits_one() {
    let setup = Setup::new();
    let first = setup.enter().unwrap();
    let _second = setup.enter().unwrap();
    let mut third = Box::pin(setup.entry());
    let mut context = Context::from_waker(Waker::noop());
    assert!(third.as_mut().poll(&mut context).is_pending());
    drop(first);
    let _third = third.await.ok().unwrap();
    let mut fourth = Box::pin(setup.entry());
    assert!(fourth.as_mut().poll(&mut context).is_pending());
}

#[tokio::test]
async fn an_exchange_that_waits_longer_than_the_timeout_fails_unsent() {
    let setup = Setup::new();
    let _held = (setup.enter().unwrap(), setup.enter().unwrap());
    let late = async { setup.clock.advance(25 * SECOND) };
    let (entered, ()) = join(setup.entry(), late).await;
    let rejected = entered.err().unwrap();
    assert_eq!(rejected.error.kind(), ErrorKind::Capacity);
    assert_eq!(rejected.error.outcome(), Some(ExchangeOutcome::NotSent));
    assert_eq!(rejected.until, BootTime::new(26 * SECOND));
}

#[tokio::test]
async fn an_exchange_that_gave_up_waiting_holds_no_permit() {
    let setup = Setup::new();
    let held = (setup.enter().unwrap(), setup.enter().unwrap());
    let mut entry = Box::pin(setup.entry());
    assert!(entry.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(held);
    drop(entry);
    let _again = (setup.enter().unwrap(), setup.enter().unwrap());
}

#[test]
fn a_throttled_client_is_closed_for_as_long_as_the_server_asked() {
    let setup = Setup::new();
    assert_eq!(setup.fail(ExchangeKind::Grant, &throttled(30)), Some(Condition::Throttled));
    // A shorter wait does not end the longer one.
    setup.fail(ExchangeKind::Own, &throttled(5));
    let rejected = setup.rejected();
    assert_eq!(rejected.until, BootTime::new(30 * SECOND));
    assert_eq!(rejected.error.kind(), ErrorKind::RetryLater);
    assert_eq!(rejected.error.outcome(), Some(ExchangeOutcome::NotSent));
    assert_eq!(rejected.error.retry_after(), Some(30 * SECOND));
    setup.clock.advance(29 * SECOND);
    assert_eq!(setup.rejected().error.retry_after(), Some(SECOND));
    setup.clock.advance(SECOND);
    let _all = (setup.enter().unwrap(), setup.enter().unwrap());
}

#[test]
fn a_wait_is_at_most_the_limit_and_a_second_if_the_server_names_none() {
    let setup = Setup::new();
    setup.fail(ExchangeKind::Own, &failed(FailureClass::Throttled));
    assert_eq!(setup.rejected().until, BootTime::new(SECOND));
    setup.fail(ExchangeKind::Own, &throttled(u64::MAX));
    assert_eq!(setup.rejected().until, BootTime::new(600 * SECOND));
}

#[test]
fn a_success_of_an_earlier_request_does_not_end_the_servers_wait() {
    let setup = Setup::new();
    setup.fail(ExchangeKind::Own, &throttled(30));
    setup.succeed();
    setup.fail(ExchangeKind::Own, &failed(FailureClass::Rejected));
    assert_eq!(setup.rejected().until, BootTime::new(30 * SECOND));
}

#[tokio::test]
async fn an_exchange_that_queued_before_a_throttle_is_rejected() {
    let setup = Setup::new();
    let held = (setup.enter().unwrap(), setup.enter().unwrap());
    let shutting = async {
        setup.fail(ExchangeKind::Own, &throttled(30));
        drop(held);
    };
    let (entered, ()) = join(setup.entry(), shutting).await;
    assert_eq!(entered.err().unwrap().until, BootTime::new(30 * SECOND));
}

#[test]
fn a_rejected_client_alarms_once_and_is_probed_once_an_interval_until_it_is_accepted() {
    let setup = Setup::new();
    let failure = failed(FailureClass::InvalidClient);
    assert_eq!(setup.fail(ExchangeKind::Own, &failure), REJECTING);
    assert_eq!(setup.fail(ExchangeKind::Own, &failure), None);
    for _ in 0..3 {
        let rejected = setup.rejected();
        assert_eq!(rejected.error.kind(), ErrorKind::Misconfigured);
        assert_eq!(rejected.error.outcome(), Some(ExchangeOutcome::NotSent));
        assert_eq!(rejected.error.retry_after(), Some(60 * SECOND));
        setup.clock.advance(60 * SECOND);
        let _probe = setup.enter().unwrap();
        assert_eq!(setup.rejected().error.kind(), ErrorKind::Misconfigured);
        assert_eq!(setup.fail(ExchangeKind::Own, &failure), None);
    }
    setup.clock.advance(60 * SECOND);
    let probe = setup.enter().unwrap();
    setup.succeed();
    drop(probe);
    let _all = (setup.enter().unwrap(), setup.enter().unwrap());
    assert_eq!(setup.fail(ExchangeKind::Own, &failure), REJECTING, "the alarm is raised again");
}

#[tokio::test]
async fn an_untracked_call_waits_for_the_probe_and_is_never_the_probe() {
    let setup = Setup::new();
    setup.fail(ExchangeKind::Own, &failed(FailureClass::InvalidClient));
    let rejected =
        setup.admission.enter_untracked(&setup.clock, Some(&device(0)), None).await.err().unwrap();
    assert_eq!(rejected.error.kind(), ErrorKind::Misconfigured);
    setup.clock.advance(60 * SECOND);
    drop(setup.admission.enter_untracked(&setup.clock, Some(&device(0)), None).await.ok().unwrap());
    let _probe = setup.enter().unwrap();
    assert_eq!(setup.rejected().error.retry_after(), Some(60 * SECOND));
    setup.admission.enter_untracked(&setup.clock, Some(&device(0)), None).await.err().unwrap();
}

#[test]
fn a_probe_that_does_not_judge_the_client_leaves_it_to_the_next_probe() {
    let setup = Setup::new();
    setup.fail(ExchangeKind::Own, &failed(FailureClass::InvalidClient));
    for class in [
        FailureClass::NotSent,
        FailureClass::NotProcessed,
        FailureClass::Ambiguous,
        FailureClass::Unclassified,
    ] {
        setup.clock.advance(60 * SECOND);
        let _probe = setup.enter().unwrap();
        assert_eq!(setup.fail(ExchangeKind::Own, &failed(class)), None);
        assert_eq!(setup.rejected().error.retry_after(), Some(60 * SECOND), "{class:?}");
    }
}

#[test]
fn a_server_that_judges_a_grant_has_accepted_the_client() {
    for class in [FailureClass::Rejected, FailureClass::Refused(Refusal::WrongCredentials)] {
        let setup = Setup::new();
        setup.fail(ExchangeKind::Own, &failed(FailureClass::InvalidClient));
        assert_eq!(setup.fail(ExchangeKind::Grant, &failed(class)), Some(Condition::Working));
        setup.enter().map(drop).unwrap();
    }
}

#[test]
fn a_refused_certificate_alarms_once_and_stops_nothing() {
    let setup = Setup::new();
    let untrusted = failed(FailureClass::Untrusted);
    assert_eq!(setup.fail(ExchangeKind::Grant, &untrusted), UNREACHABLE);
    assert_eq!(setup.fail(ExchangeKind::Own, &untrusted), None);
    setup.enter().map(drop).unwrap();
    setup.succeed();
    assert_eq!(setup.fail(ExchangeKind::Own, &untrusted), UNREACHABLE);
}

#[test]
fn the_longer_of_two_waits_holds() {
    let setup = Setup::new();
    setup.fail(ExchangeKind::Own, &throttled(300));
    setup.fail(ExchangeKind::Own, &failed(FailureClass::InvalidClient));
    assert_eq!(setup.rejected().until, BootTime::new(300 * SECOND));
}

#[test]
fn an_unclassified_answer_stops_no_session() {
    let setup = Setup::new();
    for class in [FailureClass::Unclassified, FailureClass::Misconfigured] {
        for of in [ExchangeKind::Own, ExchangeKind::Grant] {
            assert_eq!(setup.fail(of, &failed(class)), None);
            for lane in [OWN, AGAIN, SCHEDULED, Lane::SignIn] {
                setup.enter_as(&device(1), lane).map(drop).unwrap();
            }
        }
    }
}

#[test]
fn a_rejected_client_stops_only_the_refreshes_of_the_rejected_tenant() {
    let setup = Setup::new();
    let (stopped, other) = (session_of("rejected", 1), session_of("other", 1));
    setup.enter_as(&stopped, OWN).map(drop).unwrap();
    setup.enter_as(&other, OWN).map(drop).unwrap();
    let rejected = failed(FailureClass::InvalidClient);
    assert_eq!(setup.fail_as(&stopped, ExchangeKind::Own, &rejected), REJECTING);
    for n in 1..3 {
        let rejected = setup.enter_as(&session_of("rejected", n), OWN).err().unwrap();
        assert_eq!(rejected.error.kind(), ErrorKind::Misconfigured);
    }
    setup.enter_as(&stopped, Lane::SignIn).map(drop).unwrap();
    setup.enter_as(&other, OWN).map(drop).unwrap();
    // Other tenants succeed with the client. The rejection for this tenant stays.
    setup.succeed_as(&other);
    setup.enter_as(&stopped, OWN).err().unwrap();
    setup.succeed_as(&session_of("rejected", 9));
    setup.enter_as(&stopped, OWN).map(drop).unwrap();
}

#[test]
fn a_client_that_is_rejected_for_a_second_tenant_is_stopped_for_all_until_any_success() {
    let setup = Setup::new();
    let rejected = failed(FailureClass::InvalidClient);
    let all = ["a", "b", "c"].map(|tenant| session_of(tenant, 1));
    for session in &all {
        setup.enter_as(session, OWN).map(drop).unwrap();
    }
    setup.fail_as(&all[0], ExchangeKind::Own, &rejected);
    setup.fail_as(&all[0], ExchangeKind::Own, &rejected);
    setup.enter_as(&all[2], OWN).map(drop).unwrap();
    assert_eq!(setup.fail_as(&all[1], ExchangeKind::Grant, &rejected), None, "one alarm");
    for session in &all {
        setup.enter_as(session, OWN).err().unwrap();
        let beside = setup.admission.enter_untracked(&setup.clock, Some(session), None);
        beside.now_or_never().unwrap().err().unwrap();
    }
    setup.succeed_as(&all[2]);
    for session in &all {
        setup.enter_as(session, OWN).map(drop).unwrap();
    }
}

#[test]
fn no_session_is_the_probe_twice_in_a_row_while_others_are_kept_out() {
    let setup = Setup::new();
    let rejected = failed(FailureClass::InvalidClient);
    setup.fail(ExchangeKind::Own, &rejected);
    setup.enter_as(&device(1), OWN).err().unwrap();
    setup.clock.advance(60 * SECOND);
    setup.enter().map(drop).unwrap();
    setup.fail(ExchangeKind::Own, &rejected);
    setup.enter_as(&device(1), OWN).err().unwrap();
    setup.clock.advance(60 * SECOND);
    assert_eq!(setup.rejected().error.retry_after(), Some(60 * SECOND), "the other one goes first");
    setup.enter_as(&device(1), OWN).map(drop).unwrap();
    setup.fail_as(&device(1), ExchangeKind::Own, &rejected);
    setup.clock.advance(60 * SECOND);
    setup.enter().map(drop).unwrap();
    // No other session comes, so this one is the probe again.
    setup.enter_as(&device(1), OWN).err().unwrap();
    setup.clock.advance(119 * SECOND);
    setup.enter().err().unwrap();
    setup.clock.advance(SECOND);
    setup.enter().map(drop).unwrap();
}

#[tokio::test]
async fn a_sign_in_that_waits_is_the_next_probe_and_the_others_wait_for_its_end() {
    let setup = Setup::new();
    let rejected = failed(FailureClass::InvalidClient);
    setup.fail(ExchangeKind::Own, &rejected);
    setup.enter_as(&device(5), Lane::SignIn).err().unwrap();
    setup.clock.advance(50 * SECOND);
    let (first, second) = (device(1), device(2));
    let sign_in = |session| setup.entry_as(session, Lane::SignIn);
    let (mut first, mut second) = (Box::pin(sign_in(&first)), Box::pin(sign_in(&second)));
    let mut context = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert!(second.as_mut().poll(&mut context).is_pending());
    setup.clock.advance(10 * SECOND);
    setup.enter().err().unwrap();
    let Poll::Ready(Ok(_probe)) = first.as_mut().poll(&mut context) else {
        panic!("it is the probe")
    };
    assert!(second.as_mut().poll(&mut context).is_pending());
    setup.succeed_as(&device(1));
    let Poll::Ready(Ok(_)) = second.as_mut().poll(&mut context) else {
        panic!("the client is accepted")
    };
}

#[tokio::test]
async fn a_sign_in_waits_for_a_probe_no_longer_than_for_a_permit() {
    let setup = Setup::new();
    setup.fail(ExchangeKind::Own, &failed(FailureClass::InvalidClient));
    setup.clock.advance(60 * SECOND);
    let _probe = setup.enter().unwrap();
    let session = device(1);
    let late = async { setup.clock.advance(25 * SECOND) };
    let (entered, ()) = join(setup.entry_as(&session, Lane::SignIn), late).await;
    assert_eq!(entered.err().unwrap().error.kind(), ErrorKind::Misconfigured);
    assert_eq!(setup.admission.state.lock().stop.waiting_sign_ins, 0);
}

#[test]
fn retries_are_paced_when_five_sessions_get_one_answer_within_a_minute() {
    let setup = Setup::new();
    let forbidden = failed(FailureClass::Unclassified).with_status(http::StatusCode::FORBIDDEN);
    setup.met(0..4, &forbidden);
    setup.met(0..4, &forbidden);
    let other = failed(FailureClass::Unclassified).with_code("invalid_scope");
    setup.met(4..6, &other);
    for _ in 0..3 {
        setup.enter_as(&device(0), AGAIN).map(drop).unwrap();
    }
    setup.met(4..5, &forbidden);
    let mut sent = 0;
    for _ in 0..100 {
        sent += u32::from(setup.enter_as(&device(0), AGAIN).is_ok());
        setup.clock.advance(SECOND / 10);
    }
    assert_eq!(sent, 10, "one a second");
    for lane in [OWN, Lane::SignIn] {
        for _ in 0..10 {
            setup.enter_as(&device(9), lane).map(drop).unwrap();
        }
    }
    setup.succeed_as(&device(9));
    for _ in 0..3 {
        setup.enter_as(&device(0), AGAIN).map(drop).unwrap();
    }
}

#[test]
fn sessions_that_get_an_answer_further_apart_are_not_paced_and_neither_are_grants_counted() {
    let setup = Setup::new();
    let unknown = failed(FailureClass::Unclassified);
    for n in 0..20 {
        setup.fail_as(&device(n), ExchangeKind::Own, &unknown);
        setup.fail_as(&device(n), ExchangeKind::Grant, &unknown);
        setup.clock.advance(16 * SECOND);
    }
    for _ in 0..3 {
        setup.enter_as(&device(0), AGAIN).map(drop).unwrap();
    }
}

#[test]
fn while_retries_are_paced_the_schedule_has_one_refresh_in_flight() {
    let setup = Setup::new();
    setup.met(0..5, &failed(FailureClass::Unclassified));
    let first = setup.enter_as(&device(7), SCHEDULED).unwrap();
    let rejected = setup.enter_as(&device(8), SCHEDULED).err().unwrap();
    assert!(rejected.paced && rejected.error.kind() == ErrorKind::RetryLater);
    setup.enter_as(&device(8), OWN).map(drop).unwrap();
    drop(first);
    setup.enter_as(&device(8), SCHEDULED).map(drop).unwrap();
}

#[test]
fn kinds_of_unclassified_answers_are_remembered_up_to_a_bound() {
    let setup = Setup::new();
    for n in 0..20 {
        let code = format!("vendor_{n}");
        setup.fail(ExchangeKind::Own, &failed(FailureClass::Unclassified).with_code(&code));
    }
    assert_eq!(setup.admission.state.lock().pace.kinds(), crate::policy::FAULT_KINDS);
}

#[test]
fn the_latest_success_of_another_session_is_known() {
    let setup = Setup::new();
    let healthy = |n| setup.admission.other_success_at(&device(n));
    assert_eq!(healthy(1), None);
    setup.succeed_as(&device(1));
    assert_eq!((healthy(1), healthy(2)), (None, Some(BootTime::default())));
    setup.clock.advance(SECOND);
    setup.succeed_as(&device(2));
    let now = Some(BootTime::new(SECOND));
    assert_eq!((healthy(1), healthy(2), healthy(3)), (now, Some(BootTime::default()), now));
}

#[test]
fn a_call_for_no_session_stops_no_tenant_where_several_use_the_client() {
    let setup = Setup::new();
    let rejected = failed(FailureClass::InvalidClient);
    let alarm = || {
        let now = setup.clock.now();
        let change = setup.admission.report(now, ExchangeKind::Grant, None, Err(&rejected));
        change.map(|change| change.to)
    };
    let all = ["a", "b"].map(|tenant| session_of(tenant, 1));
    for session in &all {
        setup.enter_as(session, OWN).map(drop).unwrap();
    }
    assert_eq!((alarm(), alarm()), (REJECTING, None));
    for session in &all {
        setup.enter_as(session, OWN).map(drop).unwrap();
    }
}
