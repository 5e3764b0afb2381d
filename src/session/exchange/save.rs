//! Saving new credentials: within the callers' time if the store answers, and in the background
//! until it does.

use std::sync::Arc;

use super::superseded_tokens::{self, SupersededTokens};
use crate::clock::timeout;
use crate::crash::CrashPoint;
use crate::journal::JournalFault;
use crate::log::log_session;
use crate::session::context::Context;
use crate::session::machine::Input;
use crate::session::slot::{Slot, Unsaved};
use crate::store::{self, Outcome, StoreError, StoreErrorKind};

/// Saves new credentials within [`Policy::save_timeout`](crate::policy::Policy::save_timeout). After
/// it the statement goes on, and callers get the unsaved credentials. Returns the credentials if
/// another process has closed or replaced the session.
pub(super) async fn in_time(context: &Arc<Context>, slot: &Arc<Slot>) -> Option<SupersededTokens> {
    let unsaved = slot.unsaved()?;
    let (store, id, statement) =
        (Arc::clone(&context.store), slot.id().clone(), unsaved.statement(context.now().boot));
    let mut save = Box::pin(async move { store.apply(&id, statement).await });
    match timeout(&*context.clock, context.policy.save_timeout, &mut save).await {
        Some(Ok(outcome)) => {
            context.steps.at(CrashPoint::Committed);
            return committed(context, slot, &unsaved, outcome);
        }
        Some(Err(error)) => mark_unsaved(context, slot, &error),
        None => {
            // Not dropped: the store may be executing it. `until_saved` sends it again, and the
            // store recognises the attempt.
            context.tasks.spawn(async move { drop(save.await) });
            mark_unsaved(context, slot, &StoreError::new(StoreErrorKind::Slow));
        }
    }
    None
}

/// Writes new credentials to the journal, if there is one, before they are sent to the store. If this
/// fails or takes longer than [`Policy::save_timeout`](crate::policy::Policy::save_timeout), they are
/// saved without it.
pub(super) async fn write_to_journal(context: &Context, slot: &Arc<Slot>) {
    let Some(unsaved) = slot.unsaved() else { return };
    let written = unsaved.write_to_journal(slot.id());
    let written = timeout(&*context.clock, context.policy.save_timeout, written).await;
    match written.unwrap_or(Err(JournalFault::Slow)) {
        Ok(true) => context.steps.at(CrashPoint::Journaled),
        Ok(false) => {}
        Err(fault) => {
            log_session!(
                context.log_limit(),
                warn,
                slot.id(),
                "could not write new credentials to the journal, and saves them without it",
                cause = %fault
            );
        }
    }
}

/// Saves unsaved credentials before a claim or a close: the store compares the generation of the
/// statement with its own. Returns the credentials if another process has closed or replaced the
/// session.
pub(super) async fn before_claim(
    context: &Context,
    slot: &Arc<Slot>,
) -> Result<Option<SupersededTokens>, StoreError> {
    let Some(unsaved) = slot.unsaved() else { return Ok(None) };
    let outcome = context.store.apply(slot.id(), unsaved.statement(context.now().boot)).await?;
    Ok(committed(context, slot, &unsaved, outcome))
}

/// Saves unsaved credentials, for as long as it takes. When a shutdown begins, it tries once more at
/// once.
pub(super) async fn until_saved(context: &Context, slot: &Arc<Slot>) {
    let closing = context.tasks.closing();
    let mut pressed = false;
    for attempt in 1.. {
        // Read anew in each round: the next exchange may have saved these, or have newer ones.
        let Some(unsaved) = slot.unsaved() else { return };
        if attempt > 1 && !unsaved.is_journaled() {
            // The disk may have failed for a moment. Without the entry, a kill loses the token.
            write_to_journal(context, slot).await;
        }
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

/// Saves the credentials of an exchange whose task panicked.
pub(super) fn resume_saving(context: &Arc<Context>, slot: &Arc<Slot>) {
    let (task_context, slot) = (Arc::clone(context), Arc::clone(slot));
    context.tasks.spawn(async move { until_saved(&task_context, &slot).await });
}

/// Steps the machine with the outcome of a commit. Returns the credentials if another process has
/// closed or replaced the session; of two tasks that save the same ones, only the first gets them.
fn committed(
    context: &Context,
    slot: &Arc<Slot>,
    unsaved: &Arc<Unsaved>,
    outcome: Outcome,
) -> Option<SupersededTokens> {
    match outcome {
        Outcome::Done(done) => {
            // Step only if this call has cleared them: another statement of the same commit may
            // have been faster. The slot may have newer credentials by now, and the machine would
            // take `Saved` for those.
            if slot.clear_unsaved(unsaved) {
                let store::Done { version, epoch, generation, suspect, .. } = done;
                context.apply(slot, Input::Saved { version, epoch, generation, suspect });
            }
            None
        }
        // A newer claim on the same credentials is running: the next try will find its result.
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
    log_session!(
        context.log_limit(),
        warn,
        slot.id(),
        "could not save new credentials, and tries again",
        cause = %error
    );
    context.apply(slot, Input::Unsaved);
}
