//! Reads the store's change feed, so that sessions notice what other processes write.

use std::sync::Arc;

use crate::event::{Event, EventKind};
use crate::log::log_limited;
use crate::policy::{CHANGES_PAGE, CHANGES_POLL};
use crate::session::context::Context;
use crate::store::{Failover, News};

/// Each failure in a row doubles the pause before the feed is read again, up to this count: 2 s.
/// When the store is back, tokens that another process replaced are served for at most that long.
const FAILURES_COUNTED: u32 = 3;

/// Passes on to sessions what other processes change, until shutdown.
pub(super) async fn run(context: Arc<Context>) {
    let closing = context.tasks.closing();
    let mut cursor = None;
    let mut failures = 0;
    // The first answer tells of those before the start.
    let mut failovers = None;
    while !context.tasks.is_closing() {
        let changes = context.store.changes(cursor.as_ref(), CHANGES_PAGE);
        let mut more = false;
        // Without a timeout, because a store may wait until there is a change.
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
                pass_on(&context, changes.news);
                publish_failover(&context, changes.failover, &mut failovers);
            }
            // The cursor stays, so the next read begins at the same change.
            Err(error) => {
                if failures == 0 {
                    log_limited!(
                        context.log_limit(),
                        warn,
                        None,
                        "could not read the changes of other processes",
                        cause = %error
                    );
                }
                failures = FAILURES_COUNTED.min(failures + 1);
            }
        }
        if !more {
            tokio::select! {
                () = context.clock.sleep(CHANGES_POLL * 2_u32.pow(failures)) => {}
                () = closing.cancelled() => {}
            }
        }
    }
}

/// Publishes the store's last failover, if it was not published yet. `known` counts the failovers.
fn publish_failover(context: &Context, last: Option<Failover>, known: &mut Option<u64>) {
    let count = last.map_or(0, |last| last.count);
    let former = known.replace(count).unwrap_or(count);
    let Some(failover) = last.filter(|_| count > former) else { return };
    let kind = EventKind::StoreFailedOver { restored: failover.restored, lost: failover.lost };
    context.events.publish(Event::of_none(context.now().wall, kind));
}

pub(super) fn pass_on(context: &Context, news: Option<Vec<News>>) {
    let Some(news) = news else {
        context.registry.slots.each(|slot| context.external_change(slot, None));
        return;
    };
    for News { id, of } in news {
        if let Some(slot) = context.registry.find(&id) {
            context.external_change(&slot, Some(of));
            context.registry.release(slot);
        }
    }
}
