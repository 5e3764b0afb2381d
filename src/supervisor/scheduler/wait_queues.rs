//! Those who wait in lanes: for permits of a client, and for a source.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::check::{Look, Taken};
use crate::clock::timeout;
use crate::key::SessionId;
use crate::policy::{REPLY_WAIT, SCHEDULE_HEARTBEAT};
use crate::provider::client::Client;
use crate::provider::gate::Drawn;
use crate::provider::registered::Registered;
use crate::provider::site::Site;
use crate::session::context::Context;
use crate::session::message::{DueExchange, Message};
use crate::session::schedule::{Lane, Looked};

/// Serves those who wait in a lane, in a task of its own, until nobody does.
pub(super) fn serve(context: &Arc<Context>, provider: &Arc<Registered>, lane: Lane) {
    context.tasks.spawn_detached(serve_all(Arc::clone(context), Arc::clone(provider), lane));
}

async fn serve_all(context: Arc<Context>, provider: Arc<Registered>, lane: Lane) {
    let server = Server { context, provider };
    match &lane {
        Lane::Source => server.ask_source().await,
        Lane::Client => {
            let Some(site) = server.provider.of_all() else { return };
            server.begin_exchanges(&Arc::clone(site), &lane).await;
        }
        Lane::ClientOf(tenant) => {
            let site = server.provider.site(tenant);
            server.begin_exchanges(&site, &lane).await;
        }
    }
}

struct Server {
    context: Arc<Context>,
    provider: Arc<Registered>,
}

impl Server {
    /// Asks for the client of each, and looks at it then.
    async fn ask_source(&self) {
        let Self { context, provider } = self;
        let Some(schedule) = context.registry.schedule(&provider.name) else { return };
        while let Some(id) = schedule.take_queued(&Lane::Source) {
            if context.tasks.is_closing() {
                return;
            }
            // It begins with the source.
            if let Some(look) = Look::new((context, provider), id, true)
                && let Some(lane) = look.look().await
            {
                serve(context, provider, lane);
            }
        }
    }

    /// Begins the exchanges that wait for a client. Each has its permit before it has a task, so
    /// that a long queue is a list of names.
    async fn begin_exchanges(&self, site: &Arc<Site>, lane: &Lane) {
        let Self { context, provider } = self;
        let Some(schedule) = context.registry.schedule(&provider.name) else { return };
        loop {
            // Where the client cannot be had, each of them fails, and is tried again after a pause.
            let permit = match context.resolve(site).await {
                Ok(client) => match permit(context, &client).await {
                    Some(permit) => Some(permit),
                    None if context.tasks.is_closing() => return,
                    None => continue,
                },
                Err(_) => None,
            };
            let Some(id) = schedule.take_queued(lane) else { return };
            let task_context = Arc::clone(context);
            context.tasks.spawn_detached(async move { begin(&task_context, &id, permit).await });
        }
    }
}

/// A permit of the schedule's own, or none after something has changed.
async fn permit(context: &Context, client: &Client) -> Option<Drawn> {
    let (closing, judged) = (context.tasks.closing(), client.gate.judged());
    let now = context.now().boot;
    if let Some(until) = client.gate.shut_to_schedule(now) {
        tokio::select! {
            biased;
            () = closing.cancelled() => {}
            () = judged => {}
            () = context.clock.sleep(until.since(now).min(SCHEDULE_HEARTBEAT)) => {}
        }
        return None;
    }
    tokio::select! {
        biased;
        () = closing.cancelled() => None,
        permit = client.gate.draw() => Some(permit),
    }
}

async fn begin(context: &Arc<Context>, id: &SessionId, permit: Option<Drawn>) {
    let Some(schedule) = context.registry.schedule(id.provider()) else { return };
    let taken = Taken::new(context, schedule, id);
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
        taken.end(Looked::Done);
    }
}
