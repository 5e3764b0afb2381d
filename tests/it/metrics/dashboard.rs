//! The dashboard for Grafana uses only metrics and labels that there are.

use std::collections::BTreeSet;

use serde_json::Value;
use session_warden::metrics::{METRICS, Metric, MetricKind};

const DASHBOARD: &str = include_str!("../../../examples/metrics/grafana.json");

#[test]
fn each_query_of_the_dashboard_uses_metrics_and_labels_of_the_table() {
    let queries = queries(&serde_json::from_str(DASHBOARD).unwrap());
    assert!(queries.len() >= 12, "{} queries", queries.len());
    let faults: Vec<_> = queries.iter().flat_map(|query| faults(query)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_dashboard_shows_every_metric_of_the_table() {
    let queries = queries(&serde_json::from_str(DASHBOARD).unwrap()).join("\n");
    let words: BTreeSet<_> = words(&queries).filter_map(metric).map(|metric| metric.name).collect();
    let missing: Vec<_> =
        METRICS.iter().map(|metric| metric.name).filter(|name| !words.contains(name)).collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

#[test]
fn a_query_with_another_name_or_label_is_a_fault() {
    for query in [
        "session_warden_sesions",
        "sum by (tenant) (session_warden_sessions)",
        "rate(session_warden_exchanges_total_bucket[5m])",
        "session_warden_events_total{event=\"lost\", kind=\"x\"}",
    ] {
        assert_eq!(faults(query).len(), 1, "{query}");
    }
    let query = "histogram_quantile(0.5, sum by (le) \
                 (rate(session_warden_exchange_duration_seconds_bucket{provider=~\"$provider\"}[5m])))";
    assert_eq!(faults(query), [""; 0]);
}

/// All texts named `expr`, and the queries of variables.
fn queries(of: &Value) -> Vec<String> {
    match of {
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| match value.as_str() {
                Some(query) if name == "expr" || name == "query" => vec![query.to_owned()],
                _ => queries(value),
            })
            .filter(|query| query != "prometheus")
            .collect(),
        Value::Array(items) => items.iter().flat_map(queries).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// Words of PromQL and of Grafana that are no labels.
const OTHER_WORDS: &[&str] = &[
    "sum",
    "max",
    "by",
    "rate",
    "increase",
    "histogram_quantile",
    "label_values",
    "__rate_interval",
    "provider",
    "le",
];

fn faults(query: &str) -> Vec<String> {
    let (names, others): (Vec<_>, Vec<_>) =
        words(query).partition(|word| word.starts_with("session_warden_"));
    let mut labels: BTreeSet<&str> = BTreeSet::new();
    let mut faults = Vec::new();
    for name in names {
        match metric(name) {
            Some(metric) => labels.extend(metric.labels),
            None => faults.push(format!("no metric is called {name}: {query}")),
        }
    }
    let strange = others.into_iter().filter(|word| {
        let is_word = word.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        is_word && !labels.contains(word) && !OTHER_WORDS.contains(word)
    });
    faults.extend(strange.map(|word| format!("{word} is no label here: {query}")));
    faults
}

/// The words outside quotation marks and ranges.
fn words(query: &str) -> impl Iterator<Item = &str> {
    let outside = query.split('"').step_by(2);
    let outside =
        outside.flat_map(|part| part.split(']')).filter_map(|part| part.split('[').next());
    outside
        .flat_map(|part| part.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')))
        .filter(|word| !word.is_empty())
}

/// The metric that a name in a query means. A histogram has three series.
fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| {
        if metric.kind != MetricKind::Histogram {
            return metric.name == name;
        }
        let rest = name.strip_prefix(metric.name);
        rest.is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest))
    })
}
