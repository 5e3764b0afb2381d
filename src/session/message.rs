//! What a session actor is told, and how it answers.

use tokio::sync::oneshot;

use super::adopt::{Adopted, Take};
use super::exchange::Work;
use super::outcome::Revocation;
use super::slot::ErasedValue;
use crate::error::Error;
use crate::provider::gate::Drawn;
use crate::task::Place;
use crate::token::Tokens;

/// A message for a session actor. What is lost with an actor is made good: a start gives the
/// session back as it was, and the rest is sent again. A grant is not in a message, but parked in
/// the slot, taken once and never sent twice.
pub(crate) enum Message {
    /// This was started for a caller.
    Start(Box<Work>),
    /// Something is in the slot's queue.
    Queued { reply: oneshot::Sender<()> },
    /// An exchange has ended.
    Ended,
    /// The schedule has a permit of the session's client for what is due.
    Due(Box<DueExchange>),
}

/// An exchange that nobody has asked for.
pub(crate) struct DueExchange {
    pub(crate) permit: Drawn,
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

/// What a session is asked for with one exchange of its own.
pub(crate) enum Job {
    Establish {
        grant: ErasedValue,
        reply: oneshot::Sender<Result<Granted, Error>>,
    },
    /// It has its place while it is still queued: a shutdown waits for it.
    Close {
        reply: oneshot::Sender<Result<Revocation, Error>>,
        place: Place,
    },
    Adopt {
        tokens: Text,
        take: Take,
        reply: oneshot::Sender<Result<Adopted, Error>>,
    },
    /// Its caller hears whether there was a record. It has its place as a close has.
    Forget {
        reply: oneshot::Sender<Result<bool, Error>>,
        place: Place,
    },
}

/// Tokens with their attributes as text.
pub(crate) type Text = Box<Tokens<std::sync::Arc<str>>>;

impl Job {
    /// Whether its caller has gone. One that was not begun is then dropped, unsent.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Self::Establish { reply, .. } => reply.is_closed(),
            Self::Adopt { reply, .. } => reply.is_closed(),
            Self::Close { .. } | Self::Forget { .. } => false,
        }
    }

    /// Whether it makes a session. A shutdown refuses such jobs as soon as it begins; what ends a
    /// session is carried out while the shutdown waits.
    pub(crate) fn makes_session(&self) -> bool {
        match self {
            Self::Establish { .. } | Self::Adopt { .. } => true,
            Self::Close { .. } | Self::Forget { .. } => false,
        }
    }

    pub(crate) fn refuse(self, error: Error) {
        let caller = match self {
            Self::Establish { reply, .. } => Caller::Grant(reply),
            Self::Close { reply, .. } => Caller::Close(reply),
            Self::Adopt { reply, .. } => Caller::Adoption(reply),
            Self::Forget { reply, .. } => Caller::Forget(reply),
        };
        caller.refuse(error);
    }
}

/// Somebody who waits for the outcome of a task.
pub(crate) enum Caller {
    Nobody,
    Grant(oneshot::Sender<Result<Granted, Error>>),
    Adoption(oneshot::Sender<Result<Adopted, Error>>),
    Close(oneshot::Sender<Result<Revocation, Error>>),
    Forget(oneshot::Sender<Result<bool, Error>>),
}

/// What a task's caller can be answered.
pub(crate) trait Outcome: Sized {
    /// The way to a caller who waits for this.
    fn way(caller: Caller) -> Option<oneshot::Sender<Result<Self, Error>>>;
}

impl Caller {
    /// Leaves nobody behind.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Nobody)
    }

    /// Answers a caller who waits for this; the caller may have given up.
    pub(crate) fn answer<T: Outcome>(self, outcome: Result<T, Error>) {
        if let Some(reply) = T::way(self) {
            drop(reply.send(outcome));
        }
    }

    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::Nobody => {}
            Self::Grant(reply) => drop(reply.send(Err(error))),
            Self::Adoption(reply) => drop(reply.send(Err(error))),
            Self::Close(reply) => drop(reply.send(Err(error))),
            Self::Forget(reply) => drop(reply.send(Err(error))),
        }
    }
}

impl Outcome for Granted {
    fn way(caller: Caller) -> Option<oneshot::Sender<Result<Self, Error>>> {
        if let Caller::Grant(reply) = caller { Some(reply) } else { None }
    }
}

impl Outcome for Adopted {
    fn way(caller: Caller) -> Option<oneshot::Sender<Result<Self, Error>>> {
        if let Caller::Adoption(reply) = caller { Some(reply) } else { None }
    }
}

impl Outcome for Revocation {
    fn way(caller: Caller) -> Option<oneshot::Sender<Result<Self, Error>>> {
        if let Caller::Close(reply) = caller { Some(reply) } else { None }
    }
}

impl Outcome for bool {
    fn way(caller: Caller) -> Option<oneshot::Sender<Result<Self, Error>>> {
        if let Caller::Forget(reply) = caller { Some(reply) } else { None }
    }
}

/// What a grant's caller gets.
pub(crate) enum Granted {
    Active(std::sync::Arc<crate::token::Credentials>),
    Challenge(ErasedValue),
}
