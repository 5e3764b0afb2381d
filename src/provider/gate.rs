//! The gate of one provider: how many exchanges at once, and when none at all.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{ExchangeError, FailureClass};
use crate::clock::{BootTime, Clock};
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::policy::ProviderLimits;

/// What all sessions of one provider share: its permits, the server's wish to be left alone, and
/// the mark that the client is rejected.
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    limits: ProviderLimits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The server wants to be left alone until then, whatever it answers meanwhile.
    throttled_until: BootTime,
    /// The next probe, while the client is rejected.
    probe_at: BootTime,
    /// The client is rejected; every waiter gets this until a probe succeeds.
    rejected: Option<Error>,
    /// The alarm was raised; not again until an exchange got through.
    alarmed: bool,
}

/// The right to run one exchange.
pub(crate) struct Permit {
    _permit: OwnedSemaphorePermit,
}

/// Why an exchange may not run now, and when it may.
#[derive(Debug)]
pub(crate) struct Shut {
    pub(crate) error: Error,
    pub(crate) until: BootTime,
}

/// Whether a report is news that deserves an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    None,
    Alarm,
}

/// What was exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchanged {
    /// A grant that a caller made.
    Grant,
    /// What the session itself has or mints, or the provider's own preparation.
    Own,
}

impl Gate {
    /// `former` is the gate that this one replaces: what its server said of too many requests
    /// still holds, what it said of the client does not.
    pub(crate) fn after(limits: ProviderLimits, former: Option<&Self>) -> Self {
        let permits = Arc::new(Semaphore::new(limits.exchanges.min(Semaphore::MAX_PERMITS)));
        let throttled_until = former.map(|former| former.state.lock().throttled_until);
        let throttled_until = throttled_until.unwrap_or_default();
        let state = Mutex::new(State { throttled_until, ..State::default() });
        Self { permits, limits, state }
    }

    /// Waits for a turn. Nothing is claimed yet, so giving up loses nothing.
    pub(crate) async fn enter(&self, clock: &dyn Clock) -> Result<Permit, Shut> {
        let permit = self.enter_beside(clock).await?;
        let mut state = self.state.lock();
        if state.rejected.is_some() {
            let now = clock.now().boot;
            // Another may have become the probe meanwhile.
            state.check(now)?;
            // This one is the probe; the others wait for its report.
            state.probe_at = now.after(self.limits.probe);
        }
        Ok(permit)
    }

    /// The same for what is no exchange, and whose success is not reported: it is never the probe,
    /// or it would take the probe from those who learn from it whether the client is taken again.
    pub(crate) async fn enter_beside(&self, clock: &dyn Clock) -> Result<Permit, Shut> {
        self.state.lock().check(clock.now().boot)?;
        let turn = tokio::select! {
            biased;
            turn = Arc::clone(&self.permits).acquire_owned() => turn.ok(),
            () = clock.sleep(self.limits.turn) => None,
        };
        let now = clock.now().boot;
        let Some(permit) = turn else {
            let error = Error::new(ErrorKind::Capacity)
                .about("too many exchanges with this provider are in flight")
                .with_outcome(ExchangeOutcome::NotSent);
            return Err(Shut { error, until: now.after(Duration::from_secs(1)) });
        };
        // Again: the server may have asked to be left alone while this exchange queued.
        self.state.lock().check(now)?;
        Ok(Permit { _permit: permit })
    }

    /// Learns from an exchange's end. A caller's own grant says nothing of the client unless the
    /// server names it: else one caller with a wrong scope would stop all the others.
    pub(crate) fn report(
        &self,
        now: BootTime,
        of: Exchanged,
        result: Result<(), &ExchangeError>,
    ) -> News {
        let mut state = self.state.lock();
        let failed = match result {
            Ok(()) => {
                state.accept();
                return News::None;
            }
            Err(failed) => failed,
        };
        match failed.class() {
            FailureClass::Throttled => {
                let wait = failed.retry_after().unwrap_or(Duration::from_secs(1));
                let until = now.after(wait.min(self.limits.longest_retry_after));
                state.throttled_until = state.throttled_until.max(until);
                News::None
            }
            FailureClass::Misconfigured if of == Exchanged::Grant && !failed.names_client() => {
                News::None
            }
            FailureClass::Misconfigured => {
                state.probe_at = now.after(self.limits.probe);
                state.rejected = Some(rejected());
                raise(&mut state)
            }
            FailureClass::Untrusted => raise(&mut state),
            FailureClass::Rejected | FailureClass::Refused(_) => {
                // It judged a grant, so it took the client.
                state.accept();
                News::None
            }
            FailureClass::NotSent
            | FailureClass::NotProcessed
            | FailureClass::Ambiguous
            | FailureClass::InvalidRequest => News::None,
        }
    }

    pub(crate) fn limits(&self) -> &ProviderLimits {
        &self.limits
    }
}

impl State {
    fn check(&self, now: BootTime) -> Result<(), Shut> {
        let until = self.throttled_until.max(self.probe_at);
        if now >= until {
            return Ok(());
        }
        let wait = until.since(now);
        let error = self.rejected.clone().unwrap_or_else(|| {
            Error::new(ErrorKind::RetryLater)
                .about("the server asked for fewer requests")
                .with_outcome(ExchangeOutcome::NotSent)
        });
        Err(Shut { error: error.with_retry_after(wait), until })
    }

    /// The server took the client. What it said before of too many requests still holds: this
    /// answer may be to a request that was sent earlier.
    fn accept(&mut self) {
        *self = Self { throttled_until: self.throttled_until, ..Self::default() };
    }
}

fn raise(state: &mut State) -> News {
    if std::mem::replace(&mut state.alarmed, true) { News::None } else { News::Alarm }
}

fn rejected() -> Error {
    Error::new(ErrorKind::Misconfigured)
        .about("the server rejects the client, which is asked again now and then")
        .with_outcome(ExchangeOutcome::NotSent)
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use futures_util::future::join;

    use super::*;
    use crate::error::Refusal;
    use crate::provider::fixture::StillClock;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> ProviderLimits {
        let (turn, probe) = (25 * SECOND, 60 * SECOND);
        ProviderLimits { exchanges: 2, turn, probe, longest_retry_after: 600 * SECOND }
    }

    /// A gate, and the clock that it is asked by.
    struct Bench {
        gate: Gate,
        clock: StillClock,
    }

    impl Bench {
        fn new() -> Self {
            Self { gate: Gate::after(limits(), None), clock: StillClock::new() }
        }

        /// Enters at once, or is shut out at once.
        fn enter(&self) -> Result<Permit, Shut> {
            let mut entry = Box::pin(self.gate.enter(&self.clock));
            match entry.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(entered) => entered,
                Poll::Pending => panic!("it waits for its turn"),
            }
        }

        fn shut(&self) -> Shut {
            self.enter().err().unwrap()
        }

        fn fail(&self, of: Exchanged, failed: &ExchangeError) -> News {
            self.gate.report(self.clock.now().boot, of, Err(failed))
        }

        fn succeed(&self) {
            let news = self.gate.report(self.clock.now().boot, Exchanged::Own, Ok(()));
            assert_eq!(news, News::None);
        }
    }

    fn failed(class: FailureClass) -> ExchangeError {
        ExchangeError::new(class)
    }

    fn throttled(seconds: u64) -> ExchangeError {
        failed(FailureClass::Throttled).with_retry_after(Some(Duration::from_secs(seconds)))
    }

    #[tokio::test]
    async fn no_more_are_in_flight_than_there_are_permits_and_who_leaves_lets_one_in() {
        let bench = Bench::new();
        let first = bench.enter().unwrap();
        let _second = bench.enter().unwrap();
        let mut third = Box::pin(bench.gate.enter(&bench.clock));
        let mut context = Context::from_waker(Waker::noop());
        assert!(third.as_mut().poll(&mut context).is_pending());
        drop(first);
        let _third = third.await.ok().unwrap();
        let mut fourth = Box::pin(bench.gate.enter(&bench.clock));
        assert!(fourth.as_mut().poll(&mut context).is_pending());
    }

    #[tokio::test]
    async fn who_waits_longer_than_its_turn_gives_up_unsent() {
        let bench = Bench::new();
        let _held = (bench.enter().unwrap(), bench.enter().unwrap());
        let late = async { bench.clock.advance(25 * SECOND) };
        let (entered, ()) = join(bench.gate.enter(&bench.clock), late).await;
        let shut = entered.err().unwrap();
        assert_eq!(shut.error.kind(), ErrorKind::Capacity);
        assert_eq!(shut.error.outcome(), Some(ExchangeOutcome::NotSent));
        assert_eq!(shut.until, BootTime::new(26 * SECOND));
    }

    #[tokio::test]
    async fn who_gave_up_waiting_holds_no_permit() {
        let bench = Bench::new();
        let held = (bench.enter().unwrap(), bench.enter().unwrap());
        let mut entry = Box::pin(bench.gate.enter(&bench.clock));
        assert!(entry.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(held);
        drop(entry);
        let _again = (bench.enter().unwrap(), bench.enter().unwrap());
    }

    #[test]
    fn a_throttled_gate_is_shut_for_as_long_as_the_server_asked() {
        let bench = Bench::new();
        assert_eq!(bench.fail(Exchanged::Grant, &throttled(30)), News::None);
        // A shorter wait does not cut the longer one.
        bench.fail(Exchanged::Own, &throttled(5));
        let shut = bench.shut();
        assert_eq!(shut.until, BootTime::new(30 * SECOND));
        assert_eq!(shut.error.kind(), ErrorKind::RetryLater);
        assert_eq!(shut.error.outcome(), Some(ExchangeOutcome::NotSent));
        assert_eq!(shut.error.retry_after(), Some(30 * SECOND));
        bench.clock.advance(29 * SECOND);
        assert_eq!(bench.shut().error.retry_after(), Some(SECOND));
        bench.clock.advance(SECOND);
        let _all = (bench.enter().unwrap(), bench.enter().unwrap());
    }

    #[test]
    fn no_wait_is_obeyed_that_is_longer_than_the_limit_and_none_is_a_second() {
        let bench = Bench::new();
        bench.fail(Exchanged::Own, &failed(FailureClass::Throttled));
        assert_eq!(bench.shut().until, BootTime::new(SECOND));
        bench.fail(Exchanged::Own, &throttled(u64::MAX));
        assert_eq!(bench.shut().until, BootTime::new(600 * SECOND));
    }

    #[test]
    fn an_answer_to_an_earlier_request_does_not_end_the_servers_wish_to_be_left_alone() {
        let bench = Bench::new();
        bench.fail(Exchanged::Own, &throttled(30));
        bench.succeed();
        bench.fail(Exchanged::Own, &failed(FailureClass::Rejected));
        assert_eq!(bench.shut().until, BootTime::new(30 * SECOND));
    }

    #[tokio::test]
    async fn who_queued_while_the_gate_shut_is_shut_out() {
        let bench = Bench::new();
        let held = (bench.enter().unwrap(), bench.enter().unwrap());
        let shutting = async {
            bench.fail(Exchanged::Own, &throttled(30));
            drop(held);
        };
        let (entered, ()) = join(bench.gate.enter(&bench.clock), shutting).await;
        assert_eq!(entered.err().unwrap().until, BootTime::new(30 * SECOND));
    }

    #[test]
    fn a_rejected_client_alarms_once_and_is_probed_once_an_interval_until_it_is_taken() {
        let bench = Bench::new();
        let rejected = failed(FailureClass::Misconfigured);
        assert_eq!(bench.fail(Exchanged::Own, &rejected), News::Alarm);
        assert_eq!(bench.fail(Exchanged::Own, &rejected), News::None);
        for _ in 0..3 {
            let shut = bench.shut();
            assert_eq!(shut.error.kind(), ErrorKind::Misconfigured);
            assert_eq!(shut.error.outcome(), Some(ExchangeOutcome::NotSent));
            assert_eq!(shut.error.retry_after(), Some(60 * SECOND));
            bench.clock.advance(60 * SECOND);
            let _probe = bench.enter().unwrap();
            assert_eq!(bench.shut().error.kind(), ErrorKind::Misconfigured);
            assert_eq!(bench.fail(Exchanged::Own, &rejected), News::None);
        }
        bench.clock.advance(60 * SECOND);
        let probe = bench.enter().unwrap();
        bench.succeed();
        drop(probe);
        let _all = (bench.enter().unwrap(), bench.enter().unwrap());
        assert_eq!(bench.fail(Exchanged::Own, &rejected), News::Alarm, "it is news again");
    }

    #[tokio::test]
    async fn what_is_no_exchange_waits_for_the_probe_like_all_and_does_not_take_it() {
        let bench = Bench::new();
        bench.fail(Exchanged::Own, &failed(FailureClass::Misconfigured));
        let shut = bench.gate.enter_beside(&bench.clock).await.err().unwrap();
        assert_eq!(shut.error.kind(), ErrorKind::Misconfigured);
        bench.clock.advance(60 * SECOND);
        drop(bench.gate.enter_beside(&bench.clock).await.ok().unwrap());
        let _probe = bench.enter().unwrap();
        assert_eq!(bench.shut().error.retry_after(), Some(60 * SECOND));
        bench.gate.enter_beside(&bench.clock).await.err().unwrap();
    }

    #[test]
    fn a_probe_that_says_nothing_of_the_client_leaves_the_gate_to_the_next_probe() {
        let bench = Bench::new();
        bench.fail(Exchanged::Own, &failed(FailureClass::Misconfigured));
        for class in [
            FailureClass::NotSent,
            FailureClass::NotProcessed,
            FailureClass::Ambiguous,
            FailureClass::InvalidRequest,
        ] {
            bench.clock.advance(60 * SECOND);
            let _probe = bench.enter().unwrap();
            assert_eq!(bench.fail(Exchanged::Own, &failed(class)), News::None);
            assert_eq!(bench.shut().error.retry_after(), Some(60 * SECOND), "{class:?}");
        }
    }

    #[test]
    fn a_server_that_judges_what_it_was_sent_took_the_client() {
        for class in [FailureClass::Rejected, FailureClass::Refused(Refusal::WrongCredentials)] {
            let bench = Bench::new();
            bench.fail(Exchanged::Own, &failed(FailureClass::Misconfigured));
            assert_eq!(bench.fail(Exchanged::Grant, &failed(class)), News::None);
            bench.enter().map(drop).unwrap();
        }
    }

    #[test]
    fn a_callers_grant_shuts_the_gate_only_if_the_server_names_the_client() {
        let bench = Bench::new();
        let scope = failed(FailureClass::Misconfigured).with_code("invalid_scope");
        for failed in [failed(FailureClass::Misconfigured), scope] {
            assert_eq!(bench.fail(Exchanged::Grant, &failed), News::None);
            bench.enter().map(drop).unwrap();
        }
        let client = failed(FailureClass::Misconfigured).with_code("invalid_client");
        assert_eq!(bench.fail(Exchanged::Grant, &client), News::Alarm);
        assert_eq!(bench.shut().error.kind(), ErrorKind::Misconfigured);
    }

    #[test]
    fn a_refused_certificate_alarms_once_and_shuts_nothing() {
        let bench = Bench::new();
        let untrusted = failed(FailureClass::Untrusted);
        assert_eq!(bench.fail(Exchanged::Grant, &untrusted), News::Alarm);
        assert_eq!(bench.fail(Exchanged::Own, &untrusted), News::None);
        bench.enter().map(drop).unwrap();
        bench.succeed();
        assert_eq!(bench.fail(Exchanged::Own, &untrusted), News::Alarm);
    }

    #[test]
    fn the_longer_of_two_waits_holds() {
        let bench = Bench::new();
        bench.fail(Exchanged::Own, &throttled(300));
        bench.fail(Exchanged::Own, &failed(FailureClass::Misconfigured));
        assert_eq!(bench.shut().until, BootTime::new(300 * SECOND));
    }
}
