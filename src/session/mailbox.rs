//! The mailbox: the way from a session to its actor.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::message::Message;
use super::slot::Slot;

/// Delivers messages to session actors. The supervisor implements it, and starts the actors.
pub(crate) trait Mailbox: Send + Sync {
    /// Sends a message to the session's actor, and starts the actor if there is none. A message that
    /// cannot be delivered is dropped together with its reply; false if that is known at once.
    fn send(&self, slot: &Arc<Slot>, message: Message) -> bool;

    /// Waits until there is a supervisor actor.
    fn connected(&self) -> BoxFuture<'_, ()>;
}
