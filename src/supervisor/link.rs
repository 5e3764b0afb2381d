//! The link between handles, sessions and whatever supervisor actor lives now.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ractor::{ActorRef, ActorStatus};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::message::Order;
use super::registry::{Full, Registry};
use super::schedule::{Holders, Schedule};
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind};
use crate::key::{ProviderName, SessionId, Tenant};
use crate::policy::Policy;
use crate::provider::registered::Registered;
use crate::provider::site::Site;
use crate::session::core::{Host, Known};
use crate::session::message::Message;
use crate::session::slot::{Leaves, Slot};
use crate::store::Owner;

/// What survives the supervisor actor. It is reached through this link only, and looked up for
/// each message: whoever kept its address would talk to a dead actor after a restart.
pub(crate) struct Link {
    actor: watch::Sender<Option<ActorRef<Order>>>,
    /// No supervisor actor is to live any more.
    over: CancellationToken,
    pub(crate) registry: Registry<Slot>,
    pub(crate) holders: Holders,
    /// Some sessions are to leave memory.
    pub(crate) crowded: Notify,
    providers: HashMap<ProviderName, (Arc<Registered>, Schedule)>,
}

impl Link {
    pub(crate) fn new(
        policy: &Policy,
        owner: Owner,
        providers: HashMap<ProviderName, Arc<Registered>>,
    ) -> Self {
        let scheduled = |(name, provider)| (name, (provider, Schedule::default()));
        Self {
            actor: watch::Sender::new(None),
            over: CancellationToken::new(),
            registry: Registry::new(policy.max_sessions, policy.max_sessions_per_tenant),
            holders: Holders::new(owner),
            crowded: Notify::new(),
            providers: providers.into_iter().map(scheduled).collect(),
        }
    }

    pub(crate) fn provider(&self, name: &str) -> Option<&Arc<Registered>> {
        self.providers.get(name).map(|(provider, _)| provider)
    }

    pub(crate) fn providers(&self) -> impl Iterator<Item = &Arc<Registered>> {
        self.providers.values().map(|(provider, _)| provider)
    }

    /// What is due of this provider.
    pub(crate) fn schedule(&self, name: &ProviderName) -> Option<&Schedule> {
        self.providers.get(name.as_str()).map(|(_, schedule)| schedule)
    }

    /// How many sessions the schedules know.
    pub(crate) fn scheduled(&self) -> usize {
        self.providers.values().map(|(_, schedule)| schedule.len()).sum()
    }

    /// A session's slot for the schedule, and whether it was in memory before.
    pub(crate) fn slot_to_look_at(&self, id: &SessionId) -> Result<(Arc<Slot>, bool), Error> {
        match self.find(id) {
            Some(slot) => Ok((slot, true)),
            None => self.slot(id).map(|slot| (slot, false)),
        }
    }

    /// Ends the schedule's hold. A session that was not in memory before leaves it again, unless it
    /// knows more than its record by now.
    pub(crate) fn leave(&self, slot: Arc<Slot>, was_there: bool) {
        let id = slot.id().clone();
        let leaves = |slot: &Slot| !was_there && slot.leaves() == Leaves::Yes;
        self.registry.release(&id, slot, |slot| slot.is_disposable() || leaves(slot));
    }

    pub(crate) fn actor(&self) -> Option<ActorRef<Order>> {
        self.actor.borrow().clone()
    }

    /// An actor that comes when all is over is stopped.
    pub(crate) fn connect(&self, actor: Option<ActorRef<Order>>) {
        self.actor.send_replace(actor);
        if self.over.is_cancelled() {
            self.stop();
        }
    }

    /// Stops the supervisor actor, and another one that is just being started. Jobs that have not
    /// begun are refused: nobody is left to begin them.
    pub(crate) fn end(&self) {
        self.over.cancel();
        self.stop();
        self.refuse_all();
    }

    pub(crate) fn refuse_all(&self) {
        self.registry.each(|slot| slot.refuse(|_| true));
    }

    fn stop(&self) {
        if let Some(actor) = self.actor() {
            actor.stop(None);
        }
    }
}

impl Host for Link {
    fn send(&self, slot: &Arc<Slot>, message: Message) -> bool {
        let order = Order::Deliver { slot: Arc::clone(slot), message };
        self.actor().is_some_and(|actor| actor.send_message(order).is_ok())
    }

    fn connected(&self) -> BoxFuture<'_, ()> {
        let mut seen = self.actor.subscribe();
        Box::pin(async move {
            let lives = |actor: &Option<ActorRef<Order>>| {
                actor.as_ref().is_some_and(|actor| actor.get_status() < ActorStatus::Draining)
            };
            // The sender is in this link, so this cannot fail.
            drop(seen.wait_for(lives).await);
        })
    }

    fn find(&self, id: &SessionId) -> Option<Arc<Slot>> {
        self.registry.get(id)
    }

    fn slot(&self, id: &SessionId) -> Result<Arc<Slot>, Error> {
        let Some(provider) = self.provider(id.provider().as_str()) else {
            return Err(Error::new(ErrorKind::Misconfigured)
                .about("the session's provider is not registered")
                .of_session(id));
        };
        let make = || Slot::new(id.clone(), provider.site(id.key().tenant()));
        let obtained = self.registry.obtain(id, make);
        if self.registry.is_crowded() {
            self.crowded.notify_one();
        }
        obtained.map_err(|full| {
            let words = match full {
                Full::ForAll => "too many sessions are in memory",
                Full::ForTenant => "the tenant has too many sessions in memory",
            };
            Error::new(ErrorKind::Capacity).about(words).of_session(id)
        })
    }

    fn unstored(&self, provider: &ProviderName, tenant: &Tenant) -> Vec<SessionId> {
        let mut ids = Vec::new();
        self.registry.each(|slot| {
            let id = slot.id();
            let theirs = id.provider() == provider && id.key().tenant() == tenant;
            if theirs && slot.knows_more() {
                ids.push(id.clone());
            }
        });
        ids
    }

    fn arm(&self, id: &SessionId, at: Option<BootTime>, known: Known) {
        let Some(schedule) = self.schedule(id.provider()) else { return };
        let delay = match known {
            Known::ToAll => self.holders.delay(id),
            Known::ToThisProcess => Duration::ZERO,
        };
        schedule.arm(id, at.map(|at| at.after(delay)));
    }

    fn resident(&self, sites: &[Arc<Site>]) -> Vec<Arc<Slot>> {
        let sites: HashSet<_> = sites.iter().map(Arc::as_ptr).collect();
        let mut resident = Vec::new();
        self.registry.each(|slot| {
            if sites.contains(&Arc::as_ptr(&slot.site)) {
                resident.push(Arc::clone(slot));
            }
        });
        resident
    }

    fn release(&self, slot: Arc<Slot>) {
        let id = slot.id().clone();
        self.registry.release(&id, slot, Slot::is_disposable);
    }
}
