//! Which tickets were used.
//!
//! The list is a second line of defence: the server takes a login's code once (RFC 6749 section
//! 4.1.2). So no login is ever refused because the list is full. Each tenant of a provider has a
//! quota, and at a bound the oldest ticket is forgotten: that of the tenant itself, or of the one
//! that has the most.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::{TicketFault, TicketId};
use crate::error::Result;
use crate::key::{ProviderName, SessionId, Tenant};
use crate::policy::SPENT_TICKETS_PER_TENANT;

/// Whose tickets count together.
type Owner = (ProviderName, Tenant);

/// The used tickets that have not expired, at most so many. Times are milliseconds.
pub(super) struct Spent {
    most: usize,
    of: HashMap<TicketId, (u64, Owner)>,
    by_expiry: BTreeSet<(u64, TicketId)>,
    by_owner: HashMap<Owner, BTreeSet<(u64, TicketId)>>,
    /// How many each owner has, to find the one with the most.
    sizes: BTreeSet<(usize, Owner)>,
    /// The latest expiry of those that were forgotten because they expired. A ticket that expires
    /// no later may be one of them, should the clock be set back.
    forgotten: u64,
}

impl Spent {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            of: HashMap::new(),
            by_expiry: BTreeSet::new(),
            by_owner: HashMap::new(),
            sizes: BTreeSet::new(),
            forgotten: 0,
        }
    }

    pub(super) fn add(
        &mut self,
        id: TicketId,
        session: &SessionId,
        expires: u64,
        now: u64,
    ) -> Result<()> {
        if self.of.contains_key(&id) {
            return Err(TicketFault::Used.into());
        }
        self.forget_expired(now);
        if expires <= now || expires <= self.forgotten {
            return Err(TicketFault::Expired.into());
        }
        let owner = (session.provider().clone(), session.key().tenant().clone());
        if self.count(&owner) >= SPENT_TICKETS_PER_TENANT {
            self.forget_oldest(&owner);
        } else if self.of.len() >= self.most
            && let Some((_, most)) = self.sizes.last().cloned()
        {
            self.forget_oldest(&most);
        }
        let count = self.count(&owner);
        self.by_owner.entry(owner.clone()).or_default().insert((expires, id));
        self.by_expiry.insert((expires, id));
        self.of.insert(id, (expires, owner.clone()));
        self.resized(owner, count);
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &TicketId) {
        let Some((expires, owner)) = self.of.remove(id) else { return };
        let count = self.count(&owner);
        self.by_expiry.remove(&(expires, *id));
        if let Some(tickets) = self.by_owner.get_mut(&owner) {
            tickets.remove(&(expires, *id));
            if tickets.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        self.resized(owner, count);
    }

    fn count(&self, owner: &Owner) -> usize {
        self.by_owner.get(owner).map_or(0, BTreeSet::len)
    }

    fn resized(&mut self, owner: Owner, before: usize) {
        let now = self.count(&owner);
        self.sizes.remove(&(before, owner.clone()));
        if now > 0 {
            self.sizes.insert((now, owner));
        }
    }

    /// Forgets the ticket that expires first of those that this owner has.
    fn forget_oldest(&mut self, owner: &Owner) {
        let oldest = self.by_owner.get(owner).and_then(BTreeSet::first);
        if let Some((_, id)) = oldest.copied() {
            self.remove(&id);
        }
    }

    fn forget_expired(&mut self, now: u64) {
        while let Some(&(expires, id)) = self.by_expiry.first()
            && expires <= now
        {
            self.remove(&id);
            self.forgotten = expires;
        }
    }
}

impl fmt::Debug for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spent").field("tickets", &self.of.len()).finish_non_exhaustive()
    }
}
