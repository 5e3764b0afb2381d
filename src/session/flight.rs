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

    pub(crate) fn is_of(&self, pilot: &Pilot) -> bool {
        self.0.same_channel(&pilot.0.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::error::ErrorKind;

    fn kind(landing: Option<Landing>) -> Option<ErrorKind> {
        match landing? {
            Landing::Failed(error) => Some(error.kind()),
            other @ (Landing::Token(_) | Landing::Again) => panic!("{other:?}"),
        }
    }

    fn failed(kind: ErrorKind) -> Landing {
        Landing::Failed(Error::new(kind))
    }

    #[test]
    fn nobody_lands_before_the_pilot_and_then_all_land_with_the_same() {
        let (pilot, flight) = depart();
        let waiters = [flight.clone(), flight.clone(), flight];
        let mut waiting = waiters.map(|flight| Box::pin(flight.landing()));
        for waiter in &mut waiting {
            assert!(waiter.as_mut().now_or_never().is_none());
        }
        pilot.land(failed(ErrorKind::Store));
        for waiter in waiting {
            assert_eq!(kind(waiter.now_or_never()), Some(ErrorKind::Store));
        }
    }

    #[test]
    fn the_first_landing_stands() {
        let (pilot, flight) = depart();
        pilot.land(failed(ErrorKind::Store));
        pilot.land(failed(ErrorKind::Deadline));
        pilot.land(Landing::Again);
        assert_eq!(kind(flight.landing().now_or_never()), Some(ErrorKind::Store));
    }

    #[test]
    fn those_who_join_after_the_landing_get_it_even_when_the_pilot_has_gone() {
        let (pilot, flight) = depart();
        pilot.land(failed(ErrorKind::Store));
        drop(pilot);
        for _ in 0..2 {
            assert_eq!(kind(flight.clone().landing().now_or_never()), Some(ErrorKind::Store));
        }
    }

    #[test]
    fn a_pilot_that_vanished_means_ask_again() {
        let (pilot, flight) = depart();
        let mut waiting = Box::pin(flight.clone().landing());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(pilot);
        assert!(matches!(waiting.now_or_never(), Some(Landing::Again)));
        assert!(matches!(flight.landing().now_or_never(), Some(Landing::Again)));
    }

    #[test]
    fn a_flight_knows_its_own_pilot() {
        let ((pilot, flight), (other, _)) = (depart(), depart());
        assert!(flight.is_of(&pilot) && flight.clone().is_of(&pilot));
        assert!(!flight.is_of(&other));
    }
}
