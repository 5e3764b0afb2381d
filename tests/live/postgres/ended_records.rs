//! Many records of sessions that ended long ago: what it costs to remove them, and how long a caller
//! waits meanwhile. `tests/long/retention` measures a million, in PostgreSQL and in a file.
#![expect(clippy::disallowed_methods, reason = "it measures by the system's clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use session_warden::error::LostReason;
use session_warden::key::{ProviderName, SessionId};
use session_warden::policy::{ENDED_PAGE, ENDED_PAUSE, Policy};
use session_warden::seal::KeyRing;
use session_warden::store::postgres::PostgresStore;
use session_warden::store::sqlite::SqliteStore;
use session_warden::store::{
    Attempt, ClaimId, Ends, Import, Outcome, Phase, RecordFilter, Statement, Store,
};
use session_warden::testing::ScriptedProvider;
use session_warden::token::{Credentials, Tokens};
use session_warden::{Session, SessionKey, Supervisor};

use super::store_suite::KEYS;
use crate::postgres_cluster::PostgresCluster;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The default of `RETENTION_RECORDS`, which a test can afford.
const FEW: usize = 1_000;

/// So many pages come with the pauses of a supervisor. The others follow at once.
const PACED_PAGES: usize = 120;

/// How many records are written at the same time.
const WRITTEN_AT_ONCE: usize = 256;

fn keys() -> KeyRing {
    KeyRing::parse(KEYS).expect("a key ring")
}

fn many() -> usize {
    std::env::var("RETENTION_RECORDS").ok().and_then(|of| of.parse().ok()).unwrap_or(FEW)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_records_in_postgres_go_while_a_caller_refreshes() {
    let cluster = PostgresCluster::start().await;
    let url = cluster.new_database().await;
    let open = || PostgresStore::builder(&url).key_ring(keys()).open();
    // Two stores, as two replicas have them.
    let (one, other) = (open().await.expect("a store"), open().await.expect("a store"));
    measure("PostgreSQL", one, other, &[0, ENDED_PAGE]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_records_in_a_file_go_while_a_caller_refreshes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::builder(path).key_ring(keys()).open().expect("a store");
    measure("SQLite", store.clone(), store, &[0, ENDED_PAGE]).await;
}

/// Fills the store, and removes all of it while a caller refreshes a session on `callers`.
async fn measure<S: Store>(name: &str, store: S, callers: S, pages: &[usize]) {
    let (store, many) = (Arc::new(store), many());
    let begun = Instant::now();
    fill(&*store, many).await;
    println!("{name}: {many} ended records written in {:.0?}", begun.elapsed());
    // The test removes them, not the supervisor.
    let policy = Policy { keep_ended: 3000 * DAY, ..Policy::default() };
    let builder = Supervisor::builder().key_ring(keys()).store(callers).policy(policy);
    let supervisor = builder.provider("p", ScriptedProvider::new()).start().await.expect("a start");
    let sessions = supervisor.sessions::<ScriptedProvider>("p").expect("registered");
    let session = sessions.session(SessionKey::single("of-a-caller").expect("a key"));
    let _ = session.establish(()).await.expect("a grant");
    for limit in pages {
        let stop = Arc::new(AtomicBool::new(false));
        let refreshes = tokio::spawn(refresh_until(session.clone(), Arc::clone(&stop)));
        let removed = if *limit == 0 {
            tokio::time::sleep(ENDED_PAUSE * 8).await;
            0
        } else {
            remove_all(&*store, (name, *limit)).await
        };
        stop.store(true, Relaxed);
        let mut waits = refreshes.await.expect("the caller's task ends");
        waits.sort();
        let (middle, last) = (waits[waits.len() / 2], waits[waits.len() - 1]);
        let near = waits[waits.len() * 99 / 100];
        println!(
            "{name}: {removed} records removed beside {} refreshes: half of these took {middle:.1?} \
             at most, 99 of 100 {near:.1?}, the longest {last:.1?}",
            waits.len()
        );
        assert_eq!(removed, if *limit == 0 { 0 } else { many });
    }
    let left = store.list(&RecordFilter::default(), None, 10).await.expect("a list");
    assert_eq!(left.len(), 1, "the session of the caller is left");
    assert!(supervisor.shutdown(10 * Duration::from_secs(1)).await.is_clean());
}

/// Removes page by page, and returns how many records it removed.
async fn remove_all(store: &impl Store, (name, limit): (&str, usize)) -> usize {
    let (mut after, mut removed, mut times, mut paced) = (None, 0, Vec::new(), Duration::ZERO);
    loop {
        if times.len() < PACED_PAGES {
            tokio::time::sleep(ENDED_PAUSE).await;
        }
        let begun = Instant::now();
        let page = store.remove_ended(90 * DAY, after.as_ref(), limit).await.expect("a page");
        let page = page.expect("the store removes them");
        times.push(begun.elapsed());
        if times.len() == PACED_PAGES {
            paced = times.iter().sum();
        }
        removed += page.removed.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let total: Duration = times.iter().sum();
    let longest = times.iter().max().copied().unwrap_or_default();
    println!(
        "{name}: {} pages of {limit} took {total:.1?} in total, {paced:.1?} of it the first \
         {PACED_PAGES}; the longest took {longest:.1?}",
        times.len()
    );
    removed
}

/// How long each refresh took.
async fn refresh_until(session: Session<ScriptedProvider>, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let mut waits = Vec::new();
    while !stop.load(Relaxed) || waits.is_empty() {
        let begun = Instant::now();
        let _ = session.refresh().await.expect("a token");
        waits.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    waits
}

/// Sessions with 1,100 bytes of tokens that were lost 100 days ago.
async fn fill(store: &impl Store, many: usize) {
    let provider = ProviderName::new("p").expect("a name");
    let tokens = Tokens::new(Arc::from("{}"))
        .with_access_token(format!("access-{:0>900}", 7), None)
        .with_refresh_token(format!("refresh-{:0>190}", 7), None);
    let credentials = Arc::new(Credentials::new(tokens, "https://login.example.com", "client"));
    let import = Import {
        version: 9,
        epoch: 1,
        generation: 3,
        fence: 8,
        phase: Phase::Lost,
        credentials: Some(credentials),
        outbox: None,
        made_by: Some(Attempt { base: 2, fence: 8, claim: ClaimId(7) }),
        ends: Ends::default(),
        suspect: false,
        lost: Some(LostReason::Rejected),
        tries: 0,
        failures: None,
        failing_for: None,
        ended_for: Some(100 * DAY),
    };
    let writes = (0..many).map(|number| {
        let key = SessionKey::new("tenant", format!("device-{number:07}")).expect("a key");
        let (id, import) = (SessionId::new(provider.clone(), key), import.clone());
        async move {
            let outcome = store.apply(&id, Statement::Import(Box::new(import))).await;
            assert!(matches!(outcome, Ok(Outcome::Done(_))), "{outcome:?}");
        }
    });
    futures_util::stream::iter(writes).buffer_unordered(WRITTEN_AT_ONCE).count().await;
}
