//! A flight: the one running exchange of a session, and the place where its outcome appears.

use tokio::sync::watch;

use crate::error::Error;
use crate::token::PermissionToken;

/// What a flight lands with.
#[derive(Clone, Debug)]
pub(crate) enum Landing {
    /// A token, for everybody who waits.
    Token(PermissionToken),
    /// A failure, the same for everybody who waits.
    Failed(Error),
    /// Nothing that concerns a waiter for a token; ask again.
    Again,
}

/// A flight as waiters see it. Each waits with its own deadline; dropping one takes nothing with
/// it.
#[derive(Clone, Debug)]
pub(crate) struct Flight(watch::Receiver<Option<Landing>>);

/// A flight as its exchange sees it. It exists before the exchange's task does, so that there is
/// no moment at which an exchange runs that nobody can wait for.
#[derive(Debug)]
pub(crate) struct Pilot(watch::Sender<Option<Landing>>);

pub(crate) fn depart() -> (Pilot, Flight) {
    let (pilot, flight) = watch::channel(None);
    (Pilot(pilot), Flight(flight))
}

impl Pilot {
    /// Lands; the first landing stands.
    pub(crate) fn land(&self, landing: Landing) {
        self.0.send_if_modified(|landed| {
            let first = landed.is_none();
            if first {
                *landed = Some(landing);
            }
            first
        });
    }
}

impl Flight {
    /// Waits for the landing. A pilot that vanished without one means: ask again.
    pub(crate) async fn landing(mut self) -> Landing {
        match self.0.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone().unwrap_or(Landing::Again),
            Err(_) => Landing::Again,
        }
    }

    /// Whether somebody is still to land it.
    pub(crate) fn is_flying(&self) -> bool {
        self.0.has_changed().is_ok() && self.0.borrow().is_none()
    }

    /// Whether both are the same.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }

    pub(crate) fn is_of(&self, pilot: &Pilot) -> bool {
        self.0.same_channel(&pilot.0.subscribe())
    }
}

#[cfg(test)]
mod tests;
