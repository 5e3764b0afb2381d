//! Requests for a token: the slot decides each one, and starts an exchange for it, under one lock.

use std::sync::Arc;

use super::{Inner, Slot, quarantined_error};
use crate::error::{Error, ErrorKind, LostReason};
use crate::session::machine::{
    self, Effects, Input, Notification, Renewable, Start, StepContext, TokenDecision,
};
use crate::session::single_flight::{self, Flight, FlightOutcome, FlightSender};
use crate::token::PermissionToken;

/// A request for a token.
#[derive(Clone, Copy)]
pub(crate) struct TokenRequest {
    /// The token's generation must be above this one.
    pub(crate) newer_than: u64,
    pub(crate) renewable: Renewable,
    /// If the token in hand is due, start a refresh, although the token may still be served.
    pub(crate) fresh: bool,
}

/// The slot's reply to a request.
pub(crate) enum SlotReply {
    Ready(PermissionToken),
    Failed(Error),
    /// Wait for the exchange, or the load, that runs.
    Join(Flight),
    /// The caller must load the record first.
    Load(PendingLoad),
    /// The session's actor must begin this.
    Start(Start, FlightSender, Flight),
}

/// A load that one caller does while others wait for it. If it is dropped, the next caller loads.
pub(crate) struct PendingLoad {
    pub(crate) number: u32,
    slot: Arc<Slot>,
    sender: FlightSender,
}

impl PendingLoad {
    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Ends the load for all callers that wait for it.
    pub(crate) fn end(self, flight_outcome: FlightOutcome) {
        let mut inner = self.slot.inner.lock();
        // Out of the slot before it is completed: a caller that asks again must not join a load
        // that has ended.
        inner.load.take_if(|flight| flight.is_of(&self.sender));
        // The waiters that wake up take this lock.
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
    /// Decides a request for a token under one lock: the caller gets a token, joins the exchange
    /// that runs, or starts one. `may_start` is an error if no exchange may start.
    pub(crate) fn request(
        self: &Arc<Self>,
        need: TokenRequest,
        may_start: Result<(), Error>,
        at: &StepContext,
    ) -> (SlotReply, Vec<Notification>) {
        // Before a load, only this mark knows of a rejected token.
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
        // Publish also if nothing has started: after a suspend or a clock step the old snapshot is
        // stale, and every reader would come here.
        self.publish(&mut inner, at.now);
        let request = match effects.start {
            Some(start) => {
                // Under the lock of the step: a caller that sees the exchange running must find
                // its flight.
                let (sender, flight) = inner.start_flight();
                SlotReply::Start(start, sender, flight)
            }
            // Decide again, because the step may have changed the state, for example to `Lost`.
            None => match (answer(&inner), inner.quarantined(at.now.boot)) {
                (TokenDecision::Token(token), _) => SlotReply::Ready(token),
                (TokenDecision::Fail(error), _) => SlotReply::Failed(error),
                (TokenDecision::Wait, _) => inner.joined(),
                (TokenDecision::Load | TokenDecision::Ask, Some(until)) => {
                    SlotReply::Failed(quarantined_error(until.since(at.now.boot)))
                }
                (TokenDecision::Load, None) => self.join_or_load(&mut inner),
                (TokenDecision::Ask, None) => SlotReply::Failed(match may_start {
                    Ok(()) => Error::new(ErrorKind::SignInAgain(LostReason::RefreshExpired))
                        .about("the session has no refresh token"),
                    Err(error) => error,
                }),
            },
        };
        (request, effects.notifications)
    }

    /// The first load of the record; `None` if it is loaded, or an exchange runs.
    pub(crate) fn first_load(self: &Arc<Self>, at: &StepContext) -> Option<SlotReply> {
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
            | TokenDecision::Ask => Some(self.join_or_load(&mut inner)),
        }
    }

    /// Joins the load that callers wait for, or begins one.
    fn join_or_load(self: &Arc<Self>, inner: &mut Inner) -> SlotReply {
        // A load whose caller was dropped is no longer pending: joining it would wait for nothing.
        if let Some(load) = inner.load.as_ref().filter(|load| load.is_pending()) {
            return SlotReply::Join(load.clone());
        }
        let number = machine::begin_load(&mut inner.state);
        let (sender, flight) = single_flight::channel();
        inner.load = Some(flight);
        SlotReply::Load(PendingLoad { number, slot: Arc::clone(self), sender })
    }

    /// The load or restore that a step has started for no caller. The context takes it after each
    /// step and puts it into the load queue.
    pub(crate) fn take_background_start(&self) -> Option<Start> {
        self.inner.lock().background_start.take()
    }

    /// Whether the load of this number is still wanted.
    pub(crate) fn wants_load(&self, number: u32) -> bool {
        self.with_state(|state| state.load.number == number && state.load.running.is_some())
    }

    /// Begins a job or a revocation, if nothing runs.
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

    /// Marks an exchange as begun. False if it was given up before.
    pub(crate) fn try_begin(&self, sender: &FlightSender) -> bool {
        // Under the lock of `give_up`, so that exactly one of the two takes effect.
        let mut inner = self.inner.lock();
        let current = inner.flight.as_ref().is_some_and(|flight| flight.is_of(sender));
        inner.begun |= current;
        current
    }

    /// Whether this is the flight of the exchange that runs.
    pub(crate) fn has_flight(&self, flight: &Flight) -> bool {
        self.inner.lock().flight.as_ref().is_some_and(|current| current.is(flight))
    }

    /// Takes back an exchange that has not begun: its message was lost with an actor.
    pub(crate) fn give_up(&self, is: impl Fn(&Flight) -> bool, at: &StepContext) {
        let mut inner = self.inner.lock();
        if !inner.begun && inner.flight.as_ref().is_some_and(is) {
            // Both under one lock: a caller between them would see the exchange running, but no
            // flight to join.
            inner.flight = None;
            inner.step(Input::NotBegun, at);
            self.publish(&mut inner, at.now);
        }
    }
}

impl Inner {
    /// The flight of an exchange that has just started.
    fn start_flight(&mut self) -> (FlightSender, Flight) {
        let (sender, flight) = single_flight::channel();
        self.flight = Some(flight.clone());
        self.begun = false;
        (sender, flight)
    }

    /// The same for a task that begins at once.
    pub(super) fn begin_flight(&mut self) -> FlightSender {
        let (sender, _) = self.start_flight();
        self.begun = true;
        sender
    }

    fn joined(&self) -> SlotReply {
        match &self.flight {
            Some(flight) => {
                // Before the caller waits: a scheduled exchange then leaves the background lane.
                flight.join();
                SlotReply::Join(flight.clone())
            }
            None => SlotReply::Failed(Error::new(ErrorKind::RetryLater)),
        }
    }
}
