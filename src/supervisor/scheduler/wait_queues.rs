//! Serves the wait queues: sessions that wait for a permit of their client, or for the source.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::check::{Check, TakenEntry};
use crate::client::Client;
use crate::client::admission::ScheduledPermit;
use crate::client::provider_entry::ProviderEntry;
use crate::client::tenant_client::TenantClient;
use crate::clock::timeout;
use crate::key::SessionId;
use crate::policy::{REPLY_WAIT, SCHEDULE_HEARTBEAT};
use crate::session::context::Context;
use crate::session::message::{DueExchange, Message};
use crate::session::schedule::{CheckResult, WaitQueue};

/// Serves a wait queue in a task of its own, until the queue is empty.
pub(super) fn serve(context: &Arc<Context>, provider: &Arc<ProviderEntry>, wait_queue: WaitQueue) {
    context.tasks.spawn_detached(serve_all(Arc::clone(context), Arc::clone(provider), wait_queue));
}

async fn serve_all(context: Arc<Context>, provider: Arc<ProviderEntry>, wait_queue: WaitQueue) {
    let server = Server { context, provider };
    match &wait_queue {
        WaitQueue::Source => server.ask_source().await,
        WaitQueue::Client => {
            let Some(tenant_client) = server.provider.of_all() else { return };
            server.begin_exchanges(&Arc::clone(tenant_client), &wait_queue).await;
        }
        WaitQueue::ClientOf(tenant) => {
            let tenant_client = server.provider.tenant_client(tenant);
            server.begin_exchanges(&tenant_client, &wait_queue).await;
        }
    }
}

struct Server {
    context: Arc<Context>,
    provider: Arc<ProviderEntry>,
}

impl Server {
    /// Resolves the client of each session, and checks the session then.
    async fn ask_source(&self) {
        let Self { context, provider } = self;
        let Some(schedule) = context.registry.schedule(&provider.name) else { return };
        while let Some(id) = schedule.take_queued(&WaitQueue::Source) {
            if context.tasks.is_closing() {
                return;
            }
            // The check resolves the client first.
            if let Some(check) = Check::new((context, provider), id, true)
                && let Some(wait_queue) = check.check().await
            {
                serve(context, provider, wait_queue);
            }
        }
    }

    /// Begins the exchanges that wait for a client. Each gets its permit before it gets a task, so
    /// that a long queue costs no more than a list of ids.
    async fn begin_exchanges(&self, tenant_client: &Arc<TenantClient>, wait_queue: &WaitQueue) {
        let Self { context, provider } = self;
        let Some(schedule) = context.registry.schedule(&provider.name) else { return };
        loop {
            // If the client cannot be resolved, each session's check fails and is repeated after a
            // pause.
            let permit = match context.resolve(tenant_client).await {
                Ok(client) => match permit(context, &client).await {
                    Some(permit) => Some(permit),
                    None if context.tasks.is_closing() => return,
                    None => continue,
                },
                Err(_) => None,
            };
            let Some(id) = schedule.take_queued(wait_queue) else { return };
            let task_context = Arc::clone(context);
            context.tasks.spawn_detached(async move { begin(&task_context, &id, permit).await });
        }
    }
}

/// Waits for a permit for a scheduled exchange. Returns `None` if the admission may have changed
/// meanwhile, or at shutdown; the caller then asks again.
async fn permit(context: &Context, client: &Client) -> Option<ScheduledPermit> {
    let (closing, changed) = (context.tasks.closing(), client.admission.changed());
    let now = context.now().boot;
    if let Some(until) = client.admission.closed_to_schedule_until(now) {
        tokio::select! {
            biased;
            () = closing.cancelled() => {}
            () = changed => {}
            () = context.clock.sleep(until.since(now).min(SCHEDULE_HEARTBEAT)) => {}
        }
        return None;
    }
    tokio::select! {
        biased;
        () = closing.cancelled() => None,
        permit = client.admission.acquire_for_schedule() => Some(permit),
    }
}

async fn begin(context: &Arc<Context>, id: &SessionId, permit: Option<ScheduledPermit>) {
    let Some(schedule) = context.registry.schedule(id.provider()) else { return };
    let taken = TakenEntry::new(context, schedule, id);
    let (Some(permit), Ok((slot, was_there))) = (permit, context.registry.obtain_for_schedule(id))
    else {
        return;
    };
    let (begun, answer) = oneshot::channel();
    let message = Message::Due(Box::new(DueExchange { permit, begun }));
    let begun = context.mailbox.send(&slot, message)
        && matches!(timeout(&*context.clock, REPLY_WAIT, answer).await, Some(Ok(())));
    context.rearm(&slot);
    context.registry.release_for_schedule(slot, was_there);
    if begun {
        taken.end(CheckResult::Done);
    }
}
