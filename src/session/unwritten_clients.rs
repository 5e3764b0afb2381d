//! The clients whose news must still be written to the store.

use std::mem::take;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::client::ClientOwner;

/// The clients of which the server's answers must be written to the store. Each is here at most
/// once.
#[derive(Default)]
pub(crate) struct UnwrittenClients {
    owners: Mutex<Vec<ClientOwner>>,
    added: Notify,
}

impl UnwrittenClients {
    /// Waits for clients, and takes them.
    ///
    /// # Cancel safety
    ///
    /// May be dropped: it takes clients only when it completes.
    pub(crate) async fn take(&self) -> Vec<ClientOwner> {
        loop {
            let owners = take(&mut *self.owners.lock());
            if !owners.is_empty() {
                return owners;
            }
            self.added.notified().await;
        }
    }

    pub(crate) fn add(&self, owner: ClientOwner) {
        self.owners.lock().push(owner);
        self.added.notify_one();
    }
}
