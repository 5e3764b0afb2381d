//! Sessions that are lost because of an API's response or the effect of an operation.

use std::sync::Arc;

use super::context::Context;
use super::machine::{Input, Run, Settled};
use super::slot::Slot;
use crate::clock::timeout;
use crate::error::LostReason;
use crate::log::log_session;
use crate::store::{Done, Lose, Outcome, Statement, StoreError};
use crate::task::TaskGuard;

/// Ends the session of this generation: in memory at once, and in the store in a task, if there is a
/// task guard. This does nothing to a newer generation. A running refresh gets the loss from the
/// server by itself.
pub(crate) fn end(
    context: &Arc<Context>,
    slot: &Arc<Slot>,
    generation: u64,
    reason: LostReason,
    task_guard: Option<TaskGuard>,
) {
    context.apply(slot, Input::Dead { generation, reason });
    let ended = slot.with_state(|state| {
        let lost = state.settled.as_ref().and_then(Settled::lost);
        let refreshing = matches!(state.running, Some(Run::Refresh { .. }));
        (lost == Some(reason) && !refreshing).then(|| state.counters())
    });
    // A refresh that runs learns of the loss from the server, and settles it.
    let (Some(counters), Some(task_guard)) = (ended, task_guard) else { return };
    let (task_context, ended) = (Arc::clone(context), Arc::clone(slot));
    context.tasks.spawn(async move {
        let written = write(&task_context, &ended, counters, reason);
        if let Some(Err(unwritten)) =
            timeout(&*task_context.clock, task_context.policy.store_timeout, written).await
        {
            // After a restart the server reports the loss again.
            log_session!(
                task_context.log_limit(),
                warn,
                ended.id(),
                "could not save that it is lost",
                cause = %unwritten
            );
        }
        drop(task_guard);
    });
}

/// Writes the loss to the record. A claim of another process does not prevent it: the commit of that
/// claim marks the new tokens as suspect, and its settle leaves the session lost.
async fn write(
    context: &Context,
    slot: &Arc<Slot>,
    (epoch, generation): (u64, u64),
    reason: LostReason,
) -> Result<(), StoreError> {
    let lose = Statement::Lose(Lose { epoch, generation, reason });
    if let Outcome::Done(Done { version, .. }) = context.store.apply(slot.id(), lose).await? {
        context.apply(slot, Input::Wrote { version });
    }
    Ok(())
}
