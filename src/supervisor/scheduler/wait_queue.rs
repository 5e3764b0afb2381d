//! Chooses the wait queue of a session that is due.

use crate::client::provider_entry::ProviderEntry;
use crate::key::SessionId;
use crate::session::schedule::WaitQueue;

/// The queue in which the session waits if it has to.
pub(super) fn wait_queue(provider: &ProviderEntry, id: &SessionId) -> WaitQueue {
    let tenant = id.key().tenant();
    if provider.of_all().is_some() {
        WaitQueue::Client
    } else if provider.known(tenant).is_some_and(|tenant_client| tenant_client.client().is_some()) {
        WaitQueue::ClientOf(tenant.clone())
    } else {
        WaitQueue::Source
    }
}
