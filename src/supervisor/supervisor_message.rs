//! The messages of the supervisor actor.

use std::sync::Arc;

use ractor::ActorId;

use crate::session::message::Message;
use crate::session::slot::Slot;

/// A message for the supervisor actor.
pub(crate) enum SupervisorMessage {
    /// Forward this message to the session's actor, and start the actor if there is none.
    Deliver { slot: Arc<Slot>, message: Message },
    /// This session actor is idle. `seen` is how many messages it has handled.
    Idle { slot: Arc<Slot>, actor: ActorId, seen: u64 },
}
