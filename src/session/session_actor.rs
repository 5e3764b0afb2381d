//! The session actor. It handles messages one by one, and starts its session's exchanges, closes,
//! forgets and scheduled revocations. It exists
//! only while there is work. All state that must survive its crash is in the slot.

use std::sync::Arc;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef};
use tracing::{Instrument, Span};

use super::context::Context;
use super::dispatch::{RequestOutcome, request};
use super::exchange::{self, Exchange, Guard, Payload, RequestedBy, Task};
use super::job::{Caller, Job, Text};
use super::load;
use super::machine::{Due, Renewable, Start, State};
use super::message::{DueExchange, Message, Work};
use super::outcome::{AdoptMode, Adopted, Revocation};
use super::single_flight::FlightSender;
use super::slot::{ErasedValue, Slot, TokenRequest};
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::task::TaskGuard;

/// The handler of all session actors.
pub(crate) struct SessionActor;

/// The arguments of a session actor.
pub(crate) struct SessionRunner {
    pub(crate) context: Arc<Context>,
    pub(crate) slot: Arc<Slot>,
    /// Asks the supervisor to stop this actor, if it has seen all messages that were sent to it.
    pub(crate) idle: Box<dyn Fn(ActorId, u64) + Send + Sync>,
}

/// The state of an actor: its arguments, and the number of messages that it has seen.
pub(crate) struct ActorState {
    runner: SessionRunner,
    seen: u64,
}

impl Actor for SessionActor {
    type Msg = Message;
    type State = ActorState;
    type Arguments = SessionRunner;

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        runner: SessionRunner,
    ) -> Result<ActorState, ActorProcessingErr> {
        Ok(ActorState { runner, seen: 0 })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        actor_state: &mut ActorState,
    ) -> Result<(), ActorProcessingErr> {
        actor_state.seen += 1;
        actor_state.runner.take(message).await;
        if !actor_state.runner.slot.is_busy() && !actor_state.runner.slot.has_work() {
            (actor_state.runner.idle)(myself.get_id(), actor_state.seen);
        }
        Ok(())
    }
}

impl SessionRunner {
    async fn take(&self, message: Message) {
        match message {
            Message::Start(work) => self.start(work),
            Message::Queued { reply } => {
                // Before the work, which may take longer than the sender waits before it repeats
                // the message.
                let _ = reply.send(());
                self.work().await;
            }
            Message::Ended => self.work().await,
            Message::Due(due) => self.due(*due).await,
        }
    }

    fn start(&self, work: Work) {
        self.context.tasks.spawn(work);
    }

    /// Takes jobs from the queue until one runs. During a shutdown, only a close or a forget begins.
    async fn work(&self) {
        let Self { slot, .. } = self;
        while slot.has_work() {
            // Load before the job is taken: there must be no await between taking a job and
            // spawning it, because a kill at that await would drop the job.
            let loaded = self.ready().await;
            let Some(job) = slot.next_job() else { return };
            match (loaded, job) {
                // A forget needs neither the record nor the client: both may be unreadable.
                (_, Job::Forget { reply, task_guard }) => {
                    self.forget(Caller::Forget(reply), task_guard)
                }
                (Err(failed), job) => job.refuse(failed),
                (Ok(_), Job::Close { reply, task_guard, caller_span }) => {
                    self.close(Caller::Close(reply), task_guard, caller_span)
                }
                (Ok(client), Job::Establish { grant, last_epoch, reply, caller_span }) => {
                    if let Err(paused) = self.context.paused.check(slot.id()) {
                        Caller::Grant(reply).refuse(paused);
                        continue;
                    }
                    let caller = Caller::Grant(reply);
                    caller_span.in_scope(|| self.establish(client, (grant, last_epoch), caller));
                }
                (Ok(client), Job::Adopt { tokens, take, reply }) => {
                    self.adopt(client, tokens, take, Caller::Adoption(reply));
                }
            }
        }
    }

    fn establish(
        &self,
        client: Arc<Client>,
        (grant, last_epoch): (ErasedValue, Option<u64>),
        caller: Caller,
    ) {
        let Self { context, slot, .. } = self;
        // The task guard before the step: a shutdown must wait for every exchange that has started.
        let Some(task_guard) = context.tasks.enter() else {
            return caller.refuse(slot.unbegun(ErrorKind::ShuttingDown));
        };
        // A new sign-in ends the quarantine.
        slot.quarantine(None);
        match context.begin(slot, Start::Establish) {
            Some(sender) => {
                let exchange = self.exchange(client, caller, (sender, task_guard));
                let exchange = exchange.unless_later_than(last_epoch);
                context.tasks.spawn(exchange.run(Payload::Grant(grant)));
            }
            None => caller.refuse(slot.unbegun(ErrorKind::Superseded)),
        }
    }

    fn adopt(&self, client: Arc<Client>, tokens: Text, take: AdoptMode, caller: Caller) {
        let Self { context, slot, .. } = self;
        let Some(task_guard) = context.tasks.enter() else {
            return caller.refuse(slot.unbegun(ErrorKind::ShuttingDown));
        };
        match take {
            AdoptMode::IfVacant | AdoptMode::Import if slot.with_state(State::was_established) => {
                return caller.answer(Ok(Adopted::AlreadyThere));
            }
            AdoptMode::IfVacant | AdoptMode::Import | AdoptMode::Replace => {}
        }
        slot.quarantine(None);
        match context.begin(slot, Start::Adopt) {
            Some(sender) => {
                let exchange = self.exchange(client, caller, (sender, task_guard));
                context.tasks.spawn(exchange.adopt(tokens, take));
            }
            None => caller.refuse(self.superseded()),
        }
    }

    fn close(&self, caller: Caller, task_guard: TaskGuard, caller_span: Span) {
        let Self { context, slot, .. } = self;
        if slot.with_state(State::has_nothing_to_close) {
            return caller.answer(Ok(Revocation::LocalOnly));
        }
        match context.begin(slot, Start::Close) {
            Some(sender) => {
                let guard = Guard::new((context, slot), Task::Close, caller, (sender, task_guard));
                // In the span of the caller, who waits for the end of the close.
                context.tasks.spawn(exchange::close(guard).instrument(caller_span));
            }
            None => caller.refuse(self.superseded()),
        }
    }

    fn forget(&self, caller: Caller, task_guard: TaskGuard) {
        let Self { context, slot, .. } = self;
        match context.begin(slot, Start::Forget) {
            Some(sender) => {
                let guard = Guard::new((context, slot), Task::Forget, caller, (sender, task_guard));
                context.tasks.spawn(exchange::forget(guard));
            }
            None => caller.refuse(self.superseded()),
        }
    }

    fn superseded(&self) -> Error {
        Error::new(ErrorKind::Superseded).of_session(self.slot.id())
    }

    /// Begins the exchange that is due, with the schedule's permit. If the record cannot be loaded,
    /// `begun` is dropped, and the schedule tries again.
    async fn due(&self, due: DueExchange) {
        let Self { context, slot, .. } = self;
        let DueExchange { permit, begun } = due;
        if context.paused.has(slot.id()) {
            // The schedule tries again: `begun` is dropped.
            return self.work().await;
        }
        let (Ok(client), Some(task_guard)) = (self.ready().await, context.tasks.enter()) else {
            return self.work().await;
        };
        // Sent even if nothing is due any more; otherwise the schedule would try again.
        let _ = begun.send(());
        if slot.due(&context.policy(slot), context.now().boot) != Due::Exchange {
            return self.work().await;
        }
        if let Some(sender) = context.begin(slot, Start::Revoke) {
            let guard =
                Guard::new((context, slot), Task::Revocation, Caller::Nobody, (sender, task_guard));
            context.tasks.spawn(exchange::revoke(guard, permit));
            return;
        }
        let need = TokenRequest { newer_than: 0, renewable: slot.renewable(), fresh: true };
        let requested_by = (RequestedBy::BySchedule(Some(permit)), None);
        if let RequestOutcome::Start(work, _) =
            request(context, (slot, &client), need, requested_by)
        {
            self.start(work);
        }
        // The last actor may have crashed before it took all jobs.
        self.work().await;
    }

    /// Loads the record if needed, and returns the session's client.
    async fn ready(&self) -> Result<Arc<Client>, Error> {
        load::ready(&self.context, &self.slot).await
    }

    fn exchange(
        &self,
        client: Arc<Client>,
        caller: Caller,
        (sender, task_guard): (FlightSender, TaskGuard),
    ) -> Exchange {
        let Self { context, slot, .. } = self;
        Exchange::new((context, slot), client, (Renewable::No, caller), (sender, task_guard))
    }
}
