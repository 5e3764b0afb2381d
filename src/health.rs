//! How the authorization servers of a supervisor's providers respond, and how its sessions are.
//!
//! [`Supervisor::health`](crate::Supervisor::health) returns a [`Health`]. As JSON, its names stay
//! the same from version to version; new ones may come. Times are RFC 3339 text in UTC, and
//! durations are in seconds.

mod latest_count;
mod provider_health;
mod session_counts;

use std::fmt;
use std::time::SystemTime;

use serde::Serialize;

pub(crate) use self::latest_count::{CountState, LatestCount, StoreCount};
pub use self::provider_health::{HoldReason, LatestFailure, ProviderHealth};
pub use self::session_counts::{
    CountedProvider, CountedSessions, ExpiryCounts, LostCounts, SessionCounts, StateCounts,
};
use crate::clock::rfc3339;

/// How the servers respond, and how many sessions the store has in which state. It holds no secret.
///
/// ```
/// use session_warden::Supervisor;
/// use session_warden::health::{
///     Condition, CountedProvider, CountedSessions, ExpiryCounts, Health, HoldReason, LatestFailure,
///     LostCounts, ProviderHealth, SessionCounts, StateCounts,
/// };
///
/// /// What a page for operators says.
/// async fn page(supervisor: &Supervisor) -> Vec<String> {
///     let health: Health = supervisor.health().await;
///     let mut lines = Vec::new();
///     for ProviderHealth { provider, condition, last_failure, held_back_by, .. } in &health.providers {
///         let mut line = format!("{}: {condition}", provider.as_str());
///         if *condition != Condition::Working
///             && let Some(LatestFailure { class, text, .. }) = last_failure
///         {
///             line += &format!(" ({class}: {text})");
///         }
///         if *held_back_by == Some(HoldReason::Throttled) {
///             line += ", and wants fewer requests";
///         }
///         lines.push(line);
///     }
///     if let Some(CountedSessions { sessions, age_seconds, providers, .. }) = &health.counted {
///         let SessionCounts { states, lost, refresh_tokens_end, .. } = sessions;
///         let StateCounts { active, in_doubt, .. } = states;
///         let LostCounts { rejected, .. } = lost;
///         let ExpiryCounts { within_1_day, .. } = refresh_tokens_end;
///         lines.push(format!("{active} active, {in_doubt} in doubt, {age_seconds} s ago"));
///         lines.push(format!("{within_1_day} must sign in today, {rejected} were rejected"));
///         for CountedProvider { provider, sessions, .. } in providers {
///             lines.push(format!("{}: {} unsaved", provider.as_str(), sessions.unsaved));
///         }
///     }
///     lines
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// # use session_warden::testing::ScriptedProvider;
/// # use session_warden::SessionKey;
/// # let fake = ScriptedProvider::new();
/// # let supervisor = Supervisor::builder().provider("fake", fake).start().await?;
/// # let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
/// # let _ = sessions.session(SessionKey::single("device-17")?).establish(()).await?;
/// let lines = page(&supervisor).await;
/// assert_eq!(lines[..2], ["fake: working", "1 active, 0 in doubt, 0 s ago"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// When this was read, by the wall clock.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub at: SystemTime,
    /// The clients in memory, those of at most
    /// [`HEALTH_TENANTS`](crate::policy::HEALTH_TENANTS) tenants, in the order of its provider's name and its tenant's name: one for
    /// each registered provider, or one for each of its tenants if each tenant has its own.
    pub providers: Vec<ProviderHealth>,
    /// How many clients of tenants are in memory and left out of `providers`, which contains first
    /// those whose server does not work, then those with the most sessions in memory.
    pub tenants_left_out: usize,
    /// How many sessions the store has. `None` before they were counted for the first time.
    pub counted: Option<CountedSessions>,
    /// Why the sessions could not be counted again. `None` if the last try succeeded, or if there
    /// was no try yet.
    pub count_error: Option<String>,
}

impl Health {
    /// Whether no server in [`providers`](Self::providers) is unreachable, throttles or rejects.
    ///
    /// Alert if this is false for minutes. Do not let it restart the process: a restart does not
    /// help a server, and sessions with a valid access token still work.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.providers.iter().all(|provider| provider.condition.is_good())
    }
}

/// How a provider's server has responded lately. See the example of [`Health`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Condition {
    /// The crate has sent no request to this server since the supervisor started.
    #[default]
    Unknown,
    /// The last request succeeded, or too few requests have failed since.
    Working,
    /// Several requests in a row got no answer or a server error (5xx), or the transport refused the
    /// server's certificate.
    Unreachable,
    /// The server said that it gets too many requests (429).
    Throttled,
    /// The server rejects the client, or the refreshes of many sessions in a row.
    Rejecting,
}

impl Condition {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Unknown, Self::Working, Self::Unreachable, Self::Throttled, Self::Rejecting];

    /// The name in logs, metrics and JSON.
    ///
    /// ```
    /// use session_warden::health::Condition;
    ///
    /// assert_eq!(Condition::Unreachable.name(), "unreachable");
    /// ```
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Working => "working",
            Self::Unreachable => "unreachable",
            Self::Throttled => "throttled",
            Self::Rejecting => "rejecting",
        }
    }

    /// Whether nothing is known to be wrong.
    pub(crate) fn is_good(self) -> bool {
        match self {
            Self::Unknown | Self::Working => true,
            Self::Unreachable | Self::Throttled | Self::Rejecting => false,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
