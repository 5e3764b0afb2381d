//! What waits in a session's queue, and the callers who wait for its outcome.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::outcome::{AdoptMode, Adopted, EstablishReply, Revocation};
use crate::error::Error;
use crate::provider::erased::ErasedValue;
use crate::task::TaskGuard;
use crate::token::Tokens;

/// What a session is asked for with one exchange of its own.
pub(crate) enum Job {
    Establish {
        grant: ErasedValue,
        reply: oneshot::Sender<Result<EstablishReply, Error>>,
    },
    /// It has its place while it is still queued: a shutdown waits for it.
    Close {
        reply: oneshot::Sender<Result<Revocation, Error>>,
        task_guard: TaskGuard,
    },
    Adopt {
        tokens: Text,
        take: AdoptMode,
        reply: oneshot::Sender<Result<Adopted, Error>>,
    },
    /// Its caller hears whether there was a record. It has its place as a close has.
    Forget {
        reply: oneshot::Sender<Result<bool, Error>>,
        task_guard: TaskGuard,
    },
}

/// Tokens with their attributes as text.
pub(crate) type Text = Box<Tokens<Arc<str>>>;

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
    Grant(oneshot::Sender<Result<EstablishReply, Error>>),
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

impl Outcome for EstablishReply {
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
