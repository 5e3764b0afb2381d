//! Close: first in the store, then at the server. The schedule repeats the revocation until the
//! server has answered it.

use std::sync::Arc;

use super::superseded_tokens::{self, SupersededTokens};
use super::{Guard, revocation, save};
use crate::error::{Error, ErrorKind};
use crate::session::context::Context;
use crate::session::machine::{Closed, Input, Start};
use crate::session::outcome::Revocation;
use crate::session::single_flight::FlightOutcome;
use crate::session::slot::Slot;
use crate::store::{Attempt, Close, Done, Outcome, Statement};

/// How often a close is written again because another process has changed the session. Defaults to
/// 4: each conflict takes a refresh or a sign-in in another process.
const CLOSE_TRIES: u32 = 4;

/// Closes a session for a caller. The caller gets the outcome.
pub(crate) async fn close(mut guard: Guard) {
    guard.begin();
    let (context, slot) = (Arc::clone(&guard.context), Arc::clone(&guard.slot));
    let mut superseded = None;
    let ending = match durably(&context, &slot, &mut superseded).await {
        Ok((closed, version, attempt)) => {
            // Step before the request: the server may take long, and no caller must get a token
            // of a closed session meanwhile.
            match context.apply(&slot, Input::ClosedDurably { version, closed }) {
                Some(Start::Revoke) => {
                    Ok(revocation::revoke_at_server(&context, &slot, attempt, None).await)
                }
                _ => Ok(Revocation::LocalOnly),
            }
        }
        Err(failed) => Err(failed),
    };
    guard.answer(ending);
    if let Some(superseded) = &superseded {
        // Before the flight completes: after it a new grant may begin, which this could hit.
        superseded_tokens::revoke_or_report(&context, &slot, superseded).await;
    }
    guard.end(FlightOutcome::AskAgain);
}

/// Writes the close to the store. If that fails, the session stays open: otherwise a crash would
/// bring back a session that the caller believes to be closed.
async fn durably(
    context: &Context,
    slot: &Arc<Slot>,
    superseded: &mut Option<SupersededTokens>,
) -> Result<(Closed, u64, Attempt), Error> {
    let (mut epoch, mut generation) = slot.with_state(|state| state.counters());
    let mut outbox = slot.with_state(|state| state.settled.as_ref()?.credentials().cloned());
    let (claim, ..) = slot.begin_claim(context.now());
    for _ in 0..CLOSE_TRIES {
        let close = async {
            // Save first: the store compares the close with the generation that it has.
            if let Some(late) = save::before_claim(context, slot).await? {
                *superseded = Some(late);
            }
            let (owner, lease) = (context.owner, context.policy.lease);
            let close = Close { generation, claim, owner, lease };
            context.store.apply(slot.id(), Statement::Close(close)).await
        };
        match context.await_store(close).await {
            Ok(Outcome::Done(Done { version, generation, fence, .. })) => {
                slot.claim_answered(claim, outbox.is_some());
                let attempt = Attempt { base: generation, fence, claim };
                let closed = Closed { epoch, generation, outbox, backoff: None, unrenewed: None };
                return Ok((closed, version, attempt));
            }
            // Another process has got newer tokens: close those, so that they are revoked as well.
            Ok(Outcome::Conflict(Some(found))) => {
                let found = found.record;
                (epoch, generation, outbox) = (found.epoch, found.generation, found.credentials);
            }
            Ok(Outcome::Conflict(None) | Outcome::Leased(_) | Outcome::Wait { .. }) => break,
            Err(failed) => {
                context.apply(slot, Input::CloseFailed);
                return Err(failed.into_error());
            }
        }
    }
    context.apply(slot, Input::Conflict { found: None });
    Err(Error::new(ErrorKind::Superseded))
}
