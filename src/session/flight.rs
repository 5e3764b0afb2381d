//! A flight: the one running exchange of a session, and the place where its outcome appears.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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
pub(crate) struct Flight {
    landed: watch::Receiver<Option<Landing>>,
    /// Cancelled once a caller has joined.
    joined: CancellationToken,
}

/// A flight as its exchange sees it. It exists before the exchange's task does, so that there is
/// no moment at which an exchange runs that nobody can wait for.
#[derive(Debug)]
pub(crate) struct Pilot {
    landed: watch::Sender<Option<Landing>>,
    joined: CancellationToken,
}

pub(crate) fn depart() -> (Pilot, Flight) {
    let (pilot, flight) = watch::channel(None);
    let joined = CancellationToken::new();
    (Pilot { landed: pilot, joined: joined.clone() }, Flight { landed: flight, joined })
}

impl Pilot {
    /// Lands; the first landing stands.
    pub(crate) fn land(&self, landing: Landing) {
        self.landed.send_if_modified(|landed| {
            let first = landed.is_none();
            if first {
                *landed = Some(landing);
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

    /// Waits for the landing. A pilot that vanished without one means: ask again.
    pub(crate) async fn landing(mut self) -> Landing {
        match self.landed.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone().unwrap_or(Landing::Again),
            Err(_) => Landing::Again,
        }
    }

    /// Whether somebody is still to land it.
    pub(crate) fn is_flying(&self) -> bool {
        self.landed.has_changed().is_ok() && self.landed.borrow().is_none()
    }

    /// Whether both are the same.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.landed.same_channel(&other.landed)
    }

    pub(crate) fn is_of(&self, pilot: &Pilot) -> bool {
        self.landed.same_channel(&pilot.landed.subscribe())
    }
}

#[cfg(test)]
mod tests;
