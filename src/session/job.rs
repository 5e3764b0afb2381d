//! The jobs in a session's queue, and the callers that wait for their outcomes.

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::Span;

use super::outcome::{AdoptMode, Adopted, EstablishReply, Revocation};
use crate::error::Error;
use crate::provider::erased::ErasedValue;
use crate::task::TaskGuard;
use crate::token::Tokens;

/// Queued work of a session. Each job has a task of its own.
pub(crate) enum Job {
    Establish {
        grant: ErasedValue,
        /// If the session has a later epoch, the grant is not sent.
        last_epoch: Option<u64>,
        reply: oneshot::Sender<Result<EstablishReply, Error>>,
        caller_span: Span,
    },
    /// Has a task guard while it is still queued: a shutdown waits for it.
    Close {
        reply: oneshot::Sender<Result<Revocation, Error>>,
        task_guard: TaskGuard,
        caller_span: Span,
    },
    Adopt {
        tokens: Text,
        take: AdoptMode,
        reply: oneshot::Sender<Result<Adopted, Error>>,
    },
    /// Its caller learns whether there was a record. Has a task guard, as a close has.
    Forget {
        reply: oneshot::Sender<Result<bool, Error>>,
        task_guard: TaskGuard,
    },
}

/// Tokens with their attributes as text.
pub(crate) type Text = Box<Tokens<Arc<str>>>;

impl Job {
    /// Whether its caller was dropped. The job is then discarded if it has not begun.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Self::Establish { reply, .. } => reply.is_closed(),
            Self::Adopt { reply, .. } => reply.is_closed(),
            Self::Close { .. } | Self::Forget { .. } => false,
        }
    }

    /// Whether it makes a session. A shutdown refuses such jobs when it begins, and still carries out
    /// those that end a session.
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

/// The caller that waits for the outcome of a task.
pub(crate) enum Caller {
    Nobody,
    Grant(oneshot::Sender<Result<EstablishReply, Error>>),
    Adoption(oneshot::Sender<Result<Adopted, Error>>),
    Close(oneshot::Sender<Result<Revocation, Error>>),
    Forget(oneshot::Sender<Result<bool, Error>>),
}

/// The outcome of a task, as its caller gets it.
pub(crate) trait Outcome: Sized {
    /// The channel of a caller that waits for this type of outcome.
    fn reply_channel(caller: Caller) -> Option<oneshot::Sender<Result<Self, Error>>>;
}

impl Caller {
    /// Takes the caller and leaves [`Caller::Nobody`].
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Nobody)
    }

    /// Answers the caller, which may have been dropped.
    pub(crate) fn answer<T: Outcome>(self, outcome: Result<T, Error>) {
        if let Some(reply) = T::reply_channel(self) {
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

impl Outcome for EstablishReply {
    fn reply_channel(caller: Caller) -> Option<oneshot::Sender<Result<Self, Error>>> {
        if let Caller::Grant(reply) = caller { Some(reply) } else { None }
    }
}

impl Outcome for Adopted {
    fn reply_channel(caller: Caller) -> Option<oneshot::Sender<Result<Self, Error>>> {
        if let Caller::Adoption(reply) = caller { Some(reply) } else { None }
    }
}

impl Outcome for Revocation {
    fn reply_channel(caller: Caller) -> Option<oneshot::Sender<Result<Self, Error>>> {
        if let Caller::Close(reply) = caller { Some(reply) } else { None }
    }
}

impl Outcome for bool {
    fn reply_channel(caller: Caller) -> Option<oneshot::Sender<Result<Self, Error>>> {
        if let Caller::Forget(reply) = caller { Some(reply) } else { None }
    }
}
