//! Following what other processes change, beside the work.

use std::sync::Arc;

use crate::policy::{CHANGES_LOOK, CHANGES_PAGE};
use crate::session::core::Core;
use crate::store::News;

/// Each failure in a row doubles the pause before the next look, up to so many: 2 s. Tokens that
/// were replaced elsewhere are served for no longer than that when the store is back.
const FAILURES_COUNTED: u32 = 3;

/// Lets sessions know what others change, until shutdown.
pub(super) async fn follow(core: Arc<Core>) {
    let closing = core.tasks.closing();
    let mut cursor = None;
    let mut failures = 0;
    while !core.tasks.is_closing() {
        let changes = core.store.changes(cursor.as_ref(), CHANGES_PAGE);
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
                read_again(&core, changes.news);
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
                () = core.clock.sleep(CHANGES_LOOK * 2_u32.pow(failures)) => {}
                () = closing.cancelled() => {}
            }
        }
    }
}

fn read_again(core: &Core, news: Option<Vec<News>>) {
    let Some(news) = news else {
        core.registry.slots.each(|slot| core.news(slot, None));
        return;
    };
    for News { id, of } in news {
        if let Some(slot) = core.registry.find(&id) {
            core.news(&slot, Some(of));
            core.registry.release(slot);
        }
    }
}
