//! A revocation that the schedule starts, because an earlier one failed.

use std::sync::Arc;
use std::time::Duration;

use super::Guard;
use super::revocation::{closed_of, revocation_failed, revoke_at_server, stored};
use crate::client::admission::ScheduledPermit;
use crate::error::Error;
use crate::session::context::Context;
use crate::session::from_record;
use crate::session::machine::Input;
use crate::session::single_flight::FlightOutcome;
use crate::session::slot::Slot;
use crate::store::{Attempt, Claim, Done, Intent, Outcome, Statement, Stored, TakeOver};

/// Revokes the tokens of a closed session at the server, unless another process does.
pub(crate) async fn revoke(mut guard: Guard, permit: ScheduledPermit) {
    guard.begin();
    let (context, slot) = (Arc::clone(&guard.context), Arc::clone(&guard.slot));
    match claim(&context, &slot).await {
        Ok(Ok(attempt)) => drop(revoke_at_server(&context, &slot, attempt, Some(permit)).await),
        Ok(Err(found)) => {
            let client = slot.tenant_client.client();
            let found = client.map(|client| from_record::found(&context, &client, *found));
            context.apply(&slot, Input::Conflict { found });
        }
        Err(failed) => {
            if let Some(closed) = closed_of(&slot) {
                revocation_failed(&context, &slot, &closed, failed);
            }
        }
    }
    guard.end(FlightOutcome::AskAgain);
}

/// Claims the session for the revocation. Gives the record if there is nothing to revoke any more,
/// or if another process does it.
async fn claim(context: &Context, slot: &Arc<Slot>) -> Result<Claimed, Error> {
    let claimed = apply_claim(context, slot).await?;
    let other = claimed.as_ref().err().and_then(|found| (**found).as_ref());
    let expired = other.filter(|found| from_record::lease_left(found).is_zero());
    if let Some(lease) = expired.and_then(|found| found.record.lease) {
        // Revocation is idempotent, so there is no need to wait for a request of the old holder.
        let (claim, hold) = (lease.claim, Duration::ZERO);
        let take_over = Statement::TakeOver(TakeOver {
            claim,
            hold,
            hold_of_dead: hold,
            hold_of_journal: hold,
            hold_back: hold,
        });
        stored(context, slot, take_over).await?;
        return apply_claim(context, slot).await;
    }
    Ok(claimed)
}

/// The attempt, or the record if another process was faster.
type Claimed = Result<Attempt, Box<Option<Stored>>>;

async fn apply_claim(context: &Context, slot: &Arc<Slot>) -> Result<Claimed, Error> {
    let (epoch, generation) = slot.with_state(|state| state.counters());
    let (id, replaces, _) = slot.begin_claim(context.now());
    let (owner, lease, intent) = (context.owner, context.policy.lease, Intent::Revoke);
    let epoch = Some(epoch);
    let claim = Claim { id, replaces, owner, intent, epoch, generation, lease, journal: false };
    let outcome = stored(context, slot, Statement::Claim(claim)).await?;
    // Only after the store has answered: otherwise the claim may be written, and the next one must
    // use its id.
    slot.claim_answered(id, outcome.has_claim(id));
    Ok(match outcome {
        Outcome::Done(Done { version, fence, .. }) => {
            context.apply(slot, Input::Wrote { version });
            Ok(Attempt { base: generation, fence, claim: id })
        }
        Outcome::Conflict(found) => Err(Box::new(found)),
        Outcome::Leased(found) | Outcome::Wait { found, .. } => Err(Box::new(Some(found))),
    })
}
