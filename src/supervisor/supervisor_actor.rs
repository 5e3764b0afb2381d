//! The supervisor actor: forwards messages to session actors, starts them, lets them go, and
//! decides what happens when one dies.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::restart_tracker::{RestartTracker, Verdict};
use super::supervisor_message::SupervisorMessage;
use crate::event::EventKind;
use crate::key::SessionId;
use crate::log::log_session;
use crate::session::context::Context;
use crate::session::message::Message;
use crate::session::schedule::KnownTo;
use crate::session::session_actor::{SessionActor, SessionRunner};
use crate::session::slot::Slot;

/// The handler of the supervisor actor.
pub(crate) struct SupervisorActor;

/// What it knows: nothing that its successor cannot do without.
pub(crate) struct SupervisorState {
    context: Arc<Context>,
    children: HashMap<ActorId, Child>,
    by_session: HashMap<SessionId, ActorId>,
    restarts: RestartTracker<SessionId>,
}

struct Child {
    actor: ActorRef<Message>,
    slot: Arc<Slot>,
    forwarded: u64,
    /// Told to end when it has handled what it has; it gets nothing more.
    draining: bool,
}

impl Actor for SupervisorActor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = Arc<Context>;

    async fn pre_start(
        &self,
        _: ActorRef<SupervisorMessage>,
        context: Arc<Context>,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let restarts = RestartTracker::new(context.policy.restarts.clone());
        Ok(SupervisorState {
            context,
            children: HashMap::new(),
            by_session: HashMap::new(),
            restarts,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMessage>,
        message: SupervisorMessage,
        supervisor_state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Deliver { slot, message } => {
                supervisor_state.deliver(&myself, slot, message).await;
            }
            SupervisorMessage::Idle { slot, actor, seen } => {
                supervisor_state.drain_idle(&slot, actor, seen)
            }
        }
        Ok(())
    }

    /// Never fails and never leaves it to ractor, whose default stops the supervisor with any
    /// child.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        supervisor_state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(cell, state, _) => {
                // It holds the slot, which is to go with the last hold on it.
                drop(state);
                supervisor_state.ended(&myself, cell.get_id());
            }
            SupervisionEvent::ActorFailed(cell, _) => {
                supervisor_state.ended(&myself, cell.get_id())
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl SupervisorState {
    async fn deliver(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        slot: Arc<Slot>,
        message: Message,
    ) {
        let now = self.context.now().boot;
        if slot.quarantined(now).is_some() && !message.is_queued() {
            message.refuse();
            return;
        }
        let child = self.by_session.get(slot.id()).and_then(|id| self.children.get_mut(id));
        match child {
            Some(child) if !child.draining => {
                child.forwarded += 1;
                // Refused by an actor that has just died: the reply is dropped with the message,
                // and whoever waits sends again.
                drop(child.actor.send_message(message));
            }
            Some(child) => later(&self.context, child.actor.get_cell(), slot, message),
            None => match slot.actor() {
                // The child of a supervisor actor that died. Two actors of one session never run
                // side by side, so its successor waits for its end.
                Some(former) => later(&self.context, former, slot, message),
                None => self.start(myself, slot, message).await,
            },
        }
    }

    async fn start(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        slot: Arc<Slot>,
        message: Message,
    ) {
        let runner = self.runner(myself, &slot);
        let (actor, _) =
            match Actor::spawn_linked(None, SessionActor, runner, myself.get_cell()).await {
                Ok(started) => started,
                Err(failed) => {
                    log_session!(error, slot.id(), error = %failed, "no session actor");
                    return;
                }
            };
        let id = actor.get_id();
        slot.set_actor(actor.get_cell());
        drop(actor.send_message(message));
        self.by_session.insert(slot.id().clone(), id);
        self.children.insert(id, Child { actor, slot, forwarded: 1, draining: false });
    }

    fn runner(&self, myself: &ActorRef<SupervisorMessage>, slot: &Arc<Slot>) -> SessionRunner {
        let (supervisor, idle) = (myself.clone(), Arc::clone(slot));
        SessionRunner {
            context: Arc::clone(&self.context),
            slot: Arc::clone(slot),
            idle: Box::new(move |actor, seen| {
                let message = SupervisorMessage::Idle { slot: Arc::clone(&idle), actor, seen };
                // A supervisor that is gone takes its children with it.
                drop(supervisor.send_message(message));
            }),
        }
    }

    /// Lets an idle actor go, unless a message is on its way to it: it has then seen fewer than
    /// were forwarded. Stopping it at once would drop that message.
    fn drain_idle(&mut self, slot: &Slot, actor: ActorId, seen: u64) {
        let Some(child) = self.children.get_mut(&actor) else { return };
        if child.forwarded == seen && !child.draining && child.slot.id() == slot.id() {
            child.draining = true;
            drop(child.actor.drain());
        }
    }

    fn ended(&mut self, myself: &ActorRef<SupervisorMessage>, actor: ActorId) {
        let Some(child) = self.children.remove(&actor) else { return };
        let Child { slot, draining, .. } = child;
        self.by_session.remove(slot.id());
        slot.clear_actor(actor);
        if !draining {
            self.died(myself, &slot);
        }
        self.context.registry.release(slot);
    }

    fn died(&mut self, myself: &ActorRef<SupervisorMessage>, slot: &Arc<Slot>) {
        let context = &self.context;
        let now = context.now();
        slot.reset_due();
        match self.restarts.note(slot.id().clone(), now.boot, fastrand::f64()) {
            Verdict::Restart { after } => {
                context.counts.actor_restarts.fetch_add(1, Ordering::Relaxed);
                context.event(slot, EventKind::ActorRestarted);
                let message =
                    SupervisorMessage::Deliver { slot: Arc::clone(slot), message: Message::Ended };
                send_after(context, after, myself.clone(), message);
            }
            Verdict::Quarantine { pause } => {
                slot.quarantine(Some(now.boot.after(pause)));
                context.event(slot, EventKind::Quarantined { pause });
                // Looked at once more when it is over, so that nothing stays behind unnoticed.
                let over = Some(now.boot.after(pause));
                self.context.registry.arm(slot.id(), over, KnownTo::ThisProcess);
            }
        }
    }
}

fn send_after(
    context: &Arc<Context>,
    pause: Duration,
    to: ActorRef<SupervisorMessage>,
    message: SupervisorMessage,
) {
    let pause = context.clock.sleep(pause);
    context.tasks.spawn_detached(async move {
        pause.await;
        drop(to.send_message(message));
    });
}

/// Brings the message again when the former actor has ended. Ended actors are waited for, not
/// assumed: after a kill the old one still runs for a moment.
fn later(context: &Arc<Context>, former: ActorCell, slot: Arc<Slot>, message: Message) {
    let task_context = Arc::clone(context);
    context.tasks.spawn_detached(async move {
        // Without a bound of its own: an actor that was told to end has no await that could
        // hold it but a store's load, which is bounded.
        drop(former.wait(None).await);
        slot.clear_actor(former.get_id());
        task_context.mailbox.send(&slot, message);
    });
}
