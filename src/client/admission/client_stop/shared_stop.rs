//! The stop as the store knows it, beside the stop of this process.

use std::time::Duration;

use super::{Apart, ClientStop, RejectedClient, Unsent, rejected_client};
use crate::client::admission::Entrant;
use crate::clock::BootTime;
use crate::error::ProviderCode;
use crate::policy::CLIENT_APART;
use crate::store::{ClientChange, ClientOutcome, SharedClient};

impl ClientStop {
    /// The stop of a client that replaces another one. The stop of that one does not hold for this
    /// one.
    pub(in super::super) fn of_replacement() -> Self {
        Self { apart: Apart::Begins, ..Self::default() }
    }

    /// Sets whether the store says which process may probe.
    pub(in super::super) fn share(&mut self, shared: bool) {
        self.shared = shared;
    }

    /// The change that tells the store what it does not know yet, and its number.
    pub(in super::super) fn unsent(&self, now: BootTime) -> Option<(ClientChange, u64)> {
        let change = match (self.unsent?, &self.rejected) {
            (Unsent::Rejection { seen: None } | Unsent::Acceptance { stop: None }, _) => {
                ClientChange::Read
            }
            (Unsent::Acceptance { stop: Some(stop) }, _) => ClientChange::Accept { stop },
            (Unsent::Rejection { seen: Some(seen) }, rejected) => {
                let rejected = rejected.as_ref()?;
                ClientChange::Reject {
                    seen,
                    tenant: rejected.tenant.clone(),
                    code: rejected.error.provider_code().map(str::to_owned),
                    probe_in: rejected.probe_at.since(now),
                }
            }
        };
        Some((change, self.answers))
    }

    /// Notes that the store answered the change with this number.
    pub(in super::super) fn sent(&mut self, number: u64, is_read: bool, client: &SharedClient) {
        let stop = client.stop.as_ref().map(|_| client.version);
        self.unsent = match self.unsent {
            Some(Unsent::Rejection { seen: None }) if is_read => {
                Some(Unsent::Rejection { seen: Some(client.version) })
            }
            Some(Unsent::Acceptance { stop: None }) if is_read => {
                stop.map(|stop| Unsent::Acceptance { stop: Some(stop) })
            }
            _ if number == self.answers => None,
            // The server answered again meanwhile, after what the store knows now.
            Some(Unsent::Rejection { .. }) => {
                Some(Unsent::Rejection { seen: Some(client.version) })
            }
            Some(Unsent::Acceptance { .. }) => {
                stop.map(|stop| Unsent::Acceptance { stop: Some(stop) })
            }
            None => None,
        };
    }

    /// Takes over what the store knows. The answers that it does not know yet count more. A probe
    /// that is further away than `longest` is wrong. True if exchanges that wait should check again.
    pub(in super::super) fn adopt(
        &mut self,
        outcome: &ClientOutcome,
        now: BootTime,
        longest: Duration,
    ) -> bool {
        let SharedClient { version, stop, .. } = &outcome.client;
        if self.unsent.is_some() {
            return false;
        }
        if self.is_apart(now) {
            return false;
        }
        let Some(stop) = stop else { return self.rejected.take().is_some() };
        if let Some(tenant) = &stop.tenant {
            // Another process uses the client for this tenant.
            self.count_user(tenant);
        }
        let left = stop.probe_at.since(outcome.now.boot).min(longest);
        let error = rejected_client(stop.code.as_deref().and_then(ProviderCode::new));
        let (tenant, probe_at) = (stop.tenant.clone(), now.after(left));
        let rejected =
            self.rejected.get_or_insert_with(|| RejectedClient::new(None, error.clone(), probe_at));
        let changed = rejected.version != Some(*version) || rejected.tenant != tenant;
        (rejected.version, rejected.tenant, rejected.error) = (Some(*version), tenant, error);
        if !rejected.is_granted(now) {
            rejected.probe_at = probe_at;
        }
        changed
    }

    /// Whether this exchange would be the probe that is due now, and the store must first be asked
    /// which process may send it.
    pub(in super::super) fn wants_claim(&mut self, entrant: Entrant<'_>, now: BootTime) -> bool {
        self.lacks_grant(now) && self.stopped(entrant).is_some()
    }

    /// Whether a probe is due that the store has not granted to this process.
    pub(in super::super) fn lacks_grant(&self, now: BootTime) -> bool {
        let is_due =
            |rejected: &RejectedClient| now >= rejected.probe_at && !rejected.is_granted(now);
        self.shared && self.rejected.as_ref().is_some_and(is_due)
    }

    /// Lets one exchange of this process be the probe: the store granted it, or cannot say.
    pub(in super::super) fn grant_probe(&mut self, until: BootTime) {
        if let Some(rejected) = &mut self.rejected {
            rejected.granted_until = Some(until);
        }
    }

    fn is_apart(&mut self, now: BootTime) -> bool {
        if let Apart::Begins = self.apart {
            self.apart = Apart::Until(now.after(CLIENT_APART));
        }
        matches!(self.apart, Apart::Until(until) if now < until)
    }

    pub(super) fn note_unsent(&mut self, unsent: Unsent) {
        self.unsent = Some(unsent);
        self.answers += 1;
    }
}
