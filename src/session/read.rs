//! Readings of records: one for a caller, many for what other processes changed.

use std::sync::Arc;

use super::core::Core;
use super::flight::Landing;
use super::machine::{Held, Input, News, Settled, Start};
use super::restore;
use super::slot::{Reading, Request, Slot};
use crate::clock::within;
use crate::error::Error;
use crate::event::EventKind;
use crate::log::log_session;
use crate::provider::client::Client;
use crate::store::{
    Attempt, ClaimId, Outcome, Restore, Statement, StoreError, StoreErrorKind, Stored,
};

/// Reads what there is to be read, page by page, until shutdown.
pub(crate) async fn attend(core: Arc<Core>) {
    let closing = core.tasks.closing();
    loop {
        let page = core.readings.page();
        if page.is_empty() {
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                () = core.readings.more.notified() => {}
            }
        } else {
            many(&core, page).await;
        }
    }
}

/// The session's client, once the record is read. One reading serves all who ask at the same time,
/// and a failed one is told to all until it is time to try again.
pub(crate) async fn ready(core: &Core, slot: &Arc<Slot>) -> Result<Arc<Client>, Error> {
    loop {
        let client = core.resolve(&slot.site).await.map_err(|error| error.of_session(slot.id()))?;
        match slot.first_read(&core.moment(slot)) {
            None => return Ok(client),
            Some(Request::Failed(error)) => return Err(error.of_session(slot.id())),
            Some(Request::Join(flight)) => drop(flight.landing().await),
            Some(Request::Read(reading)) => one(core, &client, reading).await,
            // A reading starts nothing and gives no token.
            Some(Request::Ready(_) | Request::Start(..)) => return Ok(client),
        }
    }
}

/// One reading, for a caller and all who wait with it.
pub(crate) async fn one(core: &Core, client: &Client, reading: Reading) {
    let slot = Arc::clone(reading.slot());
    let after = Afterwards { core, slot: &slot };
    // Dropped before that, with this call.
    let reading = reading;
    let record = core.await_store(core.store.load(slot.id())).await;
    loaded(core, client, (&slot, reading.number), record);
    reading.end(Landing::Again);
    drop(after);
}

/// Arms the schedule however a reading ends: of one that was dropped, it reads what is news.
struct Afterwards<'a> {
    core: &'a Core,
    slot: &'a Arc<Slot>,
}

impl Drop for Afterwards<'_> {
    fn drop(&mut self) {
        let Self { core, slot } = self;
        core.told(slot, Vec::new(), &core.moment(slot));
    }
}

async fn many(core: &Core, page: Vec<(Arc<Slot>, Start)>) {
    let (mut slots, mut ids) = (Vec::new(), Vec::new());
    for (slot, what) in page {
        match what {
            Start::Read(number) if slot.wants_read(number) => {
                ids.push(slot.id().clone());
                slots.push((slot, number));
            }
            Start::Restore => restore(core, &slot).await,
            Start::Read(_)
            | Start::Refresh
            | Start::Renew
            | Start::Establish
            | Start::Adopt
            | Start::Close
            | Start::Forget
            | Start::Revoke => core.let_go(slot),
        }
    }
    let records = core.store.load_many(&ids);
    let records = within(&*core.clock, core.policy.store_wait, records).await.unwrap_or_default();
    let slow = || Err(StoreError::new(StoreErrorKind::Slow));
    let mut records = records.into_iter();
    for (slot, number) in slots {
        let record = records.next().unwrap_or_else(slow);
        match slot.site.client() {
            Some(client) => loaded(core, &client, (&slot, number), record),
            // Its provider is not known any more: whoever asks for the session reads it.
            None => drop(core.apply(&slot, Input::Left)),
        }
        core.let_go(slot);
    }
}

fn loaded(
    core: &Core,
    client: &Client,
    (slot, read): (&Arc<Slot>, u32),
    record: Result<Option<Stored>, StoreError>,
) {
    match record {
        Ok(stored) => {
            let (version, settled) = restore::found(core, client, stored);
            let foreign = settled.serving().is_some_and(|held| held.foreign);
            core.apply(slot, Input::Loaded { read, version, settled });
            if foreign {
                core.event(slot, EventKind::ForeignAuthority);
            }
        }
        Err(failed) => {
            core.apply(slot, Input::LoadFailed { read, error: failed.into_error() });
        }
    }
}

/// Writes again what the store had and lost.
async fn restore(core: &Core, slot: &Arc<Slot>) {
    let held = slot.look(|state| match state.settled.as_ref()? {
        Settled::Active(held) | Settled::InDoubt(held, _) => Some((held.clone(), state.version)),
        Settled::Vacant { .. } | Settled::Lost(_) | Settled::Closed(_) => None,
    });
    let Some((held, version)) = held else { return };
    let Held { epoch, generation, ref credentials, .. } = held;
    log_session!(warn, slot.id(), generation, "the store went back and is given what it lost");
    let ends = restore::ends(&held, core.now().boot, core.rules(slot).ahead);
    let base = generation.saturating_sub(1);
    let attempt = Attempt { base, fence: version, claim: ClaimId::random() };
    let credentials = Arc::clone(credentials);
    let restore = Restore { version, epoch, generation, attempt, credentials, ends };
    let restored = core.store.apply(slot.id(), Statement::Restore(restore));
    match core.await_store(restored).await {
        Ok(Outcome::Done(done)) => {
            core.apply(slot, Input::Wrote { version: done.version });
        }
        // What the store has counts then, whatever it is.
        Ok(_) | Err(_) => drop(core.apply(slot, Input::News(News::UNKNOWN))),
    }
}
