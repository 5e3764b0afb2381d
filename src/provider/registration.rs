//! A provider's registration: the provider and its settings.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use url::Url;

use super::api_origins::ApiOrigins;
use super::{Provider, erased};
use crate::error::{Error, ErrorKind, LostReason, quoted};
use crate::key::{ProviderName, SessionKey};
use crate::policy::{ProviderLimits, RefreshPolicy};
use crate::transport::Transport;

/// A provider with its settings. [`SupervisorBuilder::provider`] takes it.
///
/// ```
/// use std::time::Duration;
///
/// use session_warden::error::LostReason;
/// use session_warden::policy::{RefreshPolicy, When};
/// use session_warden::provider::Registration;
/// use session_warden::provider::oauth2::{OAuth2, Password};
/// use session_warden::{SessionKey, Supervisor};
///
/// let client = OAuth2::new("https://login.example.com/token", "backend")?;
/// let policy = RefreshPolicy { when: When::Proactive, ..RefreshPolicy::default() };
/// let registration = Registration::new(client).refresh(policy).renew_with(
///     // The password of the service account; a real backend reads it from its vault.
///     |_key: SessionKey, _lost: LostReason| async { Some(Password::new("reports", "canary").into()) },
/// );
/// let builder = Supervisor::builder().provider("acme", registration);
/// # Ok::<(), session_warden::Error>(())
/// ```
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
    /// The API origins that the registration adds to those of the provider.
    pub(crate) added_origins: Vec<String>,
}

impl Settings {
    /// Fails with `Misconfigured` if these settings cannot be used, or if the transport refuses one
    /// of the provider's URLs. `name` is the provider's.
    pub(crate) fn check(&self, name: &ProviderName, transport: &Transport) -> Result<(), Error> {
        let Self { provider, refresh, limits, .. } = self;
        let refused = |url: &Url| transport.check(url).err().map(|why| why.advice(url.as_str()));
        let fault = (provider.fault().map(str::to_owned))
            .or_else(|| refresh.fault())
            .or_else(|| limits.fault())
            .or_else(|| provider.configured_urls().iter().find_map(refused))
            .or_else(|| self.api_origins().err()?.explanation().map(Cow::into_owned));
        let Some(fault) = fault else { return Ok(()) };
        let name = quoted(name.as_str());
        Err(Error::new(ErrorKind::Misconfigured).about(format!("provider {name}: {fault}")))
    }
}

impl Settings {
    /// The origins to which tokens may go.
    pub(crate) fn api_origins(&self) -> Result<ApiOrigins, Error> {
        let mut origins = self.provider.api_origins().clone()?;
        origins.add(self.added_origins.iter().map(String::as_str))?;
        Ok(origins)
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

    /// Registers `other`, a wrapper or a test double, in the place of a `P`. The handles of its
    /// sessions keep the type `P`.
    ///
    /// Logins and operations are those of a `P`. They work if `other` has one inside, and says so
    /// in [`Provider::wrapped`]: see [a complete wrapper](super::Wrapped#a-complete-wrapper).
    /// Without it, as with [`FakeProvider`](crate::testing::FakeProvider), `begin_login`,
    /// `finish_login`, `call` and [`Sessions::provider`](crate::Sessions::provider) fail with
    /// `InvalidInput`, and all else works.
    ///
    /// Tokens go to the API origins of `other`, not to those of a `P`: a wrapper returns those of
    /// the provider inside ([`Provider::api_origins`]), and [`api_origins`](Self::api_origins) names
    /// them for a test double.
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
            added_origins: Vec::new(),
        };
        Self { settings, provides: PhantomData }
    }

    /// Sets when the crate refreshes the provider's sessions.
    #[must_use]
    pub fn refresh(mut self, policy: RefreshPolicy) -> Self {
        self.settings.refresh = policy;
        self
    }

    /// Sets the provider's limits.
    #[must_use]
    pub fn limits(mut self, limits: ProviderLimits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// Adds API origins to those that the provider itself names ([`Provider::api_origins`], which
    /// describes their form). The request middleware sends the provider's tokens only to these
    /// origins.
    ///
    /// ```
    /// use session_warden::Supervisor;
    /// use session_warden::provider::Registration;
    /// use session_warden::provider::oauth2::OAuth2;
    ///
    /// let client = OAuth2::new("https://login.example.com/token", "backend")?;
    /// let acme = Registration::new(client)
    ///     .api_origins(["https://api.example.com", "https://*.files.example.com"]);
    /// let builder = Supervisor::builder().provider("acme", acme);
    /// # Ok::<(), session_warden::Error>(())
    /// ```
    #[must_use]
    pub fn api_origins<O: Into<String>>(mut self, origins: impl IntoIterator<Item = O>) -> Self {
        self.settings.added_origins.extend(origins.into_iter().map(Into::into));
        self
    }

    /// Sets a function that returns a grant when a session is lost and a caller wants a token. It
    /// is for service accounts, whose password or key the backend keeps. If the function returns
    /// None, the session stays lost.
    ///
    /// The crate calls `grants` once for all waiting callers, and not again before the back-off is
    /// over. It drops the future when it takes longer than
    /// [`Policy::source_timeout`](crate::policy::Policy::source_timeout). The crate does not call
    /// `grants` for a session that was never established, that this backend revoked, or whose
    /// tokens an operation of this backend deleted.
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
