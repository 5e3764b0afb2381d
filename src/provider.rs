//! Providers: each is a client of one authorization server and says what a request to it led to.
//!
//! A provider knows the format of requests and responses and nothing else: it has no retry, no
//! clock and no lock. The session machine sees the [`FailureClass`] of a failure, never a status or
//! a text.

mod bearer;
pub(crate) mod binding;
#[cfg(feature = "circle")]
pub mod circle;
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
pub(crate) mod resources;
mod signing;
pub(crate) mod source;
#[cfg(feature = "spatium")]
pub mod spatium;
#[cfg(test)]
pub(crate) mod test_bench;

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

pub(crate) use self::exchange_error::Exchanged;
pub use self::exchange_error::{ExchangeError, FailureClass};
pub use self::http_sender::HttpSender;
pub use self::identity::IdentityChanged;
pub use self::operation::{ClientOperation, Credential, Effect, Operation};
pub use self::redirect_login::{LoginRequest, RedirectLogin};
pub use self::signing::Signing;
pub use self::source::{ProviderSource, SourceError};
use crate::error::{Error, ErrorKind, LostReason, quoted};
use crate::key::{ProviderName, SessionKey};
use crate::policy::{ProviderLimits, RefreshPolicy};
use crate::secret::Secret;
use crate::token::{Placement, Tokens};
use crate::transport::Transport;

/// A client of one authorization server.
///
/// # Contract
///
/// The crate calls [`establish`](Self::establish), [`refresh`](Self::refresh) and
/// [`revoke`](Self::revoke) from a task that no caller's cancellation interrupts, one at a time for
/// each session, and drops the future only when it has run for
/// [`Policy::attempt_budget`](crate::policy::Policy::attempt_budget) and
/// [`Policy::answer_timeout`](crate::policy::Policy::answer_timeout) together. The crate takes
/// that, and a panic, as [`FailureClass::Ambiguous`]. An implementation sends every request through
/// the [`HttpSender`] that it gets. It repeats no request on its own, unless the server said that
/// it did not process the request and asked for another at once.
///
/// The crate calls these methods once, when the provider is registered, and keeps the results until
/// the provider is replaced: [`authority_url`](Self::authority_url),
/// [`endpoints_elsewhere`](Self::endpoints_elsewhere),
/// [`configured_urls`](Self::configured_urls), [`client_id`](Self::client_id),
/// [`refresh_token_rotation`](Self::refresh_token_rotation), [`placement`](Self::placement),
/// [`reach_of_revocation`](Self::reach_of_revocation),
/// [`access_tokens_end_at_refresh`](Self::access_tokens_end_at_refresh). If one of them panics, the
/// registration is refused.
///
/// These panics change no session. After a panic in [`prepare`](Self::prepare) the exchange counts
/// as not sent; in [`renewal_grant`](Self::renewal_grant), as if it gave `None`; in
/// [`authorize`](Self::authorize) the caller gets `Misconfigured`; in
/// [`rejection`](Self::rejection) the response counts as [`Rejection::None`].
pub trait Provider: Send + Sync + Sized + 'static {
    /// What [`establish`](Self::establish) takes: a password, a code, security tokens ...
    type Grant: Send + 'static;
    /// A second factor that the server asks for; [`Infallible`](std::convert::Infallible) where
    /// there is none.
    type Challenge: Send + Sync + 'static;
    /// What the provider keeps beside the tokens: ids, scopes. Not secret.
    type Attributes: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The server that issues the credentials: its issuer identifier, its token endpoint, or the
    /// URL below which all of its endpoints are. Credentials are bound to this whole URL: the crate
    /// never gives this provider the credentials that another URL issued.
    fn authority_url(&self) -> &Url;

    /// Endpoints elsewhere to which this provider sends tokens of a session too. Credentials are
    /// bound to them as well: the crate does not give this provider credentials that were issued
    /// before an endpoint was named here. Defaults to none. A wrapper calls the inner provider's.
    fn endpoints_elsewhere(&self) -> Vec<Url> {
        Vec::new()
    }

    /// The URLs of the settings that the crate or a browser is sent to, as far as they are known
    /// before the first request. [`start`](crate::supervisor::SupervisorBuilder::start) fails if
    /// the transport refuses one of them; without this method, the first request fails. Defaults to
    /// none. A wrapper calls the inner provider's.
    fn configured_urls(&self) -> Vec<Url> {
        Vec::new()
    }

    /// The client's id at that server. Credentials are bound to it too.
    fn client_id(&self) -> &str;

    /// What the server does to a refresh token that was used.
    fn refresh_token_rotation(&self) -> Rotation;

    /// The fixed header that carries a permission token; None if requests carry it in another way.
    fn placement(&self) -> Option<Placement>;

    /// Gets what the provider must know before an exchange, by discovery for example. The crate
    /// calls it before it claims the session, so that a slow response does not hold the session.
    /// Defaults to nothing. A wrapper calls the inner provider's.
    ///
    /// # Errors
    ///
    /// Why the provider could not get it. No credentials are at stake.
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
    /// The failure's class and what is known of it.
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

    /// Exchanges the refresh token for new tokens. `held` is all that the session has;
    /// `refresh_token` is the one in it. If the response has no refresh token, the session keeps
    /// the old one (RFC 6749 section 6). The crate does not call this for a session without a
    /// refresh token.
    ///
    /// # Errors
    ///
    /// The failure's class; [`FailureClass::Rejected`] and [`FailureClass::Refused`] end the
    /// session.
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

    /// What a revocation ends at the server. If tokens come too late, because another process has
    /// established the session anew, the crate revokes them only with
    /// [`RevocationReach::OneGrant`]. Defaults to [`RevocationReach::Unknown`] because a token that
    /// stays valid until it expires costs less than a lost session. A wrapper calls the inner
    /// provider's.
    fn reach_of_revocation(&self) -> RevocationReach {
        RevocationReach::Unknown
    }

    /// Whether a refresh ends the access tokens that the session got before, as Ory Hydra and
    /// Atlassian do. If it does, a process that learns of a refresh by another process stops
    /// serving the former token. Defaults to false because most servers let those tokens live until
    /// they expire. A wrapper calls the inner provider's.
    fn access_tokens_end_at_refresh(&self) -> bool {
        false
    }

    /// The attributes to keep after a refresh, or after a grant that needed no user: those in the
    /// response, and for the rest the known ones. The crate calls it before it saves or serves
    /// anything of such a response.
    ///
    /// Compare what identifies the session's user: an id of the user or of the community. The crate
    /// does not call it for a caller's own grant, which may be for anybody. Defaults to `issued`. A
    /// wrapper calls the inner provider's.
    ///
    /// # Errors
    ///
    /// [`IdentityChanged`] if the response is for somebody else. The caller gets `Misconfigured`,
    /// the crate discards the response, and the session keeps what it has.
    fn merge_attributes(
        &self,
        known: &Self::Attributes,
        issued: Self::Attributes,
    ) -> Result<Self::Attributes, IdentityChanged> {
        let _ = known;
        Ok(issued)
    }

    /// A grant that needs no user. With it, a session that was never established, or is lost,
    /// obtains new tokens automatically. `held` is what the session has or had. Defaults to None:
    /// there is no such grant. A wrapper calls the inner provider's.
    fn renewal_grant(&self, held: Option<&Tokens<Self::Attributes>>) -> Option<Self::Grant> {
        let _ = held;
        None
    }

    /// Puts the token on a request. Defaults to the header that
    /// [`placement`](Self::placement) describes. A wrapper calls the inner provider's.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if this request cannot carry it.
    fn authorize(
        &self,
        signing: &Signing<'_>,
        request: &mut http::request::Parts,
    ) -> Result<(), Error> {
        signing.put_header(request)
    }

    /// What the response of an API says of the token that the request carried. `body_prefix` is as
    /// much of the body as the caller has.
    fn rejection(&self, response: &http::response::Parts, body_prefix: &[u8]) -> Rejection;
}

/// A grant of a `P` that needs no user, so that the crate can use it again at any time: a member's
/// id that the application vouches for, a key, client credentials. It is what
/// [`Session::ensure`](crate::session::Session::ensure) takes.
pub trait UnattendedGrant<P: Provider>: Into<P::Grant> + Clone + Send + Sync + 'static {}

/// What a successful [`Provider::establish`] gives.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a server issues tokens or asks for more")]
pub enum Issued<P: Provider> {
    /// A session.
    Tokens(Tokens<P::Attributes>),
    /// The server wants a second factor.
    Challenge(P::Challenge),
}

/// What a successful [`Provider::revoke`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revoked {
    /// The server knows that the session has ended.
    AtServer,
    /// The server offers no revocation.
    NotSupported,
}

/// What a [`Provider::revoke`] ends at the server.
///
/// RFC 7009 section 2.1 has it end the tokens of "the same authorization grant". Servers differ in
/// whether two sign-ins of one user at one client are two grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RevocationReach {
    /// The tokens of one establish, and none of another establish, even for the same user and
    /// client. Do not use it where the backend adopts tokens of a grant that the session has
    /// already.
    OneGrant,
    /// Perhaps more. Use it if you do not know.
    #[default]
    Unknown,
}

/// What a response says of the token that the request carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// Nothing: the API accepted the token.
    None,
    /// The access token is no longer valid; a refresh may help.
    TokenDead,
    /// The session is no longer valid; only a new grant helps.
    SessionDead,
    /// The API refused the request for another reason, which no refresh removes: a missing
    /// permission for example.
    OtherReason,
}

/// What a server does to a refresh token that was used. It decides what the crate does after a
/// response was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rotation {
    /// The refresh token stays the same (Google, Entra ID): a retry is always safe.
    Static,
    /// For this long a retry with the old token gets the same new pair (django-oauth-toolkit).
    Idempotent(Duration),
    /// For this long a retry with the old token gets another new pair (Ory Hydra, Auth0, Okta,
    /// Cognito).
    Fork(Duration),
    /// For this long a retry gets a new pair, and only the newest pair is valid (Airlock).
    NewestOnly(Duration),
    /// The server invalidates the old token at once, and revokes the whole grant if it is used
    /// again (RFC 9700 section 4.14.2). Use it if you do not know.
    Strict,
}

/// A provider with its settings, as [`SupervisorBuilder::provider`] takes it.
///
/// [`SupervisorBuilder::provider`]: crate::supervisor::SupervisorBuilder::provider
pub struct Registration<P: Provider> {
    pub(crate) settings: Settings,
    provides: PhantomData<fn() -> P>,
}

/// A registration without its provider's type.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) provider: Arc<dyn erased::Erased>,
    pub(crate) refresh: RefreshPolicy,
    pub(crate) limits: ProviderLimits,
    pub(crate) renew_with: Option<RenewWith>,
}

impl Settings {
    /// Fails with `Misconfigured` if these settings cannot be used, or if the transport refuses one
    /// of the provider's URLs. `name` is the provider's.
    pub(crate) fn check(&self, name: &ProviderName, transport: &Transport) -> Result<(), Error> {
        let Self { provider, refresh, limits, .. } = self;
        let fault = provider.fault().or_else(|| refresh.fault()).or_else(|| limits.fault());
        let refused = |url: &Url| transport.check(url).err().map(|why| why.advice(url.as_str()));
        let fault = match fault {
            Some(fault) => fault.to_owned(),
            None => match provider.configured_urls().iter().find_map(refused) {
                Some(refused) => refused,
                None => return Ok(()),
            },
        };
        let name = quoted(name.as_str());
        Err(Error::new(ErrorKind::Misconfigured).about(format!("provider {name}: {fault}")))
    }
}

/// Gives a grant for a session that is lost.
pub(crate) type RenewWith = Arc<
    dyn Fn(SessionKey, LostReason) -> BoxFuture<'static, Option<erased::ErasedValue>> + Send + Sync,
>;

impl<P: Provider> Registration<P> {
    /// This provider with default settings.
    #[must_use]
    pub fn new(provider: P) -> Self {
        Self::standing_in(provider)
    }

    /// `other` in the place of a `P`: a wrapper or a test double. Handles keep the type of `P`.
    #[must_use]
    pub fn standing_in<Q>(other: Q) -> Self
    where
        Q: Provider<Grant = P::Grant, Challenge = P::Challenge, Attributes = P::Attributes>,
    {
        let settings = Settings {
            provider: Arc::new(erased::Adapter::new(other)),
            refresh: RefreshPolicy::default(),
            limits: ProviderLimits::default(),
            renew_with: None,
        };
        Self { settings, provides: PhantomData }
    }

    /// With this policy of when to refresh.
    #[must_use]
    pub fn refresh(mut self, policy: RefreshPolicy) -> Self {
        self.settings.refresh = policy;
        self
    }

    /// With these bounds.
    #[must_use]
    pub fn limits(mut self, limits: ProviderLimits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// Calls `grants` for a grant when a session is lost and a caller wants a token: for service
    /// accounts, whose password or key the backend keeps. None means that there is no grant, and
    /// the session stays lost.
    ///
    /// The crate calls it once for all waiting callers, not again before the back-off is over, and
    /// drops the future when it takes longer than
    /// [`Policy::source_timeout`](crate::policy::Policy::source_timeout). It does not call it for a
    /// session that was never established, that this backend revoked, or whose tokens an operation
    /// of this backend deleted.
    #[must_use]
    pub fn renew_with<F, Asked>(mut self, grants: F) -> Self
    where
        F: Fn(SessionKey, LostReason) -> Asked + Send + Sync + 'static,
        Asked: Future<Output = Option<P::Grant>> + Send + 'static,
    {
        self.settings.renew_with = Some(Arc::new(move |key, reason| {
            let grant = grants(key, reason);
            Box::pin(async move { grant.await.map(|grant| Box::new(grant) as erased::ErasedValue) })
        }));
        self
    }
}

impl<P: Provider> From<P> for Registration<P> {
    fn from(provider: P) -> Self {
        Self::new(provider)
    }
}

impl<P: Provider> fmt::Debug for Registration<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("authority", &self.settings.provider.authority())
            .field("refresh", &self.settings.refresh)
            .field("limits", &self.settings.limits)
            .finish_non_exhaustive()
    }
}
