//! PostgreSQL or PgBouncer is killed and started again while two replicas have load.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{join_all, ready};
use session_warden::event::{EventKind, Events};
use session_warden::testing::FakeAuthServer;

use crate::peer::in_time;
use crate::postgres::replicas::{Replica, may_be_repeated, rest};
use crate::postgres_cluster::{PgBouncer, PoolOptions, PostgresCluster};

const SESSIONS: usize = 40;

/// How many callers each replica has.
const CALLERS: usize = 20;

/// How often the server is killed.
const KILLS: usize = 3;

/// How the calls ended.
#[derive(Default)]
struct Ended {
    well: AtomicU64,
    early: AtomicU64,
}

/// Refreshes and reads tokens until `ends`.
async fn calls(replica: &Replica, caller: u64, ends: &AtomicBool, ended: &Ended) {
    let mut random = fastrand::Rng::with_seed(caller);
    while !ends.load(Ordering::Relaxed) {
        let session = replica.session(&name(random.usize(..SESSIONS)));
        let called = match random.bool() {
            true => in_time(session.refresh()).await,
            false => in_time(session.permission_token()).await,
        };
        match called {
            Ok(_) => ended.well.fetch_add(1, Ordering::Relaxed),
            Err(error) if may_be_repeated(&error) => ended.early.fetch_add(1, Ordering::Relaxed),
            Err(error) => panic!("{error:?}"),
        };
        rest(Duration::from_millis(random.u64(5..40))).await;
    }
}

fn name(number: usize) -> String {
    format!("device-{number}")
}

/// Two replicas at this URL have load while `kills` works; then every session is as good as before.
/// Returns what each replica says about the store.
pub(super) async fn survives(url: &str, kills: impl Future<Output = ()>) -> [Vec<EventKind>; 2] {
    // Tokens end all the time, so that reads refresh too.
    let server = FakeAuthServer::builder().access_lifetime(Duration::from_secs(2));
    let server = server.start().await.unwrap();
    let replicas = [Replica::start(url, &server).await, Replica::start(url, &server).await];
    let [first, second] = replicas.each_ref().map(|replica| replica.supervisor.subscribe());
    let works = async {
        works(&replicas, &server, kills).await;
        for replica in &replicas {
            let _ = replica.supervisor.shutdown(Duration::from_secs(5)).await;
        }
    };
    let (first, second, ()) = tokio::join!(about_the_store(first), about_the_store(second), works);
    [first, second]
}

async fn works(replicas: &[Replica; 2], server: &FakeAuthServer, kills: impl Future<Output = ()>) {
    let names: Vec<_> = (0..SESSIONS).map(name).collect();
    join_all(names.iter().map(|name| replicas[0].establish(name))).await;
    let (ends, ended) = (AtomicBool::new(false), Ended::default());
    let callers =
        (0..2 * CALLERS).map(|caller| calls(&replicas[caller % 2], caller as u64, &ends, &ended));
    let kills = async {
        kills.await;
        ends.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(callers), kills);
    let (before, each) = (server.refreshes(), replicas);
    println!(
        "{} calls ended well, {} were told to come again, {before} refreshes",
        ended.well.load(Ordering::Relaxed),
        ended.early.load(Ordering::Relaxed),
    );
    assert!(before > SESSIONS as u64, "there was load: {before}");
    join_all(names.iter().map(|name| async move {
        let refreshed = each[0].refresh(name).await;
        // It may know of the other's refresh before it asks for one.
        let taken = each[1].refresh(name).await;
        assert!(taken >= refreshed, "{name}: {taken} after {refreshed}");
        assert_eq!(each[1].refresh(name).await, taken + 1, "{name}");
    }))
    .await;
    assert_eq!((server.presented_twice(), server.reuses_detected()), (0, 0));
}

/// Collects the events about the store until the supervisor ends.
async fn about_the_store(events: Events) -> Vec<EventKind> {
    let kinds = events.map(|event| event.kind);
    kinds.filter(|kind| ready(matches!(kind, EventKind::StoreFailedOver { .. }))).collect().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_postgresql_was_killed_under_load_every_session_serves_and_no_token_was_sent_twice() {
    let cluster = PostgresCluster::start().await;
    let url = cluster.new_database().await;
    survives(&url, async {
        for _ in 0..KILLS {
            rest(Duration::from_millis(1500)).await;
            cluster.kill_9().await;
            rest(Duration::from_millis(300)).await;
            cluster.start_again().await;
        }
        rest(Duration::from_millis(1500)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_pgbouncer_was_killed_under_load_every_session_serves_and_no_token_was_sent_twice() {
    let cluster = PostgresCluster::shared().await;
    let url = cluster.new_database().await;
    let options = PoolOptions { default_pool_size: 2, ..PoolOptions::default() };
    let pool = PgBouncer::start(cluster, &url, options).await;
    survives(&pool.url(), async {
        for _ in 0..KILLS {
            rest(Duration::from_millis(1500)).await;
            pool.kill_9().await;
            rest(Duration::from_millis(100)).await;
            pool.start_again().await;
        }
        rest(Duration::from_millis(1500)).await;
    })
    .await;
}
