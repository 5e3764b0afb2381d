//! The way from a session to its actor.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::message::Message;
use super::slot::Slot;

/// Brings messages to session actors. Implemented by the supervisor, which starts the actors.
pub(crate) trait Mailbox: Send + Sync {
    /// Brings a message to the session's actor, which is started for it. A message that cannot
    /// be brought is dropped, and its reply with it; false if that is known at once.
    fn send(&self, slot: &Arc<Slot>, message: Message) -> bool;

    /// Waits until there is somebody who takes messages.
    fn connected(&self) -> BoxFuture<'_, ()>;
}
