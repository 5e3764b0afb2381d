//! The snapshot of a session's token for lock-free reads.

use std::time::Duration;

use crate::clock::{BootTime, Now};
use crate::policy::DRIFT;
use crate::session::machine::{self, CredentialState, State};
use crate::token::PermissionToken;

/// A token with its times, as readers compare them with the coarse clocks.
pub(super) struct TokenSnapshot {
    pub(super) token: PermissionToken,
    pub(super) due: Duration,
    pub(super) expires: Duration,
    /// The same in boot time, which goes on during a suspend.
    pub(super) due_at: Option<BootTime>,
    pub(super) expires_at: Option<BootTime>,
    /// Wall minus monotonic time when this was published.
    pub(super) offset: Duration,
}

impl TokenSnapshot {
    pub(super) fn new(
        held: &CredentialState,
        token: &PermissionToken,
        state: &State,
        now: Now,
    ) -> Self {
        let coarse = |at: Option<BootTime>| {
            at.map_or(Duration::MAX, |at| now.monotonic.saturating_add(at.since(now.boot)))
        };
        let wall = now.wall.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        let due_at = machine::due_at(state, held);
        Self {
            token: token.clone(),
            due: coarse(due_at),
            expires: coarse(held.expires),
            due_at,
            expires_at: held.expires,
            offset: wall.saturating_sub(now.monotonic),
        }
    }

    /// Whether readers would see no difference.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        // The offset may move a little, because clock discipline does that all the time: a new
        // snapshot for each such change would disturb the readers.
        self.token.generation() == other.token.generation()
            && self.due_at == other.due_at
            && self.expires_at == other.expires_at
            && self.offset.abs_diff(other.offset) < DRIFT / 4
    }
}
