//! The tasks that do scheduled work: they read due records from the store, check sessions when
//! their time comes, and begin exchanges when the client's admission permits it.

mod check;
mod poll;
mod wait_queues;

use std::sync::Arc;

use tokio::sync::Semaphore;

use self::check::Check;
pub(super) use self::poll::{poll, report_unknown};
use crate::client::provider_entry::ProviderEntry;
use crate::key::SessionId;
use crate::policy::{CHECKS_AT_ONCE, SCHEDULE_HEARTBEAT};
use crate::session::context::Context;
use crate::session::schedule::WaitQueue;

/// Checks a provider's sessions when they are due, until shutdown.
pub(super) async fn drive(context: Arc<Context>, provider: Arc<ProviderEntry>) {
    let Some(schedule) = context.registry.schedule(&provider.name) else { return };
    let closing = context.tasks.closing();
    let checks = Arc::new(Semaphore::new(CHECKS_AT_ONCE));
    loop {
        let rearmed = schedule.rearmed.notified();
        while let Some((id, polled)) = schedule.take_due(context.now().boot) {
            let permit = tokio::select! {
                biased;
                () = closing.cancelled() => return,
                permit = Arc::clone(&checks).acquire_owned() => permit,
            };
            let (task_context, provider) = (Arc::clone(&context), Arc::clone(&provider));
            context.tasks.spawn_detached(async move {
                if let Some(check) = Check::new((&task_context, &provider), id, polled)
                    && let Some(wait_queue) = check.run().await
                {
                    wait_queues::serve(&task_context, &provider, wait_queue);
                }
                drop(permit);
            });
        }
        // The clock is read again, because the checks may have taken long.
        let now = context.now().boot;
        let pause = schedule.next().map_or(SCHEDULE_HEARTBEAT, |next| next.since(now));
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            () = rearmed => {}
            () = context.clock.sleep(pause.min(SCHEDULE_HEARTBEAT)) => {}
        }
    }
}

/// The queue in which the session waits if it has to.
fn wait_queue_of(provider: &ProviderEntry, id: &SessionId) -> WaitQueue {
    let tenant = id.key().tenant();
    if provider.of_all().is_some() {
        WaitQueue::Client
    } else if provider.known(tenant).is_some_and(|tenant_client| tenant_client.client().is_some()) {
        WaitQueue::ClientOf(tenant.clone())
    } else {
        WaitQueue::Source
    }
}
