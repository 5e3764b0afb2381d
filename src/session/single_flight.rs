//! A flight: the one running exchange of a session, and the place where its outcome appears.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::token::PermissionToken;

/// How a flight ends.
#[derive(Clone, Debug)]
pub(crate) enum FlightOutcome {
    /// A token, for everybody who waits.
    Token(PermissionToken),
    /// A failure, the same for everybody who waits.
    Failed(Error),
    /// Nothing that concerns a waiter for a token; ask again.
    AskAgain,
}

/// A flight as waiters see it. Each waits with its own deadline; dropping one takes nothing with
/// it.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    outcome: watch::Receiver<Option<FlightOutcome>>,
    /// Cancelled once a caller has joined.
    joined: CancellationToken,
}

/// A flight as its exchange sees it. It exists before the exchange's task does, so that there is
/// no moment at which an exchange runs that nobody can wait for.
#[derive(Debug)]
pub(crate) struct FlightSender {
    outcome: watch::Sender<Option<FlightOutcome>>,
    joined: CancellationToken,
}

pub(crate) fn channel() -> (FlightSender, Flight) {
    let (sender, flight) = watch::channel(None);
    let joined = CancellationToken::new();
    (FlightSender { outcome: sender, joined: joined.clone() }, Flight { outcome: flight, joined })
}

impl FlightSender {
    /// Completes the flight. The first outcome stands.
    pub(crate) fn complete(&self, flight_outcome: FlightOutcome) {
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
    /// A caller waits for it from now on.
    pub(crate) fn join(&self) {
        self.joined.cancel();
    }

    /// Waits for the outcome. If the sender was dropped without one, the waiter asks again.
    pub(crate) async fn outcome(mut self) -> FlightOutcome {
        match self.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(FlightOutcome::AskAgain),
            Err(_) => FlightOutcome::AskAgain,
        }
    }

    /// Whether it is still to be completed.
    pub(crate) fn is_pending(&self) -> bool {
        self.outcome.has_changed().is_ok() && self.outcome.borrow().is_none()
    }

    /// Whether both are the same.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.outcome.same_channel(&other.outcome)
    }

    pub(crate) fn is_of(&self, sender: &FlightSender) -> bool {
        self.outcome.same_channel(&sender.outcome.subscribe())
    }
}

#[cfg(test)]
mod tests;
