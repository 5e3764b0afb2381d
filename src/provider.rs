//! The providers. A provider is a client of one authorization server.
//!
//! It sends requests to the server and reports the results.
//!
//! A provider knows only the format of requests and responses: it has no retry, no clock and no
//! lock. The crate decides by the [`FailureClass`] of a failure what to do next, and never by a
//! status or a text.
#![doc = include_str!("provider/example.md")]

pub(crate) mod api_origins;
mod bearer;
pub(crate) mod binding;
#[cfg(feature = "circle")]
pub mod circle;
mod completion;
mod device_authorization;
pub(crate) mod erased;
mod exchange_error;
#[cfg(feature = "extra-horizon")]
pub mod extra_horizon;
pub mod http_message;
pub(crate) mod http_sender;
mod identity;
#[cfg(feature = "ioffice")]
pub mod ioffice;
pub mod oauth2;
mod operation;
mod redirect_login;
mod registration;
pub(crate) mod resources;
mod rotation;
mod serde_seconds;
mod signing;
pub(crate) mod source;
#[cfg(feature = "spatium")]
pub mod spatium;
#[cfg(test)]
pub(crate) mod test_bench;
mod wrapped;

use std::fmt;
use std::future::Future;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

pub use self::device_authorization::{DeviceAuthorization, DeviceCodes};
pub(crate) use self::exchange_error::Exchanged;
pub use self::exchange_error::{ExchangeError, FailureClass};
pub use self::http_sender::HttpSender;
pub use self::identity::IdentityChanged;
pub use self::operation::{ClientOperation, Credential, Effect, Operation};
pub use self::redirect_login::{LoginRequest, RedirectLogin};
pub use self::registration::Registration;
pub(crate) use self::registration::{RenewWith, Settings};
pub use self::rotation::Rotation;
pub use self::signing::Signing;
pub use self::source::{ProviderSource, SourceError};
pub use self::wrapped::Wrapped;
use crate::error::Error;
use crate::secret::Secret;
use crate::token::{Placement, Tokens};

/// A client of one authorization server. See [a complete provider](self#a-complete-provider).
///
/// # Contract
///
/// The crate calls [`establish`](Self::establish), [`refresh`](Self::refresh) and
/// [`revoke`](Self::revoke) from a task that no caller's cancellation interrupts, one at a time for
/// each session, and drops the future only when it has run for
/// [`Policy::attempt_budget`](crate::policy::Policy::attempt_budget) and
/// [`Policy::answer_timeout`](crate::policy::Policy::answer_timeout) together. The crate treats a
/// dropped future, and a panic, as [`FailureClass::Ambiguous`]. Send every request through the
/// [`HttpSender`] that the method gets. Repeat a request only if the server said that it did not
/// process the request and that the client may repeat it at once.
///
/// The crate calls these methods once, when the provider is registered, and keeps the results until
/// the provider is replaced: `authority_url`, `endpoints_elsewhere`, `configured_urls`,
/// `api_origins`, `client_id`, `refresh_token_rotation`, `placement`, `reach_of_revocation`,
/// `access_tokens_end_at_refresh`. If a method of these panics, the registration is refused.
///
/// A panic in these methods changes no session:
///
/// - [`prepare`](Self::prepare): the crate treats the exchange as not sent.
/// - [`renewal_grant`](Self::renewal_grant): the crate treats the panic as `None`.
/// - [`authorize`](Self::authorize): the caller gets `Misconfigured`.
/// - [`rejection`](Self::rejection): the crate treats the response as [`Rejection::None`].
/// - [`rejection_reads_body`](Self::rejection_reads_body): the crate treats the panic as false.
/// - [`wrapped`](Self::wrapped): the crate treats the panic as `None`.
pub trait Provider: Send + Sync + Sized + 'static {
    /// The argument of [`establish`](Self::establish): a password, a code or security tokens, for
    /// example.
    type Grant: Send + 'static;
    /// The server's request for a second factor; [`Infallible`](std::convert::Infallible) if the
    /// server never asks for one.
    type Challenge: Send + Sync + 'static;
    /// The data that a session keeps beside its tokens: ids and scopes, for example. Put no secret
    /// into it.
    type Attributes: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The server that issues the credentials: its issuer identifier, its token endpoint, or the
    /// URL below which all of its endpoints are. Credentials are bound to this whole URL: the crate
    /// never gives this provider the credentials that another URL issued.
    fn authority_url(&self) -> &Url;

    /// The endpoints outside [`authority_url`](Self::authority_url) to which this provider also
    /// sends tokens of a session. Credentials are bound to these endpoints too: if you add an
    /// endpoint, the crate does not give this provider credentials that were issued before.
    /// Defaults to none. A wrapper calls the inner provider's method.
    fn endpoints_elsewhere(&self) -> Vec<Url> {
        Vec::new()
    }

    /// The further URLs to which this provider sends the tokens of the session with these attributes,
    /// if a login or a response named their host. The session's credentials are bound to them too.
    /// The crate calls this method after each exchange, and before it sends a token. Defaults to
    /// none. A wrapper calls the inner provider's method.
    fn endpoints_of_session(&self, attributes: &Self::Attributes) -> Vec<Url> {
        let _ = attributes;
        Vec::new()
    }

    /// The URLs of the settings that the crate or a browser is sent to, as far as they are known
    /// before the first request. [`start`](crate::supervisor::SupervisorBuilder::start) fails if
    /// the transport refuses one of them; without this method, the first request fails. Defaults to
    /// none. A wrapper calls the inner provider's.
    fn configured_urls(&self) -> Vec<Url> {
        Vec::new()
    }

    /// The origins of the APIs that take this provider's permission tokens:
    /// `https://api.example.com`, `https://api.example.com:8443`, `https://*.example.com` for all
    /// hosts below a domain, or `http://127.0.0.1:8080` for a loopback address. The request
    /// middleware sends tokens only there. [`Registration::api_origins`] adds more. If the crate
    /// cannot use one, [`start`](crate::supervisor::SupervisorBuilder::start) fails. Defaults to
    /// none. A wrapper calls the inner provider's method.
    fn api_origins(&self) -> Vec<String> {
        Vec::new()
    }

    /// The client's id at that server. Credentials are bound to it too.
    fn client_id(&self) -> &str;

    /// What the server does to a refresh token that was used.
    fn refresh_token_rotation(&self) -> Rotation;

    /// The fixed header that carries a permission token; None if requests carry the token in
    /// another way.
    fn placement(&self) -> Option<Placement>;

    /// Fetches the data that the provider needs before an exchange: the server's metadata, for
    /// example. The crate calls this method before it claims the session, so that a slow response
    /// blocks no other process. By default it fetches nothing. A wrapper calls the inner provider's
    /// method.
    ///
    /// # Errors
    ///
    /// The reason why the provider could not fetch the data. No credentials were sent.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    fn prepare(&self, sender: &HttpSender<'_>) -> impl Future<Output = Exchanged<()>> + Send {
        let _ = sender;
        std::future::ready(Ok(()))
    }

    /// Exchanges a grant for tokens or a challenge.
    ///
    /// # Errors
    ///
    /// The class of the failure, with the server's status and code if there was a response.
    ///
    /// # Cancel safety
    ///
    /// Not dropped before [`Policy::attempt_budget`](crate::policy::Policy::attempt_budget) and
    /// [`Policy::answer_timeout`](crate::policy::Policy::answer_timeout) together have passed.
    fn establish(
        &self,
        sender: &HttpSender<'_>,
        grant: Self::Grant,
    ) -> impl Future<Output = Result<Issued<Self>, ExchangeError>> + Send;

    /// Exchanges the refresh token for new tokens. `held` has all tokens and attributes of the
    /// session; `refresh_token` is the refresh token in `held`. If the response has no refresh
    /// token, the session keeps the old refresh token (RFC 6749 section 6). The crate does not call
    /// this method for a session without a refresh token.
    ///
    /// # Errors
    ///
    /// The failure's class; [`FailureClass::Rejected`] and [`FailureClass::Refused`] end the
    /// session. If only the access token of the response cannot be used, put its refresh token into
    /// the error ([`ExchangeError::with_refresh_token`]).
    ///
    /// # Cancel safety
    ///
    /// As [`establish`](Self::establish).
    fn refresh(
        &self,
        sender: &HttpSender<'_>,
        refresh_token: &Secret,
        held: &Tokens<Self::Attributes>,
    ) -> impl Future<Output = Result<Tokens<Self::Attributes>, ExchangeError>> + Send;

    /// Ends the session at the server. The crate repeats it until it succeeds, so treat "unknown
    /// token" as a success (RFC 7009 section 2.2).
    ///
    /// # Errors
    ///
    /// The failure's class.
    ///
    /// # Cancel safety
    ///
    /// As [`establish`](Self::establish).
    fn revoke(
        &self,
        sender: &HttpSender<'_>,
        held: &Tokens<Self::Attributes>,
    ) -> impl Future<Output = Result<Revoked, ExchangeError>> + Send;

    /// Which tokens a revocation ends at the server. If new tokens come too late, because another
    /// process has established the session again, the crate revokes the late tokens only if this is
    /// [`RevocationReach::OneGrant`]. Defaults to [`RevocationReach::Unknown`], because a token
    /// that stays valid until it expires does less harm than a lost session. A wrapper calls the
    /// inner provider's method.
    fn reach_of_revocation(&self) -> RevocationReach {
        RevocationReach::Unknown
    }

    /// Whether a refresh ends the access tokens that the session got before, as Ory Hydra and
    /// Atlassian do. If it does, a process that learns of a refresh by another process stops
    /// serving the former token. Defaults to false, because at most servers those tokens stay valid
    /// until they expire. A wrapper calls the inner provider's method.
    fn access_tokens_end_at_refresh(&self) -> bool {
        false
    }

    /// The attributes that the session keeps after a refresh, or after a grant that needed no user:
    /// the attributes in the response (`issued`), and those of `known` that the response lacks. The
    /// crate calls this method before it saves the new tokens or gives them to a caller.
    ///
    /// Compare the attributes that identify the session's user: an id of the user or of the
    /// community, for example. The crate does not call this method for a caller's own grant, which
    /// may be for any user. Defaults to `issued`. A wrapper calls the inner provider's method.
    ///
    /// # Errors
    ///
    /// [`IdentityChanged`] if the response is for another user. The caller gets `Misconfigured`,
    /// the crate discards the response, and the session keeps its tokens and attributes.
    fn merge_attributes(
        &self,
        known: &Self::Attributes,
        issued: Self::Attributes,
    ) -> Result<Self::Attributes, IdentityChanged> {
        let _ = known;
        Ok(issued)
    }

    /// A grant that needs no user. With this grant, a session that was never established, or is
    /// lost, obtains new tokens automatically. `held` has the present or last tokens and attributes
    /// of the session, if there are any. Defaults to None: there is no such grant. A wrapper calls
    /// the inner provider's method.
    fn renewal_grant(&self, held: Option<&Tokens<Self::Attributes>>) -> Option<Self::Grant> {
        let _ = held;
        None
    }

    /// Puts the token on a request. By default it sets the header that
    /// [`placement`](Self::placement) describes. A wrapper calls the inner provider's method.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if this request cannot carry the token.
    fn authorize(
        &self,
        signing: &Signing<'_>,
        request: &mut http::request::Parts,
    ) -> Result<(), Error> {
        signing.put_header(request)
    }

    /// Reads from an API's response whether the API accepted the token of the request.
    /// `body_prefix` is the beginning of the body, as far as the caller has read it.
    fn rejection(&self, response: &http::response::Parts, body_prefix: &[u8]) -> Rejection;

    /// Whether [`rejection`](Self::rejection) must see the beginning of this response's body. The
    /// request middleware passes a response on without waiting for its body if not. Defaults to
    /// true for a status of 4xx. A wrapper calls the inner provider's method.
    fn rejection_reads_body(&self, response: &http::response::Parts) -> bool {
        response.status.is_client_error()
    }

    /// The provider that this one wraps. The crate finds the inner provider by it, whose logins
    /// ([`RedirectLogin`]) and operations ([`Operation`], [`ClientOperation`]) then work as without
    /// the wrapper. See [a complete wrapper](Wrapped#a-complete-wrapper). Defaults to None: this
    /// provider wraps no other.
    fn wrapped(&self) -> Option<Wrapped> {
        None
    }
}

/// A grant of a `P` that needs no user, so that the crate can use it again at any time: a key or
/// client credentials, for example. [`Session::ensure`](crate::session::Session::ensure) takes such
/// a grant.
///
/// ```
/// use session_warden::provider::UnattendedGrant;
/// use session_warden::testing::ScriptedProvider;
/// use session_warden::{SessionKey, Supervisor};
///
/// /// The key of a service account.
/// #[derive(Clone)]
/// struct ApiKey(String);
///
/// impl UnattendedGrant<ScriptedProvider<ApiKey>> for ApiKey {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// let provider: ScriptedProvider<ApiKey> = ScriptedProvider::of(());
/// let supervisor = Supervisor::builder().provider("acme", provider).start().await?;
/// let sessions = supervisor.sessions::<ScriptedProvider<ApiKey>>("acme")?;
/// let session = sessions.session(SessionKey::new("tenant", "reports")?);
/// let token = session.ensure(ApiKey("k-1".to_owned())).await?;
/// assert_eq!(token.expose_secret(), "access-1");
/// # Ok(())
/// # }
/// ```
pub trait UnattendedGrant<P: Provider>: Into<P::Grant> + Clone + Send + Sync + 'static {}

/// The result of a successful [`Provider::establish`]. See
/// [a complete provider](self#a-complete-provider).
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a server issues tokens or asks for more")]
pub enum Issued<P: Provider> {
    /// The server issued tokens: the session is established.
    Tokens(Tokens<P::Attributes>),
    /// The server asks for a second factor.
    Challenge(P::Challenge),
}

/// The result of a successful [`Provider::revoke`]. See
/// [a complete provider](self#a-complete-provider).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revoked {
    /// The server has revoked the tokens, or they were no longer valid.
    AtServer,
    /// The server offers no revocation.
    NotSupported,
}

/// Which tokens a [`Provider::revoke`] ends at the server. See
/// [a complete provider](self#a-complete-provider).
///
/// By RFC 7009 section 2.1 it ends the tokens of "the same authorization grant". Servers differ in
/// whether two sign-ins of one user at one client are two grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RevocationReach {
    /// It ends the tokens of one establish, and no tokens of another establish, even for the same
    /// user and client. Do not use this value if the backend adopts tokens of a grant that the
    /// session already has.
    OneGrant,
    /// It may end more tokens. Use this value if you do not know.
    #[default]
    Unknown,
}

/// Whether an API accepted the token of a request. See
/// [a complete provider](self#a-complete-provider).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// The API accepted the token.
    None,
    /// The access token is no longer valid; a refresh may help.
    TokenDead,
    /// The session is no longer valid; only a new grant helps.
    SessionDead,
    /// The API refused the request for another reason, and a refresh does not help: a permission is
    /// missing, for example.
    OtherReason,
}
