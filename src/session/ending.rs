//! Sessions that end because somebody said so: an API, or an operation of ours.

use std::sync::Arc;

use super::core::Core;
use super::machine::{Input, Run, Settled};
use super::slot::Slot;
use crate::clock::within;
use crate::error::LostReason;
use crate::log::log_session;
use crate::store::{Done, Lose, Outcome, Statement, StoreError};
use crate::task::Place;

/// Ends the session of this generation: here at once, and in the store as soon as that can be
/// written, for which it needs a place. A newer generation, or an exchange that runs, finds out by
/// itself.
pub(crate) fn end(
    core: &Arc<Core>,
    slot: &Arc<Slot>,
    generation: u64,
    reason: LostReason,
    place: Option<Place>,
) {
    core.apply(slot, Input::Dead { generation, reason });
    let ended = slot.look(|state| {
        let lost = state.settled.as_ref().and_then(Settled::lost);
        let refreshing = matches!(state.running, Some(Run::Refresh { .. }));
        (lost == Some(reason) && !refreshing).then(|| state.counters())
    });
    let (Some(counters), Some(place)) = (ended, place) else { return };
    let (keeper, ended) = (Arc::clone(core), Arc::clone(slot));
    core.tasks.run(async move {
        let written = write(&keeper, &ended, counters, reason);
        if let Some(Err(unwritten)) =
            within(&*keeper.clock, keeper.policy.store_wait, written).await
        {
            // A restart finds out again, from the server.
            log_session!(warn, ended.id(), error = %unwritten, "its end is not written");
        }
        drop(place);
    });
}

/// A claim that is out finds out by itself: its commit makes the session suspect, and its settle
/// leaves it lost.
async fn write(
    core: &Core,
    slot: &Arc<Slot>,
    (epoch, generation): (u64, u64),
    reason: LostReason,
) -> Result<(), StoreError> {
    let lose = Statement::Lose(Lose { epoch, generation, reason });
    if let Outcome::Done(Done { version, .. }) = core.store.apply(slot.id(), lose).await? {
        core.apply(slot, Input::Wrote { version });
    }
    Ok(())
}
