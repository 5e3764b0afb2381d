//! A registered provider: one client for all tenants, or one for each tenant.

use std::any::{TypeId, type_name};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use scc::HashMap;

use super::tenant_client::TenantClient;
use crate::key::{ProviderName, Tenant};
use crate::policy::IDLE_TENANT_CLIENTS;
use crate::provider::resources::Resources;
use crate::provider::source::Source;
use crate::provider::{Provider, ProviderSource, Registration};

/// A provider that is registered under a name.
pub(crate) struct ProviderEntry {
    pub(crate) name: ProviderName,
    tenant_clients: TenantClients,
    /// The provider's type, which typed handles ask for.
    provides: TypeId,
    type_name: &'static str,
}

enum TenantClients {
    OfAll(Arc<TenantClient>),
    PerTenant(PerTenant),
}

struct PerTenant {
    source: Source,
    resources: Arc<Resources>,
    tenant_clients: HashMap<Tenant, Arc<TenantClient>>,
    /// At this many clients, those that no session uses are removed.
    sweep_at: AtomicUsize,
}

impl ProviderEntry {
    pub(crate) fn new<P: Provider>(
        name: ProviderName,
        registration: Registration<P>,
        resources: Arc<Resources>,
    ) -> Self {
        let tenant_client = TenantClient::of_all(name.clone(), registration.settings, resources);
        Self {
            name,
            tenant_clients: TenantClients::OfAll(Arc::new(tenant_client)),
            provides: TypeId::of::<P>(),
            type_name: type_name::<P>(),
        }
    }

    pub(crate) fn per_tenant<P: Provider>(
        name: ProviderName,
        source: impl ProviderSource<P>,
        resources: Arc<Resources>,
    ) -> Self {
        let source = Source::new(source);
        let sweep_at = AtomicUsize::new(IDLE_TENANT_CLIENTS);
        let tenant_clients =
            PerTenant { source, resources, tenant_clients: HashMap::new(), sweep_at };
        Self {
            name,
            tenant_clients: TenantClients::PerTenant(tenant_clients),
            provides: TypeId::of::<P>(),
            type_name: type_name::<P>(),
        }
    }

    pub(crate) fn provides<P: Provider>(&self) -> bool {
        self.provides == TypeId::of::<P>()
    }

    /// The provider's type, for errors.
    pub(crate) fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// The client of all tenants, if there is one for all.
    pub(crate) fn of_all(&self) -> Option<&Arc<TenantClient>> {
        match &self.tenant_clients {
            TenantClients::OfAll(tenant_client) => Some(tenant_client),
            TenantClients::PerTenant(_) => None,
        }
    }

    /// A tenant's client, if it exists already.
    pub(crate) fn known(&self, tenant: &Tenant) -> Option<Arc<TenantClient>> {
        match &self.tenant_clients {
            TenantClients::OfAll(tenant_client) => Some(Arc::clone(tenant_client)),
            TenantClients::PerTenant(per) => {
                per.tenant_clients.read_sync(tenant, |_, tenant_client| Arc::clone(tenant_client))
            }
        }
    }

    /// A tenant's client, made if it does not exist. The source is not asked yet.
    pub(crate) fn tenant_client(&self, tenant: &Tenant) -> Arc<TenantClient> {
        match &self.tenant_clients {
            TenantClients::OfAll(tenant_client) => Arc::clone(tenant_client),
            TenantClients::PerTenant(per) => per.tenant_client(&self.name, tenant),
        }
    }

    /// The client of all tenants, or those of the tenants that are in memory.
    pub(crate) fn in_memory(&self) -> Vec<Arc<TenantClient>> {
        match self.of_all() {
            Some(tenant_client) => vec![Arc::clone(tenant_client)],
            None => self.all(),
        }
    }

    /// The clients of all tenants, if each tenant has its own.
    pub(crate) fn all(&self) -> Vec<Arc<TenantClient>> {
        match &self.tenant_clients {
            TenantClients::OfAll(_) => Vec::new(),
            TenantClients::PerTenant(per) => {
                let mut all = Vec::new();
                per.tenant_clients.iter_sync(|_, tenant_client| {
                    all.push(Arc::clone(tenant_client));
                    true
                });
                all
            }
        }
    }
}

impl PerTenant {
    fn tenant_client(&self, name: &ProviderName, tenant: &Tenant) -> Arc<TenantClient> {
        if let Some(tenant_client) =
            self.tenant_clients.read_sync(tenant, |_, tenant_client| Arc::clone(tenant_client))
        {
            return tenant_client;
        }
        let make = || {
            let (source, resources) = (self.source.clone(), Arc::clone(&self.resources));
            Arc::new(TenantClient::of_tenant(name.clone(), tenant.clone(), source, resources))
        };
        let tenant_client =
            Arc::clone(self.tenant_clients.entry_sync(tenant.clone()).or_insert_with(make).get());
        self.sweep();
        tenant_client
    }

    /// Removes the clients that no session uses, whenever there are `sweep_at` of them. The clients
    /// in use are bounded by the sessions in memory; the others never exceed the larger of that
    /// number and [`IDLE_TENANT_CLIENTS`].
    fn sweep(&self) {
        let sweep_at = self.sweep_at.load(Ordering::Acquire);
        if self.tenant_clients.len() < sweep_at {
            return;
        }
        self.tenant_clients.retain_sync(|_, tenant_client| Arc::strong_count(tenant_client) > 1);
        let next = self.tenant_clients.len().saturating_mul(2).max(IDLE_TENANT_CLIENTS);
        self.sweep_at.store(next, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::provider::SourceError;
    use crate::provider::oauth2::OAuth2;

    fn registered() -> ProviderEntry {
        let resources = Resources::of_a_test(Arc::new(SystemClock::new()));
        let empty_source = |_: Tenant| async { Err(SourceError::UnknownTenant) };
        ProviderEntry::per_tenant::<OAuth2>(
            ProviderName::new("p").unwrap(),
            empty_source,
            Arc::new(resources),
        )
    }

    fn tenant(number: usize) -> Tenant {
        Tenant::new(number.to_string()).unwrap()
    }

    #[test]
    fn a_tenants_client_stays_the_same_while_it_is_held() {
        let registered = registered();
        let held = registered.tenant_client(&tenant(0));
        for number in 1..3 * IDLE_TENANT_CLIENTS {
            drop(registered.tenant_client(&tenant(number)));
        }
        assert!(Arc::ptr_eq(&held, &registered.tenant_client(&tenant(0))));
    }

    #[test]
    fn unused_tenant_clients_are_removed_at_the_bound() {
        let registered = registered();
        for number in 0..3 * IDLE_TENANT_CLIENTS {
            drop(registered.tenant_client(&tenant(number)));
            assert!(registered.all().len() <= IDLE_TENANT_CLIENTS);
        }
        let held: Vec<_> =
            (0..IDLE_TENANT_CLIENTS).map(|n| registered.tenant_client(&tenant(n))).collect();
        for number in IDLE_TENANT_CLIENTS..4 * IDLE_TENANT_CLIENTS {
            drop(registered.tenant_client(&tenant(number)));
        }
        assert!(registered.all().len() <= 2 * held.len());
    }
}
