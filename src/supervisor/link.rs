//! The link between handles, sessions and whatever supervisor actor lives now.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use ractor::{ActorRef, ActorStatus};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::message::Order;
use super::registry::{Full, Registry};
use super::schedule::Schedule;
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind};
use crate::key::{ProviderName, SessionId, Tenant};
use crate::policy::Policy;
use crate::provider::registered::Registered;
use crate::provider::site::Site;
use crate::session::core::Host;
use crate::session::message::Message;
use crate::session::slot::Slot;

/// What survives the supervisor actor. It is reached through this link only, and looked up for
/// each message: whoever kept its address would talk to a dead actor after a restart.
pub(crate) struct Link {
    actor: watch::Sender<Option<ActorRef<Order>>>,
    /// No supervisor actor is to live any more.
    over: CancellationToken,
    pub(crate) registry: Registry<Slot>,
    schedule: Mutex<Schedule>,
    pub(crate) rearmed: Notify,
    providers: HashMap<ProviderName, Arc<Registered>>,
}

impl Link {
    pub(crate) fn new(policy: &Policy, providers: HashMap<ProviderName, Arc<Registered>>) -> Self {
        Self {
            actor: watch::Sender::new(None),
            over: CancellationToken::new(),
            registry: Registry::new(policy.max_sessions, policy.max_sessions_per_tenant),
            schedule: Mutex::default(),
            rearmed: Notify::new(),
            providers,
        }
    }

    pub(crate) fn provider(&self, name: &str) -> Option<&Arc<Registered>> {
        self.providers.get(name)
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

    pub(crate) fn next_wake(&self) -> Option<BootTime> {
        self.schedule.lock().next()
    }

    pub(crate) fn take_due(&self, now: BootTime) -> Option<SessionId> {
        self.schedule.lock().take_due(now)
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
        self.registry.obtain(id, make).map_err(|full| {
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

    fn arm(&self, id: &SessionId, at: BootTime) {
        let mut schedule = self.schedule.lock();
        let first = schedule.next().is_none_or(|next| at < next);
        schedule.add(at, id.clone());
        drop(schedule);
        if first {
            self.rearmed.notify_one();
        }
    }

    fn resident(&self, site: &Arc<Site>) -> Vec<Arc<Slot>> {
        let mut resident = Vec::new();
        self.registry.each(|slot| {
            if Arc::ptr_eq(&slot.site, site) {
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
