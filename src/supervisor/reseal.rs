//! Sealing anew what older keys still seal, beside the work.

use std::future;
use std::sync::Arc;

use crate::clock::within;
use crate::policy::{RESEAL_AGAIN, RESEAL_PAGE, RESEAL_PAUSE};
use crate::seal::KeyRing;
use crate::session::core::Core;

/// Goes through the store after the start and after every change of its keys, until shutdown.
pub(super) async fn attend(core: Arc<Core>, ring: KeyRing) {
    let closing = core.tasks.closing();
    tokio::select! {
        biased;
        () = closing.cancelled() => {}
        () = follow(&core, &ring) => {}
    }
}

async fn follow(core: &Core, ring: &KeyRing) {
    let mut reloads = ring.reloads();
    loop {
        let met = go_through(core).await;
        // What was met may have been claimed, or be written by a process that has the old key still.
        let again = async {
            if met { core.clock.sleep(RESEAL_AGAIN).await } else { future::pending().await }
        };
        tokio::select! {
            reloaded = reloads.next() => if !reloaded { return },
            () = again => {}
        }
    }
}

/// Whether older keys sealed anything.
async fn go_through(core: &Core) -> bool {
    let (mut done, mut passed_over) = (0, 0);
    loop {
        core.clock.sleep(RESEAL_PAUSE).await;
        let page = core.store.reseal(RESEAL_PAGE);
        let Some(Ok(page)) = within(&*core.clock, core.policy.store_wait, page).await else {
            tracing::warn!("records are not sealed anew yet");
            core.clock.sleep(core.policy.store_wait).await;
            continue;
        };
        done += page.done;
        passed_over += page.passed_over;
        if page.ended {
            break;
        }
    }
    let met = done + passed_over > 0;
    if met {
        tracing::info!(done, passed_over, "records were sealed anew");
    }
    met
}
