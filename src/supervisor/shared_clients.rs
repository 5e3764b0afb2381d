//! Keeps the clients of this process as the store knows them: it reads which are held back, and how
//! many supervisors divide their limits, and writes what the server answered here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use crate::client::{Client, ClientOwner};
use crate::clock::Now;
use crate::log::log_limited;
use crate::policy::{CLIENTS_AT_ONCE, CLIENTS_PAGE, CLIENTS_POLL};
use crate::session::context::Context;
use crate::store::{ClientKey, ClientOutcome, SharedClient, StoreError};

/// What a read of the store showed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The store shares nothing about clients.
    NotShared,
    /// No client is held back. The store is asked again after this time.
    NoneHeldBack(Duration),
    /// Clients are held back, or the store did not answer.
    Unsettled,
}

/// All clients that are held back.
struct HeldBack {
    clients: HashMap<ClientKey, SharedClient>,
    now: Now,
    holders: usize,
    next_in: Duration,
}

/// Reads and writes until shutdown. `seen` is what the first read showed.
pub(super) async fn run(context: Arc<Context>, mut seen: Seen) {
    let closing = context.tasks.closing();
    let pause = |seen| match seen {
        Seen::NoneHeldBack(next_in) => next_in,
        Seen::Unsettled | Seen::NotShared => CLIENTS_POLL,
    };
    let mut read_at = context.now().boot.after(pause(seen));
    while seen != Seen::NotShared {
        let now = context.now().boot;
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            owners = context.unwritten_clients.take() => {
                let clients = owners.iter().filter_map(|owner| find(&context, owner)).collect();
                write_all(&context, clients).await;
                // Sooner, because each of them may be held back now.
                read_at = read_at.min(context.now().boot.after(CLIENTS_POLL));
            }
            () = context.clock.sleep(read_at.since(now)) => {
                seen = read(&context).await;
                read_at = context.now().boot.after(pause(seen));
            }
        }
    }
}

/// Reads what the store knows, and takes it over. Writes again what could not be written before.
pub(super) async fn read(context: &Context) -> Seen {
    let asked_at = context.now().boot;
    let held_back = match all_held_back(context).await {
        Ok(Some(held_back)) => held_back,
        Ok(None) => return Seen::NotShared,
        Err(error) => {
            log_limited!(
                context.log_limit(),
                warn,
                None,
                "could not read what other processes know of the clients",
                cause = %error
            );
            return Seen::Unsettled;
        }
    };
    context.resources.replicas.set(Some(held_back.holders));
    let now = context.now().boot;
    let mut unwritten = Vec::new();
    for client in clients(context) {
        let shared = held_back.clients.get(&client.key).cloned().unwrap_or_default();
        let outcome = ClientOutcome { client: shared, now: held_back.now, done: true };
        client.admission.share();
        client.admission.adopt_listed(&outcome, asked_at, now);
        if client.admission.has_unwritten(now) {
            unwritten.push(client);
        }
    }
    let settled = held_back.clients.is_empty() && unwritten.is_empty();
    write_all(context, unwritten).await;
    if settled { Seen::NoneHeldBack(held_back.next_in) } else { Seen::Unsettled }
}

async fn all_held_back(context: &Context) -> Result<Option<HeldBack>, StoreError> {
    let (mut clients, mut after) = (HashMap::new(), None);
    loop {
        let page = context.store.clients(after.as_ref(), CLIENTS_PAGE);
        let Some(page) = context.await_store(page).await? else { return Ok(None) };
        let is_last = page.clients.len() < CLIENTS_PAGE;
        after = page.clients.last().map(|listed| listed.key.clone());
        clients.extend(page.clients.into_iter().map(|listed| (listed.key, listed.client)));
        if is_last {
            let (now, holders, next_in) = (page.now, page.holders, page.next_in);
            return Ok(Some(HeldBack { clients, now, holders, next_in }));
        }
    }
}

async fn write_all(context: &Context, clients: Vec<Arc<Client>>) {
    let write = |client: Arc<Client>| async move { context.write_client(&client).await };
    stream::iter(clients).for_each_concurrent(CLIENTS_AT_ONCE, write).await;
}

/// The clients that are in memory.
fn clients(context: &Context) -> Vec<Arc<Client>> {
    let providers = context.registry.providers();
    let tenant_clients = providers.flat_map(|provider| provider.in_memory());
    tenant_clients.filter_map(|tenant_client| tenant_client.client()).collect()
}

fn find(context: &Context, owner: &ClientOwner) -> Option<Arc<Client>> {
    let provider = context.registry.provider(owner.name.as_str())?;
    let tenant_client = match &owner.tenant {
        Some(tenant) => provider.known(tenant)?,
        None => Arc::clone(provider.of_all()?),
    };
    tenant_client.client()
}
