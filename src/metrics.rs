//! Metrics through the crate [`metrics`](https://docs.rs/metrics), for Prometheus, OpenTelemetry or
//! another exporter.
//!
//! The feature `metrics` only adds this module: nothing is recorded before
//! [`SupervisorBuilder::metrics`]. A library that another part of your program uses may enable the
//! feature, and your program must not get new metrics from that.
//!
//! The chapter [`metrics`](crate::guide::metrics) lists all names and labels.

mod gauges;
mod recorder_calls;
mod recording;
mod table;
mod tenant_names;

use std::sync::Arc;

use self::recording::Recording;
pub use self::table::{METRICS, Metric, MetricKind};
use crate::supervisor::SupervisorBuilder;

/// Settings of the metrics. They hold no secret: the values of labels are fixed words, the names of
/// registered providers and, if you choose, the names of tenants.
///
/// Install the recorder of your program before you start the supervisor: what was recorded before is
/// lost, and so are the descriptions.
///
/// ```
/// use session_warden::Supervisor;
/// use session_warden::metrics::Metrics;
/// use session_warden::testing::ScriptedProvider;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
/// let handle = recorder.handle();
/// metrics::set_global_recorder(recorder)?;
///
/// let provider: ScriptedProvider = ScriptedProvider::new();
/// let supervisor = Supervisor::builder()
///     .metrics(Metrics::new().tenant_label(100))
///     .provider("acme", provider)
///     .start()
///     .await?;
/// # use session_warden::SessionKey;
/// let session = supervisor.session("acme", SessionKey::new("north", "device-17")?)?;
/// assert!(session.permission_token().await.is_err());
/// assert!(handle.render().contains("session_warden_store_statements_total"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    tenants: Option<usize>,
}

impl Metrics {
    /// Settings without a label for tenants.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the label `tenant` to the metrics that list it in
    /// [the chapter](crate::guide::metrics#all-metrics). Without this setting there is no such label, because each of its values is a new time series, and a
    /// program may have very many tenants.
    ///
    /// The first `at_most` tenants get their names as values. All further tenants are counted
    /// together, as `other`.
    #[must_use]
    pub fn tenant_label(self, at_most: usize) -> Self {
        Self { tenants: Some(at_most) }
    }
}

impl SupervisorBuilder {
    /// Records metrics of this supervisor, with the recorder that is installed when they are
    /// recorded. Without this setting nothing is recorded. See the example of [`Metrics`].
    ///
    /// If several supervisors of one process record metrics, their values add up.
    pub fn metrics(self, metrics: Metrics) -> Self {
        self.with_measurements(Arc::new(Recording::new(metrics.tenants)))
    }
}

#[cfg(test)]
mod tests;
