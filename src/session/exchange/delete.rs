//! Forgetting: the record first, then what is in memory.

use std::sync::Arc;

use super::Guard;
use crate::error::{Error, ErrorKind};
use crate::session::machine::Input;
use crate::session::single_flight::FlightOutcome;
use crate::store::{Outcome, Statement, StoreError};

/// Deletes a session's record for a caller, who hears whether there was one.
///
/// What is owed may be on its way to the store meanwhile. Before the delete it is deleted with the
/// record; after it the store refuses it, because its claim is from before the delete.
pub(crate) async fn forget(mut guard: Guard) {
    guard.begin();
    let (context, slot) = (Arc::clone(&guard.context), Arc::clone(&guard.slot));
    let delete = context.store.apply(slot.id(), Statement::Delete);
    let deleted = context.await_store(delete).await;
    let flight_outcome = match &deleted {
        Ok(_) => {
            context.apply(&slot, Input::Forgotten);
            // Not "ask again": who waited for a token newer than the forgotten one must not wait
            // until a successor has counted that far.
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
    drop(guard);
    context.let_go(slot);
}
