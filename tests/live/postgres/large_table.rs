//! A table with many sessions: its size, the plan of the query for due records, and what a replica
//! costs that starts on it. `tests/long/replicas` measures a
//! million.
#![expect(clippy::disallowed_methods, reason = "it measures by the system's clock")]

use std::time::{Duration, Instant, SystemTime};

use session_warden::key::ProviderName;
use session_warden::policy::{RefreshPolicy, When};
use session_warden::provider::Registration;
use session_warden::seal::KeyRing;
use session_warden::store::Store;
use session_warden::store::postgres::PostgresStore;
use session_warden::testing::ScriptedProvider;
use session_warden::token::Tokens;
use session_warden::{SessionKey, Supervisor};

use super::store_suite::KEYS;
use crate::postgres_cluster::PostgresCluster;

const HOUR: Duration = Duration::from_secs(3600);

/// The default of `REPLICAS_RECORDS`, which a test can afford.
const FEW: usize = 20_000;

/// How many due records a page has, as in a supervisor.
const PAGE: usize = 256;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_query_for_due_records_reads_an_index_alone_however_many_sessions_there_are() {
    let many = std::env::var("REPLICAS_RECORDS").ok().and_then(|of| of.parse().ok());
    let many: usize = many.unwrap_or(FEW);
    let settings = [
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
        ("auto_explain.log_buffers", "on"),
    ];
    let plain = PostgresCluster::start().await;
    let url = plain.new_database().await;
    let begun = Instant::now();
    fill(&url, many).await;
    println!("{many} records written in {:.0?}", begun.elapsed());
    for command in ["VACUUM ANALYZE session_warden.session", "CHECKPOINT"] {
        plain.sql(&url, command).await;
    }
    print_sizes(&plain, &url, many).await;

    let before = resident();
    let begun = Instant::now();
    let supervisor = start(&url).await;
    let session = supervisor.sessions::<ScriptedProvider>("p").expect("registered");
    let session = session.session(SessionKey::new("tenant", "device-0000007").expect("a key"));
    let token = session.permission_token().await.expect("a token");
    assert_eq!(token.generation(), 1);
    println!(
        "a replica starts and serves its first token in {:.0?}, with {} KB more memory",
        begun.elapsed(),
        resident().saturating_sub(before) / 1024
    );
    assert!(supervisor.shutdown(10 * Duration::from_secs(1)).await.is_clean());

    let set: String = settings
        .iter()
        .map(|(name, value)| format!("ALTER ROLE service SET {name} = '{value}';"))
        .collect();
    plain.sql(&url, &set).await;
    let store = open(&url).await;
    let provider = ProviderName::new("p").expect("a name");
    let begun = Instant::now();
    let page = store.due(&provider, 100 * HOUR, None, PAGE).await.expect("a page");
    println!("a page of {} due records takes {:.1?}", page.due.len(), begun.elapsed());
    assert_eq!(page.due.len(), PAGE, "all sessions are due within that time");
    let log = plain.log();
    let at = log.rfind("session_due").unwrap_or_else(|| panic!("no plan with the index: {log}"));
    let plan = &log[log[..at].rfind("Query Text").unwrap_or(0)..];
    let plan: Vec<_> = plan.lines().filter(|line| line.contains("cost=")).collect();
    println!("the plan:\n{}", plan.join("\n"));
    assert!(!plan.iter().any(|line| line.contains("Seq Scan on session")), "{plan:#?}");
}

async fn open(url: &str) -> PostgresStore {
    let keys = KeyRing::parse(KEYS).expect("a key ring");
    PostgresStore::builder(url).key_ring(keys).open().await.expect("the store opens")
}

async fn start(url: &str) -> Supervisor {
    let refresh = RefreshPolicy { when: When::OnDemand, ..RefreshPolicy::default() };
    let registration = Registration::new(ScriptedProvider::new()).refresh(refresh);
    let builder = Supervisor::builder().store(open(url).await).provider("p", registration);
    builder.start().await.expect("a supervisor")
}

/// Sessions with 1,100 bytes of tokens.
async fn fill(url: &str, many: usize) {
    let supervisor = start(url).await;
    let now = SystemTime::now();
    let tokens = (0..many).map(|number| {
        let key = SessionKey::new("tenant", format!("device-{number:07}")).expect("a key");
        let end = if number % 100 == 0 { now + Duration::from_secs(30) } else { now + 72 * HOUR };
        let tokens = Tokens::new(())
            .with_access_token(format!("access-{:0>900}", number), Some(now + HOUR))
            .with_refresh_token(format!("refresh-{:0>190}", number), Some(end));
        (key, tokens)
    });
    let sessions = supervisor.sessions::<ScriptedProvider>("p").expect("registered");
    let report = sessions.import(futures_util::stream::iter(tokens)).await.expect("an import");
    assert_eq!(report.adopted, many as u64);
    drop(sessions);
    assert!(supervisor.shutdown(10 * Duration::from_secs(1)).await.is_clean());
}

async fn print_sizes(cluster: &PostgresCluster, url: &str, many: usize) {
    let sizes = "SELECT pg_table_size('session_warden.session'),
        pg_relation_size('session_warden.session_pkey'),
        pg_relation_size('session_warden.session_due'),
        pg_total_relation_size('session_warden.change')";
    let sizes = cluster.sql(url, sizes).await.remove(0);
    let names = ["the rows", "the primary key", "the index of due times", "the changes"];
    for (name, size) in names.iter().zip(sizes) {
        let size: usize = size.and_then(|size| size.parse().ok()).expect("a size");
        println!("{name}: {} MB, {} bytes per session", size / 1_000_000, size / many);
    }
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
}
