//! What a session actor is told, and how it answers.

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::client::admission::ScheduledPermit;

/// An exchange that was started for a caller: it runs when it is polled, and gives the session
/// back as it was if it is dropped before.
pub(crate) type Work = BoxFuture<'static, ()>;

/// A message for a session actor. What is lost with an actor is made good: a start gives the
/// session back as it was, and the rest is sent again. A grant is not in a message, but parked in
/// the slot, taken once and never sent twice.
pub(crate) enum Message {
    /// This was started for a caller.
    Start(Work),
    /// Something is in the slot's queue.
    Queued { reply: oneshot::Sender<()> },
    /// An exchange has ended.
    Ended,
    /// The schedule has a permit of the session's client for what is due.
    Due(Box<DueExchange>),
}

/// An exchange that nobody has asked for.
pub(crate) struct DueExchange {
    pub(crate) permit: ScheduledPermit,
    /// Hears that the exchange has begun, or that none is due. Dropped, it is tried again.
    pub(crate) begun: oneshot::Sender<()>,
}

impl Message {
    /// Answers for a session that cannot be served at all. Callers of what was started ask again,
    /// and hear why.
    pub(crate) fn refuse(self) {
        match self {
            // Whoever queued it waits for the queue, not for this.
            Self::Queued { reply } => {
                let _ = reply.send(());
            }
            Self::Start(work) => drop(work),
            Self::Due(due) => drop(due),
            Self::Ended => {}
        }
    }

    pub(crate) fn is_queued(&self) -> bool {
        matches!(self, Self::Queued { .. })
    }
}
