//! The way from handles and sessions to the supervisor actor that runs now.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use ractor::{ActorRef, ActorStatus};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::supervisor_message::SupervisorMessage;
use crate::session::mailbox::Mailbox;
use crate::session::message::Message;
use crate::session::slot::Slot;

/// The address of the supervisor actor, which outlives each actor. Senders look it up for each
/// message, because an address that they kept would lead to a dead actor after a restart.
pub(crate) struct SupervisorLink {
    actor: watch::Sender<Option<ActorRef<SupervisorMessage>>>,
    /// Set when no supervisor actor may run any more.
    ended: CancellationToken,
}

impl SupervisorLink {
    pub(crate) fn new() -> Self {
        Self { actor: watch::Sender::new(None), ended: CancellationToken::new() }
    }

    pub(crate) fn actor(&self) -> Option<ActorRef<SupervisorMessage>> {
        self.actor.borrow().clone()
    }

    /// Sets the actor that runs now. An actor that comes after [`end`](Self::end) is stopped.
    pub(crate) fn connect(&self, actor: Option<ActorRef<SupervisorMessage>>) {
        self.actor.send_replace(actor);
        if self.ended.is_cancelled() {
            self.stop();
        }
    }

    /// Stops the supervisor actor, and one that is just being started. No actor then begins jobs
    /// any more.
    pub(crate) fn end(&self) {
        self.ended.cancel();
        self.stop();
    }

    fn stop(&self) {
        if let Some(actor) = self.actor() {
            actor.stop(None);
        }
    }
}

impl Mailbox for SupervisorLink {
    fn send(&self, slot: &Arc<Slot>, message: Message) -> bool {
        let message = SupervisorMessage::Deliver { slot: Arc::clone(slot), message };
        self.actor().is_some_and(|actor| actor.send_message(message).is_ok())
    }

    fn connected(&self) -> BoxFuture<'_, ()> {
        let mut seen = self.actor.subscribe();
        Box::pin(async move {
            let runs = |actor: &Option<ActorRef<SupervisorMessage>>| {
                actor.as_ref().is_some_and(|actor| actor.get_status() < ActorStatus::Draining)
            };
            // This cannot fail, because this link holds the sender.
            drop(seen.wait_for(runs).await);
        })
    }
}
