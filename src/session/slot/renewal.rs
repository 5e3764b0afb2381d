//! How a session begins again without a user.

use super::{Parcel, Slot};
use crate::error::LostReason;
use crate::session::machine::Renewable;

/// Where a renewal's grant comes from.
pub(crate) enum Renewal {
    Grant(Parcel),
    /// Whoever was registered for it is asked, for a session that is lost for this reason.
    AskFor(LostReason),
}

impl Slot {
    /// Whether the session has a renewal.
    pub(crate) fn renewable(&self) -> Renewable {
        if self.renewal().is_some() { Renewable::Itself } else { Renewable::No }
    }

    /// How the session can begin again without a user: the provider has a grant for it, or
    /// somebody was registered who may have one for what is lost.
    pub(crate) fn renewal(&self) -> Option<Renewal> {
        let client = self.site.client()?;
        let (held, lost) = self.look(|state| {
            let rest = state.rest();
            let held = rest.as_ref().and_then(|rest| rest.credentials().cloned());
            (held, rest.and_then(|rest| rest.lost()))
        });
        match client.provider.renewal(held.as_deref()) {
            Some(grant) => Some(Renewal::Grant(grant)),
            None => lost.filter(|_| client.renew_with.is_some()).map(Renewal::AskFor),
        }
    }
}
