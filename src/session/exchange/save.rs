//! Saving: at once where the store answers, and until it answers where it does not.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::oneshot;

use super::orphan::{self, Orphan};
use crate::clock::{Now, within};
use crate::crash::CrashPoint;
use crate::log::log_session;
use crate::session::core::Core;
use crate::session::machine::{Held, Input};
use crate::session::slot::Slot;
use crate::store::{Commit, Committed, StoreError, StoreErrorKind};

/// When somebody should look at these credentials, by the wall clock.
pub(super) fn due_at(held: &Held, now: Now, ahead: bool) -> Option<SystemTime> {
    let refresh = held.due.filter(|_| ahead);
    let due = [held.expiring, held.refresh_expires, refresh].into_iter().flatten().min();
    due.map(|due| now.wall_at(due))
}

/// Saves what the slot owes within the time that callers are made to wait. Past it, the statement
/// goes on and the credentials are served as owed. They come back if they are not the session's
/// any more.
pub(super) async fn in_time(core: &Arc<Core>, slot: &Arc<Slot>) -> Option<Orphan> {
    let owed = slot.owed()?;
    let (store, id, save) = (Arc::clone(&core.store), slot.id().clone(), Arc::clone(&owed));
    // In a task of its own, so that a slow statement is not dropped half-way. Whoever pays later
    // sends it again, and it finds its own attempt.
    let (done, answer) = oneshot::channel();
    core.tasks.run(async move { drop(done.send(store.commit(&id, Commit::clone(&save)).await)) });
    match within(&*core.clock, core.policy.save_wait, answer).await {
        Some(Ok(Ok(committed))) => {
            core.steps.at(CrashPoint::Committed);
            settle(core, slot, &owed, committed)
        }
        Some(Ok(Err(unsaved))) => {
            owe(core, slot, &unsaved);
            None
        }
        Some(Err(_)) | None => {
            owe(core, slot, &StoreError::new(StoreErrorKind::Slow));
            None
        }
    }
}

/// Saves what is owed before a claim or a close: a statement on what the store does not have
/// could not be compared. What is not the session's any more comes back.
pub(super) async fn first(core: &Core, slot: &Slot) -> Result<Option<Orphan>, StoreError> {
    let Some(owed) = slot.owed() else { return Ok(None) };
    let committed = core.store.commit(slot.id(), Commit::clone(&owed)).await?;
    Ok(settle(core, slot, &owed, committed))
}

/// Pays what the slot owes, for as long as it takes. Shutdown presses for one attempt at once.
pub(super) async fn pay(core: &Core, slot: &Slot) {
    let closing = core.tasks.closing();
    let mut pressed = false;
    for attempt in 1.. {
        let Some(owed) = slot.owed() else { return };
        let pause = core.policy.save_backoff.wait(attempt, fastrand::f64());
        tokio::select! {
            () = core.clock.sleep(pause) => {}
            () = closing.cancelled(), if !pressed => pressed = true,
        }
        let commit = core.store.commit(slot.id(), Commit::clone(&owed));
        let committed = within(&*core.clock, core.policy.store_wait, commit).await;
        match committed.unwrap_or_else(|| Err(StoreError::new(StoreErrorKind::Slow))) {
            Ok(committed) => {
                if let Some(orphan) = settle(core, slot, &owed, committed) {
                    core.apply(slot, Input::Outdated);
                    orphan::end(core, slot, &orphan).await;
                }
            }
            Err(unsaved) => owe(core, slot, &unsaved),
        }
    }
}

/// Pays for an exchange whose own task died.
pub(super) fn resume(core: &Arc<Core>, slot: &Arc<Slot>) {
    let (payer, debtor) = (Arc::clone(core), Arc::clone(slot));
    core.tasks.run(async move { pay(&payer, &debtor).await });
}

/// The credentials come back if they are not the session's any more: to one of those who save
/// them, whoever hears of it first.
fn settle(core: &Core, slot: &Slot, owed: &Arc<Commit>, committed: Committed) -> Option<Orphan> {
    match committed {
        Committed::Stored { epoch, generation, suspect } => {
            // Not if another statement of the same commit was faster: then the slot may hold
            // newer credentials by now, and this is no news of them.
            if slot.pay(owed) {
                core.apply(slot, Input::Saved { epoch, generation, suspect });
            }
            None
        }
        Committed::Busy => {
            core.apply(slot, Input::Owed);
            None
        }
        Committed::Superseded => slot.pay(owed).then(|| Orphan::new(owed)),
    }
}

fn owe(core: &Core, slot: &Slot, unsaved: &StoreError) {
    log_session!(warn, slot.id(), error = %unsaved, "new credentials are not saved yet");
    core.apply(slot, Input::Owed);
}
