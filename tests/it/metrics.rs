//! Metrics. Each test has a recorder for its own thread, on which its whole runtime runs. So the
//! tests need no recorder that is global to the process.

mod dashboard;
mod test_recorder;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metrics::{Key, Metadata, Recorder, Unit, set_default_local_recorder};
use session_warden::error::Refusal;
use session_warden::metrics::{METRICS, Metric, MetricKind, Metrics};
use session_warden::policy::{HEALTH_COUNT_EVERY, LOG_BURST, METRICS_EVERY, Policy};
use session_warden::provider::FailureClass;
use session_warden::session::Adopt;
use session_warden::store::MemoryStore;
use session_warden::supervisor::SupervisorBuilder;
use session_warden::testing::{Faults, ManualClock, Reply, ScriptedProvider, StoreCall};
use session_warden::token::Tokens;
use session_warden::{ErrorKind, SessionKey};

use self::test_recorder::TestRecorder;
use crate::fixtures::{Fixture, ScriptedFixture};
use crate::support::{LIFE, SECOND, key, session};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A process with metrics, and a session that was never established.
async fn measured(metrics: Metrics) -> ScriptedFixture {
    measured_at(&ManualClock::new(), metrics).await
}

async fn measured_at(clock: &ManualClock, metrics: Metrics) -> ScriptedFixture {
    let provider: ScriptedProvider = ScriptedProvider::new().lifetime(LIFE);
    let script = provider.script();
    let set = |builder: SupervisorBuilder, _: &Faults| builder.metrics(metrics);
    let store = MemoryStore::new();
    let fixture = Fixture::start_at_with("p", provider, (&store, clock), set).await;
    ScriptedFixture { fixture, script }
}

/// The same, with an access token that has expired.
async fn expired() -> ScriptedFixture {
    let fixture = measured(Metrics::new()).await;
    let _ = fixture.session.establish(()).await.unwrap();
    fixture.clock.advance(LIFE + SECOND).await;
    fixture
}

/// Lets the next sample be taken.
async fn sample(fixture: &ScriptedFixture) {
    fixture.clock.advance(METRICS_EVERY + SECOND).await;
}

/// Refreshes the session so that the refresh fails in this way.
async fn failed_refresh(fixture: &ScriptedFixture, class: FailureClass) {
    fixture.script.refresh(Reply::Fail(class));
    let _ = fixture.until(fixture.session.refresh()).await.unwrap_err();
}

/// Uses each part of the crate that is measured.
async fn everything() {
    for class in [
        FailureClass::NotSent,
        FailureClass::NotProcessed,
        FailureClass::Throttled,
        FailureClass::Ambiguous,
        FailureClass::Rejected,
        FailureClass::Unclassified,
        FailureClass::Misconfigured,
        FailureClass::InvalidClient,
    ] {
        failed_refresh(&expired().await, class).await;
    }
    let fixture = expired().await;
    crash_all_actors(&fixture).await;
    lose_sessions(&fixture, 8).await;
    fixture.faults.fail_next(StoreCall::Claim, 1);
    let _ = fixture.until(fixture.session.refresh()).await.unwrap_err();
    // Until the token has expired, so that callers must wait for another one.
    fixture.clock.advance(LIFE + SECOND).await;
    let refreshing = fixture.held_refresh().await;
    let callers = fixture.callers(3).await;
    fixture.script.release();
    fixture.until(refreshing).await.unwrap().unwrap();
    fixture.until(callers.join_all()).await;
    fixture.until(fixture.session.revoke()).await.unwrap();
    sample(&fixture).await;
}

/// Crashes the session's actor and then the supervisor's during a refresh.
async fn crash_all_actors(fixture: &ScriptedFixture) {
    let refreshing = fixture.held_refresh().await;
    assert!(fixture.chaos().kill_session(fixture.session.id()));
    fixture.clock.advance(SECOND).await;
    assert!(fixture.chaos().kill_supervisor());
    fixture.clock.advance(10 * SECOND).await;
    fixture.script.release();
    fixture.until(refreshing).await.unwrap().unwrap();
}

/// Loses so many sessions, each with a line in the log.
async fn lose_sessions(fixture: &ScriptedFixture, many: usize) {
    let sessions = fixture.supervisor.sessions::<ScriptedProvider>("p").unwrap();
    for number in 0..many {
        let session = sessions.session(key(&number.to_string()));
        let _ = session.establish(()).await.unwrap();
        fixture.script.refresh(Reply::Fail(FailureClass::Rejected));
        session.refresh().await.unwrap_err();
    }
}

#[tokio::test]
async fn everything_that_is_recorded_is_in_the_table_and_everything_in_the_table_is_recorded() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    everything().await;

    let table: BTreeMap<_, _> = METRICS.iter().map(|metric| (metric.name, metric)).collect();
    for (name, labels, series) in recorder.all() {
        let metric = table[&*name];
        assert_eq!(series.kind, metric.kind, "{name}");
        let named: BTreeSet<_> = labels.keys().map(String::as_str).collect();
        assert_eq!(named, metric.labels.iter().copied().collect(), "{name}");
    }
    let recorded = recorder.names();
    let missing: Vec<_> = table.keys().filter(|name| !recorded.contains(**name)).collect();
    assert!(missing.is_empty(), "nothing has recorded {missing:?}");
}

#[tokio::test]
async fn a_poll_that_waits_for_the_user_is_pending_and_no_failure() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    let fixture = measured(Metrics::new()).await;
    fixture.script.establish(Reply::Fail(FailureClass::Refused(Refusal::LoginPending)));
    let pending = fixture.session.establish(()).await.unwrap_err();
    assert_eq!(pending.kind(), ErrorKind::Refused(Refusal::LoginPending));
    fixture.script.establish(Reply::Fail(FailureClass::Refused(Refusal::NotPermitted)));
    let _ = fixture.session.establish(()).await.unwrap_err();
    for outcome in ["pending", "refused"] {
        let labels = [("kind", "establish"), ("outcome", outcome)];
        assert_eq!(recorder.sum("exchanges_total", &labels), 1.0, "{outcome}");
    }
}

#[tokio::test]
async fn each_metric_is_described_with_its_kind_and_unit() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    let _fixture = measured(Metrics::new()).await;
    let described = recorder.descriptions();
    assert_eq!(described.len(), METRICS.len());
    for Metric { name, kind, unit, help, .. } in METRICS {
        let description = &described[*name];
        assert!(name.starts_with("session_warden_"), "{name}");
        assert_eq!((description.kind, description.help.as_str()), (*kind, *help), "{name}");
        let expected = match *unit {
            "count" => Unit::Count,
            "seconds" => Unit::Seconds,
            unit => panic!("{name}: {unit}"),
        };
        assert_eq!(description.unit, Some(expected), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
        assert_eq!(name.ends_with("_seconds"), *unit == "seconds", "{name}");
    }
}

#[tokio::test]
async fn an_exchange_is_counted_by_kind_and_outcome_and_timed_if_a_request_was_sent() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    let fixture = expired().await;
    let exchanges = |kind, outcome| {
        let labels = [("provider", "p"), ("kind", kind), ("outcome", outcome)];
        recorder.sum("exchanges_total", &labels)
    };
    assert_eq!(exchanges("establish", "success"), 1.0);
    fixture.token().await.unwrap();
    assert_eq!(exchanges("refresh", "success"), 1.0);

    fixture.script.refresh(Reply::Hold);
    let session = fixture.session.clone();
    let refreshing = tokio::spawn(async move { session.refresh().await });
    fixture.script.held(1).await;
    fixture.clock.advance(2 * SECOND).await;
    fixture.script.release();
    fixture.until(refreshing).await.unwrap().unwrap();
    assert_eq!(exchanges("refresh", "success"), 2.0);
    let took = recorder.values("exchange_duration_seconds", &[("kind", "refresh")]);
    assert!(took.len() == 2 && took[0] < 0.1 && (2.0..2.1).contains(&took[1]), "{took:?}");

    failed_refresh(&fixture, FailureClass::NotProcessed).await;
    assert_eq!(exchanges("refresh", "not_processed"), 1.0);
    fixture.clock.advance(3600 * SECOND).await;
    fixture.faults.fail_next(StoreCall::Claim, 1);
    assert_eq!(
        fixture.until(fixture.session.refresh()).await.unwrap_err().kind(),
        ErrorKind::Store
    );
    assert_eq!(exchanges("refresh", "store"), 1.0);
    let took = recorder.values("exchange_duration_seconds", &[("kind", "refresh")]);
    assert_eq!(took.len(), 3, "nothing was sent without a claim");

    fixture.until(fixture.session.revoke()).await.unwrap();
    assert_eq!(exchanges("revoke", "success"), 1.0);
}

#[test]
fn an_exchange_whose_runtime_ends_is_counted_as_aborted() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let fixture = measured(Metrics::new()).await;
        fixture.script.establish(Reply::Hang);
        let session = fixture.session.clone();
        drop(tokio::spawn(async move { session.establish(()).await.map(drop) }));
        fixture.script.held(1).await;
    });
    drop(runtime);
    assert_eq!(recorder.sum("exchanges_total", &[("outcome", "aborted")]), 1.0);
    assert_eq!(recorder.sum("waiters", &[]), 0.0);
}

#[tokio::test]
async fn callers_that_wait_are_counted_until_they_have_their_token_or_are_dropped() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    let fixture = expired().await;
    let refreshing = fixture.held_refresh().await;
    let mut callers = fixture.callers(4).await;
    assert_eq!(recorder.sum("waiters", &[("provider", "p")]), 5.0);
    assert_eq!(recorder.sum("joined_callers_total", &[("provider", "p")]), 4.0);
    callers.abort_all();
    while callers.join_next().await.is_some() {}
    assert_eq!(recorder.sum("waiters", &[]), 1.0);
    fixture.script.release();
    fixture.until(refreshing).await.unwrap().unwrap();
    assert_eq!(recorder.sum("waiters", &[]), 0.0);
}

#[tokio::test]
async fn a_valid_token_from_memory_records_nothing() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    let fixture = measured(Metrics::new().tenant_label(8)).await;
    let _ = fixture.session.establish(()).await.unwrap();
    fixture.clock.advance(Duration::ZERO).await;
    let before = recorder.calls();
    assert!(before > METRICS.len() as u64);
    let by_key = || fixture.supervisor.session("p", key("device")).unwrap();
    for _ in 0..100 {
        assert!(fixture.session.with_token(|_| ()).is_some());
        assert!(fixture.session.try_permission_token().is_some());
        fixture.session.permission_token().await.unwrap();
        assert!(by_key().with_token(|_| ()).is_some());
        by_key().permission_token().await.unwrap();
    }
    assert_eq!(recorder.calls(), before);
}

#[tokio::test]
async fn without_the_setting_nothing_is_recorded() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    let fixture = ScriptedFixture::expired().await;
    fixture.token().await.unwrap();
    sample(&fixture).await;
    assert_eq!(recorder.calls(), 0);
}

#[tokio::test]
async fn the_store_is_counted_and_timed_by_statement() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    let fixture = expired().await;
    let statements = |statement, outcome| {
        let labels = [("statement", statement), ("outcome", outcome)];
        recorder.sum("store_statements_total", &labels)
    };
    assert_eq!((statements("claim", "done"), statements("commit", "done")), (1.0, 1.0));
    fixture.faults.fail_next(StoreCall::Claim, 1);
    fixture.token().await.unwrap_err();
    assert_eq!(statements("claim", "unavailable"), 1.0);

    fixture.clock.advance(3600 * SECOND).await;
    fixture.faults.hold(StoreCall::Claim);
    fixture.token().await.unwrap_err();
    assert_eq!(statements("claim", "no_answer"), 1.0, "the caller did not wait for the store");
    let took = recorder.values("store_statement_duration_seconds", &[("statement", "claim")]);
    let waited = Policy::default().store_timeout.as_secs_f64();
    assert!((waited..waited + 0.1).contains(&took[2]), "{took:?}");
    fixture.faults.release(StoreCall::Claim);
    assert!(
        recorder.values("store_statement_duration_seconds", &[("statement", "changes")]).is_empty()
    );
    assert!(statements("changes", "done") > 0.0);
}

#[tokio::test]
async fn crashes_events_and_left_out_log_lines_are_counted() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    let fixture = expired().await;
    let restarts = |actor| recorder.sum("actor_restarts_total", &[("actor", actor)]);
    assert_eq!((restarts("session"), restarts("supervisor")), (0.0, 0.0));
    crash_all_actors(&fixture).await;
    assert_eq!((restarts("session"), restarts("supervisor")), (1.0, 1.0));

    let events =
        |provider, event| recorder.sum("events_total", &[("provider", provider), ("event", event)]);
    assert_eq!((events("p", "established"), events("p", "refreshed")), (1.0, 1.0));
    assert_eq!((events("p", "actor_restarted"), events("", "supervisor_restarted")), (1.0, 1.0));

    assert_eq!(recorder.sum("log_lines_suppressed_total", &[]), 0.0);
    let burst = usize::try_from(LOG_BURST).unwrap();
    lose_sessions(&fixture, burst + 3).await;
    assert_eq!(recorder.sum("log_lines_suppressed_total", &[]), 3.0);
}

#[tokio::test]
async fn the_gauges_of_a_provider_follow_within_seconds() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    let fixture = expired().await;
    sample(&fixture).await;
    let gauge = |name| recorder.sum(name, &[("provider", "p")]);
    let in_condition = |condition| {
        recorder.sum("provider_condition", &[("provider", "p"), ("condition", condition)])
    };
    assert_eq!((gauge("sessions_in_memory"), gauge("unsaved_credentials")), (1.0, 0.0));
    assert_eq!((in_condition("working"), gauge("provider_condition")), (1.0, 1.0));

    fixture.faults.fail_always(StoreCall::Commit, true);
    fixture.token().await.unwrap();
    sample(&fixture).await;
    assert_eq!(gauge("unsaved_credentials"), 1.0);
    fixture.faults.fail_always(StoreCall::Commit, false);
    fixture.clock.advance(120 * SECOND).await;
    assert_eq!(gauge("unsaved_credentials"), 0.0);

    failed_refresh(&fixture, FailureClass::Throttled).await;
    sample(&fixture).await;
    assert_eq!((in_condition("working"), in_condition("throttled")), (0.0, 1.0));
}

#[tokio::test]
async fn the_sessions_in_the_store_are_counted_by_state_and_by_the_end_of_their_refresh_token() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    let fixture = measured(Metrics::new()).await;
    for (name, days) in [("day", 1), ("week", 7), ("month", 30), ("later", 31)] {
        let tokens =
            Tokens::new(()).with_refresh_token("refresh", Some(fixture.wall() + days * DAY));
        session(&fixture.supervisor, name).adopt(tokens, Adopt::IfVacant).await.unwrap();
    }
    lose_sessions(&fixture, 2).await;
    fixture.clock.advance(HEALTH_COUNT_EVERY + SECOND).await;
    let in_state = |state| recorder.sum("sessions", &[("provider", "p"), ("state", state)]);
    let ending =
        |within| recorder.sum("refresh_tokens_ending", &[("provider", "p"), ("within", within)]);
    assert_eq!((in_state("active"), in_state("lost"), in_state("closed")), (4.0, 2.0, 0.0));
    assert_eq!((ending("1d"), ending("7d"), ending("30d")), (1.0, 2.0, 3.0));

    session(&fixture.supervisor, "day").revoke().await.unwrap();
    fixture.clock.advance(HEALTH_COUNT_EVERY + SECOND).await;
    assert_eq!((in_state("active"), in_state("lost"), in_state("closed")), (3.0, 2.0, 1.0));
    assert_eq!((ending("1d"), ending("7d"), ending("30d")), (0.0, 1.0, 2.0));
}

#[tokio::test]
async fn forgotten_credentials_are_not_counted_as_unsaved() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    let fixture = expired().await;
    fixture.faults.fail_always(StoreCall::Commit, true);
    fixture.token().await.unwrap();
    sample(&fixture).await;
    assert_eq!(recorder.sum("unsaved_credentials", &[]), 1.0);
    fixture.until(fixture.session.forget()).await.unwrap();
    sample(&fixture).await;
    assert_eq!(recorder.sum("unsaved_credentials", &[]), 0.0);
}

#[tokio::test]
async fn two_supervisors_of_one_process_add_up_and_take_their_part_of_the_gauges_with_them() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    let clock = ManualClock::new();
    let (one, other) =
        (measured_at(&clock, Metrics::new()).await, measured_at(&clock, Metrics::new()).await);
    let _ = one.session.establish(()).await.unwrap();
    let _ = other.session.establish(()).await.unwrap();
    sample(&one).await;
    assert_eq!(recorder.sum("exchanges_total", &[]), 2.0);
    assert_eq!(recorder.sum("sessions_in_memory", &[("provider", "p")]), 2.0);
    assert_eq!(recorder.sum("provider_condition", &[("condition", "working")]), 2.0);
    drop(other);
    clock.advance(60 * SECOND).await;
    assert_eq!(recorder.sum("sessions_in_memory", &[("provider", "p")]), 1.0);
    assert_eq!(recorder.sum("provider_condition", &[("condition", "working")]), 1.0);
}

#[tokio::test]
async fn tenants_beyond_the_bound_are_counted_together() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    let fixture = measured(Metrics::new().tenant_label(2)).await;
    let sessions = fixture.supervisor.sessions::<ScriptedProvider>("p").unwrap();
    for tenant in ["north", "south", "east", "west", "north"] {
        let session = sessions.session(SessionKey::new(tenant, "device").unwrap());
        let _ = session.establish(()).await.unwrap();
    }
    let of = |tenant| recorder.sum("exchanges_total", &[("tenant", tenant)]);
    assert_eq!((of("north"), of("south"), of("other")), (2.0, 1.0, 2.0));
    for (name, labels, _) in recorder.all() {
        let metric = METRICS.iter().find(|metric| metric.name == name).unwrap();
        assert_eq!(labels.contains_key("tenant"), metric.by_tenant, "{name}");
    }
}

#[tokio::test]
async fn no_label_has_a_secret_or_the_id_of_a_token() {
    let recorder = TestRecorder::default();
    let _installed = set_default_local_recorder(&recorder);
    everything().await;
    for (name, labels, _) in recorder.all() {
        for (label, value) in labels {
            let is_word = value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            assert!(is_word && value.len() < 32, "{name}: {label}={value}");
            for canary in ["access-", "refresh-", "device"] {
                assert!(!value.contains(canary), "{name}: {label}={value}");
            }
        }
    }
}

/// A recorder whose code panics.
struct Panicking;

impl Recorder for Panicking {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<Unit>, _: metrics::SharedString) {
        panic!("describe");
    }

    fn describe_gauge(&self, _: metrics::KeyName, _: Option<Unit>, _: metrics::SharedString) {
        panic!("describe");
    }

    fn describe_histogram(&self, _: metrics::KeyName, _: Option<Unit>, _: metrics::SharedString) {
        panic!("describe");
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> metrics::Counter {
        panic!("counter");
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> metrics::Gauge {
        panic!("gauge");
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        panic!("histogram");
    }
}

#[tokio::test]
async fn a_recorder_that_panics_disturbs_no_session() {
    let _installed = set_default_local_recorder(&Panicking);
    let fixture = expired().await;
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-2");
    sample(&fixture).await;
    assert!(fixture.supervisor.shutdown(SECOND).await.is_clean());
}

#[test]
fn the_chapter_on_metrics_has_the_table() {
    let chapter = include_str!("../../src/guide/metrics.md");
    let rows: Vec<_> =
        chapter.lines().filter(|line| line.starts_with("| `session_warden_")).collect();
    let expected: Vec<_> = METRICS.iter().map(row).collect();
    assert_eq!(rows, expected);
}

/// The row of the chapter about a metric.
fn row(metric: &Metric) -> String {
    let Metric { name, kind, unit, labels, by_tenant, help, .. } = metric;
    let tenant = by_tenant.then_some(&"tenant");
    let labels: Vec<_> = labels.iter().chain(tenant).map(|label| format!("`{label}`")).collect();
    let (kind, labels) = (kind.name(), labels.join(", "));
    format!("| `{name}` | {kind} | {unit} | {labels} | {help} |").replace("|  |", "| |")
}
