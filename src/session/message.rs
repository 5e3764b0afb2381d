//! The messages to a session actor.

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::client::admission::ScheduledPermit;

/// An exchange that was started for a caller. It runs when it is polled. If it is dropped before,
/// the session is as it was before the start.
pub(crate) type Work = BoxFuture<'static, ()>;

/// A message for a session actor. A message may be lost with an actor: a start is then taken back,
/// and the sender repeats the others. A grant is not in a message, but in the slot's queue, so that
/// it is taken once and never sent twice.
pub(crate) enum Message {
    /// Run this exchange, which was started for a caller.
    Start(Work),
    /// There is a job in the slot's queue.
    Queued { reply: oneshot::Sender<()> },
    /// An exchange has ended.
    Ended,
    /// The schedule has a permit of the session's client for the exchange that is due.
    Due(Box<DueExchange>),
}

/// An exchange that the schedule starts.
pub(crate) struct DueExchange {
    pub(crate) permit: ScheduledPermit,
    /// Sent when the exchange has begun, or if none is due. If it is dropped, the schedule tries
    /// again.
    pub(crate) begun: oneshot::Sender<()>,
}

impl Message {
    /// Ends a message to a session that cannot be served. Callers of a dropped start ask the session
    /// again, and then get the error.
    pub(crate) fn refuse(self) {
        match self {
            // The caller waits for the outcome of its job, not for this reply.
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
