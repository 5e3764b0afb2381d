//! What runs beside and above the supervisor actor: its restarts, the schedule, and the due scan.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ractor::{Actor, ActorRef};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::actor::{Office, SupervisorActor};
use super::link::Link;
use super::message::Order;
use super::{follow, presence, reseal};
use crate::clock::within;
use crate::event::{Event, EventKind};
use crate::log::log_session;
use crate::policy::{DUE_PAGE, SCHEDULE_HEARTBEAT, WAKES_AT_ONCE};
use crate::seal::KeyRing;
use crate::session::core::{Core, Host};
use crate::session::message::Message;
use crate::session::read;
use crate::store::Presence;

/// Starts the supervisor actor and keeps it alive. `ring` is what records are sealed with.
pub(crate) async fn start(core: &Arc<Core>, link: &Arc<Link>, ring: Option<KeyRing>) -> bool {
    presence::say(core, Presence::Register).await;
    let Some((actor, ended)) = spawn(core, link).await else { return false };
    link.connect(Some(actor));
    let (keeper, kept) = (Arc::clone(core), Arc::clone(link));
    core.tasks.attend(async move { keep(keeper, kept, ended).await });
    let (driver, driven) = (Arc::clone(core), Arc::clone(link));
    core.tasks.attend(async move { drive(driver, driven).await });
    let (scanner, scanned) = (Arc::clone(core), Arc::clone(link));
    core.tasks.attend(async move { scan(scanner, scanned).await });
    if let Some(ring) = ring {
        core.tasks.attend(reseal::attend(Arc::clone(core), ring));
    }
    core.tasks.attend(follow::follow(Arc::clone(core), Arc::clone(link)));
    core.tasks.attend(read::attend(Arc::clone(core)));
    core.tasks.attend(presence::attend(Arc::clone(core)));
    true
}

async fn spawn(core: &Arc<Core>, link: &Arc<Link>) -> Option<(ActorRef<Order>, JoinHandle<()>)> {
    let office = Office { core: Arc::clone(core), link: Arc::clone(link) };
    match Actor::spawn(None, SupervisorActor, office).await {
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
    link.refuse_all();
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
            if let Some((actor, handle)) = spawn(core, link).await {
                ended = handle;
                link.connect(Some(actor));
                break;
            }
        }
        tries = 0;
        core.counts.supervisor_restarts.fetch_add(1, Ordering::Relaxed);
        let event = Event::of_none(core.now().wall, EventKind::SupervisorRestarted);
        core.events.publish(event);
        // What was in the dead actor's mailbox is gone. Whoever waits for a reply sends again;
        // jobs are in their slots, wakes are armed anew, and what is due is told again.
        link.registry.each(|slot| {
            slot.forget_told();
            slot.disarm();
            if let Some(at) = slot.arm(&core.rules(slot)) {
                link.arm(slot.id(), at);
            }
            if slot.has_work() {
                link.send(slot, Message::Wake(None));
            }
        });
    }
}

/// Wakes sessions when they want to be woken. Not more than so many at once: after a long pause all
/// of them are due, and callers' messages would queue behind theirs.
async fn drive(core: Arc<Core>, link: Arc<Link>) {
    let closing = core.tasks.closing();
    let turns = Arc::new(Semaphore::new(WAKES_AT_ONCE));
    loop {
        let now = core.now().boot;
        while let Some(id) = link.take_due(now) {
            let turn = tokio::select! {
                turn = Arc::clone(&turns).acquire_owned() => turn.ok(),
                () = closing.cancelled() => return,
            };
            match link.slot(&id) {
                Ok(slot) => {
                    if !link.send(&slot, Message::Wake(turn)) {
                        // No supervisor actor at present; nobody else would try again.
                        link.arm(&id, now.after(core.policy.restarts.supervisor_backoff.cap));
                    }
                }
                Err(failed) => log_session!(warn, &id, error = %failed, "not woken"),
            }
        }
        let pause = link.next_wake().map_or(SCHEDULE_HEARTBEAT, |next| next.since(now));
        tokio::select! {
            () = core.clock.sleep(pause.min(SCHEDULE_HEARTBEAT)) => {}
            () = link.rearmed.notified() => {}
            () = closing.cancelled() => return,
        }
    }
}

/// Puts what the store wants looked at into the schedule.
async fn scan(core: Arc<Core>, link: Arc<Link>) {
    let mut after = None;
    while !core.tasks.is_closing() {
        let page = core.store.due(after.as_ref(), DUE_PAGE);
        let Some(Ok(page)) = within(&*core.clock, core.policy.store_wait, page).await else {
            tracing::warn!("due records are not read yet");
            core.clock.sleep(core.policy.store_wait).await;
            continue;
        };
        let now = core.now();
        for due in &page.due {
            if link.provider(due.id.provider().as_str()).is_some() {
                let left = due.at.duration_since(page.now.wall).unwrap_or_default();
                link.arm(&due.id, now.boot.after(left));
            } else {
                let kind = EventKind::ProviderUnknown(due.id.provider().clone());
                core.events.publish(Event::of_session(&due.id, now.wall, 0, kind));
            }
        }
        let Some(last) = page.due.last() else { return };
        after = Some(last.clone());
    }
}
