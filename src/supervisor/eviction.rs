//! Eviction: sessions leave memory when too many are in it.

use std::sync::Arc;

use crate::log::log_session;
use crate::policy::{EVICTED_PART, EVICTION_PAUSE};
use crate::session::context::Context;
use crate::session::machine::Input;
use crate::session::slot::{Leaves, Slot};
use crate::store::{Outcome, Statement, Suspect};

/// Evicts sessions while more than [`Policy::max_resident`] are in memory, until shutdown.
///
/// [`Policy::max_resident`]: crate::policy::Policy::max_resident
pub(super) async fn run(context: Arc<Context>) {
    let closing = context.tasks.closing();
    context.registry.slots.crowd_at(context.policy.resident());
    loop {
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            () = context.registry.crowded.notified() => {}
        }
        let task_context = Arc::clone(&context);
        // On a blocking thread, because going through millions of sessions takes long.
        let rejected = context.tasks.spawn_blocking(move || evict(&task_context)).await;
        for slot in rejected.unwrap_or_default() {
            suspect(&context, &slot).await;
            context.let_go(slot);
        }
        tokio::select! {
            () = closing.cancelled() => return,
            () = context.clock.sleep(EVICTION_PAUSE) => {}
        }
    }
}

/// Evicts the sessions that were unused for longest. Returns those that could leave too if their
/// records said that their access token was rejected.
fn evict(context: &Context) -> Vec<Arc<Slot>> {
    let most = context.policy.resident();
    let mut ages = Vec::with_capacity(context.registry.slots.len());
    context.registry.slots.each(|slot| {
        if slot.is_full() {
            ages.push(slot.used());
        }
    });
    let goal = most - most / EVICTED_PART;
    let Some(surplus) = ages.len().checked_sub(goal).filter(|surplus| *surplus > 0) else {
        set_crowd(context, ages.len());
        return Vec::new();
    };
    let (older, newest, _) = ages.select_nth_unstable(surplus - 1);
    let newest = *newest;
    // Of the sessions that were last used in the newest second, only as many leave as needed.
    let mut ties = surplus - older.iter().filter(|used| **used < newest).count();
    let (mut left, mut rejected) = (0, Vec::new());
    context.registry.slots.evict(|slot, held| {
        let (full, is_tie) = (slot.is_full(), slot.used() == newest);
        if slot.used() > newest || (is_tie && full && ties == 0) {
            return false;
        }
        let leaves = slot.leaves();
        match leaves {
            Leaves::Yes if held => slot.empty(&context.step_context(slot)),
            Leaves::OnceSuspect(..) => rejected.push(Arc::clone(slot)),
            Leaves::Yes | Leaves::No => {}
        }
        let leaves = leaves == Leaves::Yes;
        left += usize::from(leaves && full);
        ties = ties.saturating_sub(usize::from(leaves && full && is_tie));
        leaves
    });
    set_crowd(context, ages.len().saturating_sub(left));
    rejected
}

/// Handles may hold any number of empty slots; these do not count.
fn set_crowd(context: &Context, full: usize) {
    let empty = context.registry.slots.len().saturating_sub(full);
    context.registry.slots.crowd_at(context.policy.resident().saturating_add(empty));
}

/// Records that an API rejected the access token, so that the session can leave memory.
async fn suspect(context: &Arc<Context>, slot: &Arc<Slot>) {
    let Leaves::OnceSuspect(epoch, generation) = slot.leaves() else { return };
    let suspect = Statement::Suspect(Suspect { epoch, generation });
    match context.await_store(context.store.apply(slot.id(), suspect)).await {
        Ok(Outcome::Done(done)) => {
            context.apply(slot, Input::Suspected { version: done.version });
        }
        // Another process was faster; the change feed brings what it wrote.
        Ok(Outcome::Conflict(_) | Outcome::Leased(_) | Outcome::Wait { .. }) => {}
        Err(error) => {
            log_session!(
                context.log_limit(),
                warn,
                slot.id(),
                "could not save that an API rejected the token",
                cause = %error
            );
        }
    }
}
