//! What a supervisor says of itself to others on the same store.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::within;
use crate::policy::PRESENCE_RENEWAL;
use crate::session::core::Core;
use crate::store::Presence;

/// Says now and then that the supervisor goes on, until shutdown; registers it anew when the store
/// did not hear. When the supervisor is dropped without a shutdown, says that it is gone once its
/// exchanges have ended; otherwise other processes would wait for it.
pub(super) async fn attend(core: Arc<Core>) {
    let closing = core.tasks.closing();
    // Registered once already, by the start.
    let mut presence = Presence::Renew;
    loop {
        tokio::select! {
            biased;
            () = closing.cancelled() => break,
            () = core.clock.sleep(PRESENCE_RENEWAL) => {}
        }
        let heard = say(&core, presence).await;
        presence = if heard { Presence::Renew } else { Presence::Register };
    }
    core.tasks.wait(Duration::MAX, &*core.clock).await;
    retire(&core).await;
}

/// Says that the supervisor ends, so that nobody waits for what it has left claimed.
pub(super) async fn retire(core: &Core) {
    say(core, Presence::Retire).await;
}

/// True if the store heard it.
pub(super) async fn say(core: &Core, presence: Presence) -> bool {
    let said = core.store.presence(core.owner, presence);
    let said = within(&*core.clock, core.policy.store_wait, said).await;
    let heard = matches!(said, Some(Ok(())));
    if !heard {
        let error = said.and_then(Result::err);
        tracing::warn!(?presence, ?error, "other processes do not hear of this one");
    }
    heard
}
