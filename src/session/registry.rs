//! The registry: the sessions in memory, and the schedules of their providers.

mod bounded_map;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use self::bounded_map::{BoundedMap, Full};
use super::schedule::{KnownTo, Ranks, Schedule};
use super::slot::{Leaves, Slot};
use crate::client::provider_entry::ProviderEntry;
use crate::client::tenant_client::TenantClient;
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind};
use crate::key::{ProviderName, SessionId, Tenant};
use crate::policy::Policy;
use crate::store::Owner;

/// The slots of one supervisor's sessions, with its providers and their schedules. It outlives
/// every actor.
pub(crate) struct Registry {
    pub(crate) slots: BoundedMap<Slot>,
    pub(crate) ranks: Ranks,
    /// Notified when sessions must leave memory.
    pub(crate) crowded: Notify,
    providers: HashMap<ProviderName, (Arc<ProviderEntry>, Schedule)>,
}

impl Registry {
    pub(crate) fn new(
        policy: &Policy,
        owner: Owner,
        providers: HashMap<ProviderName, Arc<ProviderEntry>>,
    ) -> Self {
        let scheduled = |(name, provider)| (name, (provider, Schedule::default()));
        Self {
            slots: BoundedMap::new(policy.max_sessions, policy.max_sessions_per_tenant),
            ranks: Ranks::new(owner),
            crowded: Notify::new(),
            providers: providers.into_iter().map(scheduled).collect(),
        }
    }

    pub(crate) fn provider(&self, name: &str) -> Option<&Arc<ProviderEntry>> {
        self.providers.get(name).map(|(provider, _)| provider)
    }

    pub(crate) fn providers(&self) -> impl Iterator<Item = &Arc<ProviderEntry>> {
        self.providers.values().map(|(provider, _)| provider)
    }

    /// The schedule of this provider.
    pub(crate) fn schedule(&self, name: &ProviderName) -> Option<&Schedule> {
        self.providers.get(name.as_str()).map(|(_, schedule)| schedule)
    }

    /// The number of sessions in the schedules.
    pub(crate) fn scheduled(&self) -> usize {
        self.providers.values().map(|(_, schedule)| schedule.len()).sum()
    }

    /// The slot of a session, if it is in memory.
    pub(crate) fn find(&self, id: &SessionId) -> Option<Arc<Slot>> {
        self.slots.get(id)
    }

    /// The slot of a session. Makes one if there is none.
    pub(crate) fn obtain(&self, id: &SessionId) -> Result<Arc<Slot>, Error> {
        let Some(provider) = self.provider(id.provider().as_str()) else {
            return Err(Error::new(ErrorKind::Misconfigured)
                .about(
                    "the session's provider is not registered; register it under the name in the \
                     session's id",
                )
                .of_session(id));
        };
        let make = || Slot::new(id.clone(), provider.tenant_client(id.key().tenant()));
        let obtained = self.slots.obtain(id, make);
        if self.slots.is_crowded() {
            self.crowded.notify_one();
        }
        obtained.map_err(|full| {
            let words = match full {
                Full::ForAll => {
                    "too many sessions are in memory; raise `Policy::max_sessions`, or try again \
                     when there are fewer"
                }
                Full::ForTenant => {
                    "the tenant has too many sessions in memory; raise \
                     `Policy::max_sessions_per_tenant`, or try again when there are fewer"
                }
            };
            Error::new(ErrorKind::Capacity).about(words).of_session(id)
        })
    }

    /// Releases a reference to the slot, and removes the slot if that was the last reference and the
    /// slot is disposable.
    pub(crate) fn release(&self, slot: Arc<Slot>) {
        let id = slot.id().clone();
        self.slots.release(&id, slot, Slot::is_disposable);
    }

    /// A session's slot for the schedule, and whether it was in memory before.
    pub(crate) fn obtain_for_schedule(&self, id: &SessionId) -> Result<(Arc<Slot>, bool), Error> {
        match self.find(id) {
            Some(slot) => Ok((slot, true)),
            None => self.obtain(id).map(|slot| (slot, false)),
        }
    }

    /// Releases the schedule's reference. A session that was not in memory before leaves it again,
    /// unless it has more than its record by now.
    pub(crate) fn release_for_schedule(&self, slot: Arc<Slot>, was_in_memory: bool) {
        let id = slot.id().clone();
        let leaves = |slot: &Slot| !was_in_memory && slot.leaves() == Leaves::Yes;
        self.slots.release(&id, slot, |slot| slot.is_disposable() || leaves(slot));
    }

    /// Sets the time of the session's next check; `None` for no check. If several processes know the
    /// same time, one of them checks first.
    pub(crate) fn arm(&self, id: &SessionId, at: Option<BootTime>, known: KnownTo) {
        let Some(schedule) = self.schedule(id.provider()) else { return };
        let delay = match known {
            KnownTo::All => self.ranks.delay(id),
            KnownTo::ThisProcess => Duration::ZERO,
        };
        schedule.arm(id, at.map(|at| at.after(delay)));
    }

    /// The sessions of a tenant at these providers that have something in memory which the store may
    /// not have.
    pub(crate) fn unstored(&self, providers: &[ProviderName], tenant: &Tenant) -> Vec<SessionId> {
        let mut ids = Vec::new();
        self.slots.each(|slot| {
            let id = slot.id();
            let theirs = providers.contains(id.provider()) && id.key().tenant() == tenant;
            if theirs && slot.knows_more() {
                ids.push(id.clone());
            }
        });
        ids
    }

    /// The sessions in memory of these tenant clients.
    pub(crate) fn resident(&self, tenant_clients: &[Arc<TenantClient>]) -> Vec<Arc<Slot>> {
        let tenant_clients: HashSet<_> = tenant_clients.iter().map(Arc::as_ptr).collect();
        let mut resident = Vec::new();
        self.slots.each(|slot| {
            if tenant_clients.contains(&Arc::as_ptr(&slot.tenant_client)) {
                resident.push(Arc::clone(slot));
            }
        });
        resident
    }

    /// Refuses all jobs that have not begun.
    pub(crate) fn refuse_all(&self) {
        self.slots.each(|slot| slot.refuse(|_| true));
    }
}
