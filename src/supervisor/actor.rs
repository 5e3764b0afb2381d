//! The supervisor actor: forwards messages to session actors, starts them, lets them go, and
//! decides what happens when one dies.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::message::Order;
use super::restart::{Ledger, Verdict};
use crate::event::EventKind;
use crate::key::SessionId;
use crate::log::log_session;
use crate::session::actor::{Duty, SessionActor};
use crate::session::core::Core;
use crate::session::message::Message;
use crate::session::schedule::Known;
use crate::session::slot::Slot;

/// The handler of the supervisor actor.
pub(crate) struct SupervisorActor;

/// What it knows: nothing that its successor cannot do without.
pub(crate) struct Roster {
    core: Arc<Core>,
    on_duty: HashMap<ActorId, Child>,
    by_session: HashMap<SessionId, ActorId>,
    ledger: Ledger<SessionId>,
}

struct Child {
    actor: ActorRef<Message>,
    slot: Arc<Slot>,
    forwarded: u64,
    /// Told to end when it has handled what it has; it gets nothing more.
    dismissed: bool,
}

impl Actor for SupervisorActor {
    type Msg = Order;
    type State = Roster;
    type Arguments = Arc<Core>;

    async fn pre_start(
        &self,
        _: ActorRef<Order>,
        core: Arc<Core>,
    ) -> Result<Roster, ActorProcessingErr> {
        let ledger = Ledger::new(core.policy.restarts.clone());
        Ok(Roster { core, on_duty: HashMap::new(), by_session: HashMap::new(), ledger })
    }

    async fn handle(
        &self,
        myself: ActorRef<Order>,
        order: Order,
        roster: &mut Roster,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Deliver { slot, message } => {
                roster.deliver(&myself, slot, message).await;
            }
            Order::Idle { slot, actor, seen } => roster.dismiss(&slot, actor, seen),
        }
        Ok(())
    }

    /// Never fails and never leaves it to ractor, whose default stops the supervisor with any
    /// child.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Order>,
        event: SupervisionEvent,
        roster: &mut Roster,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(cell, state, _) => {
                // It holds the slot, which is to go with the last hold on it.
                drop(state);
                roster.ended(&myself, cell.get_id());
            }
            SupervisionEvent::ActorFailed(cell, _) => roster.ended(&myself, cell.get_id()),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl Roster {
    async fn deliver(&mut self, myself: &ActorRef<Order>, slot: Arc<Slot>, message: Message) {
        let now = self.core.now().boot;
        if slot.quarantined(now).is_some() && !message.is_queued() {
            message.refuse();
            return;
        }
        let child = self.by_session.get(slot.id()).and_then(|id| self.on_duty.get_mut(id));
        match child {
            Some(child) if !child.dismissed => {
                child.forwarded += 1;
                // Refused by an actor that has just died: the reply is dropped with the message,
                // and whoever waits sends again.
                drop(child.actor.send_message(message));
            }
            Some(child) => later(&self.core, child.actor.get_cell(), slot, message),
            None => match slot.occupant() {
                // The child of a supervisor actor that died. Two actors of one session never run
                // side by side, so its successor waits for its end.
                Some(former) => later(&self.core, former, slot, message),
                None => self.start(myself, slot, message).await,
            },
        }
    }

    async fn start(&mut self, myself: &ActorRef<Order>, slot: Arc<Slot>, message: Message) {
        let duty = self.duty(myself, &slot);
        let (actor, _) =
            match Actor::spawn_linked(None, SessionActor, duty, myself.get_cell()).await {
                Ok(started) => started,
                Err(failed) => {
                    log_session!(error, slot.id(), error = %failed, "no session actor");
                    return;
                }
            };
        let id = actor.get_id();
        slot.occupy(actor.get_cell());
        drop(actor.send_message(message));
        self.by_session.insert(slot.id().clone(), id);
        self.on_duty.insert(id, Child { actor, slot, forwarded: 1, dismissed: false });
    }

    fn duty(&self, myself: &ActorRef<Order>, slot: &Arc<Slot>) -> Duty {
        let (supervisor, idle) = (myself.clone(), Arc::clone(slot));
        Duty {
            core: Arc::clone(&self.core),
            slot: Arc::clone(slot),
            idle: Box::new(move |actor, seen| {
                let order = Order::Idle { slot: Arc::clone(&idle), actor, seen };
                // A supervisor that is gone takes its children with it.
                drop(supervisor.send_message(order));
            }),
        }
    }

    /// Lets an idle actor go, unless a message is on its way to it: it has then seen fewer than
    /// were forwarded. Stopping it at once would drop that message.
    fn dismiss(&mut self, slot: &Slot, actor: ActorId, seen: u64) {
        let Some(child) = self.on_duty.get_mut(&actor) else { return };
        if child.forwarded == seen && !child.dismissed && child.slot.id() == slot.id() {
            child.dismissed = true;
            drop(child.actor.drain());
        }
    }

    fn ended(&mut self, myself: &ActorRef<Order>, actor: ActorId) {
        let Some(child) = self.on_duty.remove(&actor) else { return };
        let Child { slot, dismissed, .. } = child;
        self.by_session.remove(slot.id());
        slot.vacate(actor);
        if !dismissed {
            self.died(myself, &slot);
        }
        self.core.registry.release(slot);
    }

    fn died(&mut self, myself: &ActorRef<Order>, slot: &Arc<Slot>) {
        let core = &self.core;
        let now = core.now();
        slot.forget_told();
        match self.ledger.note(slot.id().clone(), now.boot, fastrand::f64()) {
            Verdict::Restart { after } => {
                core.counts.actor_restarts.fetch_add(1, Ordering::Relaxed);
                core.event(slot, EventKind::ActorRestarted);
                let order = Order::Deliver { slot: Arc::clone(slot), message: Message::Ended };
                send_after(core, after, myself.clone(), order);
            }
            Verdict::Quarantine { pause } => {
                slot.quarantine(Some(now.boot.after(pause)));
                core.event(slot, EventKind::Quarantined { pause });
                // Looked at once more when it is over, so that nothing stays behind unnoticed.
                let over = Some(now.boot.after(pause));
                self.core.registry.arm(slot.id(), over, Known::ToThisProcess);
            }
        }
    }
}

fn send_after(core: &Arc<Core>, pause: Duration, to: ActorRef<Order>, order: Order) {
    let pause = core.clock.sleep(pause);
    core.tasks.attend(async move {
        pause.await;
        drop(to.send_message(order));
    });
}

/// Brings the message again when the former actor has ended. Ended actors are waited for, not
/// assumed: after a kill the old one still runs for a moment.
fn later(core: &Arc<Core>, former: ActorCell, slot: Arc<Slot>, message: Message) {
    let keeper = Arc::clone(core);
    core.tasks.attend(async move {
        // Without a bound of its own: an actor that was told to end has no await that could
        // hold it but a store's load, which is bounded.
        drop(former.wait(None).await);
        slot.vacate(former.get_id());
        keeper.mailbox.send(&slot, message);
    });
}
