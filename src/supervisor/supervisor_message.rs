//! What the supervisor actor is told.

use std::sync::Arc;

use ractor::ActorId;

use crate::session::message::Message;
use crate::session::slot::Slot;

/// A message for the supervisor actor.
pub(crate) enum SupervisorMessage {
    /// Bring this to the session's actor.
    Deliver { slot: Arc<Slot>, message: Message },
    /// This actor has nothing to do, having seen so many messages.
    Idle { slot: Arc<Slot>, actor: ActorId, seen: u64 },
}
