//! Records what is measured, under the names and labels of the table.

use metrics::Label;

use super::gauges::Gauges;
use super::recorder_calls::{count, describe, observe};
use super::table::{self, METRICS, Metric};
use super::tenant_names::TenantNames;
use crate::key::{SessionId, Tenant};
use crate::measurements::{
    EndedExchange, EndedStatement, Measurements, ProviderSample, PublishedEvent, RestartedActor,
    StoredSessions,
};

/// The values of the label `within`, in the order of
/// [`StoredSessions::refresh_tokens_ending`].
const WITHIN: [&str; 3] = ["1d", "7d", "30d"];

/// Records the metrics of one supervisor.
pub(super) struct Recording {
    tenants: Option<TenantNames>,
    gauges: Gauges,
}

impl Recording {
    /// `tenants` is how many tenants have a value of their own; `None` if there is no such label.
    pub(super) fn new(tenants: Option<usize>) -> Self {
        Self { tenants: tenants.map(TenantNames::new), gauges: Gauges::default() }
    }

    /// The labels of a metric: `values` in the order of its table, then the tenant.
    fn labels(&self, metric: &Metric, values: &[&str], tenant: Option<&Tenant>) -> Vec<Label> {
        debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
        let values = values.iter().map(|value| (*value).to_owned());
        let labels = metric.labels.iter().zip(values);
        let tenants = self.tenants.as_ref().filter(|_| metric.by_tenant);
        let tenant = tenants.map(|tenants| ("tenant", tenants.name(tenant)));
        let labels = labels.map(|(label, value)| (*label, value)).chain(tenant);
        labels.map(|(label, value)| Label::new(label, value)).collect()
    }

    fn of_session(&self, metric: &Metric, more: &[&str], session: &SessionId) -> Vec<Label> {
        let values: Vec<_> =
            [session.provider().as_str()].into_iter().chain(more.iter().copied()).collect();
        self.labels(metric, &values, Some(session.key().tenant()))
    }
}

impl Measurements for Recording {
    fn is_on(&self) -> bool {
        true
    }

    fn started(&self) {
        METRICS.iter().for_each(describe);
        // So that the rate is known from the first one on.
        for actor in [RestartedActor::Session, RestartedActor::Supervisor] {
            count(&table::ACTOR_RESTARTS, self.restarts(actor), 0);
        }
        count(&table::LOG_LINES_SUPPRESSED, Vec::new(), 0);
    }

    fn exchange_ended(&self, exchange: &EndedExchange<'_>) {
        let EndedExchange { session, kind, outcome, took } = *exchange;
        let labels = self.of_session(&table::EXCHANGES, &[kind, outcome], session);
        count(&table::EXCHANGES, labels, 1);
        if let Some(took) = took {
            let labels = self.of_session(&table::EXCHANGE_DURATION, &[kind], session);
            observe(&table::EXCHANGE_DURATION, labels, took.as_secs_f64());
        }
    }

    fn wait_began(&self, session: &SessionId) {
        let labels = self.of_session(&table::WAITERS, &[], session);
        self.gauges.add(&table::WAITERS, labels, 1.0);
    }

    fn wait_ended(&self, session: &SessionId) {
        let labels = self.of_session(&table::WAITERS, &[], session);
        self.gauges.add(&table::WAITERS, labels, -1.0);
    }

    fn caller_joined(&self, session: &SessionId) {
        let labels = self.of_session(&table::JOINED_CALLERS, &[], session);
        count(&table::JOINED_CALLERS, labels, 1);
    }

    fn statement_ended(&self, ended: &EndedStatement) {
        let EndedStatement { statement, outcome, took } = *ended;
        let labels = self.labels(&table::STORE_STATEMENTS, &[statement, outcome], None);
        count(&table::STORE_STATEMENTS, labels, 1);
        if let Some(took) = took {
            let labels = self.labels(&table::STORE_STATEMENT_DURATION, &[statement], None);
            observe(&table::STORE_STATEMENT_DURATION, labels, took.as_secs_f64());
        }
    }

    fn actor_restarted(&self, actor: RestartedActor) {
        count(&table::ACTOR_RESTARTS, self.restarts(actor), 1);
    }

    fn event_published(&self, event: &PublishedEvent<'_>) {
        let PublishedEvent { provider, tenant, name } = *event;
        let provider = provider.map_or("", |provider| provider.as_str());
        let labels = self.labels(&table::EVENTS, &[provider, name], tenant);
        count(&table::EVENTS, labels, 1);
    }

    fn log_line_suppressed(&self) {
        count(&table::LOG_LINES_SUPPRESSED, Vec::new(), 1);
    }

    fn samples_begin(&self) {
        self.gauges.keep_alive();
    }

    fn provider_sampled(&self, sample: &ProviderSample<'_>) {
        let ProviderSample { provider, sessions_in_memory, unsaved_credentials, conditions } =
            *sample;
        let provider = provider.as_str();
        for (metric, value) in [
            (&table::SESSIONS_IN_MEMORY, sessions_in_memory),
            (&table::UNSAVED_CREDENTIALS, unsaved_credentials),
        ] {
            self.set(metric, &[provider], value);
        }
        for (condition, clients) in conditions {
            self.set(&table::PROVIDER_CONDITION, &[provider, condition], *clients);
        }
    }

    fn sessions_counted(&self, counted: &StoredSessions<'_>) {
        let StoredSessions { provider, states, refresh_tokens_ending } = *counted;
        let provider = provider.as_str();
        for (state, sessions) in states {
            self.set(&table::SESSIONS, &[provider, state], *sessions);
        }
        for (within, tokens) in WITHIN.iter().zip(refresh_tokens_ending) {
            self.set(&table::REFRESH_TOKENS_ENDING, &[provider, within], tokens);
        }
    }
}

impl Recording {
    fn restarts(&self, actor: RestartedActor) -> Vec<Label> {
        self.labels(&table::ACTOR_RESTARTS, &[actor.name()], None)
    }

    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    fn set(&self, metric: &Metric, values: &[&str], value: u64) {
        self.gauges.set(metric, self.labels(metric, values, None), value as f64);
    }
}
