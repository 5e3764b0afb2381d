//! The tickets that were used in this process.
//!
//! The list is a second line of defence, because the server accepts a login's code only once (RFC
//! 6749 section 4.1.2). So a full list never refuses a login: it drops the oldest ticket instead.
//! Each tenant of a provider has a quota. If a tenant has reached it, its own oldest ticket is
//! dropped; if the whole list is full, the oldest of the tenant that has the most.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::{TicketFault, TicketId};
use crate::error::Result;
use crate::key::{ProviderName, SessionId, Tenant};
use crate::policy::USED_TICKETS_PER_TENANT;

/// The tickets of one tenant at one provider count together.
type TenantOfProvider = (ProviderName, Tenant);

/// The used tickets that have not expired, at most `max`. Times are in milliseconds.
pub(super) struct UsedTickets {
    max: usize,
    by_id: HashMap<TicketId, (u64, TenantOfProvider)>,
    by_expiry: BTreeSet<(u64, TicketId)>,
    by_tenant: HashMap<TenantOfProvider, BTreeSet<(u64, TicketId)>>,
    /// How many tickets each tenant has, to find the one with the most.
    sizes: BTreeSet<(usize, TenantOfProvider)>,
    /// The latest expiry of the tickets that were dropped because they expired. If the clock is set
    /// back, a ticket that expires no later may be one of them.
    expired_until: u64,
}

impl UsedTickets {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            by_id: HashMap::new(),
            by_expiry: BTreeSet::new(),
            by_tenant: HashMap::new(),
            sizes: BTreeSet::new(),
            expired_until: 0,
        }
    }

    pub(super) fn add(
        &mut self,
        id: TicketId,
        session: &SessionId,
        expires: u64,
        now: u64,
    ) -> Result<()> {
        if self.by_id.contains_key(&id) {
            return Err(TicketFault::Used.into());
        }
        self.drop_expired(now);
        if expires <= now || expires <= self.expired_until {
            return Err(TicketFault::Expired.into());
        }
        let tenant = (session.provider().clone(), session.key().tenant().clone());
        self.evict_if_full(&tenant);
        let count = self.count(&tenant);
        self.by_tenant.entry(tenant.clone()).or_default().insert((expires, id));
        self.by_expiry.insert((expires, id));
        self.by_id.insert(id, (expires, tenant.clone()));
        self.resized(tenant, count);
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &TicketId) {
        let Some((expires, tenant)) = self.by_id.remove(id) else { return };
        let count = self.count(&tenant);
        self.by_expiry.remove(&(expires, *id));
        if let Some(tickets) = self.by_tenant.get_mut(&tenant) {
            tickets.remove(&(expires, *id));
            if tickets.is_empty() {
                self.by_tenant.remove(&tenant);
            }
        }
        self.resized(tenant, count);
    }

    fn count(&self, tenant: &TenantOfProvider) -> usize {
        self.by_tenant.get(tenant).map_or(0, BTreeSet::len)
    }

    fn resized(&mut self, tenant: TenantOfProvider, before: usize) {
        let now = self.count(&tenant);
        self.sizes.remove(&(before, tenant.clone()));
        if now > 0 {
            self.sizes.insert((now, tenant));
        }
    }

    /// Drops a ticket if this tenant has as many as one may have, or if all have as many as fit:
    /// then one of the tenant that has most.
    fn evict_if_full(&mut self, tenant: &TenantOfProvider) {
        if self.count(tenant) >= USED_TICKETS_PER_TENANT {
            self.drop_oldest(tenant);
        } else if self.by_id.len() >= self.max
            && let Some((_, most)) = self.sizes.last().cloned()
        {
            self.drop_oldest(&most);
        }
    }

    /// Drops the ticket of this tenant that expires first.
    fn drop_oldest(&mut self, tenant: &TenantOfProvider) {
        let oldest = self.by_tenant.get(tenant).and_then(BTreeSet::first);
        if let Some((_, id)) = oldest.copied() {
            self.remove(&id);
        }
    }

    fn drop_expired(&mut self, now: u64) {
        while let Some(&(expires, id)) = self.by_expiry.first()
            && expires <= now
        {
            self.remove(&id);
            self.expired_until = expires;
        }
    }
}

impl fmt::Debug for UsedTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spent").field("tickets", &self.by_id.len()).finish_non_exhaustive()
    }
}
