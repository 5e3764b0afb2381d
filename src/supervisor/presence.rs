//! What a supervisor says of itself to others on the same store.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::timeout;
use crate::policy::PRESENCE_RENEWAL;
use crate::session::context::Context;
use crate::store::Presence;

/// Says now and then that the supervisor goes on, until shutdown; registers it anew when the store
/// did not hear. When the supervisor is dropped without a shutdown, says that it is gone once its
/// exchanges have ended; otherwise other processes would wait for it.
pub(super) async fn run(context: Arc<Context>) {
    let closing = context.tasks.closing();
    // ProviderEntry once already, by the start.
    let mut presence = Presence::Renew;
    loop {
        tokio::select! {
            biased;
            () = closing.cancelled() => break,
            () = context.clock.sleep(PRESENCE_RENEWAL) => {}
        }
        let heard = say(&context, presence).await;
        presence = if heard { Presence::Renew } else { Presence::Register };
    }
    context.tasks.wait(Duration::MAX, &*context.clock).await;
    retire(&context).await;
}

/// Says that the supervisor ends, so that nobody waits for what it has left claimed.
pub(super) async fn retire(context: &Context) {
    say(context, Presence::Retire).await;
}

/// True if the store heard it.
pub(super) async fn say(context: &Context, presence: Presence) -> bool {
    let said = context.store.presence(context.owner, presence);
    let said = timeout(&*context.clock, context.policy.store_timeout, said).await;
    let heard = matches!(said, Some(Ok(())));
    if !heard {
        let error = said.and_then(Result::err);
        tracing::warn!(?presence, ?error, "other processes do not hear of this one");
    }
    heard
}
