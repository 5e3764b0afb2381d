//! The tasks that do what is due: they read it from the store, check sessions when their time
//! comes, and begin exchanges as the provider's gate permits.

mod check;
mod lane;
mod poll;
mod wait_queues;

use std::sync::Arc;

use tokio::sync::Semaphore;

use self::check::Look;
pub(super) use self::poll::{poll, report_unknown};
use crate::policy::{LOOKS_AT_ONCE, SCHEDULE_HEARTBEAT};
use crate::provider::registered::Registered;
use crate::session::core::Core;

/// Looks at a provider's sessions when they are due, until shutdown.
pub(super) async fn drive(core: Arc<Core>, provider: Arc<Registered>) {
    let Some(schedule) = core.registry.schedule(&provider.name) else { return };
    let closing = core.tasks.closing();
    let looks = Arc::new(Semaphore::new(LOOKS_AT_ONCE));
    loop {
        let rearmed = schedule.rearmed.notified();
        while let Some((id, polled)) = schedule.take_due(core.now().boot) {
            let place = tokio::select! {
                biased;
                () = closing.cancelled() => return,
                place = Arc::clone(&looks).acquire_owned() => place,
            };
            let (keeper, provider) = (Arc::clone(&core), Arc::clone(&provider));
            core.tasks.attend(async move {
                if let Some(look) = Look::new((&keeper, &provider), id, polled)
                    && let Some(lane) = look.run().await
                {
                    wait_queues::attend(&keeper, &provider, lane);
                }
                drop(place);
            });
        }
        // Read again: the looks may have taken long.
        let now = core.now().boot;
        let pause = schedule.next().map_or(SCHEDULE_HEARTBEAT, |next| next.since(now));
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            () = rearmed => {}
            () = core.clock.sleep(pause.min(SCHEDULE_HEARTBEAT)) => {}
        }
    }
}
