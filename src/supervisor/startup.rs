//! Starts the supervisor actor and the background tasks, and restarts the actor when it dies.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ractor::{Actor, ActorRef};
use tokio::task::JoinHandle;

use super::supervisor_actor::SupervisorActor;
use super::supervisor_link::SupervisorLink;
use super::supervisor_message::SupervisorMessage;
use super::{
    change_feed, eviction, journal_replay, pause, presence, reseal, retention, samples, scheduler,
    session_count, shared_clients,
};
use crate::event::{Event, EventKind};
use crate::measurements::RestartedActor;
use crate::seal::KeyRing;
use crate::session::context::Context;
use crate::session::load;
use crate::session::message::Message;
use crate::store::Presence;

/// Starts the supervisor actor, which is restarted when it dies, and the background tasks. `ring`
/// is the keys that seal records.
pub(crate) async fn start(
    context: &Arc<Context>,
    link: &Arc<SupervisorLink>,
    ring: Option<KeyRing>,
) -> bool {
    presence::write(context, Presence::Register).await;
    // Before the first claim: an exchange with the old token would end the session that a journal
    // can save.
    let replay = journal_replay::first_pass(context).await;
    // Before the first exchange, so that this one does not use a client that others stopped, and is
    // not of a session that is paused.
    let seen = shared_clients::read(context).await;
    let next_in = pause::read(context).await;
    let Some((actor, ended)) = spawn(context).await else { return false };
    link.connect(Some(actor));
    let (task_context, kept) = (Arc::clone(context), Arc::clone(link));
    context.tasks.spawn_detached(async move { keep(task_context, kept, ended).await });
    for provider in context.registry.providers() {
        let shared = || (Arc::clone(context), Arc::clone(provider));
        let (poller, driver) = (shared(), shared());
        context.tasks.spawn_detached(scheduler::poll(poller.0, poller.1));
        context.tasks.spawn_detached(scheduler::drive(driver.0, driver.1));
    }
    context.tasks.spawn_detached(scheduler::report_unknown(Arc::clone(context)));
    if let Some(ring) = ring {
        context.tasks.spawn_detached(reseal::run(Arc::clone(context), ring));
    }
    context.tasks.spawn_detached(retention::run(Arc::clone(context)));
    context.tasks.spawn_detached(change_feed::run(Arc::clone(context)));
    context.tasks.spawn_detached(load::run(Arc::clone(context)));
    context.tasks.spawn_detached(eviction::run(Arc::clone(context)));
    context.tasks.spawn_detached(presence::run(Arc::clone(context)));
    if let Some(replay) = replay {
        context.tasks.spawn_detached(replay.run(Arc::clone(context)));
    }
    context.tasks.spawn_detached(shared_clients::run(Arc::clone(context), seen));
    context.tasks.spawn_detached(pause::run(Arc::clone(context), next_in));
    if context.measurements.is_on() {
        context.tasks.spawn_detached(samples::run(Arc::clone(context)));
        session_count::start(context);
    }
    true
}

async fn spawn(context: &Arc<Context>) -> Option<(ActorRef<SupervisorMessage>, JoinHandle<()>)> {
    match Actor::spawn(None, SupervisorActor, Arc::clone(context)).await {
        Ok(spawned) => Some(spawned),
        Err(failed) => {
            tracing::error!(error = %failed, "could not start the supervisor actor");
            None
        }
    }
}

/// Restarts the supervisor actor whenever it ends, until shutdown. If a shutdown begins between an
/// end and the restart, no actor is started, and jobs that have not begun are refused.
async fn keep(context: Arc<Context>, link: Arc<SupervisorLink>, ended: JoinHandle<()>) {
    restart(&context, &link, ended).await;
    context.registry.refuse_all();
}

async fn restart(context: &Arc<Context>, link: &Arc<SupervisorLink>, mut ended: JoinHandle<()>) {
    let closing = context.tasks.closing();
    let backoff = context.policy.restarts.supervisor_backoff;
    let mut tries = 0;
    loop {
        // The reason does not matter: the actor should not have ended.
        drop(ended.await);
        link.connect(None);
        if context.tasks.is_closing() {
            return;
        }
        loop {
            tries += 1;
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                () = context.clock.sleep(backoff.wait(tries, fastrand::f64())) => {}
            }
            if let Some((actor, handle)) = spawn(context).await {
                ended = handle;
                link.connect(Some(actor));
                break;
            }
        }
        tries = 0;
        context.counts.supervisor_restarts.fetch_add(1, Ordering::Relaxed);
        context.measurements.actor_restarted(RestartedActor::Supervisor);
        let event = Event::of_none(context.now().wall, EventKind::SupervisorRestarted);
        context.events.publish(event);
        // The dead actor's mailbox is lost. Callers and the schedule send again when no reply
        // comes; jobs are in their slots; and the next reader of each slot reports a due token
        // again.
        context.registry.slots.each(|slot| {
            slot.reset_due();
            if slot.has_work() {
                context.mailbox.send(slot, Message::Ended);
            }
        });
    }
}
