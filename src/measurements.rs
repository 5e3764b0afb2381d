//! The moments at which the crate is measured. Nothing is recorded unless the builder was given
//! something that records, which the feature `metrics` adds.

use std::time::Duration;

use crate::key::{ProviderName, SessionId, Tenant};

/// Records what happens. No method is called while a valid token is read from memory. The methods
/// must return at once and must not panic.
pub(crate) trait Measurements: Send + Sync {
    /// Whether anything is recorded. If not, the crate skips work that only serves a measurement.
    fn is_on(&self) -> bool {
        false
    }

    /// The supervisor starts.
    fn started(&self) {}

    fn exchange_ended(&self, _: &EndedExchange<'_>) {}

    /// A caller begins to wait for this session.
    fn wait_began(&self, _: &SessionId) {}

    /// That caller has its outcome, or was dropped.
    fn wait_ended(&self, _: &SessionId) {}

    /// A caller waits for an exchange that another caller or the schedule has started.
    fn caller_joined(&self, _: &SessionId) {}

    fn statement_ended(&self, _: &EndedStatement) {}

    fn actor_restarted(&self, _: RestartedActor) {}

    fn event_published(&self, _: &PublishedEvent<'_>) {}

    fn log_line_suppressed(&self) {}

    /// The providers are sampled next.
    fn samples_begin(&self) {}

    /// The present state of a provider, once in each
    /// [`METRICS_EVERY`](crate::policy::METRICS_EVERY).
    fn provider_sampled(&self, _: &ProviderSample<'_>) {}

    /// The sessions of a provider in the store were counted, once in each
    /// [`HEALTH_COUNT_EVERY`](crate::policy::HEALTH_COUNT_EVERY).
    fn sessions_counted(&self, _: &StoredSessions<'_>) {}
}

/// Records nothing.
pub(crate) struct Unmeasured;

impl Measurements for Unmeasured {}

/// An exchange that has ended. All names are those in its span.
pub(crate) struct EndedExchange<'e> {
    pub(crate) session: &'e SessionId,
    pub(crate) kind: &'static str,
    pub(crate) outcome: &'static str,
    /// How long it took; `None` if it sent no request, or if its task was dropped.
    pub(crate) took: Option<Duration>,
}

/// A statement of the store that has ended.
pub(crate) struct EndedStatement {
    pub(crate) statement: &'static str,
    pub(crate) outcome: &'static str,
    /// `None` if the store may wait before it answers this statement.
    pub(crate) took: Option<Duration>,
}

/// An actor that crashed and was started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartedActor {
    Session,
    Supervisor,
}

/// An event that was published.
pub(crate) struct PublishedEvent<'e> {
    /// `None` if the event concerns no registered provider.
    pub(crate) provider: Option<&'e ProviderName>,
    pub(crate) tenant: Option<&'e Tenant>,
    pub(crate) name: &'static str,
}

/// The state of one provider in memory.
pub(crate) struct ProviderSample<'s> {
    pub(crate) provider: &'s ProviderName,
    pub(crate) sessions_in_memory: u64,
    pub(crate) unsaved_credentials: u64,
    /// Each condition, and how many clients of the provider are in it.
    pub(crate) conditions: &'s [(&'static str, u64)],
}

/// The sessions of one provider in the store.
pub(crate) struct StoredSessions<'s> {
    pub(crate) provider: &'s ProviderName,
    /// Each state, and how many sessions are in it.
    pub(crate) states: &'s [(&'static str, u64)],
    /// The refresh tokens that end within a day, within a week and within 30 days. Those of a
    /// shorter time are in those of a longer one too.
    pub(crate) refresh_tokens_ending: [u64; 3],
}

/// A caller that waits for a session until this is dropped.
pub(crate) struct WaitingCaller<'w> {
    measurements: &'w dyn Measurements,
    session: &'w SessionId,
}

impl<'w> WaitingCaller<'w> {
    pub(crate) fn begin(measurements: &'w dyn Measurements, session: &'w SessionId) -> Self {
        measurements.wait_began(session);
        Self { measurements, session }
    }
}

impl Drop for WaitingCaller<'_> {
    fn drop(&mut self) {
        self.measurements.wait_ended(self.session);
    }
}

impl RestartedActor {
    /// The name in metrics.
    #[cfg(feature = "metrics")]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Supervisor => "supervisor",
        }
    }
}
