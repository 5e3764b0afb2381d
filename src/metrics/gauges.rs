//! The gauges of one supervisor.

use std::collections::HashMap;

use metrics::Label;
use parking_lot::Mutex;

use super::recorder_calls::add_to_gauge;
use super::table::Metric;

/// The part that one supervisor has of each gauge. A gauge belongs to the process, so a supervisor
/// only adds to it and takes away from it. When the supervisor ends, this takes its part away.
#[derive(Default)]
pub(super) struct Gauges(Mutex<HashMap<Series, f64>>);

/// The name of a metric, with labels.
type Series = (&'static str, Vec<Label>);

impl Gauges {
    /// Makes this supervisor's part `value`.
    pub(super) fn set(&self, metric: &Metric, labels: Vec<Label>, value: f64) {
        self.change(metric, labels, |_| value);
    }

    pub(super) fn add(&self, metric: &Metric, labels: Vec<Label>, more: f64) {
        self.change(metric, labels, |part| part + more);
    }

    /// Records each gauge again without a change: an exporter may drop a series that nothing
    /// records.
    pub(super) fn keep_alive(&self) {
        let all: Vec<_> = self.0.lock().keys().cloned().collect();
        all.into_iter().for_each(|(name, labels)| add_to_gauge(name, labels, 0.0));
    }

    fn change(&self, metric: &Metric, labels: Vec<Label>, to: impl FnOnce(f64) -> f64) {
        let mut parts = self.0.lock();
        let part = parts.entry((metric.name, labels.clone())).or_default();
        let former = *part;
        *part = to(former);
        let difference = *part - former;
        // The recorder is the program's own code.
        drop(parts);
        add_to_gauge(metric.name, labels, difference);
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        for ((name, labels), part) in self.0.get_mut().drain() {
            add_to_gauge(name, labels, -part);
        }
    }
}
