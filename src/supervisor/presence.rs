//! The supervisor's presence in the store, which the other processes on the store read.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::timeout;
use crate::log::log_limited;
use crate::policy::PRESENCE_RENEWAL;
use crate::session::context::Context;
use crate::store::Presence;

/// Renews the supervisor's presence at intervals, until shutdown, and registers it anew if the
/// store did not confirm the last renewal. If the supervisor is dropped without a shutdown, retires
/// it once its exchanges have ended; otherwise other processes would wait for it.
pub(super) async fn run(context: Arc<Context>) {
    let closing = context.tasks.closing();
    // The start has already registered it.
    let mut presence = Presence::Renew;
    loop {
        tokio::select! {
            biased;
            () = closing.cancelled() => break,
            () = context.clock.sleep(PRESENCE_RENEWAL) => {}
        }
        let confirmed = write(&context, presence).await;
        presence = if confirmed { Presence::Renew } else { Presence::Register };
    }
    let ended = context.tasks.wait(Duration::MAX, &*context.clock).await;
    retire(&context, ended).await;
}

/// Says that the supervisor ends, so that no other process waits for claims that it left. If its
/// journal has entries, or may still get some because not all exchanges have ended, others must wait
/// for the process that replays it.
pub(super) async fn retire(context: &Context, ended: bool) {
    let journal = context.journal.as_ref();
    let leaves_journal = journal.is_some_and(|journal| !ended || journal.entries() > 0);
    let presence = if leaves_journal { Presence::LeaveJournal } else { Presence::Retire };
    let confirmed = write(context, presence).await;
    if let Some(journal) = journal.filter(|_| confirmed && !leaves_journal) {
        journal.retire();
    }
}

/// Writes the presence; true if the store confirmed it.
pub(super) async fn write(context: &Context, presence: Presence) -> bool {
    let written = context.store.presence(context.owner, presence);
    let written = timeout(&*context.clock, context.policy.store_timeout, written).await;
    let confirmed = matches!(written, Some(Ok(())));
    if !confirmed {
        let error = written.and_then(Result::err);
        log_limited!(
            context.log_limit(),
            warn,
            None,
            "could not record in the store that this process is alive",
            ?presence,
            cause = ?error
        );
    }
    confirmed
}
