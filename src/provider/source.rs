//! Sources: a source returns the provider of a tenant, if each tenant has a provider of its own.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Provider, Registration, Settings};
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::key::Tenant;

/// Returns each tenant's provider: its site, its client and its secret.
/// [`provider_per_tenant`](crate::supervisor::SupervisorBuilder::provider_per_tenant) takes a
/// source. A closure `Fn(Tenant) -> impl Future` is a source too.
///
/// The crate calls it when a session of a tenant is first used, when the backend calls
/// [`reload`](crate::supervisor::Sessions::reload), and once more when the server rejects the
/// client (`invalid_client`).
///
/// ```
/// use std::collections::HashMap;
///
/// use session_warden::error::ErrorKind;
/// use session_warden::key::Tenant;
/// use session_warden::provider::oauth2::OAuth2;
/// use session_warden::provider::{ProviderSource, Registration, SourceError};
/// use session_warden::{SessionKey, Supervisor};
///
/// /// The token endpoint of each customer. A real source reads a database.
/// struct Customers(HashMap<String, String>);
///
/// impl ProviderSource<OAuth2> for Customers {
///     async fn resolve(&self, tenant: Tenant) -> Result<Registration<OAuth2>, SourceError> {
///         let endpoint = self.0.get(tenant.as_str()).ok_or(SourceError::UnknownTenant)?;
///         Ok(OAuth2::new(endpoint, "backend")?.into()) // an error becomes `Unavailable`
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// let endpoint = "https://login.acme.example/token".to_owned();
/// let customers = Customers(HashMap::from([("acme".to_owned(), endpoint)]));
/// let supervisor = Supervisor::builder().provider_per_tenant("crm", customers).start().await?;
/// let sessions = supervisor.sessions::<OAuth2>("crm")?;
/// let stranger = sessions.session(SessionKey::new("bolt", "device")?);
/// let error = stranger.permission_token().await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Misconfigured);
/// # Ok(())
/// # }
/// ```
pub trait ProviderSource<P: Provider>: Send + Sync + 'static {
    /// The tenant's provider.
    ///
    /// # Errors
    ///
    /// [`SourceError::UnknownTenant`] if there is no such tenant; [`SourceError::Unavailable`] with
    /// the cause if the source failed. `?` makes the second of any [`std::error::Error`].
    ///
    /// # Cancel safety
    ///
    /// The crate drops the future when it takes longer than
    /// [`Policy::source_timeout`](crate::policy::Policy::source_timeout), and calls the source
    /// again later.
    fn resolve(
        &self,
        tenant: Tenant,
    ) -> impl Future<Output = Result<Registration<P>, SourceError>> + Send;
}

impl<P, F, Asked> ProviderSource<P> for F
where
    P: Provider,
    F: Fn(Tenant) -> Asked + Send + Sync + 'static,
    Asked: Future<Output = Result<Registration<P>, SourceError>> + Send,
{
    async fn resolve(&self, tenant: Tenant) -> Result<Registration<P>, SourceError> {
        self(tenant).await
    }
}

/// Why a source returned no provider. See the example of [`ProviderSource`].
///
/// It does not implement [`std::error::Error`], so that `?` can convert every type that does.
#[derive(Debug)]
#[non_exhaustive]
pub enum SourceError {
    /// There is no such tenant. Its sessions get `Misconfigured`.
    UnknownTenant,
    /// The source failed. The tenant's sessions get `RetryLater`.
    Unavailable(Box<dyn StdError + Send + Sync>),
}

impl<E: StdError + Send + Sync + 'static> From<E> for SourceError {
    fn from(cause: E) -> Self {
        Self::Unavailable(cause.into())
    }
}

impl SourceError {
    /// As callers get it. Nothing was sent.
    pub(crate) fn into_error(self) -> Error {
        let error = match self {
            Self::UnknownTenant => Error::new(ErrorKind::Misconfigured)
                .about("the provider's source knows no such tenant; add the tenant to it"),
            Self::Unavailable(cause) => Error::new(ErrorKind::RetryLater)
                .about("the provider's source failed, so see the cause of this error")
                .with_source(cause),
        };
        error.with_outcome(ExchangeOutcome::NotSent)
    }
}

/// A source without its provider's type.
#[derive(Clone)]
pub(crate) struct Source(Arc<Ask>);

type Ask = dyn Fn(Tenant) -> BoxFuture<'static, Result<Settings, SourceError>> + Send + Sync;

impl Source {
    pub(crate) fn new<P: Provider>(source: impl ProviderSource<P>) -> Self {
        let source = Arc::new(source);
        Self(Arc::new(move |tenant| {
            let source = Arc::clone(&source);
            Box::pin(async move { source.resolve(tenant).await.map(|found| found.settings) })
        }))
    }

    pub(crate) fn ask(&self, tenant: Tenant) -> BoxFuture<'static, Result<Settings, SourceError>> {
        (self.0)(tenant)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}
