//! A provider under its name: one client for all tenants, or one for each.

use std::any::TypeId;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use scc::HashMap;

use super::means::Means;
use super::site::Site;
use super::source::Source;
use super::{Provider, ProviderSource, Registration};
use crate::key::{ProviderName, Tenant};
use crate::policy::IDLE_SITES;

/// What a provider's name stands for.
pub(crate) struct Registered {
    pub(crate) name: ProviderName,
    sites: Sites,
    /// The type that handles know the provider by.
    provides: TypeId,
}

enum Sites {
    OfAll(Arc<Site>),
    PerTenant(PerTenant),
}

struct PerTenant {
    source: Source,
    means: Arc<Means>,
    sites: HashMap<Tenant, Arc<Site>>,
    /// With so many sites, those that no session uses are looked for.
    sweep_at: AtomicUsize,
}

impl Registered {
    pub(crate) fn new<P: Provider>(
        name: ProviderName,
        registration: Registration<P>,
        means: Arc<Means>,
    ) -> Self {
        let site = Site::of_all(name.clone(), registration.settings, means);
        Self { name, sites: Sites::OfAll(Arc::new(site)), provides: TypeId::of::<P>() }
    }

    pub(crate) fn per_tenant<P: Provider>(
        name: ProviderName,
        source: impl ProviderSource<P>,
        means: Arc<Means>,
    ) -> Self {
        let source = Source::new(source);
        let sweep_at = AtomicUsize::new(IDLE_SITES);
        let sites = PerTenant { source, means, sites: HashMap::new(), sweep_at };
        Self { name, sites: Sites::PerTenant(sites), provides: TypeId::of::<P>() }
    }

    pub(crate) fn provides<P: Provider>(&self) -> bool {
        self.provides == TypeId::of::<P>()
    }

    /// The site of all tenants, where there is one for all.
    pub(crate) fn of_all(&self) -> Option<&Arc<Site>> {
        match &self.sites {
            Sites::OfAll(site) => Some(site),
            Sites::PerTenant(_) => None,
        }
    }

    /// A tenant's site, if it is known already.
    pub(crate) fn known(&self, tenant: &Tenant) -> Option<Arc<Site>> {
        match &self.sites {
            Sites::OfAll(site) => Some(Arc::clone(site)),
            Sites::PerTenant(per) => per.sites.read_sync(tenant, |_, site| Arc::clone(site)),
        }
    }

    /// A tenant's site, made if it is not known. Nobody is asked yet.
    pub(crate) fn site(&self, tenant: &Tenant) -> Arc<Site> {
        match &self.sites {
            Sites::OfAll(site) => Arc::clone(site),
            Sites::PerTenant(per) => per.site(&self.name, tenant),
        }
    }

    /// The sites of all tenants that have their own and were asked for.
    pub(crate) fn all(&self) -> Vec<Arc<Site>> {
        match &self.sites {
            Sites::OfAll(_) => Vec::new(),
            Sites::PerTenant(per) => {
                let mut all = Vec::new();
                per.sites.iter_sync(|_, site| {
                    all.push(Arc::clone(site));
                    true
                });
                all
            }
        }
    }
}

impl PerTenant {
    fn site(&self, name: &ProviderName, tenant: &Tenant) -> Arc<Site> {
        if let Some(site) = self.sites.read_sync(tenant, |_, site| Arc::clone(site)) {
            return site;
        }
        let make = || {
            let (source, means) = (self.source.clone(), Arc::clone(&self.means));
            Arc::new(Site::of_tenant(name.clone(), tenant.clone(), source, means))
        };
        let site = Arc::clone(self.sites.entry_sync(tenant.clone()).or_insert_with(make).get());
        self.sweep();
        site
    }

    /// Forgets the sites that no session uses, now and then: those in use are bounded by the
    /// resident sessions, and of the others there are never more than these or the bound.
    fn sweep(&self) {
        let sweep_at = self.sweep_at.load(Ordering::Acquire);
        if self.sites.len() < sweep_at {
            return;
        }
        self.sites.retain_sync(|_, site| Arc::strong_count(site) > 1);
        let next = self.sites.len().saturating_mul(2).max(IDLE_SITES);
        self.sweep_at.store(next, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::SourceError;
    use crate::provider::oauth2::OAuth2;
    use crate::seal::KeyRing;
    use crate::ticket::Tickets;
    use crate::transport::{Transport, TransportConfig};

    fn registered() -> Registered {
        let means = Means {
            transport: Transport::new(&TransportConfig::default()).unwrap().into(),
            tickets: Tickets::new(KeyRing::generate().unwrap(), 8).into(),
        };
        let nobody = |_: Tenant| async { Err(SourceError::UnknownTenant) };
        Registered::per_tenant::<OAuth2>(ProviderName::new("p").unwrap(), nobody, Arc::new(means))
    }

    fn tenant(number: usize) -> Tenant {
        Tenant::new(number.to_string()).unwrap()
    }

    #[test]
    fn a_tenants_site_stays_the_same_while_somebody_holds_it() {
        let registered = registered();
        let held = registered.site(&tenant(0));
        for number in 1..3 * IDLE_SITES {
            drop(registered.site(&tenant(number)));
        }
        assert!(Arc::ptr_eq(&held, &registered.site(&tenant(0))));
    }

    #[test]
    fn sites_that_nobody_holds_are_forgotten_at_the_bound() {
        let registered = registered();
        for number in 0..3 * IDLE_SITES {
            drop(registered.site(&tenant(number)));
            assert!(registered.all().len() <= IDLE_SITES);
        }
        let held: Vec<_> = (0..IDLE_SITES).map(|n| registered.site(&tenant(n))).collect();
        for number in IDLE_SITES..4 * IDLE_SITES {
            drop(registered.site(&tenant(number)));
        }
        assert!(registered.all().len() <= 2 * held.len());
    }
}
