//! Many idle sessions on one file, by the system's clock: the cost of a start with a million due
//! records, the memory and disk after churn, and a schedule that three processes share. These tests
//! take minutes and print their measurements: `tests/long/fleet` runs them.
#![expect(clippy::disallowed_methods, reason = "they measure by the system's clock")]

use std::time::{Duration, Instant, SystemTime};

use futures_util::{FutureExt, StreamExt};
use session_warden::error::LostReason;
use session_warden::event::{EventKind, Events};
use session_warden::key::ProviderName;
use session_warden::policy::{Policy, ProviderLimits, RefreshPolicy, When};
use session_warden::provider::Registration;
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::Store;
use session_warden::store::sqlite::SqliteStore;
use session_warden::testing::{Faults, FaultyStore, Script, ScriptedProvider, StoreCall};
use session_warden::token::Tokens;
use session_warden::{Session, SessionKey, Supervisor};
use tempfile::TempDir;

const SECOND: Duration = Duration::from_secs(1);

struct Process {
    store: SqliteStore,
    supervisor: Supervisor,
    script: Script,
    faults: Faults,
    events: Events,
}

impl Process {
    async fn start(folder: &TempDir, provider: ScriptedProvider, when: When, most: usize) -> Self {
        let ring = KeyRing::new(1, MasterKey::from([1; 32]));
        let store = SqliteStore::builder(folder.path().join("sessions.db")).key_ring(ring);
        let store = store.open().unwrap();
        let faulty = FaultyStore::new(store.clone());
        let (faults, script) = (faulty.faults(), provider.script());
        let refresh = RefreshPolicy { when, ..RefreshPolicy::default() };
        let limits = ProviderLimits { exchanges: 64, ..ProviderLimits::default() };
        let policy = Policy { max_resident: most, events: 65_536, ..Policy::default() };
        let registration = Registration::new(provider).refresh(refresh).limits(limits);
        let builder = Supervisor::builder().store(faulty).policy(policy);
        let supervisor = builder.provider("p", registration).start().await.unwrap();
        let events = supervisor.subscribe();
        Self { store, supervisor, script, faults, events }
    }

    /// Whether no record is due.
    async fn is_done(&self) -> bool {
        let provider = ProviderName::new("p").unwrap();
        let due = self.store.due(&provider, Duration::ZERO, None, 1).await.unwrap();
        due.due.is_empty()
    }

    fn session(&self, name: &str) -> Session<ScriptedProvider> {
        let key = SessionKey::new("tenant", name).unwrap();
        self.supervisor.sessions("p").unwrap().session(key)
    }

    fn news(&mut self) -> Vec<EventKind> {
        let mut news = Vec::new();
        while let Some(Some(event)) = self.events.next().now_or_never() {
            news.push(event.kind);
        }
        news
    }
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

const MB: usize = 1_000_000;

/// How many sessions stay in the memory of a process, and how many live at one time, under churn.
const MOST: usize = 200;
const LIVE: u64 = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: see tests/long/fleet"]
async fn a_start_with_a_million_due_records_keeps_no_caller_waiting() {
    let many: usize = setting("FLEET_RECORDS", 1_000_000);
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let former = Process::start(&folder, ScriptedProvider::new(), When::OnDemand, 50_000).await;
    // They have ended when the next process starts.
    let soon = SystemTime::now() + SECOND;
    let row = |name: String, end| {
        let key = SessionKey::new("tenant", name).unwrap();
        let access = format!("access-{:0>900}", 1);
        let later = SystemTime::now() + 3600 * SECOND;
        (
            key,
            Tokens::new(())
                .with_access_token(access, Some(later))
                .with_refresh_token("refresh", Some(end)),
        )
    };
    let due = (0..many).map(|n| row(format!("idle-{n:07}"), soon));
    let live = (0..2_000).map(|n| row(format!("live-{n:04}"), soon + 86_400 * SECOND));
    let sessions = former.supervisor.sessions::<ScriptedProvider>("p").unwrap();
    let report = sessions.import(futures_util::stream::iter(due.chain(live))).await.unwrap();
    assert_eq!(report.adopted, many as u64 + 2_000);
    drop(sessions);
    assert!(former.supervisor.shutdown(10 * SECOND).await.is_clean());
    drop(former);
    println!("{many} records written in {:.0?}", begun.elapsed());
    let before = resident();
    let begun = Instant::now();
    let process = Process::start(&folder, ScriptedProvider::new(), When::OnDemand, 50_000).await;
    let (mut waits, mut most) = (Vec::new(), before);
    for number in 0..2_000 {
        let asked = Instant::now();
        process.session(&format!("live-{number:04}")).permission_token().await.unwrap();
        waits.push(asked.elapsed());
        most = most.max(resident());
        // Callers come one after the other, while the process works through what is due.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while !process.is_done().await {
        most = most.max(resident());
        // Between two samples of the memory: the process works on in real time.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    waits.sort_unstable();
    let p99 = waits[waits.len() * 99 / 100];
    println!(
        "a caller waited {:.1?} (median), {p99:.1?} (p99); {} MB more; all ends written down in {:.0?}",
        waits[waits.len() / 2],
        (most - before) / MB,
        begun.elapsed()
    );
    assert!(p99 < Duration::from_millis(50) && most - before < 300 * MB);
}

fn is_end(kind: &EventKind) -> bool {
    *kind == EventKind::Lost(LostReason::RefreshExpired)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: see tests/long/fleet"]
async fn churn_leaves_nothing_behind() {
    let time = Duration::from_secs(setting("FLEET_SECONDS", 600));
    let folder = tempfile::tempdir().unwrap();
    let provider = || ScriptedProvider::new().lifetime(4 * SECOND).refresh_lifetime(3600 * SECOND);
    let mut one = Process::start(&folder, provider(), When::Proactive, MOST).await;
    let mut other = Process::start(&folder, provider(), When::Proactive, MOST).await;
    let begun = Instant::now();
    let (mut samples, mut number) = (Vec::new(), 0_u64);
    while begun.elapsed() < time {
        for _ in 0..20 {
            number += 1;
            let name = format!("device-{number}");
            let _ = one.session(&name).establish(()).await.unwrap();
            one.session(&name).permission_token().await.unwrap();
            // What was there is used, revoked and forgotten by either process.
            let former = format!("device-{}", number.saturating_sub(LIVE));
            let by = if number % 2 == 0 { &one } else { &other };
            drop(by.session(&former).permission_token().await);
            drop(by.session(&former).revoke().await);
            drop(by.session(&former).forget().await);
        }
        // Unread events are kept.
        drop((one.news(), other.news()));
        let (a, b) = (one.supervisor.snapshot(), other.supervisor.snapshot());
        samples.push([resident(), a.sessions + b.sessions, a.scheduled + b.scheduled]);
        // The rate at which sessions come and go, so that both processes keep up with it.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let third = samples.len() / 3;
    let mean = |part: usize, of: usize| {
        let part = &samples[part * third..(part + 1) * third];
        part.iter().map(|sample| sample[of] as f64).sum::<f64>() / part.len() as f64
    };
    for (of, name) in ["resident bytes", "slots", "schedule entries"].into_iter().enumerate() {
        let thirds = [mean(0, of), mean(1, of), mean(2, of)];
        println!("{name}: {thirds:.0?}, last to middle {:.3}", thirds[2] / thirds[1]);
    }
    println!("{number} sessions came and went in {:.0?}", begun.elapsed());
    let highest = |of: usize| samples.iter().map(|sample| sample[of]).max().unwrap();
    // Those that came since the last pass over all are above the bound.
    assert!(highest(1) <= 3 * MOST, "{} slots", highest(1));
    assert!(highest(2) <= 3 * usize::try_from(LIVE).unwrap(), "{} entries", highest(2));
    // The allocator takes some minutes to settle.
    let settled = time >= 300 * SECOND;
    assert!(!settled || mean(2, 0) / mean(1, 0) < 1.03);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: see tests/long/fleet"]
async fn three_processes_on_a_file_share_the_schedule() {
    let many: usize = setting("FLEET_SHARED", 3_000);
    let folder = tempfile::tempdir().unwrap();
    let provider = || ScriptedProvider::new().lifetime(40 * SECOND).refresh_lifetime(150 * SECOND);
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(Process::start(&folder, provider(), When::Proactive, 50_000).await);
    }
    // The processes run by the system's clock. Until each knows the others.
    tokio::time::sleep(35 * SECOND).await;
    for number in 0..many {
        let _ = all[number % 3].session(&format!("device-{number}")).establish(()).await.unwrap();
    }
    let claims = |all: &[Process]| -> u64 {
        all.iter().map(|process| process.faults.count(StoreCall::Claim)).sum()
    };
    let before = claims(&all);
    // The schedule refreshes by the system's clock: three lifetimes.
    tokio::time::sleep(120 * SECOND).await;
    let (claimed, refreshed) = (claims(&all) - before, refreshes(&all));
    let refused = claimed.saturating_sub(refreshed);
    println!("{claimed} claims, {refreshed} refreshes, {refused} refused");
    assert!(refreshed > many as u64 && refused * 50 <= claimed);
    // Nothing refreshes them any more.
    for process in &all {
        for _ in 0..100_000 {
            process.script.refresh(session_warden::testing::Reply::Fail(
                session_warden::provider::FailureClass::NotSent,
            ));
        }
    }
    let (mut announced, mut lost) = (0, 0);
    for _ in 0..240 {
        for process in &mut all {
            for kind in process.news() {
                announced += usize::from(matches!(kind, EventKind::RefreshExpiring { .. }));
                lost += usize::from(is_end(&kind));
            }
        }
        // The ends come by the system's clock.
        tokio::time::sleep(SECOND).await;
    }
    println!("{announced} announced and {lost} ended, of {many}");
    assert_eq!(lost, many, "each end is told once");
}

fn refreshes(all: &[Process]) -> u64 {
    all.iter().map(|process| process.script.refreshes()).sum()
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
