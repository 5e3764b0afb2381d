//! PgBouncer behaves as the other tests expect.

use super::one;
use crate::postgres_cluster::{PgBouncer, PoolOptions, PostgresCluster, connect};

const ONE_CONNECTION: PoolOptions = PoolOptions { default_pool_size: 1, max_client_conn: 100 };

const BACKEND: &str = "SELECT pg_backend_pid()";

#[tokio::test]
async fn pgbouncer_passes_the_statements_of_two_clients_through_one_connection() {
    let cluster = PostgresCluster::shared().await;
    let database = cluster.new_database().await;
    let pool = PgBouncer::start(cluster, &database, ONE_CONNECTION).await;
    let (one_client, other) = (connect(&pool.url()).await, connect(&pool.url()).await);
    let (one_client, other) = (one_client.unwrap(), other.unwrap());
    one_client.batch_execute("CREATE TABLE t AS SELECT 3 AS n").await.unwrap();
    assert_eq!(one(&other, "SELECT n FROM t").await.unwrap(), "3");
    let backends = (one(&one_client, BACKEND).await, one(&other, BACKEND).await);
    assert_eq!(backends.0.unwrap(), backends.1.unwrap());
}

#[tokio::test]
async fn pgbouncer_that_was_killed_starts_again_on_its_port() {
    let cluster = PostgresCluster::shared().await;
    let database = cluster.new_database().await;
    let pool = PgBouncer::start(cluster, &database, PoolOptions::default()).await;
    let client = connect(&pool.url()).await.unwrap();
    assert_eq!(one(&client, "SELECT 1").await.unwrap(), "1");
    pool.kill_9().await;
    one(&client, "SELECT 1").await.unwrap_err();
    connect(&pool.url()).await.map(drop).unwrap_err();
    pool.start_again().await;
    let client = connect(&pool.url()).await.unwrap();
    assert_eq!(one(&client, "SELECT 1").await.unwrap(), "1");
}
