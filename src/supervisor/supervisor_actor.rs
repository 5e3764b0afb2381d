//! The supervisor actor: it forwards messages to session actors, starts and ends them, and decides
//! what happens when one dies.

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
use crate::measurements::RestartedActor;
use crate::session::context::Context;
use crate::session::message::Message;
use crate::session::schedule::KnownTo;
use crate::session::session_actor::{SessionActor, SessionRunner};
use crate::session::slot::Slot;

/// The handler of the supervisor actor.
pub(crate) struct SupervisorActor;

/// The state of a supervisor actor. The next actor begins without it after a restart.
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
    /// The actor ends once it has handled its mailbox. It gets no more messages.
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

    /// Handles every event itself and never fails: ractor's default would stop the supervisor with
    /// any child that ends.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        supervisor_state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(cell, state, _) => {
                // The state holds the slot. Dropped first, so that the slot can leave memory below.
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
                // An actor that has just died refuses it. The reply channel is then dropped with
                // the message, and the waiting caller sends again.
                drop(child.actor.send_message(message));
            }
            Some(child) => later(&self.context, child.actor.get_cell(), slot, message),
            None => match slot.actor() {
                // A child of a supervisor actor that died. Two actors of one session must never run
                // side by side, so the message waits until the former one has ended.
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
                    log_session!(
                        self.context.log_limit(),
                        error,
                        slot.id(),
                        "could not start the actor",
                        cause = %failed
                    );
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
                // If the supervisor actor is gone, this session actor ends with it.
                drop(supervisor.send_message(message));
            }),
        }
    }

    /// Ends an idle actor, unless a message is on its way to it: the actor has then seen fewer
    /// messages than were forwarded. To stop it at once would drop that message.
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
                context.measurements.actor_restarted(RestartedActor::Session);
                context.event(slot, EventKind::ActorRestarted);
                let message =
                    SupervisorMessage::Deliver { slot: Arc::clone(slot), message: Message::Ended };
                send_after(context, after, myself.clone(), message);
            }
            Verdict::Quarantine { pause } => {
                slot.quarantine(Some(now.boot.after(pause)));
                context.event(slot, EventKind::Quarantined { pause });
                // Checked once more at the end of the quarantine, so that no work stays behind.
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

/// Sends the message again when the former actor has ended. It waits for that end, because a killed
/// actor still runs for a moment.
fn later(context: &Arc<Context>, former: ActorCell, slot: Arc<Slot>, message: Message) {
    let task_context = Arc::clone(context);
    context.tasks.spawn_detached(async move {
        // Without a timeout: an actor that is to end awaits nothing but a store's load, which has
        // one.
        drop(former.wait(None).await);
        slot.clear_actor(former.get_id());
        task_context.mailbox.send(&slot, message);
    });
}
