//! Sessions that end because somebody said so: an API, or an operation of ours.

use std::sync::Arc;

use super::context::Context;
use super::machine::{Input, Run, Settled};
use super::slot::Slot;
use crate::clock::timeout;
use crate::error::LostReason;
use crate::log::log_session;
use crate::store::{Done, Lose, Outcome, Statement, StoreError};
use crate::task::TaskGuard;

/// Ends the session of this generation: here at once, and in the store as soon as that can be
/// written, for which it needs a place. A newer generation, or an exchange that runs, finds out by
/// itself.
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
    let (Some(counters), Some(task_guard)) = (ended, task_guard) else { return };
    let (task_context, ended) = (Arc::clone(context), Arc::clone(slot));
    context.tasks.spawn(async move {
        let written = write(&task_context, &ended, counters, reason);
        if let Some(Err(unwritten)) =
            timeout(&*task_context.clock, task_context.policy.store_timeout, written).await
        {
            // A restart finds out again, from the server.
            log_session!(warn, ended.id(), error = %unwritten, "its end is not written");
        }
        drop(task_guard);
    });
}

/// A claim that is out finds out by itself: its commit makes the session suspect, and its settle
/// leaves it lost.
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
