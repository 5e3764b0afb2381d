//! Reports the health of the providers and of the sessions.

use super::reported_clients::ReportedClients;
use super::{Supervisor, session_count};
use crate::client::request_history::{LastFailure, RequestHistory};
use crate::client::{Client, ClientOwner};
use crate::clock::{Now, timeout};
use crate::health::{CountState, Health, LatestFailure, ProviderHealth};
use crate::session::context::Context;
use crate::session::schedule::WaitQueue;

impl Supervisor {
    /// Returns how the providers' servers respond to this process, and how many sessions the store
    /// has in which state. See the example of [`Health`].
    ///
    /// The first call starts to count the sessions in the background, once in each
    /// [`HEALTH_COUNT_EVERY`](crate::policy::HEALTH_COUNT_EVERY), and waits for the first count, for
    /// at most [`Policy::store_timeout`](crate::policy::Policy::store_timeout). Later calls return
    /// at once, with the latest count and its age. Each call visits every client in memory.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped: the count goes on.
    pub async fn health(&self) -> Health {
        let context = &self.dispatcher.context;
        session_count::start(context);
        let CountState { count, error } = first_count(context).await;
        let now = context.now();
        let ReportedClients { clients, left_out } = ReportedClients::of(&context.registry);
        Health {
            at: now.wall,
            providers: clients.iter().map(|client| provider_health(context, client, now)).collect(),
            tenants_left_out: left_out,
            counted: count.map(|count| count.shown(now)),
            count_error: error.map(|error| error.to_string()),
        }
    }
}

/// Waits until the sessions were counted once, or could not be counted.
async fn first_count(context: &Context) -> CountState {
    let mut latest = context.latest_count.subscribe();
    let closing = context.tasks.closing();
    let tried = async {
        tokio::select! {
            biased;
            // The sender is in the context, so this does not fail.
            tried = latest.wait_for(CountState::is_tried) => drop(tried),
            () = closing.cancelled() => {}
        }
    };
    // Without a first count there is none in the answer.
    let _ = timeout(&*context.clock, context.policy.store_timeout, tried).await;
    latest.borrow().clone()
}

fn provider_health(context: &Context, client: &Client, now: Now) -> ProviderHealth {
    let ClientOwner { name, tenant, .. } = &client.owner;
    let RequestHistory { condition, since, last_success, last_failure, failures, .. } =
        client.admission.history();
    let held_back = client.admission.held_back(now.boot);
    let wait_queue = tenant.clone().map_or(WaitQueue::Client, WaitQueue::ClientOf);
    let scheduled =
        context.registry.schedule(name).map_or(0, |schedule| schedule.queued(&wait_queue));
    ProviderHealth {
        provider: name.clone(),
        tenant: tenant.clone(),
        condition,
        since,
        last_success,
        last_failure: last_failure.map(latest_failure),
        consecutive_failures: failures,
        in_flight: client.admission.in_flight(),
        queued: client.admission.queued() + scheduled,
        held_back_until: held_back.map(|(_, until)| now.wall_at(until)),
        held_back_by: held_back.map(|(reason, _)| reason),
        sessions_in_memory: client.owner.sessions(),
    }
}

fn latest_failure(LastFailure { at, class, error }: LastFailure) -> LatestFailure {
    let code = error.provider_code().map(str::to_owned);
    let (status, text) = (error.status(), error.to_string());
    LatestFailure { at, class: class.name(), status, code, text }
}
