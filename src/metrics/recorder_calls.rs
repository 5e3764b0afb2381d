//! Calls the recorder of the program.

use std::panic::{AssertUnwindSafe, catch_unwind};

use metrics::{Key, Label, Level, Metadata, Recorder, Unit, with_recorder};

use super::table::{Metric, MetricKind};

/// For recorders that filter by the module which records.
const METADATA: Metadata<'static> =
    Metadata::new("session_warden", Level::INFO, Some("session_warden"));

pub(super) fn describe(metric: &Metric) {
    let (name, unit) = (metric.name.into(), Unit::from_string(metric.unit));
    record(|recorder| match metric.kind {
        MetricKind::Counter => recorder.describe_counter(name, unit, metric.help.into()),
        MetricKind::Gauge => recorder.describe_gauge(name, unit, metric.help.into()),
        MetricKind::Histogram => recorder.describe_histogram(name, unit, metric.help.into()),
    });
}

pub(super) fn count(metric: &Metric, labels: Vec<Label>, more: u64) {
    let key = Key::from_parts(metric.name, labels);
    record(|recorder| recorder.register_counter(&key, &METADATA).increment(more));
}

pub(super) fn observe(metric: &Metric, labels: Vec<Label>, value: f64) {
    let key = Key::from_parts(metric.name, labels);
    record(|recorder| recorder.register_histogram(&key, &METADATA).record(value));
}

/// Adds to a gauge of the process.
pub(super) fn add_to_gauge(name: &'static str, labels: Vec<Label>, more: f64) {
    let key = Key::from_parts(name, labels);
    record(|recorder| recorder.register_gauge(&key, &METADATA).increment(more));
}

/// Calls the recorder of the program. If its code panics, the metric is lost and nothing else: an
/// exchange must not end because of it.
fn record(call: impl FnOnce(&dyn Recorder)) {
    // The panic's message is already written.
    drop(catch_unwind(AssertUnwindSafe(|| with_recorder(call))));
}
