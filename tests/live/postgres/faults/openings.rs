//! Stores that open at once, without privileges, or on a server that takes no writes.

use std::error::Error as _;
use std::time::Duration;

use futures_util::future::join_all;
use session_warden::seal::KeyRing;
use session_warden::store::postgres::{PostgresFault, PostgresStore};
use session_warden::store::{
    ClaimId, LoginClaim, LoginId, Outcome, Owner, Presence, Statement, Store, StoreError,
};

use crate::peer::in_time;
use crate::postgres::statements::{establish, id, open};
use crate::postgres_cluster::{PgBouncer, PoolOptions, PostgresCluster};
use crate::processes::orders::keys;

const OWNER: Owner = Owner(1);

/// What the database said.
pub fn fault(error: &StoreError) -> &PostgresFault {
    let source = error.source().and_then(|source| source.downcast_ref());
    source.unwrap_or_else(|| panic!("{error:?} has no fault"))
}

async fn count(cluster: &PostgresCluster, url: &str, sql: &str) -> String {
    cluster.sql(url, sql).await[0][0].clone().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_stores_that_open_at_once_on_an_empty_database_make_the_tables_once() {
    let cluster = PostgresCluster::shared().await;
    for _ in 0..5 {
        let url = cluster.new_database().await;
        let stores: Vec<_> = in_time(join_all((0..10).map(|_| open(&url)))).await;
        let rows = "SELECT count(*) FROM session_warden.store";
        assert_eq!(count(cluster, &url, rows).await, "1");
        for (number, store) in stores.iter().enumerate() {
            establish(store, &id(number), OWNER).await;
        }
        let rows = "SELECT count(*) FROM session_warden.session";
        assert_eq!(count(cluster, &url, rows).await, "10");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_stores_that_open_at_once_through_pgbouncer_make_the_tables_once() {
    let cluster = PostgresCluster::shared().await;
    let url = cluster.new_database().await;
    let options = PoolOptions { default_pool_size: 2, ..PoolOptions::default() };
    let pool = PgBouncer::start(cluster, &url, options).await;
    let through = pool.url();
    in_time(join_all((0..10).map(|_| open(&through)))).await;
    let rows = "SELECT count(*) FROM session_warden.store";
    assert_eq!(count(cluster, &url, rows).await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_the_granted_privileges_alone_can_do_everything() {
    let cluster = PostgresCluster::shared().await;
    let owners = cluster.new_database().await;
    // A role belongs to the whole cluster.
    let role = format!("limited_{}", owners.rsplit('_').next().unwrap());
    let url = owners.replace("service@", &format!("{role}@"));
    // A word of SQL.
    let builder = || PostgresStore::builder(&url).schema("user").skip_migrations().key_ring(keys());
    cluster.sql("postgres", &format!("CREATE ROLE {role} LOGIN")).await;
    let refused = builder().open().await.unwrap_err();
    assert_eq!(fault(&refused), &PostgresFault::NotMigrated);
    let sql = |text: String| {
        let owners = &owners;
        async move {
            let client = crate::postgres_cluster::connect(owners).await.unwrap();
            client.batch_execute(&text).await.unwrap();
        }
    };
    let migrations = builder().migrations_sql().unwrap();
    sql(format!("BEGIN; {migrations} COMMIT")).await;
    let refused = builder().open().await.unwrap_err();
    assert!(matches!(fault(&refused), PostgresFault::Denied { .. }), "{refused:?}");
    sql(builder().grants_sql(&role).unwrap()).await;

    let store = builder().open().await.unwrap();
    for presence in [Presence::Renew, Presence::Retire] {
        store.presence(OWNER, presence).await.unwrap();
    }
    let cursor = store.changes(None, 10).await.unwrap().expect("it has a feed").cursor;
    establish(&store, &id(1), OWNER).await;
    assert!(store.load(&id(1)).await.unwrap().is_some());
    let listed = store.list(&Default::default(), None, 10).await.unwrap();
    assert_eq!(listed.len(), 1);
    store.due(id(1).provider(), Default::default(), None, 10).await.unwrap();
    store.reseal(10).await.unwrap();
    store.stale_keys().await.unwrap();
    let (login, claim) = (LoginId([1; 16]), ClaimId(1));
    let (lease, interval) = (Duration::from_secs(20), Duration::from_secs(5));
    let polls = LoginClaim { login, claim, lease, interval };
    assert!(store.claim_login(&polls).await.unwrap().is_some());
    let deleted = store.apply(&id(1), Statement::Delete).await.unwrap();
    assert!(matches!(deleted, Outcome::Done(_)), "{deleted:?}");
    assert!(store.changes(Some(&cursor), 10).await.unwrap().is_some());
    // Nothing else is granted.
    let client = crate::postgres_cluster::connect(&url).await.unwrap();
    for forbidden in [
        "DROP TABLE \"user\".session",
        "CREATE TABLE \"user\".t (n int)",
        "DELETE FROM \"user\".store",
        "TRUNCATE \"user\".change",
    ] {
        client.batch_execute(forbidden).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_read_only_database_all_statements_say_why_they_fail() {
    let cluster = PostgresCluster::shared().await;
    let url = cluster.new_database().await;
    let store = open(&url).await;
    establish(&store, &id(1), OWNER).await;
    let name = url.rsplit('/').next().unwrap();
    let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    cluster.sql("postgres", &set).await;
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = '{name}'"
    );
    cluster.sql("postgres", &end).await;

    // Not even a read: a standby would show the past.
    let refused = store.load(&id(1)).await.unwrap_err();
    assert_eq!(fault(&refused), &PostgresFault::ReadOnly);
    for _ in 0..2 {
        let refused = store.apply(&id(1), Statement::Delete).await.unwrap_err();
        assert_eq!(fault(&refused), &PostgresFault::ReadOnly);
    }
    let opens = PostgresStore::builder(&url).key_ring(keys()).open().await.unwrap_err();
    assert_eq!(fault(&opens), &PostgresFault::ReadOnly);

    // As after a failover: new connections lead to a server that takes writes.
    let reset = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    cluster.sql("postgres", &reset).await;
    let deleted = store.apply(&id(1), Statement::Delete).await.unwrap();
    assert!(matches!(deleted, Outcome::Done(_)), "{deleted:?}");
}

#[tokio::test]
async fn a_store_without_a_server_says_so() {
    let cluster = PostgresCluster::start().await;
    let url = cluster.new_database().await;
    cluster.kill_9().await;
    let builder = PostgresStore::builder(&url)
        .key_ring(KeyRing::parse(super::super::store_suite::KEYS).unwrap());
    let refused = builder.open().await.unwrap_err();
    assert!(matches!(fault(&refused), PostgresFault::Unreachable { .. }), "{refused:?}");
}
