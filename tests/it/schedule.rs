//! The schedule announces, refreshes or removes each due session once, in one of several processes,
//! and callers do not wait for that work.
//!
//! | broken line | test that fails |
//! |---|---|
//! | `session/machine.rs` `lose_unrecorded`: `recorded = true` | `an_end_is_written_down_once…` |
//! | `supervisor/scheduler/check.rs` `TakenEntry::new`: `LeftToStore` in place of `Failed` | `a_source_or_a_store_that_fails…` |
//! | `supervisor/scheduler/wait_queue.rs` `wait_queue`: never `WaitQueue::Source` | `sources_that_hang…` |
//! | `session/schedule/entries.rs` `count_of`: failed entries count as fresh | `records_that_nobody_can_serve…` |
//! | `session/slot.rs` `arm`: also sessions that are due later than `DUE_WITHIN` | `the_schedule_keeps_no_entry…` |
//! | `supervisor/scheduler/poll.rs` `poll`: only one whole `sweep` | `what_another_process_leaves…` |
//! | `session/schedule/process_rank.rs` `delay`: always that of the first process | `of_three_processes…` |
//! | `store/decide/without_claim.rs` `lose_session`: done if the session stays lost | `where_no_process_knows…` |
//! | `store/decide/without_claim.rs` `reschedule`: any version | `where_no_process_knows…` |
//! | `supervisor/scheduler/wait_queues.rs` `permit`: the client is never closed to the schedule | `while_a_client_is_rejected…` |
//! | `client/admission/permit_lanes.rs` `new`: as many places as permits | `a_caller_does_not_wait…` |
//!
//! No single broken line lets a check be lost when its actor crashes: the entry, the slot and the
//! record each make the schedule check the session again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{FutureExt, StreamExt};
use session_warden::clock::Clock;
use session_warden::error::LostReason;
use session_warden::event::{EventKind, Events};
use session_warden::key::{ProviderName, Tenant};
use session_warden::policy::{DUE_POLL, Policy, ProviderLimits, RefreshPolicy, When};
use session_warden::provider::{FailureClass, Registration, SourceError};
use session_warden::session::Adopt;
use session_warden::store::{MemoryStore, Phase, Store};
use session_warden::testing::{
    Chaos, Faults, FaultyStore, ManualClock, Reply, Script, ScriptedProvider, StoreCall,
};
use session_warden::token::Tokens;
use session_warden::{Session, SessionKey, Supervisor};

use crate::support::{LIFE, SECOND, session, until};

/// The lifetime of refresh tokens; their expiry is announced half of that before.
const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

/// A supervisor on a store that others may share.
struct Process {
    supervisor: Supervisor,
    script: Script,
    faults: Faults,
    events: Events,
}

impl Process {
    async fn start(store: &MemoryStore, clock: &ManualClock) -> Self {
        Self::start_with(store, clock, When::OnDemand, Policy::default()).await
    }

    async fn start_with(
        store: &MemoryStore,
        clock: &ManualClock,
        when: When,
        policy: Policy,
    ) -> Self {
        Self::start_where(store, clock, (when, policy), |_| {}).await
    }

    async fn start_where(
        store: &MemoryStore,
        clock: &ManualClock,
        (when, policy): (When, Policy),
        plan: impl FnOnce(&Faults),
    ) -> Self {
        let provider = ScriptedProvider::new().lifetime(LIFE).refresh_lifetime(HOUR);
        let (script, faulty) = (provider.script(), FaultyStore::new(store.clone()));
        let faults = faulty.faults();
        plan(&faults);
        let refresh = RefreshPolicy { when, ..RefreshPolicy::default() };
        let limits = ProviderLimits { exchanges: 4, ..ProviderLimits::default() };
        let supervisor = Supervisor::builder()
            .clock(clock.clone())
            .store(faulty)
            .policy(Policy { events: 65_536, ..policy })
            .provider("p", Registration::new(provider).refresh(refresh).limits(limits))
            .start()
            .await
            .unwrap();
        let events = supervisor.subscribe();
        Self { supervisor, script, faults, events }
    }

    async fn establish(&self, names: impl Iterator<Item = usize>) {
        for number in names {
            let one = session(&self.supervisor, &format!("device-{number:05}"));
            let _ = one.establish(()).await.unwrap();
        }
    }

    async fn shut_down(self, clock: &ManualClock) {
        assert!(until(clock, self.supervisor.shutdown(SECOND)).await.is_clean());
    }

    fn news(&mut self) -> Vec<EventKind> {
        news(&mut self.events)
    }
}

fn news(events: &mut Events) -> Vec<EventKind> {
    let mut news = Vec::new();
    while let Some(Some(event)) = events.next().now_or_never() {
        news.push(event.kind);
    }
    news
}

fn announced(news: &[EventKind]) -> usize {
    news.iter().filter(|kind| matches!(kind, EventKind::RefreshExpiring { .. })).count()
}

fn lost(news: &[EventKind]) -> usize {
    let ended = EventKind::Lost(LostReason::RefreshExpired);
    news.iter().filter(|kind| **kind == ended).count()
}

async fn due(store: &MemoryStore) -> usize {
    let provider = ProviderName::new("p").unwrap();
    store.due(&provider, 1000 * HOUR, None, 10_000).await.unwrap().due.len()
}

#[tokio::test]
async fn an_end_is_written_down_once_and_wakes_nobody_after_that() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    for round in 0..3 {
        let former = Process::start(&store, &clock).await;
        former.establish(round * 50..(round + 1) * 50).await;
        former.shut_down(&clock).await;
    }
    // Their users never come back.
    clock.advance(2 * HOUR).await;
    for expected in [150, 0] {
        let policy = Policy { max_sessions: 100, ..Policy::default() };
        let mut process = Process::start_with(&store, &clock, When::OnDemand, policy).await;
        clock.advance(10 * SECOND).await;
        let news = process.news();
        assert_eq!((lost(&news), announced(&news)), (expected, 0));
        assert_eq!((due(&store).await, process.supervisor.snapshot().sessions), (0, 0));
        let record = store.load(session(&process.supervisor, "device-00000").id()).await;
        let record = record.unwrap().unwrap().record;
        assert_eq!((record.phase, record.lost), (Phase::Lost, Some(LostReason::RefreshExpired)));
        let _ = session(&process.supervisor, "a-user").establish(()).await.unwrap();
        until(&clock, session(&process.supervisor, "a-user").forget()).await.unwrap();
        process.shut_down(&clock).await;
    }
}

#[tokio::test]
async fn a_source_or_a_store_that_fails_for_a_moment_puts_off_what_is_due_by_a_moment() {
    for (when, call) in [
        (When::OnDemand, None),
        (When::OnDemand, Some(StoreCall::Load)),
        (When::OnDemand, Some(StoreCall::Reschedule)),
        (When::OnDemand, Some(StoreCall::Lose)),
        (When::OnDemand, Some(StoreCall::Due)),
        (When::Proactive, None),
        (When::Proactive, Some(StoreCall::Load)),
        (When::Proactive, Some(StoreCall::Claim)),
    ] {
        let what = format!("{when:?}, {call:?}");
        let (store, clock) = (MemoryStore::new(), ManualClock::new());
        let failures = Arc::new(AtomicU64::new(0));
        let former = of_tenants(&store, &clock, when, &failures).await;
        let _ = until(&clock, session(&former.supervisor, "device").establish(())).await.unwrap();
        former.shut_down(&clock).await;
        let mut process = of_tenants(&store, &clock, when, &failures).await;
        match call {
            Some(call) => process.faults.fail_next(call, 2),
            None => failures.store(2, Ordering::SeqCst),
        }
        clock.advance(HOUR / 2 + 20 * SECOND).await;
        let refreshed = process.supervisor.snapshot().refreshes;
        if when == When::Proactive {
            assert!(refreshed >= 2, "{what}: {refreshed}");
        } else {
            assert_eq!(announced(&process.news()), 1, "{what}");
            clock.advance(HOUR / 2 + 20 * SECOND).await;
            assert_eq!(lost(&process.news()), 1, "{what}");
        }
    }
}

/// Of which each tenant has its own provider, whose source fails so often.
async fn of_tenants(
    store: &MemoryStore,
    clock: &ManualClock,
    when: When,
    failures: &Arc<AtomicU64>,
) -> Process {
    let faulty = FaultyStore::new(store.clone());
    let (faults, failures) = (faulty.faults(), Arc::clone(failures));
    let script = ScriptedProvider::<()>::new().script();
    let source = move |_: Tenant| {
        let fails =
            failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        async move {
            if fails.is_ok() {
                return Err(SourceError::Unavailable("down".into()));
            }
            let provider = ScriptedProvider::new().lifetime(LIFE).refresh_lifetime(HOUR);
            let refresh = RefreshPolicy { when, ..RefreshPolicy::default() };
            Ok(Registration::new(provider).refresh(refresh))
        }
    };
    let builder = Supervisor::builder().clock(clock.clone()).store(faulty);
    let builder = builder.provider_per_tenant::<ScriptedProvider>("p", source);
    let supervisor = builder.start().await.unwrap();
    let events = supervisor.subscribe();
    Process { supervisor, script, faults, events }
}

#[tokio::test]
async fn sources_that_hang_hold_up_no_other_provider_and_no_tenant_that_is_known() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let hangs = Arc::new(AtomicU64::new(0));
    let start = || {
        let (store, clock, hangs) = (store.clone(), clock.clone(), Arc::clone(&hangs));
        async move {
            let source = move |tenant: Tenant| {
                let hangs = hangs.load(Ordering::SeqCst) > 0 && tenant.as_str() != "known";
                async move {
                    if hangs {
                        std::future::pending::<()>().await;
                    }
                    Ok(Registration::new(ScriptedProvider::new()))
                }
            };
            let provider: ScriptedProvider = ScriptedProvider::new();
            let builder = Supervisor::builder().clock(clock).store(store);
            let builder = builder.provider("p", provider);
            builder.provider_per_tenant::<ScriptedProvider>("crm", source).start().await.unwrap()
        }
    };
    let former = start().await;
    let end = clock.now().wall + 1000 * SECOND;
    let of = |supervisor: &Supervisor, tenant: &str| -> Session<ScriptedProvider> {
        let key = SessionKey::new(tenant, "device").unwrap();
        supervisor.sessions("crm").unwrap().session(key)
    };
    for number in 0..640 {
        let tokens = Tokens::new(()).with_refresh_token("refresh", Some(end));
        let one = of(&former, &format!("tenant-{number}"));
        until(&clock, one.adopt(tokens, Adopt::IfVacant)).await.unwrap();
    }
    let later = || Tokens::new(()).with_refresh_token("refresh", Some(end + 4 * SECOND));
    until(&clock, session(&former, "device").adopt(later(), Adopt::IfVacant)).await.unwrap();
    until(&clock, of(&former, "known").adopt(later(), Adopt::IfVacant)).await.unwrap();
    assert!(until(&clock, former.shutdown(SECOND)).await.is_clean());
    hangs.store(1, Ordering::SeqCst);
    clock.advance(400 * SECOND).await;
    let supervisor = start().await;
    let mut events = supervisor.subscribe();
    // So that its client is known.
    until(&clock, of(&supervisor, "known").status()).await.unwrap();
    clock.advance(110 * SECOND).await;
    assert_eq!(announced(&news(&mut events)), 2, "on time");
}

#[tokio::test]
async fn records_that_nobody_can_serve_do_not_hold_up_those_behind_them() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let down = Arc::new(AtomicU64::new(0));
    let start = || {
        let (store, clock, down) = (store.clone(), clock.clone(), Arc::clone(&down));
        async move {
            let source = move |tenant: Tenant| {
                let fails = down.load(Ordering::SeqCst) > 0 && tenant.as_str() != "good";
                async move {
                    if fails {
                        return Err(SourceError::UnknownTenant);
                    }
                    Ok(Registration::new(ScriptedProvider::new()))
                }
            };
            let builder = Supervisor::builder().clock(clock).store(store);
            builder.provider_per_tenant::<ScriptedProvider>("p", source).start().await.unwrap()
        }
    };
    let former = start().await;
    let end = clock.now().wall + 1000 * SECOND;
    let sessions = former.sessions::<ScriptedProvider>("p").unwrap();
    let row = |tenant: String, device: String, end| {
        let key = SessionKey::new(tenant, device).unwrap();
        (key, Tokens::new(()).with_refresh_token("refresh", Some(end)))
    };
    let gone = (0..10_000).map(|n| row(format!("gone-{}", n % 100), format!("d-{n}"), end));
    let good = (0..100).map(|n| row("good".into(), format!("d-{n}"), end + 2 * SECOND));
    let report = sessions.import(futures_util::stream::iter(gone.chain(good))).await.unwrap();
    assert_eq!(report.adopted, 10_100, "{report:?}");
    drop(sessions);
    assert!(until(&clock, former.shutdown(SECOND)).await.is_clean());
    down.store(1, Ordering::SeqCst);
    clock.advance(490 * SECOND).await;
    let supervisor = start().await;
    let mut events = supervisor.subscribe();
    // Second by second, so that the work of each is done in it.
    for _ in 0..15 {
        clock.advance(SECOND).await;
    }
    assert_eq!(announced(&news(&mut events)), 100, "they are due after 11 s");
}

#[tokio::test]
async fn the_schedule_keeps_no_entry_of_what_is_gone_or_not_due_for_long() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let process = Process::start_with(&store, &clock, When::Proactive, Policy::default()).await;
    for number in 0..200 {
        let one = session(&process.supervisor, &format!("login-{number}"));
        let _ = one.establish(()).await.unwrap();
        until(&clock, one.revoke()).await.unwrap();
        until(&clock, one.forget()).await.unwrap();
    }
    process.establish(0..200).await;
    clock.advance(SECOND).await;
    assert_eq!(process.supervisor.snapshot().scheduled, 0);
    clock.advance(LIFE * 3 / 4 - 60 * SECOND).await;
    let scheduled = process.supervisor.snapshot().scheduled;
    assert!((1..=200).contains(&scheduled), "one for each that is due soon: {scheduled}");
}

#[tokio::test]
async fn what_another_process_leaves_is_taken_up_by_those_that_started_before() {
    for when in [When::OnDemand, When::Proactive] {
        let (store, clock) = (MemoryStore::new(), ManualClock::new());
        let mut stays = Process::start_with(&store, &clock, when, Policy::default()).await;
        let goes = Process::start_with(&store, &clock, when, Policy::default()).await;
        clock.advance(SECOND).await;
        goes.establish(0..20).await;
        goes.shut_down(&clock).await;
        clock.advance(HOUR / 2 + DUE_POLL).await;
        if when == When::Proactive {
            assert!(stays.script.refreshes() >= 40, "{}", stays.script.refreshes());
        } else {
            assert_eq!(announced(&stays.news()), 20);
        }
    }
}

#[tokio::test]
async fn of_three_processes_one_announces_each_end_and_hardly_any_claim_is_refused() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(Process::start_with(&store, &clock, When::Proactive, Policy::default()).await);
    }
    clock.advance(2 * DUE_POLL).await;
    for (number, process) in all.iter().enumerate() {
        process.establish(number * 100..(number + 1) * 100).await;
    }
    let claims = |all: &[Process]| -> u64 {
        all.iter().map(|process| process.faults.count(StoreCall::Claim)).sum()
    };
    let before = claims(&all);
    // In all three memories, as after calls.
    for process in &all {
        for number in 0..300 {
            let one = session(&process.supervisor, &format!("device-{number:05}"));
            until(&clock, one.permission_token()).await.unwrap();
        }
    }
    clock.advance(HOUR).await;
    let refreshed: u64 = all.iter().map(|process| process.script.refreshes()).sum();
    let claimed = claims(&all) - before;
    assert!(refreshed >= 900, "{refreshed}");
    let refused = claimed - refreshed;
    assert!(refused * 50 <= claimed, "{refused} of {claimed}");
    // Now nothing refreshes them any more, and each end is announced and written down once.
    for process in &all {
        for _ in 0..20_000 {
            process.script.refresh(Reply::Fail(FailureClass::NotSent));
        }
    }
    clock.advance(2 * HOUR).await;
    let news: Vec<_> = all.iter_mut().flat_map(Process::news).collect();
    assert_eq!((announced(&news), lost(&news)), (300, 300));
    let busy = all.iter().filter(|process| process.script.refreshes() > 100).count();
    assert_eq!(busy, 3, "each did its share");
}

/// They then check at the same time, and do not know of each other.
#[tokio::test]
async fn where_no_process_knows_the_others_each_end_is_still_told_once() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let mut all = Vec::new();
    for _ in 0..3 {
        let how = (When::OnDemand, Policy::default());
        let unheard = |faults: &Faults| faults.fail_always(StoreCall::Presence, true);
        all.push(Process::start_where(&store, &clock, how, unheard).await);
    }
    all[0].establish(0..50).await;
    for process in &all {
        for number in 0..50 {
            let one = session(&process.supervisor, &format!("device-{number:05}"));
            until(&clock, one.permission_token()).await.unwrap();
        }
    }
    clock.advance(HOUR / 2 + DUE_POLL).await;
    let news: Vec<_> = all.iter_mut().flat_map(Process::news).collect();
    assert_eq!((announced(&news), lost(&news)), (50, 0));
    clock.advance(HOUR / 2 + DUE_POLL).await;
    let news: Vec<_> = all.iter_mut().flat_map(Process::news).collect();
    assert_eq!((announced(&news), lost(&news)), (0, 50));
}

#[tokio::test]
async fn a_look_that_dies_with_an_actor_comes_again() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let process = Process::start_with(&store, &clock, When::Proactive, Policy::default()).await;
    process.establish(0..20).await;
    let chaos = Chaos::of(&process.supervisor);
    process.faults.hold(StoreCall::Claim);
    clock.advance(LIFE * 3 / 4).await;
    for _ in 0..5 {
        let _ = chaos.kill_supervisor();
        clock.advance(5 * SECOND).await;
    }
    process.faults.release(StoreCall::Claim);
    clock.advance(LIFE / 4).await;
    assert!(process.script.refreshes() >= 20, "{}", process.script.refreshes());
}

#[tokio::test]
async fn while_a_client_is_rejected_its_probe_is_the_only_exchange() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let process = Process::start_with(&store, &clock, When::Proactive, Policy::default()).await;
    process.establish(0..2_000).await;
    for _ in 0..100 {
        process.script.refresh(Reply::Fail(FailureClass::InvalidClient));
    }
    clock.advance(LIFE).await;
    for minute in 0..5 {
        let (begun, sent) = (process.supervisor.snapshot().exchanges, process.script.refreshes());
        clock.advance(60 * SECOND).await;
        let begun = process.supervisor.snapshot().exchanges - begun;
        assert!(begun <= 4, "{begun} exchanges in minute {minute}");
        let sent = process.script.refreshes() - sent;
        assert!(sent <= 2, "{sent} requests in minute {minute}");
    }
    // When the server takes the client again, all are refreshed.
    process.script.clear();
    clock.advance(3 * 60 * SECOND).await;
    assert!(process.script.ended() >= 2_000, "{}", process.script.ended());
}

#[tokio::test]
async fn a_caller_does_not_wait_behind_sessions_that_nobody_calls_for() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let former = Process::start_with(&store, &clock, When::Proactive, Policy::default()).await;
    former.establish(0..4_000).await;
    former.shut_down(&clock).await;
    clock.advance(LIFE + SECOND).await;
    let process = Process::start_with(&store, &clock, When::Proactive, Policy::default()).await;
    for _ in 0..3 {
        process.script.refresh(Reply::Hold);
    }
    process.script.establish(Reply::Hold);
    clock.advance(SECOND).await;
    let held = || process.supervisor.snapshot().exchanging;
    assert_eq!(held(), 2, "half of four permits");
    let caller = session(&process.supervisor, "device-03999");
    let calls = tokio::spawn(async move { caller.permission_token().await });
    process.script.held(3).await;
    let user = session(&process.supervisor, "a-user");
    let signs_in = tokio::spawn(async move { user.establish(()).await });
    process.script.held(4).await;
    process.script.release();
    calls.await.unwrap().unwrap();
    let _ = signs_in.await.unwrap().unwrap();
    for _ in 0..600 {
        if process.script.refreshes() < 4_000 {
            clock.advance(SECOND).await;
        }
    }
    assert_eq!(process.script.refreshes(), 4_000);
}
