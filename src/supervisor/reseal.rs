//! Reseals the records that older keys still seal, in the background.

use std::future;
use std::sync::Arc;

use crate::clock::timeout;
use crate::log::log_limited;
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
        let found = reseal_all(context).await;
        // A record that older keys sealed may have been claimed meanwhile, and another process that
        // still has the old key may write more of them.
        let again = async {
            if found { context.clock.sleep(RESEAL_AGAIN).await } else { future::pending().await }
        };
        tokio::select! {
            reloaded = reloads.next() => if !reloaded { return },
            () = again => {}
        }
    }
}

/// Reseals all records; true if older keys sealed any.
async fn reseal_all(context: &Context) -> bool {
    let (mut done, mut passed_over) = (0, 0);
    loop {
        context.clock.sleep(RESEAL_PAUSE).await;
        let page = context.store.reseal(RESEAL_PAGE);
        let Some(Ok(page)) = timeout(&*context.clock, context.policy.store_timeout, page).await
        else {
            log_limited!(
                context.log_limit(),
                warn,
                None,
                "could not encrypt the records again with the new key, and tries again"
            );
            context.clock.sleep(context.policy.store_timeout).await;
            continue;
        };
        done += page.done;
        passed_over += page.passed_over;
        if page.ended {
            break;
        }
    }
    let found = done + passed_over > 0;
    if found {
        tracing::info!(done, passed_over, "encrypted the records again with the new key");
    }
    found
}
