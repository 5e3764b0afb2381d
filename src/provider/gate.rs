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
    closed_until: BootTime,
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
    pub(crate) fn new(limits: ProviderLimits) -> Self {
        let permits = Arc::new(Semaphore::new(limits.exchanges.min(Semaphore::MAX_PERMITS)));
        Self { permits, limits, state: Mutex::default() }
    }

    /// Waits for a turn. Nothing is claimed yet, so giving up loses nothing.
    pub(crate) async fn enter(&self, clock: &dyn Clock) -> Result<Permit, Shut> {
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
        let mut state = self.state.lock();
        state.check(now)?;
        if state.rejected.is_some() {
            // This one is the probe; the others wait for its report.
            state.closed_until = now.after(self.limits.probe);
        }
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
                *state = State::default();
                return News::None;
            }
            Err(failed) => failed,
        };
        match failed.class() {
            FailureClass::Throttled => {
                let wait = failed.retry_after().unwrap_or(Duration::from_secs(1));
                state.closed_until = state.closed_until.max(now.after(wait));
                News::None
            }
            FailureClass::Misconfigured if of == Exchanged::Grant && !failed.names_client() => {
                News::None
            }
            FailureClass::Misconfigured => {
                state.closed_until = now.after(self.limits.probe);
                state.rejected = Some(rejected());
                raise(&mut state)
            }
            FailureClass::Untrusted => raise(&mut state),
            FailureClass::Rejected | FailureClass::Refused(_) => {
                // It judged a grant, so it took the client.
                *state = State::default();
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
        if now >= self.closed_until {
            return Ok(());
        }
        let wait = self.closed_until.since(now);
        let error = self.rejected.clone().unwrap_or_else(|| {
            Error::new(ErrorKind::RetryLater)
                .about("the server asked for fewer requests")
                .with_outcome(ExchangeOutcome::NotSent)
        });
        Err(Shut { error: error.with_retry_after(wait), until: self.closed_until })
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
