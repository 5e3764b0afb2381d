//! Calls at the authorization server beside the session's own, and what they do to the session.

use bytes::Bytes;
use http::{Request, Response};

use super::http_message::HttpRequest;
use super::{ExchangeError, Exchanged, HttpSender, Provider};
use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secret;
use crate::token::Tokens;

/// A call that needs a session: what [`Session::call`](crate::session::Session) takes.
///
/// It builds one request and reads the response to it. The crate sends the request over the same
/// transport, within the same bounds and with the same errors as the session's own exchanges.
pub trait Operation<P: Provider>: Send + Sync + 'static {
    /// What the caller gets.
    type Output: Send + 'static;

    /// What [`response`](Self::response) must know of the request that it reads the response to,
    /// an id for example; `()` where that is nothing.
    type RequestInfo: Send + 'static;

    /// How the server authenticates the request.
    fn credential(&self) -> Credential {
        Credential::PermissionToken
    }

    /// The request, and what is needed to read the response to it. `held` is what the session has
    /// at the moment.
    ///
    /// The crate calls it after [`Provider::prepare`], once for every request that it sends.
    ///
    /// # Errors
    ///
    /// `InvalidInput` or `Misconfigured` if there is no such request.
    fn request(
        &self,
        provider: &P,
        held: &Tokens<P::Attributes>,
    ) -> Result<(Request<Bytes>, Self::RequestInfo)>;

    /// What the response says, and what the call did to the session. `request_info` is that of the
    /// request which this is the response to.
    ///
    /// The crate does not call it for a response that says that the permission token is no longer
    /// valid: it replaces the token and sends another request, once.
    ///
    /// # Errors
    ///
    /// The failure's class. The caller gets it, and the session stays as it is.
    fn response(
        &self,
        sender: &HttpSender<'_>,
        request_info: Self::RequestInfo,
        response: &Response<Bytes>,
    ) -> Result<(Self::Output, Effect), ExchangeError>;
}

/// A call that needs the client and no session: what
/// [`Sessions::call`](crate::supervisor::Sessions) takes.
pub trait ClientOperation<P: Provider>: Send + Sync + 'static {
    /// What the caller gets.
    type Output: Send + 'static;

    /// As [`Operation::RequestInfo`].
    type RequestInfo: Send + 'static;

    /// The request with the credentials that it needs, and what is needed to read the response to
    /// it. The crate calls it after [`Provider::prepare`].
    ///
    /// # Errors
    ///
    /// `InvalidInput` or `Misconfigured` if there is no such request.
    fn request(&self, provider: &P) -> Result<(Request<Bytes>, Self::RequestInfo)>;

    /// What the response says. `request_info` is that of the request which this is the response to.
    ///
    /// # Errors
    ///
    /// The failure's class.
    fn response(
        &self,
        sender: &HttpSender<'_>,
        request_info: Self::RequestInfo,
        response: &Response<Bytes>,
    ) -> Result<Self::Output, ExchangeError>;
}

/// How a server authenticates the request of an [`Operation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// By the session's permission token: the crate gets a valid one first, and
    /// [`Provider::authorize`] puts it on the request.
    PermissionToken,
    /// The request has its own credentials already: the client's secret, or a token in its body.
    InRequest,
}

/// What a call that succeeded did to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Nothing.
    None,
    /// The access token is no longer valid: the crate does not serve it again.
    AccessTokenDead,
    /// The refresh token is no longer valid: the session ends when its access token expires.
    RefreshTokenDead,
    /// Neither token is valid any longer.
    SessionDead,
}

/// A request, and what is needed to read the response to it.
pub(super) type Prepared<Info> = Result<(HttpRequest, Info)>;
/// What a call gave, and what it did to the session.
pub(super) type Called<Output> = Exchanged<(Output, Effect)>;

/// The session's access token, for a request that has it in its body or in a header of its own.
pub(super) fn access_token<A>(held: &Tokens<A>) -> Result<&Secret> {
    let missing = || {
        Error::new(ErrorKind::InvalidInput)
            .about("the session has no access token; establish it again")
    };
    held.access_token().ok_or_else(missing)
}

/// The session's refresh token, for a request that exchanges or revokes it.
pub(super) fn refresh_token<A>(held: &Tokens<A>) -> Result<&Secret> {
    let missing = || Error::new(ErrorKind::InvalidInput).about("the session has no refresh token");
    held.refresh_token().ok_or_else(missing)
}
