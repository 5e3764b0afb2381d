//! Sessions that end because somebody said so: an API, or an operation of ours.

use std::sync::Arc;

use super::core::Core;
use super::machine::{Input, State};
use super::slot::Slot;
use crate::clock::within;
use crate::error::LostReason;
use crate::log::log_session;
use crate::store::{Attempt, Claim, Claimed, Intent, Settle, SettleTo, StoreError};
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
        let rest = match state {
            State::Rest(rest) => rest,
            State::Unloaded { .. }
            | State::Challenged { .. }
            | State::Establishing { .. }
            | State::Refreshing { .. }
            | State::Closing { .. }
            | State::Revoking { .. } => return None,
        };
        (rest.lost() == Some(reason)).then(|| rest.counters())
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

/// Claims the record and settles it as lost. A grant that is claimed meanwhile stands: it is
/// committed by its epoch, whatever the fence.
async fn write(
    core: &Core,
    slot: &Slot,
    (epoch, generation): (u64, u64),
    reason: LostReason,
) -> Result<(), StoreError> {
    let (owner, lease, at) = (core.owner, core.policy.lease, core.now());
    let claim = Claim { owner, intent: Intent::Refresh, epoch, generation, at, lease };
    let mut claimed = core.store.claim(slot.id(), claim).await?;
    if let Claimed::Moved(Some(record)) = &claimed
        && reason == LostReason::SessionDeleted
        && (record.epoch, record.generation) == (epoch, generation)
        && record.lost == Some(LostReason::TokensDeleted)
    {
        // What is lost already is not claimed for a refresh, and its access token is dead now too.
        let claim = Claim { intent: Intent::Establish, ..claim };
        claimed = core.store.claim(slot.id(), claim).await?;
    }
    if let Claimed::Granted { fence } = claimed {
        let attempt = Attempt { base: generation, fence };
        let settle = Settle { epoch, attempt, to: SettleTo::Lost(reason), retry_at: None };
        core.store.settle(slot.id(), settle).await?;
    }
    Ok(())
}
