//! Which session's token a request gets.

use std::fmt;
use std::sync::Arc;

use http::request;

use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;

/// Which session a request belongs to: always the same, or chosen for each request.
///
/// A [`Session`] is a choice by itself.
#[derive(Clone)]
pub struct SessionChoice(Choice);

#[derive(Clone)]
enum Choice {
    One(Box<Session>),
    By(Arc<Choose>),
}

type Choose = dyn Fn(&request::Parts) -> Option<Session> + Send + Sync;

impl SessionChoice {
    /// Chooses with this function, which gets the request without its body. If it returns None, the
    /// request fails with `InvalidInput`, and is not sent.
    #[must_use]
    pub fn by(choose: impl Fn(&request::Parts) -> Option<Session> + Send + Sync + 'static) -> Self {
        Self(Choice::By(Arc::new(choose)))
    }

    /// Takes the [`Session`] in the extensions of the request. It must have no provider type
    /// ([`Session::erase`]). A request without one fails with `InvalidInput`, and is not sent.
    #[must_use]
    pub fn from_extension() -> Self {
        Self::by(|request| request.extensions.get::<Session>().cloned())
    }

    pub(super) fn session(&self, request: &request::Parts) -> Result<Session> {
        let chosen = match &self.0 {
            Choice::One(session) => Some(Session::clone(session)),
            Choice::By(choose) => choose(request),
        };
        chosen.ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput).about(
                "the middleware has no session for this request; put a `Session` into the \
                 request's extensions, or correct the function that chooses it",
            )
        })
    }
}

impl<P> From<Session<P>> for SessionChoice {
    fn from(session: Session<P>) -> Self {
        Self(Choice::One(Box::new(session.erase())))
    }
}

impl fmt::Debug for SessionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Choice::One(session) => f.debug_tuple("SessionChoice").field(session).finish(),
            Choice::By(_) => f.debug_struct("SessionChoice").finish_non_exhaustive(),
        }
    }
}
