//! What a slot is asked for, and what is started for it: each one question under one lock.

use std::sync::Arc;

use super::{Inner, Slot, set_aside};
use crate::error::{Error, ErrorKind, LostReason};
use crate::session::machine::{
    self, Effects, Input, Notification, Renewable, Start, StepContext, TokenDecision,
};
use crate::session::single_flight::{self, Flight, FlightOutcome, FlightSender};
use crate::token::PermissionToken;

/// What a caller wants of a session.
#[derive(Clone, Copy)]
pub(crate) struct TokenRequest {
    /// A token of a generation above this one.
    pub(crate) newer_than: u64,
    pub(crate) renewable: Renewable,
    /// Another token if the one in hand is due, although that may be served.
    pub(crate) fresh: bool,
}

/// What a request is answered.
pub(crate) enum SlotReply {
    Ready(PermissionToken),
    Failed(Error),
    /// What runs decides.
    Join(Flight),
    /// The record is to be read first, by whoever asked.
    Load(PendingLoad),
    /// This is to be begun, by the session's actor.
    Start(Start, FlightSender, Flight),
}

/// A reading that one caller does and others wait for. One that is dropped lets the next caller
/// read.
pub(crate) struct PendingLoad {
    pub(crate) number: u32,
    slot: Arc<Slot>,
    sender: FlightSender,
}

impl PendingLoad {
    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Tells those who wait that the reading has ended.
    pub(crate) fn end(self, flight_outcome: FlightOutcome) {
        let mut inner = self.slot.inner.lock();
        inner.reading.take_if(|flight| flight.is_of(&self.sender));
        drop(inner);
        self.sender.complete(flight_outcome);
    }
}

impl Drop for PendingLoad {
    fn drop(&mut self) {
        machine::abandon_load(&mut self.slot.inner.lock().state, self.number);
    }
}

impl Slot {
    /// The one question of a caller who wants a token, under one lock: what is there, what runs, or
    /// what is to be started for it. `may_start` is whether anything may be begun.
    pub(crate) fn request(
        self: &Arc<Self>,
        need: TokenRequest,
        may_start: Result<(), ErrorKind>,
        at: &StepContext,
    ) -> (SlotReply, Vec<Notification>) {
        // A report that came before the load is known here alone.
        let newer_than = need.newer_than.max(self.rejected_through());
        let TokenRequest { renewable, fresh, .. } = need;
        let mut inner = self.inner.lock();
        self.follow(&mut inner, at);
        let answer = |inner: &Inner| {
            machine::token_decision(&inner.state, newer_than, renewable, at.now.boot)
        };
        let first = answer(&inner);
        let free = inner.quarantined(at.now.boot).is_none() && may_start.is_ok();
        let asks = matches!(first, TokenDecision::Ask)
            || (fresh && matches!(first, TokenDecision::Token(_)));
        let effects = if free && asks {
            inner.step(Input::Need { newer_than, renewable }, at)
        } else {
            Effects::default()
        };
        // Also where the clocks moved against each other: deadlines are boot time, so they tell
        // a suspend from a clock step by themselves.
        self.publish(&mut inner, at.now);
        let request = match effects.start {
            Some(start) => {
                let (sender, flight) = inner.start_flight();
                SlotReply::Start(start, sender, flight)
            }
            None => match (answer(&inner), inner.quarantined(at.now.boot)) {
                (TokenDecision::Token(token), _) => SlotReply::Ready(token),
                (TokenDecision::Fail(error), _) => SlotReply::Failed(error),
                (TokenDecision::Wait, _) => inner.joined(),
                (TokenDecision::Load | TokenDecision::Ask, Some(until)) => {
                    SlotReply::Failed(set_aside(until.since(at.now.boot)))
                }
                (TokenDecision::Load, None) => self.read(&mut inner),
                (TokenDecision::Ask, None) => SlotReply::Failed(match may_start {
                    Ok(()) => Error::new(ErrorKind::SignInAgain(LostReason::RefreshExpired))
                        .about("the session has no refresh token"),
                    Err(kind) => Error::new(kind),
                }),
            },
        };
        (request, effects.notifications)
    }

    /// The reading of a record that was not read yet; none if it was.
    pub(crate) fn first_read(self: &Arc<Self>, at: &StepContext) -> Option<SlotReply> {
        let mut inner = self.inner.lock();
        self.follow(&mut inner, at);
        if inner.state.is_busy() || !inner.state.is_unloaded() {
            return None;
        }
        match machine::token_decision(&inner.state, 0, Renewable::No, at.now.boot) {
            TokenDecision::Fail(error) => Some(SlotReply::Failed(error)),
            TokenDecision::Token(_)
            | TokenDecision::Wait
            | TokenDecision::Load
            | TokenDecision::Ask => Some(self.read(&mut inner)),
        }
    }

    /// Joins the reading that callers wait for, or begins it.
    fn read(self: &Arc<Self>, inner: &mut Inner) -> SlotReply {
        if let Some(reading) = inner.reading.as_ref().filter(|reading| reading.is_pending()) {
            return SlotReply::Join(reading.clone());
        }
        let number = machine::read(&mut inner.state);
        let (sender, flight) = single_flight::channel();
        inner.reading = Some(flight);
        SlotReply::Load(PendingLoad { number, slot: Arc::clone(self), sender })
    }

    /// The reading that a step began and nobody waits for, for whoever reads many. Whoever steps
    /// the slot asks for it afterwards.
    pub(crate) fn take_background_start(&self) -> Option<Start> {
        self.inner.lock().background_start.take()
    }

    /// Whether the reading of this number is still wanted.
    pub(crate) fn wants_read(&self, number: u32) -> bool {
        self.with_state(|state| state.read.number == number && state.read.running.is_some())
    }

    /// Begins what came out of the queue, if nothing runs.
    pub(crate) fn begin(
        &self,
        what: Start,
        at: &StepContext,
    ) -> (Option<FlightSender>, Vec<Notification>) {
        let mut inner = self.inner.lock();
        self.follow(&mut inner, at);
        let Effects { start, notifications } = inner.step(Input::Begin(what), at);
        self.publish(&mut inner, at.now);
        (start.map(|_| inner.begin_flight()), notifications)
    }

    /// What was started for a caller begins now; false if that was given up meanwhile.
    pub(crate) fn has_begun(&self, sender: &FlightSender) -> bool {
        let mut inner = self.inner.lock();
        let current = inner.flight.as_ref().is_some_and(|flight| flight.is_of(sender));
        inner.begun |= current;
        current
    }

    /// Whether this is what runs.
    pub(crate) fn has_flight(&self, flight: &Flight) -> bool {
        self.inner.lock().flight.as_ref().is_some_and(|current| current.is(flight))
    }

    /// Gives up what was started and has not begun: its message was lost with an actor.
    pub(crate) fn give_up(&self, is: impl Fn(&Flight) -> bool, at: &StepContext) {
        let mut inner = self.inner.lock();
        if !inner.begun && inner.flight.as_ref().is_some_and(is) {
            inner.flight = None;
            inner.step(Input::NotBegun, at);
            self.publish(&mut inner, at.now);
        }
    }
}

impl Inner {
    /// A flight for what was started just now: whoever sees that it runs can wait for it.
    fn start_flight(&mut self) -> (FlightSender, Flight) {
        let (sender, flight) = single_flight::channel();
        self.flight = Some(flight.clone());
        self.begun = false;
        (sender, flight)
    }

    /// The same for what begins at once.
    pub(super) fn begin_flight(&mut self) -> FlightSender {
        let (sender, _) = self.start_flight();
        self.begun = true;
        sender
    }

    fn joined(&self) -> SlotReply {
        match &self.flight {
            Some(flight) => {
                flight.join();
                SlotReply::Join(flight.clone())
            }
            None => SlotReply::Failed(Error::new(ErrorKind::RetryLater)),
        }
    }
}
