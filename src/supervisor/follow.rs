//! Following what other processes change, beside the work.

use std::sync::Arc;

use super::link::Link;
use crate::policy::{CHANGES_LOOK, CHANGES_PAGE};
use crate::session::core::{Core, Host};
use crate::store::Changed;
use crate::task::within;

/// Has the sessions read again that others change, until shutdown.
pub(super) async fn follow(core: Arc<Core>, link: Arc<Link>) {
    let closing = core.tasks.closing();
    let mut mark = None;
    while !core.tasks.is_closing() {
        let changes = core.store.changes(mark, CHANGES_PAGE);
        let mut more = false;
        match within(&*core.clock, core.policy.store_wait, changes).await {
            Some(Ok(None)) => return,
            Some(Ok(Some(changes))) => {
                more = mark.is_some_and(|mark| mark + CHANGES_PAGE as u64 <= changes.mark);
                mark = Some(changes.mark);
                read_again(&core, &link, changes.of);
            }
            // Looked at once more, from the same mark.
            Some(Err(_)) | None => {}
        }
        if !more {
            tokio::select! {
                () = core.clock.sleep(CHANGES_LOOK) => {}
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
