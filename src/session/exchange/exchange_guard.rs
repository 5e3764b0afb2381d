//! The guard of a session's task: if the task panics or its runtime is gone, the guard ends it, so
//! that the session stays usable.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::failure::retry;
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

/// Guards one task of a session. It exists before the task does, and before any code of a provider,
/// a store or a source is called.
///
/// A guard that is dropped before [`end`](Self::end) ends the task: it steps the machine, answers
/// the caller and completes the flight. This happens if the task panics or its runtime is gone. The
/// guard calls no provider, store or source, and needs no runtime.
pub(crate) struct Guard {
    pub(super) context: Arc<Context>,
    pub(super) slot: Arc<Slot>,
    sender: FlightSender,
    caller: Mutex<Caller>,
    task: Task,
    /// When the first request may have left.
    sent: OnceLock<Now>,
    /// The task has begun: it is no longer only on its way to the actor.
    begun: bool,
    ended: bool,
    _task_guard: TaskGuard,
}

/// The kind of task that is guarded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// A refresh, a grant or an adoption.
    Exchange {
        rotation: Rotation,
        renewable: Renewable,
        /// The generation from which the exchange starts.
        base: u64,
    },
    Close,
    Forget,
    /// Revokes the tokens of a closed session at the server.
    Revocation,
}

impl Guard {
    /// Guards the task that the slot has started with this flight.
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

    /// Marks the task as begun. False if a caller gave it up before its message arrived.
    pub(crate) fn begin(&mut self) -> bool {
        self.begun = self.slot.try_begin(&self.sender);
        self.begun
    }

    /// Notes that a request may leave from now on. If the task ends without a response after this,
    /// its outcome is ambiguous.
    pub(super) fn sends(&self, now: Now) {
        self.sent.get_or_init(|| now);
    }

    /// Waits until a caller has joined.
    pub(super) async fn joined(&self) {
        self.sender.joined().await;
    }

    /// Answers the caller, once. If the caller was dropped, the session still keeps the outcome.
    pub(super) fn answer<T: Outcome>(&self, outcome: Result<T, Error>) {
        // Take the caller out first: if this task panics later, the guard must not answer again.
        let caller = self.caller.lock().take();
        caller.answer(outcome.map_err(|error| error.of_session(self.slot.id())));
    }

    /// Completes the flight, once.
    pub(super) fn complete(&self, flight_outcome: FlightOutcome) {
        self.slot.complete(&self.sender, flight_outcome);
    }

    /// Completes the flight and sends the actor the end of the task. Step the machine and answer
    /// the caller before.
    pub(super) fn end(&mut self, flight_outcome: FlightOutcome) {
        // Disarm first: a panic below must not step the machine for this task a second time, when
        // the session may already run another one.
        self.ended = true;
        self.complete(flight_outcome);
        // Last: the actor begins the next job when it gets this message.
        self.context.deliver(&self.slot, Message::Ended);
    }

    /// The shared outcome for all callers that wait for a token above `base`.
    pub(super) fn flight_outcome(&self, base: u64, renewable: Renewable) -> FlightOutcome {
        let Self { context, slot, .. } = self;
        match slot.token_decision(base, renewable, &context.step_context(slot)) {
            TokenDecision::Token(token) => FlightOutcome::Token(token),
            // The server refused a grant, which says nothing to a caller that waits for a token.
            TokenDecision::Fail(error) if error.kind() == ErrorKind::NotEstablished => {
                FlightOutcome::AskAgain
            }
            TokenDecision::Fail(error) => FlightOutcome::Failed(error.of_session(slot.id())),
            TokenDecision::Wait | TokenDecision::Load | TokenDecision::Ask => {
                FlightOutcome::AskAgain
            }
        }
    }

    /// Ends a task that was dropped before its end.
    fn cut(&mut self) {
        // No task is aborted: a task that is dropped without a panic has lost its runtime.
        let tasks = &self.context.tasks;
        let gone = tasks.is_runtime_gone() || !std::thread::panicking();
        let error = if gone {
            // Mark it before the callers are answered: a caller that asks again at once must not
            // start another task on this runtime.
            tasks.mark_runtime_gone();
            tasks.refusal()
        } else {
            Error::new(ErrorKind::RetryLater)
                .about("the provider's code panicked, so see the panic's message")
        };
        log_session!(
            self.context.log_limit(),
            error,
            self.slot.id(),
            "the session's task ended early",
            cause = %error
        );
        let sent = self.sent.get().copied();
        let outcome =
            if sent.is_some() { ExchangeOutcome::Ambiguous } else { ExchangeOutcome::NotSent };
        let with_outcome = error.clone().with_outcome(outcome);
        // Step before `end`, as a task does: a woken waiter must not find this task running.
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

    /// Steps the machine, answers the caller, and returns the outcome for waiters for a token.
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
                    // The close is in the store; the schedule repeats the revocation.
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
            // Take the start back before the flight completes: a woken waiter asks again at once,
            // and must be able to start the exchange anew.
            self.context.give_up(&self.slot, |flight| flight.is_of(&self.sender));
            self.sender.complete(FlightOutcome::AskAgain);
        } else if !self.ended {
            self.cut();
        }
    }
}
