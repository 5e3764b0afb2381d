//! Following what other processes change, beside the work.

use std::sync::Arc;

use super::link::Link;
use crate::clock::within;
use crate::policy::{CHANGES_LOOK, CHANGES_PAGE};
use crate::session::core::{Core, Host};
use crate::store::Changed;

/// Each failure in a row doubles the pause before the next look, up to so many: 2 s. Tokens that were
/// replaced elsewhere are served for no longer than that when the store is back.
const FAILURES_COUNTED: u32 = 3;

/// Has the sessions read again that others change, until shutdown.
pub(super) async fn follow(core: Arc<Core>, link: Arc<Link>) {
    let closing = core.tasks.closing();
    let mut mark = None;
    let mut failures = 0;
    while !core.tasks.is_closing() {
        let changes = core.store.changes(mark, CHANGES_PAGE);
        let mut more = false;
        match within(&*core.clock, core.policy.store_wait, changes).await {
            Some(Ok(None)) => return,
            Some(Ok(Some(changes))) => {
                failures = 0;
                more = mark.is_some_and(|mark| mark + CHANGES_PAGE as u64 <= changes.mark);
                mark = Some(changes.mark);
                read_again(&core, &link, changes.of);
            }
            // Looked at once more, from the same mark.
            failed @ (Some(Err(_)) | None) => {
                if failures == 0 {
                    let error = failed.and_then(Result::err);
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

fn read_again(core: &Core, link: &Link, changed: Option<Vec<Changed>>) {
    let Some(changed) = changed else {
        link.registry.each(|slot| core.elsewhere(slot, None));
        return;
    };
    for Changed { id, to } in changed {
        if let Some(slot) = link.find(&id) {
            core.elsewhere(&slot, Some(to));
            link.release(slot);
        }
    }
}
