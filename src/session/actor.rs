//! The session actor: takes messages one by one, so that two exchanges can never start. It is
//! resident only while there is work, and its state can be rebuilt: everything that must survive
//! it is in the slot.

use std::sync::Arc;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef};

use super::adopt::{Adopted, Take};
use super::core::Core;
use super::exchange::{self, Cargo, Exchange, Guard, Task, Work};
use super::flight::Pilot;
use super::machine::{Due, Renewable, Start, State};
use super::message::{Caller, DueExchange, Job, Message, Text};
use super::outcome::Revocation;
use super::read;
use super::slot::{ErasedValue, Slot, Wants};
use super::token_request::{Asked, Requested, request};
use crate::error::{Error, ErrorKind};
use crate::provider::client::Client;
use crate::task::Place;

/// The handler of all session actors.
pub(crate) struct SessionActor;

/// What a session actor is started with.
pub(crate) struct Duty {
    pub(crate) core: Arc<Core>,
    pub(crate) slot: Arc<Slot>,
    /// Asks whoever forwards messages to let this actor go, having seen so many of them.
    pub(crate) idle: Box<dyn Fn(ActorId, u64) + Send + Sync>,
}

/// What an actor knows beside its slot: how many messages it has seen.
pub(crate) struct Shift {
    duty: Duty,
    seen: u64,
}

impl Actor for SessionActor {
    type Msg = Message;
    type State = Shift;
    type Arguments = Duty;

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        duty: Duty,
    ) -> Result<Shift, ActorProcessingErr> {
        Ok(Shift { duty, seen: 0 })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        shift: &mut Shift,
    ) -> Result<(), ActorProcessingErr> {
        shift.seen += 1;
        shift.duty.take(message).await;
        if !shift.duty.slot.is_busy() && !shift.duty.slot.has_work() {
            (shift.duty.idle)(myself.get_id(), shift.seen);
        }
        Ok(())
    }
}

impl Duty {
    async fn take(&self, message: Message) {
        match message {
            Message::Start(work) => self.start(work),
            Message::Queued { reply } => {
                // Whoever gave up meanwhile may have left its job behind.
                let _ = reply.send(());
                self.work().await;
            }
            Message::Ended => self.work().await,
            Message::Due(due) => self.due(*due).await,
        }
    }

    fn start(&self, work: Box<Work>) {
        self.core.tasks.run(work.run());
    }

    /// Takes jobs off the queue until one runs. A job is taken and launched without an await
    /// between the two, at which a kill could drop it. After the beginning of a shutdown only what
    /// ends a session is begun.
    async fn work(&self) {
        let Self { slot, .. } = self;
        while slot.has_work() {
            let loaded = self.ready().await;
            let Some(job) = slot.next_job() else { return };
            match (loaded, job) {
                // Also of a record that cannot be read, or of a tenant that is not known.
                (_, Job::Forget { reply, place }) => self.forget(Caller::Forget(reply), place),
                (Err(failed), job) => job.refuse(failed),
                (Ok(_), Job::Close { reply, place }) => self.close(Caller::Close(reply), place),
                (Ok(client), Job::Establish { grant, reply }) => {
                    self.establish(client, grant, Caller::Grant(reply));
                }
                (Ok(client), Job::Adopt { tokens, take, reply }) => {
                    self.adopt(client, tokens, take, Caller::Adoption(reply));
                }
            }
        }
    }

    fn establish(&self, client: Arc<Client>, grant: ErasedValue, caller: Caller) {
        let Self { core, slot, .. } = self;
        let Some(place) = core.tasks.enter() else {
            return caller.refuse(slot.unbegun(ErrorKind::ShuttingDown));
        };
        // A user who signs in again ends the quarantine.
        slot.quarantine(None);
        match core.begin(slot, Start::Establish) {
            Some(pilot) => {
                let exchange = self.exchange(client, caller, (pilot, place));
                core.tasks.run(exchange.run(Cargo::Grant(grant)));
            }
            None => caller.refuse(slot.unbegun(ErrorKind::Superseded)),
        }
    }

    fn adopt(&self, client: Arc<Client>, tokens: Text, take: Take, caller: Caller) {
        let Self { core, slot, .. } = self;
        let Some(place) = core.tasks.enter() else {
            return caller.refuse(slot.unbegun(ErrorKind::ShuttingDown));
        };
        match take {
            Take::IfVacant | Take::Import if slot.look(State::was_established) => {
                return caller.answer(Ok(Adopted::AlreadyThere));
            }
            Take::IfVacant | Take::Import | Take::Replace => {}
        }
        slot.quarantine(None);
        match core.begin(slot, Start::Adopt) {
            Some(pilot) => {
                let exchange = self.exchange(client, caller, (pilot, place));
                core.tasks.run(exchange.adopt(tokens, take));
            }
            None => caller.refuse(self.superseded()),
        }
    }

    fn close(&self, caller: Caller, place: Place) {
        let Self { core, slot, .. } = self;
        if slot.look(State::has_nothing_to_close) {
            return caller.answer(Ok(Revocation::LocalOnly));
        }
        match core.begin(slot, Start::Close) {
            Some(pilot) => {
                let guard = Guard::new((core, slot), Task::Close, caller, (pilot, place));
                core.tasks.run(exchange::close(guard));
            }
            None => caller.refuse(self.superseded()),
        }
    }

    fn forget(&self, caller: Caller, place: Place) {
        let Self { core, slot, .. } = self;
        match core.begin(slot, Start::Forget) {
            Some(pilot) => {
                let guard = Guard::new((core, slot), Task::Forget, caller, (pilot, place));
                core.tasks.run(exchange::forget(guard));
            }
            None => caller.refuse(self.superseded()),
        }
    }

    fn superseded(&self) -> Error {
        Error::new(ErrorKind::Superseded).of_session(self.slot.id())
    }

    /// Begins what is due, under the schedule's permit. Where the session cannot be read, the
    /// schedule hears nothing, and tries again.
    async fn due(&self, due: DueExchange) {
        let Self { core, slot, .. } = self;
        let DueExchange { permit, begun } = due;
        let (Ok(client), Some(place)) = (self.ready().await, core.tasks.enter()) else {
            return self.work().await;
        };
        // Also where nothing is due any more.
        let _ = begun.send(());
        if slot.due(&core.rules(slot), core.now().boot) != Due::Exchange {
            return self.work().await;
        }
        if let Some(pilot) = core.begin(slot, Start::Revoke) {
            let guard = Guard::new((core, slot), Task::Revocation, Caller::Nobody, (pilot, place));
            core.tasks.run(exchange::revoke(guard, permit));
            return;
        }
        let wants = Wants { above: 0, renewable: slot.renewable(), fresh: true };
        let asked = (Asked::BySchedule(Some(permit)), None);
        if let Requested::Start(work, _) = request(core, (slot, &client), wants, asked) {
            self.start(work);
        }
        // Also after the death of an actor, which may have had jobs before it.
        self.work().await;
    }

    /// The session's client, once its record is read.
    async fn ready(&self) -> Result<Arc<Client>, Error> {
        read::ready(&self.core, &self.slot).await
    }

    fn exchange(
        &self,
        client: Arc<Client>,
        caller: Caller,
        (pilot, place): (Pilot, Place),
    ) -> Exchange {
        let Self { core, slot, .. } = self;
        let base = slot.look(|state| state.counters().1);
        let (rotation, renewable) = (client.provider.rotation(), Renewable::No);
        let task = Task::Exchange { rotation, renewable, base };
        let guard = Guard::new((core, slot), task, caller, (pilot, place));
        Exchange::new(guard, client, renewable)
    }
}
