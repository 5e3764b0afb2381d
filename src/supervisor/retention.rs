//! Removes the records of sessions that ended long ago, in the background.
//!
//! Several supervisors may do this on one store at the same time. Each record is removed by one of
//! them, and the others pass it over.

use std::sync::Arc;

use super::change_feed;
use crate::clock::timeout;
use crate::log::log_limited;
use crate::policy::{ENDED_EVERY, ENDED_PAGE, ENDED_PAUSE};
use crate::session::context::Context;

/// Goes through the ended sessions after the start and then once an hour, until shutdown.
pub(super) async fn run(context: Arc<Context>) {
    let closing = context.tasks.closing();
    let passes = async {
        while remove_all(&context).await {
            context.clock.sleep(ENDED_EVERY).await;
        }
    };
    tokio::select! {
        biased;
        () = closing.cancelled() => {}
        () = passes => {}
    }
}

/// Removes all that have been kept for long enough. Returns false if the store keeps them for ever.
async fn remove_all(context: &Context) -> bool {
    let (mut after, mut count) = (None, 0);
    loop {
        context.clock.sleep(ENDED_PAUSE).await;
        let page =
            context.store.remove_ended(context.policy.keep_ended, after.as_ref(), ENDED_PAGE);
        let page = match timeout(&*context.clock, context.policy.store_timeout, page).await {
            Some(Ok(Some(page))) => page,
            Some(Ok(None)) => return false,
            // The position stays, so the next page begins at the same record.
            Some(Err(_)) | None => {
                log_limited!(
                    context.log_limit(),
                    warn,
                    None,
                    "could not remove the records of ended sessions, and tries again"
                );
                context.clock.sleep(context.policy.store_timeout).await;
                continue;
            }
        };
        count += page.removed.len();
        // The feed does not tell a supervisor what it has changed itself. Without this, a handle would
        // still show the session as lost, and a list would not.
        change_feed::pass_on(context, Some(page.removed));
        if page.next.is_none() {
            break;
        }
        after = page.next;
    }
    if count > 0 {
        tracing::info!(count, "removed the records of sessions that ended long ago");
    }
    true
}
