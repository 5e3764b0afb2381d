//! What a slot is asked for, and what is started for it: each one question under one lock.

use std::sync::Arc;

use super::{Inner, Slot, set_aside};
use crate::error::{Error, ErrorKind, LostReason};
use crate::session::flight::{self, Flight, Landing, Pilot};
use crate::session::machine::{self, Answer, Effects, Input, Moment, Notice, Renewable, Start};
use crate::token::PermissionToken;

/// What a caller wants of a session.
#[derive(Clone, Copy)]
pub(crate) struct Wants {
    /// A token of a generation above this one.
    pub(crate) above: u64,
    pub(crate) renewable: Renewable,
    /// Another token if the one in hand is due, although that may be served.
    pub(crate) fresh: bool,
}

/// What a request is answered.
pub(crate) enum Request {
    Ready(PermissionToken),
    Failed(Error),
    /// What runs decides.
    Join(Flight),
    /// The record is to be read first, by whoever asked.
    Read(Reading),
    /// This is to be begun, by the session's actor.
    Start(Start, Pilot, Flight),
}

/// A reading that one caller does and others wait for. One that is dropped lets the next caller
/// read.
pub(crate) struct Reading {
    pub(crate) number: u32,
    slot: Arc<Slot>,
    pilot: Pilot,
}

impl Reading {
    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Tells those who wait that the reading has ended.
    pub(crate) fn end(self, landing: Landing) {
        let mut inner = self.slot.inner.lock();
        inner.reading.take_if(|flight| flight.is_of(&self.pilot));
        drop(inner);
        self.pilot.land(landing);
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        machine::leave_unread(&mut self.slot.inner.lock().state, self.number);
    }
}

impl Slot {
    /// The one question of a caller who wants a token, under one lock: what is there, what runs, or
    /// what is to be started for it. `may_start` is whether anything may be begun.
    pub(crate) fn request(
        self: &Arc<Self>,
        wants: Wants,
        may_start: Result<(), ErrorKind>,
        at: &Moment,
    ) -> (Request, Vec<Notice>) {
        // A report that came before the load is known here alone.
        let above = wants.above.max(self.rejected_through());
        let Wants { renewable, fresh, .. } = wants;
        let mut inner = self.inner.lock();
        self.follow(&mut inner, at);
        let answer = |inner: &Inner| machine::answer(&inner.state, above, renewable, at.now.boot);
        let first = answer(&inner);
        let free = inner.quarantined(at.now.boot).is_none() && may_start.is_ok();
        let asks = matches!(first, Answer::Ask) || (fresh && matches!(first, Answer::Token(_)));
        let effects = if free && asks {
            inner.step(Input::Need { above, renewable }, at)
        } else {
            Effects::default()
        };
        // Also where the clocks moved against each other: deadlines are boot time, so they tell
        // a suspend from a clock step by themselves.
        self.publish(&mut inner, at.now);
        let request = match effects.start {
            Some(start) => {
                let (pilot, flight) = inner.take_off();
                Request::Start(start, pilot, flight)
            }
            None => match (answer(&inner), inner.quarantined(at.now.boot)) {
                (Answer::Token(token), _) => Request::Ready(token),
                (Answer::Fail(error), _) => Request::Failed(error),
                (Answer::Wait, _) => inner.joined(),
                (Answer::Read | Answer::Ask, Some(until)) => {
                    Request::Failed(set_aside(until.since(at.now.boot)))
                }
                (Answer::Read, None) => self.read(&mut inner),
                (Answer::Ask, None) => Request::Failed(match may_start {
                    Ok(()) => Error::new(ErrorKind::SignInAgain(LostReason::RefreshExpired))
                        .about("the session has no refresh token"),
                    Err(kind) => Error::new(kind),
                }),
            },
        };
        (request, effects.notices)
    }

    /// The reading of a record that was not read yet; none if it was.
    pub(crate) fn first_read(self: &Arc<Self>, at: &Moment) -> Option<Request> {
        let mut inner = self.inner.lock();
        self.follow(&mut inner, at);
        if inner.state.is_busy() || !inner.state.is_unread() {
            return None;
        }
        match machine::answer(&inner.state, 0, Renewable::No, at.now.boot) {
            Answer::Fail(error) => Some(Request::Failed(error)),
            Answer::Token(_) | Answer::Wait | Answer::Read | Answer::Ask => {
                Some(self.read(&mut inner))
            }
        }
    }

    /// Joins the reading that callers wait for, or begins it.
    fn read(self: &Arc<Self>, inner: &mut Inner) -> Request {
        if let Some(reading) = inner.reading.as_ref().filter(|reading| reading.is_flying()) {
            return Request::Join(reading.clone());
        }
        let number = machine::read(&mut inner.state);
        let (pilot, flight) = flight::depart();
        inner.reading = Some(flight);
        Request::Read(Reading { number, slot: Arc::clone(self), pilot })
    }

    /// The reading that a step began and nobody waits for, for whoever reads many. Whoever steps
    /// the slot asks for it afterwards.
    pub(crate) fn unread(&self) -> Option<Start> {
        self.inner.lock().unread.take()
    }

    /// Whether the reading of this number is still wanted.
    pub(crate) fn wants_read(&self, number: u32) -> bool {
        self.look(|state| state.read.number == number && state.read.running.is_some())
    }

    /// Begins what came out of the queue, if nothing runs.
    pub(crate) fn begin(&self, what: Start, at: &Moment) -> (Option<Pilot>, Vec<Notice>) {
        let mut inner = self.inner.lock();
        self.follow(&mut inner, at);
        let Effects { start, notices } = inner.step(Input::Begin(what), at);
        self.publish(&mut inner, at.now);
        (start.map(|_| inner.begin_flight()), notices)
    }

    /// What was started for a caller begins now; false if that was given up meanwhile.
    pub(crate) fn has_begun(&self, pilot: &Pilot) -> bool {
        let mut inner = self.inner.lock();
        let current = inner.flight.as_ref().is_some_and(|flight| flight.is_of(pilot));
        inner.begun |= current;
        current
    }

    /// Whether this is what runs.
    pub(crate) fn has_flight(&self, flight: &Flight) -> bool {
        self.inner.lock().flight.as_ref().is_some_and(|current| current.is(flight))
    }

    /// Gives up what was started and has not begun: its message was lost with an actor.
    pub(crate) fn give_up(&self, is: impl Fn(&Flight) -> bool, at: &Moment) {
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
    fn take_off(&mut self) -> (Pilot, Flight) {
        let (pilot, flight) = flight::depart();
        self.flight = Some(flight.clone());
        self.begun = false;
        (pilot, flight)
    }

    /// The same for what begins at once.
    pub(super) fn begin_flight(&mut self) -> Pilot {
        let (pilot, _) = self.take_off();
        self.begun = true;
        pilot
    }

    fn joined(&self) -> Request {
        match &self.flight {
            Some(flight) => {
                flight.join();
                Request::Join(flight.clone())
            }
            None => Request::Failed(Error::new(ErrorKind::RetryLater)),
        }
    }
}
