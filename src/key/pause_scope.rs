//! The sessions that a backend can pause together.

use std::fmt;

use serde::Serialize;

use super::{ProviderName, SessionId, Tenant};

/// The sessions that a backend pauses and resumes together.
///
/// ```
/// use session_warden::Supervisor;
/// use session_warden::key::{PauseScope, ProviderName, Tenant};
///
/// /// Sends nothing to the server of this provider while it is moved to another machine.
/// async fn begin_move(supervisor: &Supervisor) -> Result<(), Box<dyn std::error::Error>> {
///     let _ = supervisor.pause(&PauseScope::Provider(ProviderName::new("acme")?)).await?;
///     for scope in supervisor.paused().await? {
///         println!("{scope} is paused");
///     }
///     Ok(())
/// }
///
/// let north = Tenant::new("north")?;
/// assert_eq!(PauseScope::Tenant(north).to_string(), "the tenant \"north\" at all providers");
/// # Ok::<(), session_warden::key::InvalidKey>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[expect(clippy::exhaustive_enums, reason = "stores of other crates keep all of it")]
pub enum PauseScope {
    /// All sessions of a provider.
    Provider(ProviderName),
    /// All sessions of a tenant, at all providers.
    Tenant(Tenant),
    /// The sessions of a tenant at one provider.
    TenantAt(ProviderName, Tenant),
}

impl PauseScope {
    /// Whether the session belongs to the scope.
    #[must_use]
    pub fn has(&self, id: &SessionId) -> bool {
        match self {
            Self::Provider(provider) => provider == id.provider(),
            Self::Tenant(tenant) => tenant == id.key().tenant(),
            Self::TenantAt(provider, tenant) => {
                provider == id.provider() && tenant == id.key().tenant()
            }
        }
    }

    /// The scope as two columns of a table: the provider and the tenant, empty for all. No name is
    /// empty.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn columns(&self) -> (&str, &str) {
        match self {
            Self::Provider(provider) => (provider.as_str(), ""),
            Self::Tenant(tenant) => ("", tenant.as_str()),
            Self::TenantAt(provider, tenant) => (provider.as_str(), tenant.as_str()),
        }
    }

    /// The scope of such columns. `None` if they are of no scope.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn of_columns(provider: &str, tenant: &str) -> Option<Self> {
        match (ProviderName::new(provider).ok(), Tenant::new(tenant).ok()) {
            (Some(provider), None) => tenant.is_empty().then_some(Self::Provider(provider)),
            (None, Some(tenant)) => provider.is_empty().then_some(Self::Tenant(tenant)),
            (Some(provider), Some(tenant)) => Some(Self::TenantAt(provider, tenant)),
            (None, None) => None,
        }
    }
}

impl fmt::Display for PauseScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(provider) => write!(f, "the provider {:?}", provider.as_str()),
            Self::Tenant(tenant) => write!(f, "the tenant {:?} at all providers", tenant.as_str()),
            Self::TenantAt(provider, tenant) => write!(
                f,
                "the tenant {:?} at the provider {:?}",
                tenant.as_str(),
                provider.as_str()
            ),
        }
    }
}
