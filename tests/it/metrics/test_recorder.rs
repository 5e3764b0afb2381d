//! A recorder that keeps what was recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use parking_lot::Mutex;
use session_warden::metrics::MetricKind;

pub type Labels = BTreeMap<String, String>;

/// Keeps the metrics of the thread on which it is installed, so that tests do not disturb each
/// other: a test's runtime has one thread.
#[derive(Clone, Default)]
pub struct TestRecorder(Arc<State>);

#[derive(Default)]
struct State {
    calls: AtomicU64,
    described: Mutex<BTreeMap<String, Description>>,
    series: Mutex<BTreeMap<(String, Labels), Series>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub kind: MetricKind,
    pub unit: Option<Unit>,
    pub help: String,
}

/// One series. `values` has what a histogram got.
#[derive(Clone, Debug)]
pub struct Series {
    pub kind: MetricKind,
    pub value: f64,
    pub values: Vec<f64>,
}

/// Where one series is written.
struct Writer {
    state: Arc<State>,
    series: (String, Labels),
}

impl TestRecorder {
    /// How often the recorder was called.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(SeqCst)
    }

    pub fn descriptions(&self) -> BTreeMap<String, Description> {
        self.0.described.lock().clone()
    }

    pub fn all(&self) -> Vec<(String, Labels, Series)> {
        let series = self.0.series.lock();
        let each = series.iter();
        each.map(|((name, labels), series)| (name.clone(), labels.clone(), series.clone()))
            .collect()
    }

    pub fn names(&self) -> BTreeSet<String> {
        self.all().into_iter().map(|(name, ..)| name).collect()
    }

    /// The sum of the series that have at least these labels. The name is without the prefix.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).iter().map(|series| series.value).sum()
    }

    pub fn values(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        self.matching(name, labels).into_iter().flat_map(|series| series.values).collect()
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> Vec<Series> {
        let has = |of: &Labels| {
            labels.iter().all(|(label, value)| of.get(*label).is_some_and(|of| of == value))
        };
        let name = format!("session_warden_{name}");
        let all = self.all().into_iter();
        all.filter(|(of, labels, _)| *of == name && has(labels)).map(|(.., it)| it).collect()
    }

    fn describe(&self, name: KeyName, kind: MetricKind, unit: Option<Unit>, help: SharedString) {
        self.0.calls.fetch_add(1, SeqCst);
        let description = Description { kind, unit, help: help.into_owned() };
        self.0.described.lock().insert(name.as_str().to_owned(), description);
    }

    fn register(&self, key: &Key, kind: MetricKind) -> Arc<Writer> {
        self.0.calls.fetch_add(1, SeqCst);
        let labels = key.labels().map(|it| (it.key().to_owned(), it.value().to_owned()));
        let series = (key.name().to_owned(), labels.collect());
        let fresh = || Series { kind, value: 0.0, values: Vec::new() };
        let known = self.0.series.lock().entry(series.clone()).or_insert_with(fresh).kind;
        assert_eq!(known, kind, "{}", series.0);
        Arc::new(Writer { state: Arc::clone(&self.0), series })
    }
}

impl Writer {
    fn change(&self, change: impl FnOnce(&mut Series)) {
        change(self.state.series.lock().get_mut(&self.series).unwrap());
    }
}

impl CounterFn for Writer {
    fn increment(&self, more: u64) {
        self.change(|series| series.value += more as f64);
    }

    fn absolute(&self, _: u64) {
        panic!("a counter of two supervisors must add up");
    }
}

impl GaugeFn for Writer {
    fn increment(&self, more: f64) {
        self.change(|series| series.value += more);
    }

    fn decrement(&self, less: f64) {
        self.change(|series| series.value -= less);
    }

    fn set(&self, _: f64) {
        panic!("a gauge of two supervisors must add up");
    }
}

impl HistogramFn for Writer {
    fn record(&self, value: f64) {
        self.change(|series| series.values.push(value));
    }
}

impl Recorder for TestRecorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(name, MetricKind::Counter, unit, help);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(name, MetricKind::Gauge, unit, help);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(name, MetricKind::Histogram, unit, help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.register(key, MetricKind::Counter))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.register(key, MetricKind::Gauge))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.register(key, MetricKind::Histogram))
    }
}
