//! Writes to the store what its processes share about a client.

use super::context::Context;
use crate::client::Client;
use crate::log::log_limited;
use crate::policy::CLIENT_CHANGES;
use crate::store::{ClientChange, ClientOutcome, StoreResult};

impl Context {
    /// Lets a task of the supervisor write what the store does not know yet of this client, so that
    /// no caller waits for the store, and no dropped caller loses it.
    pub(super) fn write_client_later(&self, client: &Client) {
        if client.admission.join_queue(self.now().boot) {
            self.unwritten_clients.add(client.owner.clone());
        }
    }

    /// Writes what the store does not know yet of this client. What remains is written at the next
    /// poll.
    pub(crate) async fn write_client(&self, client: &Client) {
        let _writing = client.admission.begin_writing().await;
        client.admission.leave_queue();
        self.write_changes(client).await;
    }

    /// Asks the store whether this process may probe the client, and notes its answer.
    pub(super) async fn claim_probe(&self, client: &Client) {
        let admission = &client.admission;
        let _writing = admission.begin_writing().await;
        // First the changes, because the store grants no probe of a client whose stop it does not
        // know.
        self.write_changes(client).await;
        // Another exchange may have claimed the probe while this one waited.
        let Some(claim) = admission.probe_claim(self.owner, self.now().boot) else { return };
        let outcome = self.change_client(client, claim).await;
        admission.claimed(outcome.ok().flatten().as_ref(), self.now().boot);
    }

    async fn write_changes(&self, client: &Client) {
        for _ in 0..CLIENT_CHANGES {
            let Some(unwritten) = client.admission.unwritten(self.now().boot) else { return };
            let outcome = self.change_client(client, unwritten.change.clone()).await;
            let Ok(Some(outcome)) = outcome else { return };
            client.admission.written(&unwritten, &outcome, self.now().boot);
        }
    }

    async fn change_client(
        &self,
        client: &Client,
        change: ClientChange,
    ) -> StoreResult<Option<ClientOutcome>> {
        let changed = self.await_store(self.store.client(&client.key, change)).await;
        if let Err(error) = &changed {
            log_limited!(
                self.log_limit(),
                warn,
                Some(&client.owner.name),
                "could not share with other processes what the server said of the client",
                cause = %error
            );
        }
        changed
    }
}
