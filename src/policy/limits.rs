//! The bounds of one provider.

use std::time::Duration;

/// The bounds of one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct ProviderLimits {
    /// The most exchanges in flight at once, not counting slow ones. Defaults to 64 because a
    /// server that responds in 100 ms then gets 640 a second, and a slow server does not get more
    /// and more unfinished refreshes.
    pub exchanges: usize,
    /// How many requests may be open for longer than 10 s. While that
    /// many are open, the crate sends nothing new, and callers get `RetryLater`. Defaults to 256
    /// because each holds a connection and a session, and more requests do not help a server that
    /// is this slow.
    pub slow_requests: usize,
    /// How long an exchange waits for a permit before it fails without having sent a request.
    /// Defaults to 25 s, so that it ends before its callers'
    /// [`Policy::call_timeout`](super::Policy::call_timeout).
    pub admission_timeout: Duration,
    /// How often the crate tries a client again that the server rejected (`invalid_client`).
    /// Defaults to 1 min: one probe a minute for each client, not for each session.
    pub probe: Duration,
    /// The longest `Retry-After` that the crate obeys; a longer one is cut to this. Defaults to 10
    /// min because a server that asks for ten years is wrong.
    pub longest_retry_after: Duration,
}

impl Default for ProviderLimits {
    fn default() -> Self {
        Self {
            exchanges: 64,
            slow_requests: 256,
            admission_timeout: Duration::from_secs(25),
            probe: Duration::from_secs(60),
            longest_retry_after: Duration::from_secs(600),
        }
    }
}
