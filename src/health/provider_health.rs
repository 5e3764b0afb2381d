//! How the server of one provider responds.

use std::time::SystemTime;

use serde::Serialize;

use super::Condition;
use crate::clock::rfc3339;
use crate::key::{ProviderName, Tenant};

/// How one provider's server responds to this process. See the example of
/// [`Health`](super::Health).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ProviderHealth {
    /// The provider's name.
    pub provider: ProviderName,
    /// The tenant whose client this is, if each tenant has its own.
    pub tenant: Option<Tenant>,
    /// How the server has responded lately.
    pub condition: Condition,
    /// When the condition last changed. `None` before the first request.
    #[serde(serialize_with = "rfc3339::serialize_optional")]
    pub since: Option<SystemTime>,
    /// When a request last succeeded.
    #[serde(serialize_with = "rfc3339::serialize_optional")]
    pub last_success: Option<SystemTime>,
    /// The last failure that does not concern a user's grant.
    pub last_failure: Option<LatestFailure>,
    /// How many such failures there were since the last success.
    pub consecutive_failures: u64,
    /// How many exchanges, revocations and operations are with the server or about to be sent.
    pub in_flight: usize,
    /// How many further requests wait until one of those ends, because
    /// [`ProviderLimits::exchanges`](crate::policy::ProviderLimits::exchanges) is reached. This
    /// includes sessions that are due for a refresh and wait for
    /// [`held_back_until`](Self::held_back_until).
    pub queued: usize,
    /// Until when the crate holds requests back.
    #[serde(serialize_with = "rfc3339::serialize_optional")]
    pub held_back_until: Option<SystemTime>,
    /// Why it holds them back. If there are several reasons, the one that lasts longest.
    pub held_back_by: Option<HoldReason>,
    /// How many sessions of this client are in memory.
    pub sessions_in_memory: usize,
}

/// The latest failed request of a provider. See the example of [`Health`](super::Health).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LatestFailure {
    /// When it failed.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub at: SystemTime,
    /// The [name](crate::provider::FailureClass::name) of its class.
    pub class: &'static str,
    /// The HTTP status of the server's response, if there was a response.
    pub status: Option<u16>,
    /// The server's error code, if it gave one.
    pub code: Option<String>,
    /// What is wrong and what to do.
    pub text: String,
}

/// Why the crate holds requests back. See the example of [`Health`](super::Health).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HoldReason {
    /// The server wants fewer requests (429). All requests wait.
    Throttled,
    /// The server rejects the client, perhaps only in requests of one tenant. The requests wait for
    /// the next [`probe`](crate::policy::ProviderLimits::probe).
    Stopped,
    /// The server sends many sessions responses that are not understood. The crate lets these
    /// sessions retry one after another.
    Paced,
}
