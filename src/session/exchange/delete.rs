//! Forget: deletes the record, then the state in memory.

use std::sync::Arc;

use super::Guard;
use crate::error::{Error, ErrorKind};
use crate::session::machine::Input;
use crate::session::single_flight::FlightOutcome;
use crate::store::{Outcome, Statement, StoreError};

/// Deletes a session's record for a caller. The caller learns whether there was one.
///
/// A commit of unsaved credentials may be on its way to the store meanwhile. If it arrives before
/// the delete, it is deleted with the record. If it arrives later, the store refuses it, because
/// its claim is older than the delete.
pub(crate) async fn forget(mut guard: Guard) {
    guard.begin();
    let (context, slot) = (Arc::clone(&guard.context), Arc::clone(&guard.slot));
    let delete = context.store.apply(slot.id(), Statement::Delete);
    let deleted = context.await_store(delete).await;
    let flight_outcome = match &deleted {
        Ok(_) => {
            context.apply(&slot, Input::Forgotten);
            // Not `AskAgain`: a caller that waits for a generation above the forgotten one would
            // wait until a new session has counted that far.
            FlightOutcome::Failed(Error::new(ErrorKind::NotEstablished).of_session(slot.id()))
        }
        Err(_) => {
            context.apply(&slot, Input::ForgetFailed);
            FlightOutcome::AskAgain
        }
    };
    let was_there = deleted.map(|outcome| matches!(outcome, Outcome::Done(_)));
    guard.answer(was_there.map_err(StoreError::into_error));
    guard.end(flight_outcome);
    // The guard holds the slot, and the registry removes only a slot that nobody holds.
    drop(guard);
    context.let_go(slot);
}
