//! When tokens are due.

use std::time::Duration;

use super::{RefreshPolicy, part};

impl RefreshPolicy {
    /// Returns when a token that is valid for `life` is due: the time from when its request was
    /// sent. `spread` is the random number from 0 to 1 that the jitter uses.
    #[must_use]
    pub fn due_after(&self, life: Duration, spread: f64) -> Duration {
        let most = life / 2;
        let ahead = life.mul_f64(1.0 - part(self.fraction));
        let ahead = ahead.min(self.at_most).max(self.at_least);
        let spread = part(spread) * part(self.jitter);
        life - ahead.saturating_add(life.mul_f64(spread)).min(most)
    }

    /// Returns when the crate reports that a refresh token which is valid for `life` expires soon:
    /// the time from when its request was sent.
    #[must_use]
    pub fn expiring_after(&self, life: Duration) -> Duration {
        life - self.expiring.min(life / 2)
    }
}
