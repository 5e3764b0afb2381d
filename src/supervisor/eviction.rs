//! Sessions that leave memory when too many are there.

use std::sync::Arc;

use crate::log::log_session;
use crate::policy::{EVICTED_PART, EVICTION_PAUSE};
use crate::session::core::Core;
use crate::session::machine::Input;
use crate::session::slot::{Leaves, Slot};
use crate::store::{Outcome, Statement, Suspect};

/// Lets sessions leave memory while more are there than [`Policy::max_resident`], until shutdown.
///
/// [`Policy::max_resident`]: crate::policy::Policy::max_resident
pub(super) async fn attend(core: Arc<Core>) {
    let closing = core.tasks.closing();
    core.registry.slots.crowd_at(core.policy.resident());
    loop {
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            () = core.registry.crowded.notified() => {}
        }
        let keeper = Arc::clone(&core);
        // Apart, because going through millions of sessions takes long.
        let rejected = core.tasks.apart(move || evict(&keeper)).await;
        for slot in rejected.unwrap_or_default() {
            suspect(&core, &slot).await;
            core.let_go(slot);
        }
        tokio::select! {
            () = closing.cancelled() => return,
            () = core.clock.sleep(EVICTION_PAUSE) => {}
        }
    }
}

/// Makes the longest unused sessions leave. Returns those that could leave too if their records
/// said that their access token was rejected.
fn evict(core: &Core) -> Vec<Arc<Slot>> {
    let most = core.policy.resident();
    let mut ages = Vec::with_capacity(core.registry.slots.len());
    core.registry.slots.each(|slot| {
        if slot.is_full() {
            ages.push(slot.used());
        }
    });
    let goal = most - most / EVICTED_PART;
    let Some(surplus) = ages.len().checked_sub(goal).filter(|surplus| *surplus > 0) else {
        set_crowd(core, ages.len());
        return Vec::new();
    };
    let (older, newest, _) = ages.select_nth_unstable(surplus - 1);
    let newest = *newest;
    // Of those that were last used in the same second, only some leave.
    let mut ties = surplus - older.iter().filter(|used| **used < newest).count();
    let (mut left, mut rejected) = (0, Vec::new());
    core.registry.slots.evict(|slot, held| {
        let (full, is_tie) = (slot.is_full(), slot.used() == newest);
        if slot.used() > newest || (is_tie && full && ties == 0) {
            return false;
        }
        let leaves = slot.leaves();
        match leaves {
            Leaves::Yes if held => slot.empty(&core.moment(slot)),
            Leaves::OnceSuspect(..) => rejected.push(Arc::clone(slot)),
            Leaves::Yes | Leaves::No => {}
        }
        let leaves = leaves == Leaves::Yes;
        left += usize::from(leaves && full);
        ties = ties.saturating_sub(usize::from(leaves && full && is_tie));
        leaves
    });
    set_crowd(core, ages.len().saturating_sub(left));
    rejected
}

/// Handles may hold any number of empty slots: these do not count.
fn set_crowd(core: &Core, full: usize) {
    let empty = core.registry.slots.len().saturating_sub(full);
    core.registry.slots.crowd_at(core.policy.resident().saturating_add(empty));
}

/// Writes down that an API rejected the access token, so that the session can leave.
async fn suspect(core: &Arc<Core>, slot: &Arc<Slot>) {
    let Leaves::OnceSuspect(epoch, generation) = slot.leaves() else { return };
    let suspect = Statement::Suspect(Suspect { epoch, generation });
    match core.await_store(core.store.apply(slot.id(), suspect)).await {
        Ok(Outcome::Done(done)) => {
            core.apply(slot, Input::Suspected { version: done.version });
        }
        // Another process was faster, and its news comes.
        Ok(Outcome::Conflict(_) | Outcome::Leased(_) | Outcome::Wait { .. }) => {}
        Err(error) => {
            log_session!(warn, slot.id(), %error, "a rejected token is not written down");
        }
    }
}
