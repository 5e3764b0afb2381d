//! What a session actor is told, and how it answers.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::adopt::{Adopted, Take};
use super::flight::Flight;
use super::slot::Parcel;
use crate::error::Error;
use crate::token::{PermissionToken, Tokens};

/// A message for a session actor. All are idempotent: a handle that lost its answer sends again.
/// A grant is not in a message, but parked in the slot, taken once and never sent twice.
pub(crate) enum Message {
    /// Somebody wants a token above this generation, and perhaps has a grant for the case that
    /// there is no session. It is made anew whenever this is sent again.
    Need { above: u64, offer: Option<Parcel>, reply: Reply },
    /// Something is in the slot's queue.
    Queued { reply: oneshot::Sender<()> },
    /// Somebody wants to look at the session's state.
    Look { reply: oneshot::Sender<Result<(), Error>> },
    /// A reader noticed that the token is due; nobody waits.
    Due,
    /// An exchange has ended.
    Ended,
    /// The schedule says that it is time to look, and perhaps waits until that is done before it
    /// wakes another one.
    Wake(Option<OwnedSemaphorePermit>),
}

pub(crate) type Reply = oneshot::Sender<Answered>;

/// What a session actor answers to a need.
#[derive(Debug)]
pub(crate) enum Answered {
    Token(PermissionToken),
    Failed(Error),
    Wait(Flight),
    Again,
}

impl Message {
    /// Answers for a session that cannot be served at all.
    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::Need { reply, .. } => drop(reply.send(Answered::Failed(error))),
            Self::Look { reply } => drop(reply.send(Err(error))),
            // Whoever queued it waits for the queue, not for this.
            Self::Queued { reply } => {
                let _ = reply.send(());
            }
            Self::Due | Self::Ended | Self::Wake(_) => {}
        }
    }

    /// Whether nobody waits for the answer any more. Callers that gave up leave their messages
    /// behind.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Self::Need { reply, .. } => reply.is_closed(),
            Self::Look { reply } => reply.is_closed(),
            Self::Queued { .. } | Self::Due | Self::Ended | Self::Wake(_) => false,
        }
    }
}

impl Message {
    pub(crate) fn is_queued(&self) -> bool {
        matches!(self, Self::Queued { .. })
    }

    pub(crate) fn is_wake(&self) -> bool {
        matches!(self, Self::Wake(_))
    }
}

/// What a session is asked for with one exchange of its own.
pub(crate) enum Job {
    Establish {
        grant: Parcel,
        reply: oneshot::Sender<Result<Granted, Error>>,
    },
    Close {
        reply: oneshot::Sender<Result<Ending, Error>>,
    },
    Adopt {
        tokens: Text,
        take: Take,
        reply: oneshot::Sender<Result<Adopted, Error>>,
    },
    /// Its caller hears whether there was a record.
    Forget {
        reply: oneshot::Sender<Result<bool, Error>>,
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

    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::Establish { reply, .. } => drop(reply.send(Err(error))),
            Self::Close { reply } => drop(reply.send(Err(error))),
            Self::Adopt { reply, .. } => drop(reply.send(Err(error))),
            Self::Forget { reply } => drop(reply.send(Err(error))),
        }
    }
}

/// What a grant's caller gets.
pub(crate) enum Granted {
    Active(std::sync::Arc<crate::token::Credentials>),
    Challenge(Parcel),
}

/// How a revocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    AtServer,
    Queued,
    LocalOnly,
}
