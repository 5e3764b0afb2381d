//! The session actor: takes messages one by one, so that two exchanges can never start. It is
//! resident only while there is work, and its state can be rebuilt: everything that must survive
//! it is in the slot.

use std::sync::Arc;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef};

use super::adopt::{Adopted, Take};
use super::core::Core;
use super::exchange::{self, Cargo, Exchange, Guard, Task};
use super::machine::{Answer, Input, Renewable, Rest, Start, State};
use super::message::{Answered, Caller, Ending, Job, Message, Text};
use super::restore;
use super::slot::{Parcel, Renewal, Slot};
use crate::clock::within;
use crate::error::{Error, ErrorKind, LostReason};
use crate::event::EventKind;
use crate::provider::client::Client;
use crate::store::{StoreError, StoreErrorKind};
use crate::task::Place;
use crate::token::Credentials;

/// The handler of all session actors.
pub(crate) struct SessionActor;

/// What a session actor is started with.
pub(crate) struct Duty {
    pub(crate) core: Arc<Core>,
    pub(crate) slot: Arc<Slot>,
    /// Asks whoever forwards messages to let this actor go, having seen so many of them.
    pub(crate) idle: Box<dyn Fn(ActorId, u64) + Send + Sync>,
}

/// Who wants a token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    ByCaller,
    BySchedule,
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
        if !message.is_abandoned() {
            shift.duty.take(message).await;
        }
        if !shift.duty.slot.is_busy() && !shift.duty.slot.has_work() {
            (shift.duty.idle)(myself.get_id(), shift.seen);
        }
        Ok(())
    }
}

impl Duty {
    async fn take(&self, message: Message) {
        match message {
            Message::Need { above, offer, reply } => {
                let answer = self.need(above, offer, Asked::ByCaller).await;
                // Whoever gave up meanwhile leaves the session as it is.
                drop(reply.send(answer));
            }
            Message::Queued { reply } => {
                // Whoever gave up meanwhile may have left its job behind.
                let _ = reply.send(());
                self.work().await;
            }
            Message::Look { reply } => drop(reply.send(self.loaded().await.map(drop))),
            Message::Due => drop(self.need(0, None, Asked::ByCaller).await),
            Message::Ended => self.work().await,
            Message::Wake(turn) => {
                self.wake().await;
                drop(turn);
            }
        }
    }

    /// A token above `above`, what stands in its way, or the flight to wait for.
    async fn need(&self, above: u64, offer: Option<Parcel>, asked: Asked) -> Answered {
        let Self { core, slot, .. } = self;
        let client = match self.loaded().await {
            Ok(client) => client,
            Err(failed) => return Answered::Failed(failed),
        };
        let vouched = offer.is_some();
        let renewal = offer.map(Renewal::Grant).or_else(|| slot.renewal());
        let renewable = match &renewal {
            Some(_) if vouched => Renewable::Vouched,
            Some(_) => Renewable::Itself,
            None => Renewable::No,
        };
        if let (Answer::Fail(error), _) = slot.answer(above, renewable, &core.moment(slot)) {
            return Answered::Failed(error.of_session(slot.id()));
        }
        let Some(place) = core.tasks.enter() else {
            return Answered::Failed(Error::new(ErrorKind::ShuttingDown));
        };
        match core.apply(slot, Input::Need { above, renewable }) {
            Some(Start::Refresh) => {
                let (exchange, held) = self.exchange(client, Renewable::No, Caller::Nobody, place);
                let scheduled = asked == Asked::BySchedule;
                core.tasks.run(exchange.run(Cargo::Refresh { scheduled }, held));
            }
            Some(Start::Renew) => {
                if let Some(renewal) = renewal {
                    let (exchange, held) = self.exchange(client, renewable, Caller::Nobody, place);
                    core.tasks.run(exchange.run(Cargo::Renewal(renewal), held));
                }
            }
            Some(
                Start::Load
                | Start::Establish
                | Start::Adopt
                | Start::Close
                | Start::Forget
                | Start::Revoke,
            )
            | None => {}
        }
        self.answered(above, renewable)
    }

    fn answered(&self, above: u64, renewable: Renewable) -> Answered {
        let Self { core, slot, .. } = self;
        // What was lost just now may have a renewal that it did not have before.
        let renewable = renewable.max(slot.renewable());
        let failed = |error: Error| Answered::Failed(error.of_session(slot.id()));
        match slot.answer(above, renewable, &core.moment(slot)) {
            (Answer::Token(token), _) => Answered::Token(token),
            (Answer::Fail(error), _) => failed(error),
            (Answer::Wait, Some(flight)) => Answered::Wait(flight),
            // The exchange ended between the step and the question.
            (Answer::Wait, None) => Answered::Again,
            // Nothing was started. Either the token was rejected between the step and the question,
            // or nothing can be.
            (Answer::Ask, _) if renewable > Renewable::No || slot.look(State::may_refresh) => {
                Answered::Again
            }
            (Answer::Ask, _) => failed(
                Error::new(ErrorKind::SignInAgain(LostReason::RefreshExpired))
                    .about("the session has no refresh token"),
            ),
        }
    }

    /// Takes jobs off the queue until one runs. A job is taken and launched without an await
    /// between the two, at which a kill could drop it. After the beginning of a shutdown only what
    /// ends a session is begun.
    async fn work(&self) {
        let Self { slot, .. } = self;
        while slot.has_work() {
            let loaded = self.loaded().await;
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

    fn establish(&self, client: Arc<Client>, grant: Parcel, caller: Caller) {
        let Self { core, slot, .. } = self;
        let Some(place) = core.tasks.enter() else {
            return caller.refuse(slot.unbegun(ErrorKind::ShuttingDown));
        };
        // A user who signs in again ends the quarantine.
        slot.quarantine(None);
        if core.apply(slot, Input::Establish) == Some(Start::Establish) {
            let (exchange, held) = self.exchange(client, Renewable::No, caller, place);
            core.tasks.run(exchange.run(Cargo::Grant(grant), held));
        } else {
            caller.refuse(slot.unbegun(ErrorKind::Superseded));
        }
    }

    fn adopt(&self, client: Arc<Client>, tokens: Text, take: Take, caller: Caller) {
        let Self { core, slot, .. } = self;
        let Some(place) = core.tasks.enter() else {
            return caller.refuse(slot.unbegun(ErrorKind::ShuttingDown));
        };
        match self.begin_adoption(take) {
            Ok(Adopted::Yes) => {
                let (exchange, _) = self.exchange(client, Renewable::No, caller, place);
                core.tasks.run(exchange.adopt(tokens, take));
            }
            refused => caller.answer(refused),
        }
    }

    fn close(&self, caller: Caller, place: Place) {
        let Self { core, slot, .. } = self;
        if slot.look(State::has_nothing_to_close) {
            caller.answer(Ok(Ending::LocalOnly));
        } else if core.apply(slot, Input::Close) == Some(Start::Close) {
            let guard = Guard::new(core, slot, Task::Close, caller, place);
            core.tasks.run(exchange::close(guard));
        } else {
            caller.refuse(Error::new(ErrorKind::Superseded).of_session(slot.id()));
        }
    }

    fn forget(&self, caller: Caller, place: Place) {
        let Self { core, slot, .. } = self;
        if core.apply(slot, Input::Forget) == Some(Start::Forget) {
            let guard = Guard::new(core, slot, Task::Forget, caller, place);
            core.tasks.run(exchange::forget(guard));
        } else {
            caller.refuse(Error::new(ErrorKind::Superseded).of_session(slot.id()));
        }
    }

    /// Begins an adoption, unless what is there stands in its way.
    fn begin_adoption(&self, take: Take) -> Result<Adopted, Error> {
        let Self { core, slot, .. } = self;
        match take {
            Take::IfVacant | Take::Import if slot.look(State::was_established) => {
                return Ok(Adopted::AlreadyThere);
            }
            Take::IfVacant | Take::Import | Take::Replace => {}
        }
        slot.quarantine(None);
        if core.apply(slot, Input::Adopt) == Some(Start::Adopt) {
            Ok(Adopted::Yes)
        } else {
            Err(Error::new(ErrorKind::Superseded).of_session(slot.id()))
        }
    }

    async fn wake(&self) {
        let Self { core, slot, .. } = self;
        slot.disarm();
        slot.end_quarantine(core.now().boot);
        let (Ok(_), Some(place)) = (self.loaded().await, core.tasks.enter()) else {
            return self.work().await;
        };
        if core.apply(slot, Input::Tick) == Some(Start::Revoke) {
            let guard = Guard::new(core, slot, Task::Revocation, Caller::Nobody, place);
            core.tasks.run(exchange::revoke(guard));
            return;
        }
        if slot.is_due_unasked(&core.rules(slot), core.now().boot) {
            // What is still due after that is a refresh that nobody asked for.
            drop(self.need(0, None, Asked::BySchedule).await);
        }
        // Also after the death of an actor, which may have had jobs before it.
        self.work().await;
    }

    /// Reads the record, if nothing is known yet. One read serves all whose messages queue
    /// behind this one, and a failed one is told to all until it is time to try again.
    async fn loaded(&self) -> Result<Arc<Client>, Error> {
        let Self { core, slot, .. } = self;
        let named = |error: Error| error.of_session(slot.id());
        let client = core.resolve(&slot.site).await.map_err(named)?;
        if !slot.look(State::is_unloaded) {
            return Ok(client);
        }
        let nobody = Input::Need { above: 0, renewable: Renewable::No };
        if core.apply(slot, nobody) != Some(Start::Load) {
            return self.unloaded().map(|()| client);
        }
        let record = within(&*core.clock, core.policy.store_wait, core.store.load(slot.id())).await;
        match record.unwrap_or_else(|| Err(StoreError::new(StoreErrorKind::Slow))) {
            Ok(record) => {
                let vacant = Rest::Vacant { trouble: None };
                let rest = record.map_or(vacant, |record| restore::rest(core, &client, record));
                let foreign = rest.serving().is_some_and(|held| held.foreign);
                core.apply(slot, Input::Loaded(rest));
                if foreign {
                    core.event(slot, EventKind::ForeignAuthority);
                }
                Ok(client)
            }
            Err(failed) => {
                core.apply(slot, Input::LoadFailed(exchange::unstored(failed)));
                self.unloaded().map(|()| client)
            }
        }
    }

    fn unloaded(&self) -> Result<(), Error> {
        let at = self.core.moment(&self.slot);
        match self.slot.answer(0, Renewable::No, &at).0 {
            Answer::Fail(error) => Err(error.of_session(self.slot.id())),
            Answer::Token(_) | Answer::Wait | Answer::Ask => Ok(()),
        }
    }

    /// An exchange and what it is sent with. Its guard stands before anything of the provider is
    /// called.
    fn exchange(
        &self,
        client: Arc<Client>,
        renewable: Renewable,
        caller: Caller,
        place: Place,
    ) -> (Exchange, Option<Arc<Credentials>>) {
        let Self { core, slot, .. } = self;
        let (held, counters) = slot.look(|state| {
            let rest = state.rest();
            let held = rest.as_ref().and_then(|rest| rest.credentials().cloned());
            (held, rest.map(|rest| rest.counters()).unwrap_or_default())
        });
        let (_, base) = counters;
        let task = Task::Exchange { rotation: client.provider.rotation(), renewable, base };
        let guard = Guard::new(core, slot, task, caller, place);
        (Exchange::new(guard, client, renewable, counters), held)
    }
}
