//! The link between handles, sessions and whatever supervisor actor lives now.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use ractor::{ActorRef, ActorStatus};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::supervisor_message::SupervisorMessage;
use crate::session::mailbox::Mailbox;
use crate::session::message::Message;
use crate::session::slot::Slot;

/// The address of the supervisor actor, which survives it. It is looked up for each message:
/// whoever kept it would talk to a dead actor after a restart.
pub(crate) struct SupervisorLink {
    actor: watch::Sender<Option<ActorRef<SupervisorMessage>>>,
    /// No supervisor actor is to live any more.
    over: CancellationToken,
}

impl SupervisorLink {
    pub(crate) fn new() -> Self {
        Self { actor: watch::Sender::new(None), over: CancellationToken::new() }
    }

    pub(crate) fn actor(&self) -> Option<ActorRef<SupervisorMessage>> {
        self.actor.borrow().clone()
    }

    /// An actor that comes when all is over is stopped.
    pub(crate) fn connect(&self, actor: Option<ActorRef<SupervisorMessage>>) {
        self.actor.send_replace(actor);
        if self.over.is_cancelled() {
            self.stop();
        }
    }

    /// Stops the supervisor actor, and another one that is just being started. Nobody is left then
    /// to begin jobs.
    pub(crate) fn end(&self) {
        self.over.cancel();
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
            let lives = |actor: &Option<ActorRef<SupervisorMessage>>| {
                actor.as_ref().is_some_and(|actor| actor.get_status() < ActorStatus::Draining)
            };
            // The sender is in this link, so this cannot fail.
            drop(seen.wait_for(lives).await);
        })
    }
}
