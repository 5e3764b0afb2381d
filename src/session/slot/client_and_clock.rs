//! What changes around a session and nobody tells it: its client, and the clock.

use std::time::{Duration, SystemTime};

use super::{Inner, Slot};
use crate::clock::Now;
use crate::policy::DRIFT;
use crate::session::machine::{ExternalChange, Input, Settled, StepContext};

impl Slot {
    /// Lets the state know, and readers, that the client was replaced. True if its credentials
    /// are foreign to the new one and were not to the old one.
    pub(crate) fn reconsider(&self, at: &StepContext) -> bool {
        let mut inner = self.inner.lock();
        let has_mismatch = |inner: &Inner| {
            let settled = inner.state.settled.as_ref();
            settled.and_then(Settled::serving).is_some_and(|held| held.issuer_mismatch)
        };
        let had_mismatch = has_mismatch(&inner);
        self.follow(&mut inner, at);
        self.publish(&mut inner, at.now);
        !had_mismatch && has_mismatch(&inner)
    }

    /// Lets the state know what nobody else tells it: that the client was replaced, and that a
    /// clock was set. At every step, and not only by whoever replaces a client: so no slot is
    /// missed that an exchange is just writing.
    pub(super) fn follow(&self, inner: &mut Inner, at: &StepContext) {
        if let Some(external_change) = inner.moved_clock(at.now) {
            inner.step(Input::ExternalChange(external_change), at);
        }
        if self.tenant_client.version() == inner.client {
            return;
        }
        let Some(client) = self.tenant_client.client() else { return };
        inner.client = client.version;
        let issuer_mismatch = inner.state.settled.as_ref().is_some_and(|settled| {
            settled.credentials().is_some_and(|credentials| !client.issued(credentials))
        });
        inner.step(Input::Reconfigured { issuer_mismatch }, at);
    }
}

impl Inner {
    /// News if a clock was set since times were derived from a record: they are derived anew. What
    /// would have ended by the new clock is not served meanwhile.
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

/// Wall minus boot time, which a suspend does not change and whoever sets the clock does.
pub(crate) fn offset(now: Now) -> Duration {
    let wall = now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    wall.saturating_sub(now.boot.since_boot())
}
