//! The clients whose health is reported.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::client::Client;
use crate::client::provider_entry::ProviderEntry;
use crate::policy::HEALTH_TENANTS;
use crate::session::registry::Registry;

/// The clients in memory: those of all tenants, and of those of one tenant at most
/// [`HEALTH_TENANTS`].
pub(super) struct ReportedClients {
    /// In the order of their provider's name and their tenant's name.
    pub(super) clients: Vec<Arc<Client>>,
    /// How many clients of tenants are left out.
    pub(super) left_out: usize,
}

impl ReportedClients {
    pub(super) fn of(registry: &Registry) -> Self {
        let of_all = registry.providers().filter_map(|entry| entry.of_all());
        let mut clients: Vec<_> = of_all.filter_map(|of_all| of_all.client()).collect();
        let of_tenants = registry.providers().flat_map(|entry| ProviderEntry::all(entry));
        let mut of_tenants: Vec<_> =
            of_tenants.filter_map(|tenant_client| tenant_client.client()).collect();
        let left_out = of_tenants.len().saturating_sub(HEALTH_TENANTS);
        if left_out > 0 {
            of_tenants
                .sort_by_cached_key(|client| (is_good(client), Reverse(client.owner.sessions())));
            of_tenants.truncate(HEALTH_TENANTS);
        }
        clients.append(&mut of_tenants);
        clients.sort_by(|one, other| {
            let (one, other) = (&one.owner, &other.owner);
            (&one.name, &one.tenant).cmp(&(&other.name, &other.tenant))
        });
        Self { clients, left_out }
    }
}

fn is_good(client: &Client) -> bool {
    client.admission.history().condition.is_good()
}
