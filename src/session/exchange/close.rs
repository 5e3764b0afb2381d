//! Closing: durably first, then at the server, for as long as that takes.

use std::sync::Arc;

use super::orphan::{self, Orphan};
use super::{Guard, revocation, save};
use crate::error::{Error, ErrorKind};
use crate::session::core::Core;
use crate::session::flight::Landing;
use crate::session::machine::{Closed, Input, Start};
use crate::session::outcome::Revocation;
use crate::session::slot::Slot;
use crate::store::{Attempt, Close, Done, Outcome, Statement};

/// How often a close follows what other processes make of its session meanwhile. Defaults to 4:
/// each time is a refresh or a sign-in somewhere else.
const CLOSE_TRIES: u32 = 4;

/// Closes a session for a caller, who hears how it ended.
pub(crate) async fn close(mut guard: Guard) {
    guard.begin();
    let (core, slot) = (Arc::clone(&guard.core), Arc::clone(&guard.slot));
    let mut orphan = None;
    let ending = match durably(&core, &slot, &mut orphan).await {
        Ok((closed, version, attempt)) => {
            match core.apply(&slot, Input::ClosedDurably { version, closed }) {
                Some(Start::Revoke) => Ok(revocation::tell(&core, &slot, attempt, None).await),
                _ => Ok(Revocation::LocalOnly),
            }
        }
        Err(failed) => Err(failed),
    };
    guard.answer(ending);
    if let Some(orphan) = &orphan {
        orphan::end(&core, &slot, orphan).await;
    }
    guard.end(Landing::Again);
}

/// Writes the tombstone. A session that cannot be closed durably is not closed at all: a crash
/// would bring it back, and its user was told that it is gone.
async fn durably(
    core: &Core,
    slot: &Arc<Slot>,
    orphan: &mut Option<Orphan>,
) -> Result<(Closed, u64, Attempt), Error> {
    let (mut epoch, mut generation) = slot.look(|state| state.counters());
    let mut outbox = slot.look(|state| state.settled.as_ref()?.credentials().cloned());
    let (claim, ..) = slot.begin_claim(core.now());
    for _ in 0..CLOSE_TRIES {
        let close = async {
            if let Some(late) = save::first(core, slot).await? {
                *orphan = Some(late);
            }
            let (owner, lease) = (core.owner, core.policy.lease);
            let close = Close { generation, claim, owner, lease };
            core.store.apply(slot.id(), Statement::Close(close)).await
        };
        match core.await_store(close).await {
            Ok(Outcome::Done(Done { version, generation, fence, .. })) => {
                slot.claim_answered(claim, outbox.is_some());
                let attempt = Attempt { base: generation, fence, claim };
                let closed = Closed { epoch, generation, outbox, trouble: None, unrenewed: None };
                return Ok((closed, version, attempt));
            }
            // Another process was faster, and what it got is to be closed as well.
            Ok(Outcome::Conflict(Some(found))) => {
                let found = found.record;
                (epoch, generation, outbox) = (found.epoch, found.generation, found.credentials);
            }
            Ok(Outcome::Conflict(None) | Outcome::Leased(_) | Outcome::Wait { .. }) => break,
            Err(failed) => {
                core.apply(slot, Input::CloseFailed);
                return Err(failed.into_error());
            }
        }
    }
    core.apply(slot, Input::Conflict { found: None });
    Err(Error::new(ErrorKind::Superseded))
}
