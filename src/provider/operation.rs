//! Operations: calls at the authorization server in addition to the session's exchanges, and their
//! effects on the session.

use bytes::Bytes;
use http::{Request, Response};

use super::http_message::HttpRequest;
use super::{ExchangeError, Exchanged, HttpSender, Provider};
use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secret;
use crate::token::Tokens;

/// A call that needs a session. [`Session::call`](crate::session::Session::call) takes it.
///
/// An operation builds one request and reads the response to it. The crate sends the request over
/// the same transport, within the same limits and with the same errors as the session's exchanges.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use session_warden::error::{Error, ErrorKind, LostReason, Result};
/// use session_warden::provider::http_message::form_body;
/// use session_warden::provider::oauth2::{Attributes, OAuth2, Password};
/// use session_warden::provider::{Credential, Effect, ExchangeError, HttpSender, Operation};
/// use session_warden::testing::FakeAuthServer;
/// use session_warden::token::Tokens;
/// use session_warden::transport::TransportConfig;
/// use session_warden::{SessionKey, Supervisor};
///
/// /// Signs the user out at a server with an endpoint of its own for that.
/// struct SignOut {
///     endpoint: String,
/// }
///
/// impl Operation<OAuth2> for SignOut {
///     type Output = ();
///     type RequestInfo = ();
///
///     fn credential(&self) -> Credential {
///         Credential::InRequest // the refresh token in the body
///     }
///
///     fn request(
///         &self,
///         _provider: &OAuth2,
///         held: &Tokens<Attributes>,
///     ) -> Result<(Request<Bytes>, ())> {
///         let missing = || Error::new(ErrorKind::InvalidInput).about("there is no refresh token");
///         let token = held.refresh_token().ok_or_else(missing)?;
///         let request = Request::post(&self.endpoint)
///             .header("content-type", "application/x-www-form-urlencoded")
///             .body(form_body([("token", token.expose_secret()), ("client_id", "app")]));
///         let unusable = |cause| Error::new(ErrorKind::Misconfigured).with_source(cause);
///         Ok((request.map_err(unusable)?, ()))
///     }
///
///     fn response(
///         &self,
///         sender: &HttpSender<'_>,
///         (): (),
///         response: &Response<Bytes>,
///     ) -> Result<((), Effect), ExchangeError> {
///         if response.status().is_success() {
///             Ok(((), Effect::SessionDead))
///         } else {
///             Err(sender.status_error(response))
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = FakeAuthServer::start().await?;
/// let supervisor = Supervisor::builder()
///     .transport(TransportConfig::default().allow_loopback_http())
///     .provider("acme", OAuth2::new(&format!("{}/token", server.url()), "app")?)
///     .start()
///     .await?;
/// let session = supervisor.sessions::<OAuth2>("acme")?.session(SessionKey::new("eu", "ada")?);
/// let _ = session.establish(Password::new("ada", "ok")).await?;
///
/// session.call(SignOut { endpoint: format!("{}/revoke", server.url()) }).await?;
/// let lost = session.permission_token().await.unwrap_err();
/// assert_eq!(lost.kind(), ErrorKind::SignInAgain(LostReason::SessionDeleted));
/// # Ok(())
/// # }
/// ```
pub trait Operation<P: Provider>: Send + Sync + 'static {
    /// The result for the caller.
    type Output: Send + 'static;

    /// The data of the request that [`response`](Self::response) needs to read the response: an id,
    /// for example. Use `()` if it needs none.
    type RequestInfo: Send + 'static;

    /// How the server authenticates the request.
    fn credential(&self) -> Credential {
        Credential::PermissionToken
    }

    /// Builds the request, and returns it with the data that is needed to read its response. `held`
    /// has the present tokens and attributes of the session.
    ///
    /// The crate calls this method after [`Provider::prepare`], once for each request that it
    /// sends.
    ///
    /// # Errors
    ///
    /// `InvalidInput` or `Misconfigured` if the request cannot be built.
    fn request(
        &self,
        provider: &P,
        held: &Tokens<P::Attributes>,
    ) -> Result<(Request<Bytes>, Self::RequestInfo)>;

    /// Reads the response, and returns the output and the effect of the call on the session.
    /// `request_info` is the data that [`request`](Self::request) returned with the request.
    ///
    /// The crate does not call this method for a response that says that the permission token is no
    /// longer valid. Instead it replaces the token and sends another request, once.
    ///
    /// # Errors
    ///
    /// The class of the failure. The caller gets the error, and the session does not change.
    fn response(
        &self,
        sender: &HttpSender<'_>,
        request_info: Self::RequestInfo,
        response: &Response<Bytes>,
    ) -> Result<(Self::Output, Effect), ExchangeError>;
}

/// A call that needs the client and no session.
/// [`Sessions::call`](crate::supervisor::Sessions::call) takes it.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use session_warden::error::{Error, ErrorKind, Result};
/// use session_warden::key::Tenant;
/// use session_warden::provider::oauth2::OAuth2;
/// use session_warden::provider::{ClientOperation, ExchangeError, HttpSender};
/// use session_warden::testing::FakeAuthServer;
/// use session_warden::transport::TransportConfig;
/// use session_warden::Supervisor;
///
/// /// Whether the server publishes metadata (RFC 8414).
/// struct HasMetadata {
///     url: String,
/// }
///
/// impl ClientOperation<OAuth2> for HasMetadata {
///     type Output = bool;
///     type RequestInfo = ();
///
///     fn request(&self, _provider: &OAuth2) -> Result<(Request<Bytes>, ())> {
///         let unusable = |cause| Error::new(ErrorKind::Misconfigured).with_source(cause);
///         Ok((Request::get(&self.url).body(Bytes::new()).map_err(unusable)?, ()))
///     }
///
///     fn response(
///         &self,
///         sender: &HttpSender<'_>,
///         (): (),
///         response: &Response<Bytes>,
///     ) -> Result<bool, ExchangeError> {
///         match response.status() {
///             StatusCode::OK => Ok(true),
///             StatusCode::NOT_FOUND => Ok(false),
///             _ => Err(sender.status_error(response)),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = FakeAuthServer::start().await?;
/// let supervisor = Supervisor::builder()
///     .transport(TransportConfig::default().allow_loopback_http())
///     .provider("acme", OAuth2::new(&format!("{}/token", server.url()), "app")?)
///     .start()
///     .await?;
/// let sessions = supervisor.sessions::<OAuth2>("acme")?;
/// let url = format!("{}/.well-known/oauth-authorization-server", server.url());
/// assert!(sessions.call(&Tenant::new("eu")?, HasMetadata { url }).await?);
/// # Ok(())
/// # }
/// ```
pub trait ClientOperation<P: Provider>: Send + Sync + 'static {
    /// The result for the caller.
    type Output: Send + 'static;

    /// The data of the request that [`response`](Self::response) needs to read the response, as
    /// in [`Operation::RequestInfo`].
    type RequestInfo: Send + 'static;

    /// Builds the request with its credentials, and returns it with the data that is needed to read
    /// its response. The crate calls this method after [`Provider::prepare`].
    ///
    /// # Errors
    ///
    /// `InvalidInput` or `Misconfigured` if the request cannot be built.
    fn request(&self, provider: &P) -> Result<(Request<Bytes>, Self::RequestInfo)>;

    /// Reads the response. `request_info` is the data that [`request`](Self::request) returned with
    /// the request.
    ///
    /// # Errors
    ///
    /// The class of the failure.
    fn response(
        &self,
        sender: &HttpSender<'_>,
        request_info: Self::RequestInfo,
        response: &Response<Bytes>,
    ) -> Result<Self::Output, ExchangeError>;
}

/// How a server authenticates the request of an [`Operation`]. See the example there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// By the session's permission token. The crate gets a valid token first, and
    /// [`Provider::authorize`] puts it on the request.
    PermissionToken,
    /// By credentials that the operation puts into the request: the client's secret, or a token in
    /// the body.
    InRequest,
}

/// The effect of a successful [`Operation`] on the session. See the example there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// The session does not change.
    None,
    /// The access token is no longer valid: the crate does not give it to callers again.
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
