//! The guard of a session's task: whatever happens to the task, its session goes on.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::retry;
use super::revocation::revocation_failed;
use crate::clock::Now;
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::log::log_session;
use crate::provider::Rotation;
use crate::session::context::Context;
use crate::session::exchange::save;
use crate::session::job::{Caller, Outcome};
use crate::session::machine::{Class, Failure, Input, Renewable, Run, Settled, TokenDecision};
use crate::session::message::Message;
use crate::session::outcome::Revocation;
use crate::session::single_flight::{FlightOutcome, FlightSender};
use crate::session::slot::Slot;
use crate::task::TaskGuard;

/// Guards one task of a session. The actor makes it before the task, and before anything of a
/// provider, a store or a source is called.
///
/// A guard that is dropped before its [`end`](Self::end) ends the task itself: it steps the
/// machine, answers the caller and completes the flight. That is so when the task panicked and when
/// its runtime is gone. It calls no provider, store or source, and needs no runtime.
pub(crate) struct Guard {
    pub(super) context: Arc<Context>,
    pub(super) slot: Arc<Slot>,
    sender: FlightSender,
    caller: Mutex<Caller>,
    task: Task,
    /// When the first request may have left.
    sent: OnceLock<Now>,
    /// It is not only on its way to the actor any more.
    begun: bool,
    ended: bool,
    _task_guard: TaskGuard,
}

/// What is guarded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// A refresh, a grant or an adoption.
    Exchange {
        rotation: Rotation,
        renewable: Renewable,
        /// The generation from which it starts.
        base: u64,
    },
    Close,
    Forget,
    /// The server is error of a session that was closed before.
    Revocation,
}

impl Guard {
    /// For what the slot has started under this flight.
    pub(crate) fn new(
        (context, slot): (&Arc<Context>, &Arc<Slot>),
        task: Task,
        caller: Caller,
        (sender, task_guard): (FlightSender, TaskGuard),
    ) -> Self {
        Self {
            context: Arc::clone(context),
            slot: Arc::clone(slot),
            sender,
            caller: Mutex::new(caller),
            task,
            sent: OnceLock::new(),
            begun: false,
            ended: false,
            _task_guard: task_guard,
        }
    }

    /// The task begins; false if it was given up while its message was on its way.
    pub(crate) fn begin(&mut self) -> bool {
        self.begun = self.slot.has_begun(&self.sender);
        self.begun
    }

    /// From now on a request may have left: an end without an answer is an answer that was lost.
    pub(super) fn sends(&self, now: Now) {
        self.sent.get_or_init(|| now);
    }

    /// Waits until a caller has joined.
    pub(super) async fn joined(&self) {
        self.sender.joined().await;
    }

    /// Answers the caller, once. If the caller was dropped, the session still keeps the outcome.
    pub(super) fn answer<T: Outcome>(&self, outcome: Result<T, Error>) {
        let caller = self.caller.lock().take();
        caller.answer(outcome.map_err(|error| error.of_session(self.slot.id())));
    }

    /// Completes the flight, once.
    pub(super) fn complete(&self, flight_outcome: FlightOutcome) {
        self.slot.complete(&self.sender, flight_outcome);
    }

    /// Completes the flight and tells the actor that the task has ended. Step the machine and
    /// answer the caller before.
    pub(super) fn end(&mut self, flight_outcome: FlightOutcome) {
        self.ended = true;
        self.complete(flight_outcome);
        self.context.deliver(&self.slot, Message::Ended);
    }

    /// The result for all callers that wait for a token above `base`; each gets the same.
    pub(super) fn flight_outcome(&self, base: u64, renewable: Renewable) -> FlightOutcome {
        let Self { context, slot, .. } = self;
        match slot.token_decision(base, renewable, &context.step_context(slot)) {
            TokenDecision::Token(token) => FlightOutcome::Token(token),
            // This flight was a grant that was refused; a waiter for a token asks again.
            TokenDecision::Fail(error) if error.kind() == ErrorKind::NotEstablished => {
                FlightOutcome::AskAgain
            }
            TokenDecision::Fail(error) => FlightOutcome::Failed(error.of_session(slot.id())),
            TokenDecision::Wait | TokenDecision::Load | TokenDecision::Ask => {
                FlightOutcome::AskAgain
            }
        }
    }

    /// Ends a task that did not end itself.
    fn cut(&mut self) {
        // Tasks are dropped while they panic or together with their runtime, and never aborted.
        let tasks = &self.context.tasks;
        let gone = tasks.is_runtime_gone() || !std::thread::panicking();
        let error = if gone {
            tasks.mark_runtime_gone();
            Error::new(ErrorKind::ShuttingDown).about("the supervisor's runtime is gone")
        } else {
            Error::new(ErrorKind::RetryLater).about("the session's task panicked")
        };
        log_session!(error, self.slot.id(), error = %error, "a task was cut off");
        let sent = self.sent.get().copied();
        let outcome =
            if sent.is_some() { ExchangeOutcome::Ambiguous } else { ExchangeOutcome::NotSent };
        let with_outcome = error.clone().with_outcome(outcome);
        let flight_outcome = self.step(with_outcome, sent);
        let flight_outcome = if gone {
            FlightOutcome::Failed(error.of_session(self.slot.id()))
        } else {
            flight_outcome
        };
        self.end(flight_outcome);
        if !gone {
            save::resume_saving(&self.context, &self.slot);
        }
    }

    /// Steps the machine, answers the caller, and says what waiters for a token get.
    fn step(&self, error: Error, sent: Option<Now>) -> FlightOutcome {
        let Self { context, slot, .. } = self;
        match self.task {
            Task::Exchange { rotation, renewable, base } => {
                let retry = sent.map(|sent| retry(context, rotation, sent));
                let class = retry.map_or(Class::Harmless, Class::Ambiguous);
                let wait = Duration::ZERO;
                context.apply(slot, Input::Failed(Failure { class, error: error.clone(), wait }));
                self.caller.lock().take().refuse(error.of_session(slot.id()));
                return self.flight_outcome(base, renewable);
            }
            Task::Close | Task::Revocation => {
                context.apply(slot, Input::CloseFailed);
                let closed = slot.with_state(|state| {
                    let closed = state.settled.as_ref().and_then(Settled::closed);
                    closed.filter(|_| matches!(state.running, Some(Run::Revoke))).cloned()
                });
                match closed {
                    // It is closed durably, and the server is error later.
                    Some(closed) => {
                        self.answer(Ok(revocation_failed(context, slot, &closed, error)))
                    }
                    None => self.answer::<Revocation>(Err(error)),
                }
            }
            Task::Forget => {
                context.apply(slot, Input::ForgetFailed);
                self.answer::<bool>(Err(error));
            }
        }
        FlightOutcome::AskAgain
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.begun {
            // Nothing was done: the session is as it was, and those who wait ask again.
            self.context.give_up(&self.slot, |flight| flight.is_of(&self.sender));
            self.sender.complete(FlightOutcome::AskAgain);
        } else if !self.ended {
            self.cut();
        }
    }
}
