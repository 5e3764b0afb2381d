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

#[test]
fn a_pilot_is_told_once_a_caller_has_joined() {
    let (pilot, flight) = depart();
    let mut joined = Box::pin(pilot.joined());
    assert!(joined.as_mut().now_or_never().is_none());
    flight.clone().join();
    assert!(joined.now_or_never().is_some() && pilot.joined().now_or_never().is_some());
    assert!(flight.is_flying(), "it has not landed");
}
