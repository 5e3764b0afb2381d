//! Following what other processes change, beside the work.

use std::sync::Arc;

use crate::policy::{CHANGES_LOOK, CHANGES_PAGE};
use crate::session::context::Context;
use crate::store::News;

/// Each failure in a row doubles the pause before the next look, up to so many: 2 s. Tokens that
/// were replaced elsewhere are served for no longer than that when the store is back.
const FAILURES_COUNTED: u32 = 3;

/// Lets sessions know what others change, until shutdown.
pub(super) async fn run(context: Arc<Context>) {
    let closing = context.tasks.closing();
    let mut cursor = None;
    let mut failures = 0;
    while !context.tasks.is_closing() {
        let changes = context.store.changes(cursor.as_ref(), CHANGES_PAGE);
        let mut more = false;
        // Without a bound: a store may wait until there is something to tell.
        let changes = tokio::select! {
            biased;
            changes = changes => changes,
            () = closing.cancelled() => return,
        };
        match changes {
            Ok(None) => return,
            Ok(Some(changes)) => {
                failures = 0;
                more = changes.more;
                cursor = Some(changes.cursor);
                read_again(&context, changes.news);
            }
            // Looked at once more, from the same place.
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(?error, "what other processes change is not read");
                }
                failures = FAILURES_COUNTED.min(failures + 1);
            }
        }
        if !more {
            tokio::select! {
                () = context.clock.sleep(CHANGES_LOOK * 2_u32.pow(failures)) => {}
                () = closing.cancelled() => {}
            }
        }
    }
}

fn read_again(context: &Context, news: Option<Vec<News>>) {
    let Some(news) = news else {
        context.registry.slots.each(|slot| context.news(slot, None));
        return;
    };
    for News { id, of } in news {
        if let Some(slot) = context.registry.find(&id) {
            context.news(&slot, Some(of));
            context.registry.release(slot);
        }
    }
}
