//! Forgetting: the record first, then what is in memory.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::unstored;
use crate::error::{Error, ErrorKind};
use crate::session::core::Core;
use crate::session::flight::{Landing, Pilot};
use crate::session::machine::Input;
use crate::session::message::Message;
use crate::session::slot::Slot;
use crate::store::{StoreError, StoreErrorKind};
use crate::task::{Place, within};

/// Deletes a session's record for a caller, who hears whether there was one.
///
/// What is owed may be on its way to the store meanwhile. Before the delete it is deleted with the
/// record; after it the store refuses it, because its claim is from before the delete.
pub(crate) async fn forget(
    core: Arc<Core>,
    slot: Arc<Slot>,
    pilot: Pilot,
    reply: oneshot::Sender<Result<bool, Error>>,
    _place: Place,
) {
    let delete = AssertUnwindSafe(core.store.delete(slot.id())).catch_unwind();
    let deleted = match within(&*core.clock, core.policy.store_wait, delete).await {
        Some(Ok(deleted)) => deleted,
        Some(Err(_)) => Err(StoreError::new(StoreErrorKind::Unavailable)),
        None => Err(StoreError::new(StoreErrorKind::Slow)),
    };
    let landing = match &deleted {
        Ok(_) => {
            core.apply(&slot, Input::Forgotten);
            // Not "ask again": who waited for a token newer than the forgotten one must not wait
            // until a successor has counted that far.
            Landing::Failed(Error::new(ErrorKind::NotEstablished).of_session(slot.id()))
        }
        Err(_) => {
            core.apply(&slot, Input::ForgetFailed);
            Landing::Again
        }
    };
    drop(reply.send(deleted.map_err(|failed| unstored(failed).of_session(slot.id()))));
    slot.land(&pilot, landing);
    core.deliver(&slot, Message::Ended);
    core.let_go(slot);
}
