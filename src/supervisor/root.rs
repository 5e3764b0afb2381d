//! What runs beside and above the supervisor actor, and how it is started again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ractor::{Actor, ActorRef};
use tokio::task::JoinHandle;

use super::actor::SupervisorActor;
use super::link::Link;
use super::message::Order;
use super::{eviction, follow, presence, reseal, scheduler};
use crate::event::{Event, EventKind};
use crate::seal::KeyRing;
use crate::session::core::Core;
use crate::session::message::Message;
use crate::session::read;
use crate::store::Presence;

/// Starts the supervisor actor and keeps it alive. `ring` is what records are sealed with.
pub(crate) async fn start(core: &Arc<Core>, link: &Arc<Link>, ring: Option<KeyRing>) -> bool {
    presence::say(core, Presence::Register).await;
    let Some((actor, ended)) = spawn(core).await else { return false };
    link.connect(Some(actor));
    let (keeper, kept) = (Arc::clone(core), Arc::clone(link));
    core.tasks.attend(async move { keep(keeper, kept, ended).await });
    for provider in core.registry.providers() {
        let shared = || (Arc::clone(core), Arc::clone(provider));
        let (poller, driver) = (shared(), shared());
        core.tasks.attend(scheduler::poll(poller.0, poller.1));
        core.tasks.attend(scheduler::drive(driver.0, driver.1));
    }
    core.tasks.attend(scheduler::report_unknown(Arc::clone(core)));
    if let Some(ring) = ring {
        core.tasks.attend(reseal::attend(Arc::clone(core), ring));
    }
    core.tasks.attend(follow::follow(Arc::clone(core)));
    core.tasks.attend(read::attend(Arc::clone(core)));
    core.tasks.attend(eviction::attend(Arc::clone(core)));
    core.tasks.attend(presence::attend(Arc::clone(core)));
    true
}

async fn spawn(core: &Arc<Core>) -> Option<(ActorRef<Order>, JoinHandle<()>)> {
    match Actor::spawn(None, SupervisorActor, Arc::clone(core)).await {
        Ok(spawned) => Some(spawned),
        Err(failed) => {
            tracing::error!(error = %failed, "no supervisor actor");
            None
        }
    }
}

/// Awaits the supervisor actor and starts another, until shutdown. A shutdown that falls between
/// the two starts none, and jobs that have not begun are refused.
async fn keep(core: Arc<Core>, link: Arc<Link>, ended: JoinHandle<()>) {
    restart(&core, &link, ended).await;
    core.registry.refuse_all();
}

async fn restart(core: &Arc<Core>, link: &Arc<Link>, mut ended: JoinHandle<()>) {
    let closing = core.tasks.closing();
    let backoff = core.policy.restarts.supervisor_backoff;
    let mut tries = 0;
    loop {
        // How it ended does not matter: it is not to end.
        drop(ended.await);
        link.connect(None);
        if core.tasks.is_closing() {
            return;
        }
        loop {
            tries += 1;
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                () = core.clock.sleep(backoff.wait(tries, fastrand::f64())) => {}
            }
            if let Some((actor, handle)) = spawn(core).await {
                ended = handle;
                link.connect(Some(actor));
                break;
            }
        }
        tries = 0;
        core.counts.supervisor_restarts.fetch_add(1, Ordering::Relaxed);
        let event = Event::of_none(core.now().wall, EventKind::SupervisorRestarted);
        core.events.publish(event);
        // What was in the dead actor's mailbox is gone. Whoever waits for a reply sends again, the
        // schedule too; jobs are in their slots, and what is due is told again.
        core.registry.slots.each(|slot| {
            slot.forget_told();
            if slot.has_work() {
                core.mailbox.send(slot, Message::Ended);
            }
        });
    }
}
