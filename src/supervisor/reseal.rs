//! Sealing anew what older keys still seal, beside the work.

use std::future;
use std::sync::Arc;

use crate::clock::timeout;
use crate::policy::{RESEAL_AGAIN, RESEAL_PAGE, RESEAL_PAUSE};
use crate::seal::KeyRing;
use crate::session::context::Context;

/// Goes through the store after the start and after every change of its keys, until shutdown.
pub(super) async fn run(context: Arc<Context>, ring: KeyRing) {
    let closing = context.tasks.closing();
    tokio::select! {
        biased;
        () = closing.cancelled() => {}
        () = follow(&context, &ring) => {}
    }
}

async fn follow(context: &Context, ring: &KeyRing) {
    let mut reloads = ring.reloads();
    loop {
        let met = go_through(context).await;
        // What was met may have been claimed, or be written by a process that has the old key still.
        let again = async {
            if met { context.clock.sleep(RESEAL_AGAIN).await } else { future::pending().await }
        };
        tokio::select! {
            reloaded = reloads.next() => if !reloaded { return },
            () = again => {}
        }
    }
}

/// Whether older keys sealed anything.
async fn go_through(context: &Context) -> bool {
    let (mut done, mut passed_over) = (0, 0);
    loop {
        context.clock.sleep(RESEAL_PAUSE).await;
        let page = context.store.reseal(RESEAL_PAGE);
        let Some(Ok(page)) = timeout(&*context.clock, context.policy.store_timeout, page).await
        else {
            tracing::warn!("records are not sealed anew yet");
            context.clock.sleep(context.policy.store_timeout).await;
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
