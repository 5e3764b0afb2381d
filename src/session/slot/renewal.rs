//! Renewal: how a session gets new tokens with a grant that needs no user.

use super::{ErasedValue, Slot};
use crate::client::Client;
use crate::error::LostReason;
use crate::session::machine::{Renewable, Settled};

/// The source of a renewal's grant.
pub(crate) enum Renewal {
    Grant(ErasedValue),
    /// The application's `renew_with` is asked, for a session that is lost for this reason.
    AskFor(LostReason),
}

/// Whether a provider has a renewal for these credentials.
#[derive(Clone, Copy)]
pub(super) struct Renews {
    /// The version of the client that was asked.
    client: u64,
    counters: (u64, u64),
    renews: bool,
}

impl Slot {
    /// Whether the session has a renewal. The provider is asked once for each of its credentials.
    pub(crate) fn renewable(&self) -> Renewable {
        // Before the lock, and with its version: the stored answer is for this client only.
        let Some(client) = self.tenant_client.client() else { return Renewable::No };
        let (held, lost, counters, known) = {
            let inner = self.inner.lock();
            let settled = inner.state.settled.as_ref();
            let held = settled.and_then(|settled| settled.credentials().cloned());
            let counters = inner.state.counters();
            let is_same =
                |asked: &Renews| (asked.client, asked.counters) == (client.version, counters);
            (held, settled.and_then(Settled::lost), counters, inner.renews.filter(is_same))
        };
        let renews = known.map(|known| known.renews).unwrap_or_else(|| {
            // Outside the lock, because the provider's code may be slow or call the session. If the
            // credentials change meanwhile, the counters show that this answer is not for them.
            let renews = client.provider.renewal(held.as_deref()).is_some();
            self.inner.lock().renews = Some(Renews { client: client.version, counters, renews });
            renews
        });
        let asked_for = lost.is_some() && client.renew_with.is_some();
        if renews || asked_for { Renewable::Itself } else { Renewable::No }
    }

    /// The session's renewal: the provider has a grant, or the session is lost and the application
    /// has registered a `renew_with` that may have one.
    pub(crate) fn renewal(&self, client: &Client) -> Option<Renewal> {
        let (held, lost) = self.with_state(|state| {
            let settled = state.settled.as_ref();
            let held = settled.and_then(|settled| settled.credentials().cloned());
            (held, settled.and_then(Settled::lost))
        });
        match client.provider.renewal(held.as_deref()) {
            Some(grant) => Some(Renewal::Grant(grant)),
            None => lost.filter(|_| client.renew_with.is_some()).map(Renewal::AskFor),
        }
    }
}
