//! Loads of records: one for a caller, or many after changes of other processes.

use std::sync::Arc;

use super::context::Context;
use super::from_record;
use super::machine::{CredentialState, ExternalChange, Input, Settled, Start};
use super::single_flight::FlightOutcome;
use super::slot::{PendingLoad, Slot, SlotReply};
use crate::client::Client;
use crate::clock::timeout;
use crate::error::Error;
use crate::event::EventKind;
use crate::log::log_session;
use crate::store::{
    Attempt, ClaimId, Outcome, Restore, Statement, StoreError, StoreErrorKind, Stored,
};

/// Works off the load queue, page by page, until shutdown.
pub(crate) async fn run(context: Arc<Context>) {
    let closing = context.tasks.closing();
    loop {
        let page = context.load_queue.page();
        if page.is_empty() {
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                // `add` queues before it notifies, and `notify_one` keeps its permit: a load that is
                // queued between the check above and this wait still wakes it.
                () = context.load_queue.more.notified() => {}
            }
        } else {
            many(&context, page).await;
        }
    }
}

/// Loads the record if needed, and returns the session's client. Callers at the same time share one
/// load. After a failed load, every caller gets its error until the back-off is over.
pub(crate) async fn ready(context: &Context, slot: &Arc<Slot>) -> Result<Arc<Client>, Error> {
    loop {
        let client = context
            .resolve(&slot.tenant_client)
            .await
            .map_err(|error| error.of_session(slot.id()))?;
        match slot.first_load(&context.step_context(slot)) {
            None => return Ok(client),
            Some(SlotReply::Failed(error)) => return Err(error.of_session(slot.id())),
            Some(SlotReply::Join(flight)) => drop(flight.outcome().await),
            Some(SlotReply::Load(pending)) => one(context, &client, pending).await,
            // A load starts no exchange and gives no token.
            Some(SlotReply::Ready(_) | SlotReply::Start(..)) => return Ok(client),
        }
    }
}

/// Loads one record, for a caller and all that wait with it.
pub(crate) async fn one(context: &Context, client: &Client, pending: PendingLoad) {
    let slot = Arc::clone(pending.slot());
    let after = Afterwards { context, slot: &slot };
    // Declared after `after`, so that it is dropped before it: if this call is dropped, the load is
    // abandoned first, and the schedule is armed with the state after that.
    let pending = pending;
    let record = context.await_store(context.store.load(slot.id())).await;
    // Step before the load ends: the waiters ask again at once and must find the record.
    loaded(context, client, (&slot, pending.number), record);
    pending.end(FlightOutcome::AskAgain);
    drop(after);
}

/// Arms the schedule when a load ends, also if it is dropped: an external change is then loaded
/// in the background.
struct Afterwards<'a> {
    context: &'a Context,
    slot: &'a Arc<Slot>,
}

impl Drop for Afterwards<'_> {
    fn drop(&mut self) {
        let Self { context, slot } = self;
        context.publish_and_arm(slot, Vec::new(), &context.step_context(slot));
    }
}

async fn many(context: &Context, page: Vec<(Arc<Slot>, Start)>) {
    let (mut slots, mut ids) = (Vec::new(), Vec::new());
    for (slot, what) in page {
        match what {
            Start::Load(number) if slot.wants_load(number) => {
                ids.push(slot.id().clone());
                slots.push((slot, number));
            }
            Start::Restore => restore(context, &slot).await,
            Start::Load(_)
            | Start::Refresh
            | Start::Renew
            | Start::Establish
            | Start::Adopt
            | Start::Close
            | Start::Forget
            | Start::Revoke => context.let_go(slot),
        }
    }
    let records = context.store.load_many(&ids);
    let records =
        timeout(&*context.clock, context.policy.store_timeout, records).await.unwrap_or_default();
    let slow = || Err(StoreError::new(StoreErrorKind::Slow));
    let mut records = records.into_iter();
    for (slot, number) in slots {
        let record = records.next().unwrap_or_else(slow);
        match slot.tenant_client.client() {
            Some(client) => loaded(context, &client, (&slot, number), record),
            // The session's client is not known any more. The next caller loads the record.
            None => drop(context.apply(&slot, Input::Left)),
        }
        context.let_go(slot);
    }
}

fn loaded(
    context: &Context,
    client: &Client,
    (slot, read): (&Arc<Slot>, u32),
    record: Result<Option<Stored>, StoreError>,
) {
    match record {
        Ok(stored) => {
            let (version, settled) = from_record::found(context, client, stored);
            let issuer_mismatch = settled.serving().is_some_and(|held| held.issuer_mismatch);
            context.apply(slot, Input::Loaded { read, version, settled });
            if issuer_mismatch {
                context.event(slot, EventKind::IssuerMismatch);
            }
        }
        Err(failed) => {
            context.apply(slot, Input::LoadFailed { read, error: failed.into_error() });
        }
    }
}

/// Writes credentials to the store again after the store has gone back to an older state.
async fn restore(context: &Context, slot: &Arc<Slot>) {
    let held = slot.with_state(|state| match state.settled.as_ref()? {
        Settled::Active(held) | Settled::InDoubt(held, _) => Some((held.clone(), state.version)),
        Settled::Vacant { .. } | Settled::Lost(_) | Settled::Closed(_) => None,
    });
    let Some((held, version)) = held else { return };
    let CredentialState { epoch, generation, ref credentials, .. } = held;
    log_session!(
        context.log_limit(),
        warn,
        slot.id(),
        "the store has an older record than this process, so the newer credentials are written \
         again",
        generation
    );
    let ends = from_record::ends(&held, context.now().boot, context.policy(slot).ahead);
    let base = generation.saturating_sub(1);
    let attempt = Attempt { base, fence: version, claim: ClaimId::random() };
    let credentials = Arc::clone(credentials);
    let restore = Restore { version, epoch, generation, attempt, credentials, ends };
    let restored = context.store.apply(slot.id(), Statement::Restore(restore));
    match context.await_store(restored).await {
        Ok(Outcome::Done(done)) => {
            context.apply(slot, Input::Wrote { version: done.version });
        }
        // The record in the store counts then, so it is loaded.
        Ok(_) | Err(_) => drop(context.apply(slot, Input::ExternalChange(ExternalChange::UNKNOWN))),
    }
}
