//! The names of tenants in labels, of which there is a bounded number.

use std::collections::HashSet;

use parking_lot::Mutex;

use crate::key::Tenant;

/// The value of the label for all tenants beyond the bound.
const OTHER: &str = "other";

/// The tenants that have a value of their own, the first ones that were seen.
pub(super) struct TenantNames {
    at_most: usize,
    named: Mutex<HashSet<Tenant>>,
}

impl TenantNames {
    pub(super) fn new(at_most: usize) -> Self {
        Self { at_most, named: Mutex::default() }
    }

    /// The value of the label; empty if what is recorded concerns no tenant.
    pub(super) fn name(&self, tenant: Option<&Tenant>) -> String {
        let Some(tenant) = tenant else { return String::new() };
        let mut named = self.named.lock();
        let is_named = named.contains(tenant) || {
            let has_room = named.len() < self.at_most;
            has_room && named.insert(tenant.clone())
        };
        (if is_named { tenant.as_str() } else { OTHER }).to_owned()
    }
}
