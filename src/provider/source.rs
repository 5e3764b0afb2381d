//! Where the provider of a tenant comes from, where each tenant has its own.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Provider, Registration, Settings};
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::key::Tenant;

/// Knows each tenant's provider: its site, its client, its secret. What
/// [`provider_per_tenant`](crate::supervisor::SupervisorBuilder::provider_per_tenant) takes.
///
/// It is asked when a tenant's session is first used, when
/// [`reload`](crate::supervisor::Sessions::reload) is called, and once more when the server calls
/// the client invalid. A closure `Fn(Tenant) -> impl Future` is a source.
pub trait ProviderSource<P: Provider>: Send + Sync + 'static {
    /// The tenant's provider.
    ///
    /// # Errors
    ///
    /// [`SourceError::UnknownTenant`], or [`SourceError::Unavailable`] with what `?` gave.
    ///
    /// # Cancel safety
    ///
    /// Dropped when it takes longer than [`Policy::source_timeout`](crate::policy::Policy::source_timeout),
    /// and asked again later.
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

/// Why a source gave no provider.
///
/// It is no [`std::error::Error`] itself, so that `?` makes one of any that is.
#[derive(Debug)]
#[non_exhaustive]
pub enum SourceError {
    /// There is no such tenant. Its sessions get `Misconfigured`.
    UnknownTenant,
    /// The source could not be asked. Sessions get `RetryLater`.
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
