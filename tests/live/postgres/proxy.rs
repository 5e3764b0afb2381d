//! The proxy behaves as the other tests expect.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::one;
use crate::peer::{in_time, within};
use crate::postgres_cluster::{PostgresCluster, StoppableProxy, connect};

/// Much longer than an answer that nobody holds back takes.
const A_WHILE: Duration = Duration::from_millis(100);

/// A proxy, the URL of a database with a row, and a client through the proxy.
async fn proxied(cluster: &PostgresCluster) -> (StoppableProxy, String, Client) {
    let database = cluster.new_database().await;
    cluster.sql(&database, "CREATE TABLE t AS SELECT 0 AS n; GRANT ALL ON t TO service").await;
    let proxy = StoppableProxy::start(cluster.address()).await;
    let client = connect(&proxy.url(&database)).await.unwrap();
    (proxy, database, client)
}

async fn n(cluster: &PostgresCluster, database: &str) -> String {
    cluster.sql(database, "SELECT n FROM t").await[0][0].clone().unwrap()
}

#[tokio::test]
async fn a_stopped_proxy_holds_statements_back_until_it_copies_again() {
    let cluster = PostgresCluster::shared().await;
    let (proxy, database, client) = proxied(cluster).await;
    proxy.stop_copying();
    let mut update = Box::pin(client.batch_execute("UPDATE t SET n = n + 1"));
    assert!(within(A_WHILE, &mut update).await.is_none());
    assert_eq!(n(cluster, &database).await, "0");
    let through = proxy.url(&database);
    let mut second = Box::pin(connect(&through));
    assert!(within(A_WHILE, &mut second).await.is_none());
    proxy.copy_again();
    in_time(update).await.unwrap();
    in_time(second).await.unwrap();
    assert_eq!(n(cluster, &database).await, "1");
    assert_eq!((proxy.cuts(), proxy.connections()), (0, 2));
}

#[tokio::test]
async fn an_answer_that_is_cut_belongs_to_a_statement_that_the_server_ran() {
    let cluster = PostgresCluster::shared().await;
    let (proxy, database, client) = proxied(cluster).await;
    proxy.cut_next_answer_after("update t");
    assert_eq!(one(&client, "SELECT n FROM t").await.unwrap(), "0");
    let lost = client.batch_execute("UPDATE t SET n = n + 1").await.unwrap_err();
    assert!(lost.is_closed() || lost.code().is_none(), "{lost:?}");
    in_time(proxy.until_cuts(1)).await;
    assert_eq!(n(cluster, &database).await, "1");
    let client = connect(&proxy.url(&database)).await.unwrap();
    client.batch_execute("UPDATE t SET n = n + 1").await.unwrap();
    assert_eq!(n(cluster, &database).await, "2");
    assert_eq!((proxy.cuts(), proxy.connections()), (1, 2));
}

#[tokio::test]
async fn an_answer_is_cut_as_a_whole_when_statement_and_values_are_apart() {
    let cluster = PostgresCluster::shared().await;
    let (proxy, database, client) = proxied(cluster).await;
    proxy.cut_next_answer_after("UPDATE");
    let update = "UPDATE t SET n = $1";
    client.query_typed(update, &[(&5_i32, Type::INT4)]).await.unwrap_err();
    in_time(proxy.until_cuts(1)).await;
    assert_eq!(n(cluster, &database).await, "5");
}

#[tokio::test]
async fn a_commit_whose_answer_is_cut_happened_and_one_that_is_cut_before_did_not() {
    let cluster = PostgresCluster::shared().await;
    let (proxy, database, mut client) = proxied(cluster).await;
    for (cuts, expected) in [(1, "1"), (2, "1")] {
        let transaction = client.transaction().await.unwrap();
        transaction.batch_execute("UPDATE t SET n = n + 1").await.unwrap();
        if cuts == 1 {
            proxy.cut_next_answer_after("COMMIT");
        } else {
            proxy.cut_before_next("COMMIT");
        }
        transaction.commit().await.unwrap_err();
        in_time(proxy.until_cuts(cuts)).await;
        assert_eq!(n(cluster, &database).await, expected);
        client = connect(&proxy.url(&database)).await.unwrap();
    }
}

#[tokio::test]
async fn all_connections_can_be_cut_at_once() {
    let cluster = PostgresCluster::shared().await;
    let (proxy, database, client) = proxied(cluster).await;
    let other = connect(&proxy.url(&database)).await.unwrap();
    proxy.cut_all();
    in_time(proxy.until_cuts(2)).await;
    one(&client, "SELECT 1").await.unwrap_err();
    one(&other, "SELECT 1").await.unwrap_err();
    let client = connect(&proxy.url(&database)).await.unwrap();
    assert_eq!(one(&client, "SELECT 1").await.unwrap(), "1");
    assert_eq!((proxy.cuts(), proxy.connections()), (2, 3));
}
