use futures_util::FutureExt;

use super::*;
use crate::error::ErrorKind;

fn kind(flight_outcome: Option<FlightOutcome>) -> Option<ErrorKind> {
    match flight_outcome? {
        FlightOutcome::Failed(error) => Some(error.kind()),
        other @ (FlightOutcome::Token(_) | FlightOutcome::AskAgain) => panic!("{other:?}"),
    }
}

fn failed(kind: ErrorKind) -> FlightOutcome {
    FlightOutcome::Failed(Error::new(kind))
}

#[test]
fn no_waiter_wakes_before_the_outcome_and_then_all_get_the_same() {
    let (sender, flight) = channel();
    let waiters = [flight.clone(), flight.clone(), flight];
    let mut waiting = waiters.map(|flight| Box::pin(flight.outcome()));
    for waiter in &mut waiting {
        assert!(waiter.as_mut().now_or_never().is_none());
    }
    sender.complete(failed(ErrorKind::Store));
    for waiter in waiting {
        assert_eq!(kind(waiter.now_or_never()), Some(ErrorKind::Store));
    }
}

#[test]
fn only_the_first_outcome_counts() {
    let (sender, flight) = channel();
    sender.complete(failed(ErrorKind::Store));
    sender.complete(failed(ErrorKind::Deadline));
    sender.complete(FlightOutcome::AskAgain);
    assert_eq!(kind(flight.outcome().now_or_never()), Some(ErrorKind::Store));
}

#[test]
fn a_waiter_that_joins_after_the_outcome_gets_it_even_if_the_sender_is_gone() {
    let (sender, flight) = channel();
    sender.complete(failed(ErrorKind::Store));
    drop(sender);
    for _ in 0..2 {
        assert_eq!(kind(flight.clone().outcome().now_or_never()), Some(ErrorKind::Store));
    }
}

#[test]
fn a_dropped_sender_means_ask_again() {
    let (sender, flight) = channel();
    let mut waiting = Box::pin(flight.clone().outcome());
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(sender);
    assert!(matches!(waiting.now_or_never(), Some(FlightOutcome::AskAgain)));
    assert!(matches!(flight.outcome().now_or_never(), Some(FlightOutcome::AskAgain)));
}

#[test]
fn a_flight_knows_its_own_sender() {
    let ((sender, flight), (other, _)) = (channel(), channel());
    assert!(flight.is_of(&sender) && flight.clone().is_of(&sender));
    assert!(!flight.is_of(&other));
}

#[test]
fn a_sender_is_notified_when_a_caller_has_joined() {
    let (sender, flight) = channel();
    let mut joined = Box::pin(sender.joined());
    assert!(joined.as_mut().now_or_never().is_none());
    flight.clone().join();
    assert!(joined.now_or_never().is_some() && sender.joined().now_or_never().is_some());
    assert!(flight.is_pending(), "it has no outcome yet");
}
