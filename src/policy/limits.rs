//! The bounds of one provider.

use std::time::Duration;

/// The bounds of one provider.
///
/// If several supervisors use a store that shares clients, each uses its part of
/// [`exchanges`](Self::exchanges) and of [`slow_requests`](Self::slow_requests): the bound divided by
/// the number of supervisors, and at least 1.
///
/// ```
/// use session_warden::policy::ProviderLimits;
/// use session_warden::provider::{Registration, oauth2::OAuth2};
///
/// // A small server: at most 8 requests at once, and 32 that it answers slowly.
/// let limits = ProviderLimits { exchanges: 8, slow_requests: 32, ..ProviderLimits::default() };
/// let acme = OAuth2::new("https://login.example.com/token", "my-backend")?;
/// let registration = Registration::new(acme).limits(limits);
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct ProviderLimits {
    /// The most exchanges that run at once. An exchange whose request is open for longer than 10 s
    /// counts against [`slow_requests`](Self::slow_requests) instead. Defaults to 64: a server that
    /// responds in 100 ms then gets up to 640 requests a second, and a slow server does not get
    /// more and more unfinished refreshes.
    pub exchanges: usize,
    /// How many requests may be open for longer than 10 s. While that many are open, the crate
    /// sends no new request, and callers get `RetryLater`. Defaults to 256 because each slow
    /// request holds a connection and a session, and more requests do not help a server that is
    /// this slow.
    pub slow_requests: usize,
    /// How long an exchange waits until it may run. After that it fails, and has sent no request.
    /// Defaults to 25 s, so that it ends before the
    /// [`Policy::call_timeout`](super::Policy::call_timeout) of its callers.
    pub admission_timeout: Duration,
    /// How often the crate tries a client again that the server rejected (`invalid_client`).
    /// Defaults to 1 min: one probe a minute for each client, not for each session.
    pub probe: Duration,
    /// The longest `Retry-After` that the crate obeys. If a server asks for a longer wait, the
    /// crate waits this long. Defaults to 10 min because a server that asks for ten years is wrong.
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
