//! Saving: at once where the store answers, and until it answers where it does not.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::superseded_tokens::{self, SupersededTokens};
use crate::clock::timeout;
use crate::crash::CrashPoint;
use crate::log::log_session;
use crate::session::context::Context;
use crate::session::machine::Input;
use crate::session::slot::{Slot, Unsaved};
use crate::store::{self, Outcome, StoreError, StoreErrorKind};

/// Saves new credentials within the time that callers wait for that. After it the statement goes
/// on, and the credentials are served unsaved. They come back if they are not the session's any
/// more.
pub(super) async fn in_time(context: &Arc<Context>, slot: &Arc<Slot>) -> Option<SupersededTokens> {
    let unsaved = slot.unsaved()?;
    let (store, id, save) =
        (Arc::clone(&context.store), slot.id().clone(), unsaved.statement(context.now().boot));
    // In a task of its own, so that a slow statement is not dropped half-way. A later try
    // sends it again, and the store finds the same attempt.
    let (done, answer) = oneshot::channel();
    context.tasks.spawn(async move { drop(done.send(store.apply(&id, save).await)) });
    match timeout(&*context.clock, context.policy.save_timeout, answer).await {
        Some(Ok(Ok(outcome))) => {
            context.steps.at(CrashPoint::Committed);
            committed(context, slot, &unsaved, outcome)
        }
        Some(Ok(Err(error))) => {
            mark_unsaved(context, slot, &error);
            None
        }
        Some(Err(_)) | None => {
            mark_unsaved(context, slot, &StoreError::new(StoreErrorKind::Slow));
            None
        }
    }
}

/// Saves what the store does not have yet, before a claim or a close: the store could not compare
/// a statement on it. Credentials that are not the session's any more come back.
pub(super) async fn before_claim(
    context: &Context,
    slot: &Arc<Slot>,
) -> Result<Option<SupersededTokens>, StoreError> {
    let Some(unsaved) = slot.unsaved() else { return Ok(None) };
    let outcome = context.store.apply(slot.id(), unsaved.statement(context.now().boot)).await?;
    Ok(committed(context, slot, &unsaved, outcome))
}

/// Saves what the store does not have yet, for as long as it takes. When a shutdown begins, it tries
/// once more at once.
pub(super) async fn until_saved(context: &Context, slot: &Arc<Slot>) {
    let closing = context.tasks.closing();
    let mut pressed = false;
    for attempt in 1.. {
        let Some(unsaved) = slot.unsaved() else { return };
        let pause = context.policy.save_backoff.wait(attempt, fastrand::f64());
        tokio::select! {
            () = context.clock.sleep(pause) => {}
            () = closing.cancelled(), if !pressed => pressed = true,
        }
        let commit = context.store.apply(slot.id(), unsaved.statement(context.now().boot));
        match context.await_store(commit).await {
            Ok(outcome) => {
                if let Some(superseded) = committed(context, slot, &unsaved, outcome) {
                    superseded_tokens::revoke_or_report(context, slot, &superseded).await;
                }
            }
            Err(error) => mark_unsaved(context, slot, &error),
        }
    }
}

/// Saves the credentials of an exchange whose own task died.
pub(super) fn resume_saving(context: &Arc<Context>, slot: &Arc<Slot>) {
    let (task_context, slot) = (Arc::clone(context), Arc::clone(slot));
    context.tasks.spawn(async move { until_saved(&task_context, &slot).await });
}

/// Credentials come back if they are not the session's any more. If two tasks save them at once,
/// the first to hear of it gets them.
fn committed(
    context: &Context,
    slot: &Arc<Slot>,
    unsaved: &Arc<Unsaved>,
    outcome: Outcome,
) -> Option<SupersededTokens> {
    match outcome {
        Outcome::Done(done) => {
            // Not if another statement of the same commit was faster: then the slot may hold
            // newer credentials by now, and this is no news of them.
            if slot.clear_unsaved(unsaved) {
                let store::Done { version, epoch, generation, suspect, .. } = done;
                context.apply(slot, Input::Saved { version, epoch, generation, suspect });
            }
            None
        }
        // A newer claim on the same credentials is running.
        Outcome::Leased(_) | Outcome::Wait { .. } => {
            context.apply(slot, Input::Unsaved);
            None
        }
        Outcome::Conflict(found) => slot.clear_unsaved(unsaved).then(|| {
            let superseded = SupersededTokens::new(unsaved, found);
            context.apply(slot, Input::TokensSuperseded { found: superseded.found(context, slot) });
            superseded
        }),
    }
}

fn mark_unsaved(context: &Context, slot: &Arc<Slot>, error: &StoreError) {
    log_session!(warn, slot.id(), %error, "new credentials are not saved yet");
    context.apply(slot, Input::Unsaved);
}
