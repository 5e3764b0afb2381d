//! Saving: at once where the store answers, and until it answers where it does not.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::orphan::{self, Orphan};
use crate::clock::within;
use crate::crash::CrashPoint;
use crate::log::log_session;
use crate::session::core::Core;
use crate::session::machine::Input;
use crate::session::slot::{Owed, Slot};
use crate::store::{self, Outcome, StoreError, StoreErrorKind};

/// Saves what the slot owes within the time that callers are made to wait. Past it, the statement
/// goes on and the credentials are served as owed. They come back if they are not the session's
/// any more.
pub(super) async fn in_time(core: &Arc<Core>, slot: &Arc<Slot>) -> Option<Orphan> {
    let owed = slot.owed()?;
    let (store, id, save) =
        (Arc::clone(&core.store), slot.id().clone(), owed.statement(core.now().boot));
    // In a task of its own, so that a slow statement is not dropped half-way. Whoever pays later
    // sends it again, and it finds its own attempt.
    let (done, answer) = oneshot::channel();
    core.tasks.run(async move { drop(done.send(store.apply(&id, save).await)) });
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
pub(super) async fn first(core: &Core, slot: &Arc<Slot>) -> Result<Option<Orphan>, StoreError> {
    let Some(owed) = slot.owed() else { return Ok(None) };
    let committed = core.store.apply(slot.id(), owed.statement(core.now().boot)).await?;
    Ok(settle(core, slot, &owed, committed))
}

/// Pays what the slot owes, for as long as it takes. Shutdown presses for one attempt at once.
pub(super) async fn pay(core: &Core, slot: &Arc<Slot>) {
    let closing = core.tasks.closing();
    let mut pressed = false;
    for attempt in 1.. {
        let Some(owed) = slot.owed() else { return };
        let pause = core.policy.save_backoff.wait(attempt, fastrand::f64());
        tokio::select! {
            () = core.clock.sleep(pause) => {}
            () = closing.cancelled(), if !pressed => pressed = true,
        }
        let commit = core.store.apply(slot.id(), owed.statement(core.now().boot));
        match core.await_store(commit).await {
            Ok(committed) => {
                if let Some(orphan) = settle(core, slot, &owed, committed) {
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
fn settle(core: &Core, slot: &Arc<Slot>, owed: &Arc<Owed>, committed: Outcome) -> Option<Orphan> {
    match committed {
        Outcome::Done(done) => {
            // Not if another statement of the same commit was faster: then the slot may hold
            // newer credentials by now, and this is no news of them.
            if slot.pay(owed) {
                let store::Done { version, epoch, generation, suspect, .. } = done;
                core.apply(slot, Input::Saved { version, epoch, generation, suspect });
            }
            None
        }
        // A newer claim on the same credentials is running.
        Outcome::Leased(_) | Outcome::Wait { .. } => {
            core.apply(slot, Input::Owed);
            None
        }
        Outcome::Conflict(found) => slot.pay(owed).then(|| {
            let orphan = Orphan::new(owed, found);
            core.apply(slot, Input::Orphaned { found: orphan.found(core, slot) });
            orphan
        }),
    }
}

fn owe(core: &Core, slot: &Arc<Slot>, unsaved: &StoreError) {
    log_session!(warn, slot.id(), error = %unsaved, "new credentials are not saved yet");
    core.apply(slot, Input::Owed);
}
