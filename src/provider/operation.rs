//! Calls at the authorization server beside the session's own, and what they do to the session.

use bytes::Bytes;
use http::{Request, Response};

use super::{ExchangeError, Provider, Wire};
use crate::error::Result;
use crate::token::Tokens;

/// A call that needs a session: what [`Session::call`](crate::session::Session) takes.
///
/// It is one request and the reading of its answer; the crate sends it over the same transport,
/// within the same bounds and with the same errors as the session's own exchanges.
pub trait Operation<P: Provider>: Send + Sync + 'static {
    /// What the caller gets.
    type Output: Send + 'static;

    /// By what the server knows who asks.
    fn credential(&self) -> Credential {
        Credential::PermissionToken
    }

    /// The request. `held` is what the session has at the moment.
    ///
    /// It is called after [`Provider::prepare`], once for every request that is sent.
    ///
    /// # Errors
    ///
    /// `InvalidInput` or `Misconfigured` if there is no such request.
    fn request(&self, provider: &P, held: &Tokens<P::Attributes>) -> Result<Request<Bytes>>;

    /// What the answer says, and what the call did to the session.
    ///
    /// An answer that says that the permission token is dead does not come here: it is replaced
    /// and the request made anew, once.
    ///
    /// # Errors
    ///
    /// The failure's class. It is told to the caller and changes nothing.
    fn response(
        &self,
        wire: &Wire<'_>,
        answer: &Response<Bytes>,
    ) -> Result<(Self::Output, Effect), ExchangeError>;
}

/// A call that needs the client and no session: what
/// [`Sessions::call`](crate::supervisor::Sessions) takes.
pub trait ClientOperation<P: Provider>: Send + Sync + 'static {
    /// What the caller gets.
    type Output: Send + 'static;

    /// The request, with whatever says who asks. It is called after [`Provider::prepare`].
    ///
    /// # Errors
    ///
    /// `InvalidInput` or `Misconfigured` if there is no such request.
    fn request(&self, provider: &P) -> Result<Request<Bytes>>;

    /// What the answer says.
    ///
    /// # Errors
    ///
    /// The failure's class.
    fn response(
        &self,
        wire: &Wire<'_>,
        answer: &Response<Bytes>,
    ) -> Result<Self::Output, ExchangeError>;
}

/// By what a server knows who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// The session's permission token: a valid one is got first, and
    /// [`Provider::authorize`] puts it on the request.
    PermissionToken,
    /// The request has it already: the client's secret, or a token in its body.
    Own,
}

/// What a call that succeeded did to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Nothing.
    None,
    /// The access token is dead: it is not handed out again.
    AccessTokenDead,
    /// The refresh token is dead: the session ends with its access token.
    RefreshTokenDead,
    /// Both are dead.
    SessionDead,
}
