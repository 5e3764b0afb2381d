//! What `Supervisor::health` says of the servers and of the sessions.

use std::time::Duration;

use futures_util::{FutureExt, stream};
use serde_json::{Value, json};
use session_warden::clock::Clock;
use session_warden::health::{Condition, Health, HoldReason, SessionCounts};
use session_warden::key::Tenant;
use session_warden::policy::{
    COUNT_PAGE, COUNT_PAUSE, HEALTH_COUNT_EVERY, HEALTH_TENANTS, LIST_PAGE, Policy, ProviderLimits,
};
use session_warden::provider::{FailureClass, Registration};
use session_warden::session::Adopt;
use session_warden::store::MemoryStore;
use session_warden::testing::{
    FaultyStore, ManualClock, Reply, Script, ScriptedProvider, StoreCall,
};
use session_warden::token::Tokens;
use session_warden::{SessionKey, Sessions, Supervisor};

use crate::fixtures::{ScriptedFixture, established, fixture, fixture_of};
use crate::support::{LIFE, SECOND, session, until};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The counts of all sessions.
fn counted(health: &Health) -> SessionCounts {
    health.counted.as_ref().unwrap().sessions
}

#[tokio::test]
async fn the_names_and_forms_of_the_health_as_json_stay_the_same() {
    let fixture = established().await;
    let another = session(&fixture.supervisor, "another");
    let _ = another.establish(()).await.unwrap();
    fixture.clock.advance(SECOND).await;
    fixture.script.refresh(Reply::Fail(FailureClass::Rejected));
    another.refresh().await.unwrap_err();
    fixture.script.refresh(Reply::FailFor(FailureClass::Throttled, 90 * SECOND));
    fixture.session.refresh().await.unwrap_err();
    let sessions = json!({
        "total": 2,
        "states": {
            "establishing": 0, "challenged": 0, "active": 1, "refreshing": 0, "in_doubt": 0,
            "lost": 1, "closed": 0,
        },
        "lost": {
            "refresh_expired": 0, "rejected": 1, "unclassified": 0, "revoked": 0,
            "lost_in_doubt": 0, "tokens_deleted": 0, "session_deleted": 0, "unreadable": 0,
        },
        "backing_off": 1,
        "unsaved": 0,
        "refresh_tokens_end": {"within_1_day": 0, "within_7_days": 0, "within_30_days": 0},
    });
    let expected = json!({
        "at": "2025-01-01T00:00:01.000Z",
        "providers": [{
            "provider": "p",
            "tenant": null,
            "condition": "throttled",
            "since": "2025-01-01T00:00:01.000Z",
            "last_success": "2025-01-01T00:00:00.000Z",
            "last_failure": {
                "at": "2025-01-01T00:00:01.000Z",
                "class": "throttled",
                "status": null,
                "code": null,
                "text": "try again later: no token at present",
            },
            "consecutive_failures": 2,
            "in_flight": 0,
            "queued": 0,
            "held_back_until": "2025-01-01T00:01:31.000Z",
            "held_back_by": "throttled",
            "sessions_in_memory": 2,
        }],
        "tenants_left_out": 0,
        "counted": {
            "at": "2025-01-01T00:00:01.000Z",
            "age_seconds": 0,
            "sessions": sessions,
            "providers": [{"provider": "p", "tenant": null, "sessions": sessions}],
        },
        "count_error": null,
    });
    let health = fixture.supervisor.health().await;
    assert_eq!(serde_json::to_value(&health).unwrap(), expected);
    assert!(!health.is_healthy());
}

#[tokio::test]
async fn exchanges_that_run_and_wait_are_in_the_health() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let provider: ScriptedProvider = ScriptedProvider::new();
    let script: Script = provider.script();
    let limits = ProviderLimits { exchanges: 1, ..ProviderLimits::default() };
    let registration = Registration::new(provider).limits(limits);
    let builder = Supervisor::builder().clock(clock.clone()).store(store);
    let supervisor = builder.provider("p", registration).start().await.unwrap();
    let mut exchanges = Vec::new();
    for name in ["one", "two", "three"] {
        script.establish(Reply::Hold);
        let session = session(&supervisor, name);
        exchanges.push(tokio::spawn(async move { session.establish(()).await.map(drop) }));
    }
    script.held(1).await;
    clock.advance(Duration::ZERO).await;
    let health = supervisor.health().await;
    assert_eq!((health.providers[0].in_flight, health.providers[0].queued), (1, 2));
    assert_eq!(counted(&health).states.establishing, 1, "the others have no claim yet");
    for _ in 0..3 {
        script.release();
        clock.advance(Duration::ZERO).await;
    }
    for exchange in exchanges {
        exchange.await.unwrap().unwrap();
    }
    let health = supervisor.health().await;
    assert_eq!((health.providers[0].in_flight, health.providers[0].queued), (0, 0));
    assert_eq!(health.providers[0].condition, Condition::Working);
}

#[tokio::test]
async fn the_sessions_of_the_store_are_counted_by_what_operators_look_for() {
    let provider = ScriptedProvider::new().lifetime(LIFE);
    let fixture = fixture_of(provider, Policy::default()).await;
    let now = fixture.clock.now().wall;
    for (name, days) in [("hours", 1), ("week", 7), ("month", 30), ("later", 31)] {
        let tokens = Tokens::new(()).with_refresh_token("refresh", Some(now + days * DAY));
        session(&fixture.supervisor, name).adopt(tokens, Adopt::IfVacant).await.unwrap();
    }
    for (name, class) in [
        ("doubt", FailureClass::Ambiguous),
        ("lost", FailureClass::Rejected),
        ("failing", FailureClass::Unclassified),
    ] {
        let session = session(&fixture.supervisor, name);
        let _ = session.establish(()).await.unwrap();
        fixture.script.refresh(Reply::Fail(class));
        session.refresh().await.unwrap_err();
    }
    let closed = session(&fixture.supervisor, "closed");
    let _ = closed.establish(()).await.unwrap();
    closed.revoke().await.unwrap();
    // From memory, and from the records alone.
    let later = ScriptedFixture::start(&fixture.store, &fixture.clock).await;
    for supervisor in [&fixture.supervisor, &later.supervisor] {
        let health = supervisor.health().await;
        let SessionCounts { total, states, lost, backing_off, unsaved, .. } = counted(&health);
        assert_eq!((total, states.active, states.in_doubt, states.lost), (8, 5, 1, 1));
        assert_eq!((states.closed, lost.rejected, backing_off, unsaved), (1, 1, 2, 0));
        let ends = counted(&health).refresh_tokens_end;
        assert_eq!((ends.within_1_day, ends.within_7_days, ends.within_30_days), (1, 2, 3));
        let all = health.counted.unwrap();
        assert_eq!(all.providers.len(), 1);
        assert_eq!((&all.providers[0].tenant, all.providers[0].sessions), (&None, all.sessions));
    }
    assert_eq!(later.supervisor.snapshot().sessions, 0, "a count brings nothing into memory");
}

#[tokio::test]
async fn unsaved_credentials_are_counted() {
    let fixture = ScriptedFixture::unsaved().await;
    assert_eq!(counted(&fixture.supervisor.health().await).unsaved, 1);
}

#[tokio::test]
async fn sessions_of_a_provider_that_is_not_registered_are_only_in_the_counts_of_all() {
    let fixture = established().await;
    let builder = Supervisor::builder().clock(fixture.clock.clone()).store(fixture.store.clone());
    let provider: ScriptedProvider = ScriptedProvider::new();
    let other = builder.provider("q", provider).start().await.unwrap();
    let health = other.health().await;
    let all = health.counted.unwrap();
    assert_eq!((all.sessions.total, all.providers[0].sessions.total), (1, 0));
    assert_eq!(health.providers[0].condition, Condition::Unknown);
}

#[tokio::test]
async fn nobody_counts_before_the_first_call_and_then_the_crate_counts_once_a_minute() {
    let fixture = established().await;
    fixture.clock.advance(3 * HEALTH_COUNT_EVERY).await;
    let counts = || fixture.faults.count(StoreCall::List);
    let before = counts();
    assert_eq!(counted(&fixture.supervisor.health().await).total, 1);
    let once = counts() - before;
    let _ = session(&fixture.supervisor, "another").establish(()).await.unwrap();
    fixture.clock.advance(HEALTH_COUNT_EVERY - SECOND).await;
    let health = fixture.supervisor.health().await;
    assert_eq!((counted(&health).total, health.counted.unwrap().age_seconds), (1, 59));
    assert_eq!(counts() - before, once, "a call does not count");
    fixture.clock.advance(SECOND).await;
    let health = fixture.supervisor.health().await;
    assert_eq!((counted(&health).total, health.counted.unwrap().age_seconds), (2, 0));
    assert_eq!(counts() - before, 2 * once);
    assert!(fixture.supervisor.shutdown(SECOND).await.is_clean());
    fixture.clock.advance(3 * HEALTH_COUNT_EVERY).await;
    assert_eq!(counts() - before, 2 * once, "the count ends with the supervisor");
}

#[tokio::test]
async fn a_count_that_fails_leaves_the_former_one_with_its_age_and_the_health_says_why() {
    let fixture = established().await;
    assert_eq!(fixture.supervisor.health().await.count_error, None);
    fixture.faults.fail_always(StoreCall::List, true);
    fixture.clock.advance(2 * HEALTH_COUNT_EVERY).await;
    let health = fixture.supervisor.health().await;
    assert_eq!(health.counted.as_ref().unwrap().age_seconds, 120);
    assert!(health.count_error.unwrap().starts_with("the store failed: "));
    fixture.faults.fail_always(StoreCall::List, false);
    fixture.clock.advance(HEALTH_COUNT_EVERY).await;
    let health = fixture.supervisor.health().await;
    assert_eq!((health.counted.unwrap().age_seconds, health.count_error), (0, None));
}

#[tokio::test]
async fn the_first_call_waits_for_a_slow_store_no_longer_than_its_timeout() {
    let fixture = established().await;
    fixture.faults.hold(StoreCall::List);
    let begun = fixture.clock.now().boot;
    let health = fixture.until(fixture.supervisor.health()).await;
    let waited = fixture.clock.now().boot.since(begun);
    assert_eq!(waited, Policy::default().store_timeout);
    assert!(health.counted.is_none());
    assert_eq!(health.providers[0].condition, Condition::Working);
    fixture.clock.advance(SECOND).await;
    let health = fixture.supervisor.health().now_or_never().expect("there was a try");
    assert!(health.count_error.unwrap().contains("store_timeout"));
}

#[tokio::test]
async fn a_call_during_the_shutdown_does_not_wait_for_a_count() {
    let fixture = fixture().await;
    assert!(fixture.supervisor.shutdown(SECOND).await.is_clean());
    let health = fixture.supervisor.health().now_or_never().expect("it does not wait");
    assert!(health.counted.is_none() && health.providers.len() == 1);
}

/// A store with so many sessions of one tenant, none of them in memory.
async fn store_with(clock: &ManualClock, many: usize) -> MemoryStore {
    let store = MemoryStore::new();
    let builder = Supervisor::builder().clock(clock.clone()).store(store.clone());
    let provider: ScriptedProvider = ScriptedProvider::new();
    let supervisor = builder.provider("p", provider).start().await.unwrap();
    let sessions: Sessions<ScriptedProvider> = supervisor.sessions("p").unwrap();
    let rows = (0..many).map(|number| {
        let key = SessionKey::new("tenant", format!("device-{number:05}")).unwrap();
        (key, Tokens::new(()).with_refresh_token("refresh", None))
    });
    assert_eq!(sessions.import(stream::iter(rows)).await.unwrap().adopted, many as u64);
    assert!(supervisor.shutdown(SECOND).await.is_clean());
    store
}

#[tokio::test]
async fn a_count_of_many_sessions_pauses_between_pages_that_grow_to_the_bound() {
    let clock = ManualClock::new();
    // Pages of 256, 512 and 1,024, one more of the bound, and one row.
    let many = LIST_PAGE + 2 * LIST_PAGE + 2 * COUNT_PAGE + 1;
    let store = FaultyStore::new(store_with(&clock, many).await);
    let faults = store.faults();
    let provider: ScriptedProvider = ScriptedProvider::new();
    let builder = Supervisor::builder().clock(clock.clone()).store(store);
    let supervisor = builder.provider("p", provider).start().await.unwrap();
    clock.advance(SECOND).await;
    let (before, begun) = (faults.count(StoreCall::List), clock.now().boot);
    let health = until(&clock, supervisor.health()).await;
    assert_eq!(counted(&health).total, many as u64);
    assert_eq!(faults.count(StoreCall::List) - before, 6, "the last page is empty");
    assert_eq!(clock.now().boot.since(begun), 4 * COUNT_PAUSE);
}

/// A supervisor of which each tenant has its own client; that of the tenant `bad` is throttled.
async fn supervisor_per_tenant(clock: &ManualClock) -> Supervisor {
    let source = |tenant: Tenant| async move {
        let provider: ScriptedProvider = ScriptedProvider::new();
        if tenant.as_str() == "bad" {
            provider.script().next(Reply::FailFor(FailureClass::Throttled, 90 * SECOND));
        }
        Ok(Registration::new(provider))
    };
    let builder = Supervisor::builder().clock(clock.clone());
    builder.provider_per_tenant("p", source).start().await.unwrap()
}

#[tokio::test]
async fn each_tenant_with_its_own_client_has_its_own_health_and_its_own_counts() {
    let clock = ManualClock::new();
    let supervisor = supervisor_per_tenant(&clock).await;
    let sessions: Sessions<ScriptedProvider> = supervisor.sessions("p").unwrap();
    let of = |tenant, name| sessions.session(SessionKey::new(tenant, name).unwrap());
    let _ = of("good", "1").establish(()).await.unwrap();
    let _ = of("good", "2").establish(()).await.unwrap();
    of("bad", "1").establish(()).await.unwrap_err();
    let health = supervisor.health().await;
    let shown = |health: &Health| {
        let of = health.providers.iter().map(|provider| {
            let tenant = provider.tenant.as_ref().unwrap().as_str().to_owned();
            (tenant, provider.condition, provider.held_back_by)
        });
        of.collect::<Vec<_>>()
    };
    let expected = [
        ("bad".to_owned(), Condition::Throttled, Some(HoldReason::Throttled)),
        ("good".to_owned(), Condition::Working, None),
    ];
    assert_eq!(shown(&health), expected);
    let all = health.counted.unwrap();
    let of: Vec<_> = all.providers.iter().map(|of| (&of.tenant, of.sessions.total)).collect();
    let tenant = |name| Some(Tenant::new(name).unwrap());
    assert_eq!(of, [(&None, 2), (&tenant("bad"), 0), (&tenant("good"), 2)]);
}

#[tokio::test]
async fn of_many_tenants_those_whose_server_fails_and_those_with_most_sessions_are_reported() {
    let clock = ManualClock::new();
    let supervisor = supervisor_per_tenant(&clock).await;
    let sessions: Sessions<ScriptedProvider> = supervisor.sessions("p").unwrap();
    let mut held = Vec::new();
    for number in 0..=HEALTH_TENANTS {
        let session =
            sessions.session(SessionKey::new(format!("tenant-{number:03}"), "1").unwrap());
        let _ = session.establish(()).await.unwrap();
        held.push(session);
    }
    let big = sessions.session(SessionKey::new("tenant-256", "2").unwrap());
    let _ = big.establish(()).await.unwrap();
    let bad = sessions.session(SessionKey::new("bad", "1").unwrap());
    bad.establish(()).await.unwrap_err();
    let health = until(&clock, supervisor.health()).await;
    assert_eq!((health.providers.len(), health.tenants_left_out), (HEALTH_TENANTS, 2));
    let names: Vec<_> =
        health.providers.iter().map(|of| of.tenant.as_ref().unwrap().as_str()).collect();
    assert!(names.contains(&"bad") && names.contains(&"tenant-256"), "{names:?}");
    assert!(names.is_sorted());
    let all = health.counted.unwrap();
    assert_eq!(all.providers.len(), HEALTH_TENANTS + 1, "and the one of all tenants");
    assert_eq!(all.sessions.total, HEALTH_TENANTS as u64 + 2);
}

#[tokio::test]
async fn the_health_holds_no_time_as_a_number() {
    fn check(value: &Value, name: &str) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| check(value, name)),
            Value::Array(values) => values.iter().for_each(|value| check(value, name)),
            Value::Number(_) => assert_ne!(name, "secs_since_epoch"),
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    let fixture = established().await;
    check(&serde_json::to_value(fixture.supervisor.health().await).unwrap(), "");
}
