//! All metrics, in one table.

/// A metric of this crate. The value of each label but `tenant` is a fixed word or
/// a registered name.
///
/// ```
/// use session_warden::metrics::{METRICS, Metric, MetricKind};
///
/// /// The rules of a Prometheus server that keep the rate of each counter.
/// fn rules() -> Vec<String> {
///     let counters = METRICS.iter().filter(|metric| metric.kind == MetricKind::Counter);
///     let rule = |Metric { name, .. }: &Metric| format!("{name}:rate5m: rate({name}[5m])");
///     counters.map(rule).collect()
/// }
///
/// let all = "session_warden_exchanges_total";
/// assert_eq!(rules()[0], format!("{all}:rate5m: rate({all}[5m])"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name, which begins with `session_warden_`.
    pub name: &'static str,
    /// The kind.
    pub kind: MetricKind,
    /// The unit: `count` or `seconds`.
    pub unit: &'static str,
    /// The labels, without `tenant`.
    pub labels: &'static [&'static str],
    /// Whether [`Metrics::tenant_label`](super::Metrics::tenant_label) adds the label `tenant`.
    pub by_tenant: bool,
    /// What it says, for people.
    pub help: &'static str,
}

/// The kind of a metric. See the example of [`Metric`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// A number that only grows.
    Counter,
    /// A number that grows and shrinks.
    Gauge,
    /// The distribution of values.
    Histogram,
}

impl MetricKind {
    /// Returns the name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// All metrics of this crate. See the example of [`Metric`].
pub const METRICS: &[Metric] = &[
    EXCHANGES,
    EXCHANGE_DURATION,
    WAITERS,
    JOINED_CALLERS,
    SESSIONS,
    SESSIONS_IN_MEMORY,
    REFRESH_TOKENS_ENDING,
    UNSAVED_CREDENTIALS,
    PROVIDER_CONDITION,
    STORE_STATEMENTS,
    STORE_STATEMENT_DURATION,
    ACTOR_RESTARTS,
    EVENTS,
    LOG_LINES_SUPPRESSED,
];

pub(super) const EXCHANGES: Metric = counter(
    "session_warden_exchanges_total",
    &["provider", "kind", "outcome"],
    "Exchanges with a provider's server that have ended. Revocations count too, and so does an exchange that sent no request",
)
.by_tenant();

pub(super) const EXCHANGE_DURATION: Metric = seconds(
    "session_warden_exchange_duration_seconds",
    &["provider", "kind"],
    "Time from the beginning of an exchange to its end, for exchanges that sent a request",
)
.by_tenant();

pub(super) const WAITERS: Metric =
    gauge("session_warden_waiters", &["provider"], "Callers that wait for an exchange now")
        .by_tenant();

pub(super) const JOINED_CALLERS: Metric = counter(
    "session_warden_joined_callers_total",
    &["provider"],
    "Callers that waited for an exchange which they had not started",
)
.by_tenant();

pub(super) const SESSIONS: Metric =
    gauge("session_warden_sessions", &["provider", "state"], "Sessions in the store, by state");

pub(super) const SESSIONS_IN_MEMORY: Metric =
    gauge("session_warden_sessions_in_memory", &["provider"], "Sessions in memory");

pub(super) const REFRESH_TOKENS_ENDING: Metric = gauge(
    "session_warden_refresh_tokens_ending",
    &["provider", "within"],
    "Refresh tokens in the store that end within the time that the label `within` says",
);

pub(super) const UNSAVED_CREDENTIALS: Metric = gauge(
    "session_warden_unsaved_credentials",
    &["provider"],
    "Sessions whose newest credentials are only in memory",
);

pub(super) const PROVIDER_CONDITION: Metric = gauge(
    "session_warden_provider_condition",
    &["provider", "condition"],
    "Number of clients of the provider in each condition. The crate records the condition of the server for each client separately",
);

pub(super) const STORE_STATEMENTS: Metric = counter(
    "session_warden_store_statements_total",
    &["statement", "outcome"],
    "Statements of the store that have ended",
);

pub(super) const STORE_STATEMENT_DURATION: Metric = seconds(
    "session_warden_store_statement_duration_seconds",
    &["statement"],
    "Time that a statement of the store took. Calls of the method `changes` are not included, because this method may wait for a change",
);

pub(super) const ACTOR_RESTARTS: Metric = counter(
    "session_warden_actor_restarts_total",
    &["actor"],
    "Actors that crashed and were started again",
);

pub(super) const EVENTS: Metric =
    counter("session_warden_events_total", &["provider", "event"], "Events that were published")
        .by_tenant();

pub(super) const LOG_LINES_SUPPRESSED: Metric = counter(
    "session_warden_log_lines_suppressed_total",
    &[],
    "Log lines that were left out because there were too many of one kind",
);

impl Metric {
    const fn by_tenant(self) -> Self {
        Self { by_tenant: true, ..self }
    }
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    let (kind, unit) = (MetricKind::Counter, "count");
    Metric { name, kind, unit, labels, by_tenant: false, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    let (kind, unit) = (MetricKind::Gauge, "count");
    Metric { name, kind, unit, labels, by_tenant: false, help }
}

const fn seconds(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    let (kind, unit) = (MetricKind::Histogram, "seconds");
    Metric { name, kind, unit, labels, by_tenant: false, help }
}
