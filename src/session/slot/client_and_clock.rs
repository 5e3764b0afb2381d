//! Changes that reach a session without an input: a new client, and a clock that was set.

use std::time::{Duration, SystemTime};

use super::{Inner, Slot};
use crate::clock::Now;
use crate::policy::DRIFT;
use crate::session::machine::{ExternalChange, Input, Settled, StepContext};

impl Slot {
    /// Steps the machine after the client was replaced. True if this has caused an issuer mismatch:
    /// the new client did not issue the session's credentials, and the old one did.
    pub(crate) fn reconsider(&self, at: &StepContext) -> bool {
        let mut inner = self.inner.lock();
        let has_mismatch = |inner: &Inner| {
            let settled = inner.state.settled.as_ref();
            settled.and_then(Settled::serving).is_some_and(|held| held.issuer_mismatch)
        };
        // Before `follow`, which may step the machine; so one mismatch raises one event.
        let had_mismatch = has_mismatch(&inner);
        self.follow(&mut inner, at);
        self.publish(&mut inner, at.now);
        !had_mismatch && has_mismatch(&inner)
    }

    /// Steps the machine if the client was replaced or a clock was set. The slot checks this at
    /// every step: a reconfiguration that visits all slots once could miss a slot whose exchange
    /// is just storing credentials of the old client.
    pub(super) fn follow(&self, inner: &mut Inner, at: &StepContext) {
        if let Some(external_change) = inner.moved_clock(at.now) {
            inner.step(Input::ExternalChange(external_change), at);
        }
        if self.tenant_client.version() == inner.client {
            return;
        }
        let Some(client) = self.tenant_client.client() else { return };
        // The version of this very client, not the one that was read above: if the client is
        // replaced between the two reads, the next step must see that.
        inner.client = client.version;
        let issuer_mismatch = inner.state.settled.as_ref().is_some_and(|settled| {
            settled.credentials().is_some_and(|credentials| !client.issued(credentials))
        });
        inner.step(Input::Reconfigured { issuer_mismatch }, at);
    }
}

impl Inner {
    /// An external change if a clock was set since the times were derived from the record: the
    /// record is then loaded again. A token that has expired by the new clock is not served until
    /// then.
    fn moved_clock(&self, now: Now) -> Option<ExternalChange> {
        let held = match self.state.settled.as_ref()? {
            Settled::Active(held) | Settled::InDoubt(held, _) => held,
            Settled::Lost(lost) => lost.held.as_ref()?,
            Settled::Vacant { .. } | Settled::Closed(_) => return None,
        };
        let (then, now_is) = (held.derived_at?, offset(now));
        if then.abs_diff(now_is) <= DRIFT || self.state.is_busy() {
            return None;
        }
        let ahead = now_is.saturating_sub(then);
        let ends = held.expires.is_some_and(|end| end.before(ahead) <= now.boot);
        let known = self.state.wants_load() && (!ends || self.state.is_ended_elsewhere());
        (!known).then_some(ExternalChange { version: None, ends })
    }
}

/// Wall minus boot time. It changes when a clock is set, and not in a suspend.
pub(crate) fn offset(now: Now) -> Duration {
    let wall = now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    wall.saturating_sub(now.boot.since_boot())
}
