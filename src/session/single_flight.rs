//! A flight: the one running exchange of a session, and the channel for its outcome.

use std::fmt;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::token::PermissionToken;

/// How a flight ends.
#[derive(Clone, Debug)]
pub(crate) enum FlightOutcome {
    /// All waiters get this token.
    Token(PermissionToken),
    /// All waiters get this failure.
    Failed(Error),
    /// The exchange decided nothing for a waiter for a token. The waiter asks the session again.
    AskAgain,
}

/// Names a flight in spans. It is random, so that two processes do not use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExchangeId(u64);

impl ExchangeId {
    pub(crate) fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The waiters' side of a flight. Each waiter has its own deadline, and may be dropped at any time
/// without an effect on the others.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    outcome: watch::Receiver<Option<FlightOutcome>>,
    /// Cancelled once a caller has joined.
    joined: CancellationToken,
    id: ExchangeId,
}

/// The exchange's side of a flight. It exists before the exchange's task does, so that a caller can
/// join the flight of every running exchange.
#[derive(Debug)]
pub(crate) struct FlightSender {
    outcome: watch::Sender<Option<FlightOutcome>>,
    joined: CancellationToken,
    id: ExchangeId,
}

pub(crate) fn channel() -> (FlightSender, Flight) {
    let (sender, flight) = watch::channel(None);
    let joined = CancellationToken::new();
    let id = ExchangeId::random();
    let sender = FlightSender { outcome: sender, joined: joined.clone(), id };
    (sender, Flight { outcome: flight, joined, id })
}

impl FlightSender {
    pub(crate) fn id(&self) -> ExchangeId {
        self.id
    }

    /// Completes the flight. Only the first outcome counts.
    pub(crate) fn complete(&self, flight_outcome: FlightOutcome) {
        // Check and write in one step: an exchange and its guard may both complete the flight, and
        // waiters that wake early must not get another outcome than those that wake late.
        self.outcome.send_if_modified(|outcome| {
            let first = outcome.is_none();
            if first {
                *outcome = Some(flight_outcome);
            }
            first
        });
    }

    /// Waits until a caller has joined.
    pub(crate) async fn joined(&self) {
        self.joined.cancelled().await;
    }
}

impl Flight {
    pub(crate) fn id(&self) -> ExchangeId {
        self.id
    }

    /// Notes that a caller waits, so that admission no longer treats the exchange as background
    /// work.
    pub(crate) fn join(&self) {
        self.joined.cancel();
    }

    /// Waits for the outcome. If the sender was dropped without one, the waiter asks again.
    pub(crate) async fn outcome(mut self) -> FlightOutcome {
        // `wait_for` checks the present value before it waits: a flight that was completed before
        // this call is not missed.
        match self.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(FlightOutcome::AskAgain),
            Err(_) => FlightOutcome::AskAgain,
        }
    }

    /// Whether the sender exists and has not completed the flight.
    pub(crate) fn is_pending(&self) -> bool {
        self.outcome.has_changed().is_ok() && self.outcome.borrow().is_none()
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        self.outcome.same_channel(&other.outcome)
    }

    pub(crate) fn is_of(&self, sender: &FlightSender) -> bool {
        self.outcome.same_channel(&sender.outcome.subscribe())
    }
}

#[cfg(test)]
mod tests;
