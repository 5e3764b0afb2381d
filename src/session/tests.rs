//! Fixtures for unit tests of sessions.

#![cfg(feature = "testing")]

mod model;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::context::{Context, Counts};
use super::load_queue::LoadQueue;
use super::mailbox::Mailbox;
use super::message::Message;
use super::paused_scopes::PausedScopes;
use super::registry::Registry;
use super::slot::Slot;
use super::unwritten_clients::UnwrittenClients;
use crate::client::tenant_client::TenantClient;
use crate::clock::Clock;
use crate::crash::Steps;
use crate::event::Publisher;
use crate::health::LatestCount;
use crate::key::{ProviderName, SessionId, SessionKey};
use crate::measurements::Unmeasured;
use crate::policy::Policy;
use crate::provider::resources::Resources;
use crate::provider::{Registration, Rotation};
use crate::seal::KeyRing;
use crate::store::{MemoryStore, Owner};
use crate::task::Tasks;
use crate::testing::ScriptedProvider;

pub(super) const OWNER: Owner = Owner(1);

/// A mailbox of which no session has an actor.
pub(super) struct Nobody;

impl Mailbox for Nobody {
    fn send(&self, _: &Arc<Slot>, _: Message) -> bool {
        false
    }

    fn connected(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// A context with an empty store, and the slot of a session of a scripted provider.
pub(super) fn core_and_slot(
    clock: Arc<dyn Clock>,
    mailbox: Arc<dyn Mailbox>,
    (policy, rotation): (Policy, Rotation),
) -> (Arc<Context>, Arc<Slot>) {
    let keys = KeyRing::generate().unwrap();
    let resources = Arc::new(Resources::of_a_test(Arc::clone(&clock)));
    let name = ProviderName::new("p").unwrap();
    let provider: ScriptedProvider = ScriptedProvider::new().rotation(rotation);
    let settings = Registration::new(provider).settings;
    let tenant_client =
        Arc::new(TenantClient::of_all(name.clone(), settings, Arc::clone(&resources)));
    let id = SessionId::new(name, SessionKey::new("t", "d").unwrap());
    let registry = Registry::new(&policy, OWNER, HashMap::new());
    let context = Context {
        clock,
        store: Arc::new(MemoryStore::new()),
        tasks: Tasks::here().unwrap(),
        events: Publisher::new(8, Arc::clone(&resources.log_limit)),
        policy,
        owner: OWNER,
        counts: Counts::default(),
        resources,
        keys,
        journal: None,
        registry,
        mailbox,
        load_queue: LoadQueue::default(),
        steps: Steps::default(),
        latest_count: LatestCount::default(),
        measurements: Arc::new(Unmeasured),
        unwritten_clients: UnwrittenClients::default(),
        paused: PausedScopes::default(),
    };
    context.paused.set_not_kept();
    (Arc::new(context), Arc::new(Slot::new(id, tenant_client)))
}
