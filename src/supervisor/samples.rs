//! Samples the state of each provider for metrics, every few seconds.

use std::sync::Arc;

use crate::client::provider_entry::ProviderEntry;
use crate::health::Condition;
use crate::measurements::ProviderSample;
use crate::policy::METRICS_EVERY;
use crate::session::context::Context;

/// After so many clients a sample lets other tasks run: there may be as many clients as tenants.
const CLIENTS_AT_ONCE: usize = 1_000;

/// Samples all providers once in each [`METRICS_EVERY`], until shutdown.
pub(super) async fn run(context: Arc<Context>) {
    let closing = context.tasks.closing();
    loop {
        context.measurements.samples_begin();
        for provider in context.registry.providers() {
            sample(&context, provider).await;
        }
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            () = context.clock.sleep(METRICS_EVERY) => {}
        }
    }
}

async fn sample(context: &Context, provider: &ProviderEntry) {
    let (mut sessions_in_memory, mut unsaved_credentials) = (0, 0);
    let mut conditions = Condition::ALL.map(|condition| (condition.name(), 0));
    for (seen, tenant_client) in provider.in_memory().iter().enumerate() {
        let owner = tenant_client.owner();
        sessions_in_memory += to_u64(owner.sessions());
        unsaved_credentials += to_u64(owner.unsaved());
        if let Some(client) = tenant_client.client() {
            let name = client.admission.condition().name();
            let of_this = conditions.iter_mut().filter(|(condition, _)| *condition == name);
            of_this.for_each(|(_, clients)| *clients += 1);
        }
        if seen % CLIENTS_AT_ONCE == CLIENTS_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
    }
    context.measurements.provider_sampled(&ProviderSample {
        provider: &provider.name,
        sessions_in_memory,
        unsaved_credentials,
        conditions: &conditions,
    });
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
