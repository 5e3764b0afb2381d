//! A cluster of the tests behaves as the other tests expect.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{connect, one};
use crate::peer::in_time;
use crate::postgres_cluster::{ClusterOptions, LOOPBACK_NAMES, PostgresCluster, USER};

#[tokio::test]
async fn each_database_is_empty_and_belongs_to_a_user_who_is_no_superuser() {
    let cluster = PostgresCluster::shared().await;
    for _ in 0..2 {
        let client = connect(&cluster.new_database().await).await.unwrap();
        client.batch_execute("CREATE TABLE t (n int)").await.unwrap();
        assert_eq!(one(&client, "SELECT current_user").await.unwrap(), USER);
        let is_superuser = one(&client, "SHOW is_superuser").await.unwrap();
        assert_eq!(is_superuser, "off");
    }
}

#[tokio::test]
async fn what_was_committed_survives_a_kill_and_what_was_not_is_gone() {
    let cluster = PostgresCluster::start().await;
    let database = cluster.new_database().await;
    let client = connect(&database).await.unwrap();
    assert_eq!(one(&client, "SHOW fsync").await.unwrap(), "on");
    client.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO t VALUES (2)").await.unwrap();
    cluster.kill_9().await;
    client.batch_execute("COMMIT").await.unwrap_err();
    connect(&database).await.map(drop).unwrap_err();
    cluster.start_again().await;
    assert_eq!(cluster.sql(&database, "SELECT n FROM t").await, [[Some("1".to_owned())]]);
    let client = connect(&database).await.unwrap();
    assert_eq!(one(&client, "SELECT count(*) FROM t").await.unwrap(), "1");
}

#[tokio::test]
async fn a_statement_that_runs_does_not_outlive_a_kill() {
    let cluster = PostgresCluster::start().await;
    let database = cluster.new_database().await;
    let client = Arc::new(connect(&database).await.unwrap());
    let busy = Arc::clone(&client);
    let busy = tokio::spawn(async move {
        busy.batch_execute("SELECT count(*) FROM generate_series(1, 100000000000)").await
    });
    let runs = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series(1, 1000%' \
                AND pid <> pg_backend_pid()";
    in_time(async { while cluster.sql(&database, runs).await[0][0].as_deref() != Some("1") {} })
        .await;
    cluster.kill_9().await;
    in_time(busy).await.unwrap().unwrap_err();
    cluster.start_again().await;
    assert_eq!(cluster.sql(&database, runs).await[0][0].as_deref(), Some("0"));
}

#[tokio::test]
async fn a_cluster_that_was_stopped_or_restarted_keeps_its_port_and_its_data() {
    let cluster = PostgresCluster::start().await;
    let database = cluster.new_database().await;
    cluster.sql(&database, "CREATE TABLE t AS SELECT 7 AS n").await;
    cluster.restart().await;
    assert_eq!(cluster.sql(&database, "SELECT n FROM t").await, [[Some("7".to_owned())]]);
    cluster.stop_immediately().await;
    connect(&database).await.map(drop).unwrap_err();
    cluster.start_again().await;
    connect(&database).await.unwrap();
    assert_eq!(cluster.sql(&database, "SELECT n FROM t").await, [[Some("7".to_owned())]]);
}

#[tokio::test]
async fn a_cluster_takes_other_settings_and_a_password() {
    let options = ClusterOptions {
        fsync: false,
        max_connections: 7,
        password: Some("gate".to_owned()),
        settings: vec![("deadlock_timeout", "5s".to_owned())],
        ..ClusterOptions::default()
    };
    let cluster = PostgresCluster::start_with(options).await;
    let database = cluster.new_database().await;
    let client = connect(&database).await.unwrap();
    for (setting, value) in [("fsync", "off"), ("max_connections", "7"), ("deadlock_timeout", "5s")]
    {
        assert_eq!(one(&client, &format!("SHOW {setting}")).await.unwrap(), value);
    }
    let without = database.replace(":gate@", ":fence@");
    let code = connect(&without).await.map(drop).unwrap_err().code().cloned();
    assert_eq!(code, Some(tokio_postgres::error::SqlState::INVALID_PASSWORD));
}

#[tokio::test]
async fn a_cluster_with_tls_takes_nothing_else_and_has_a_certificate_of_the_names() {
    let start = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let options = ClusterOptions { tls_names: Some(names), ..ClusterOptions::default() };
        PostgresCluster::start_with(options)
    };
    let cluster = start(&LOOPBACK_NAMES).await;
    let refused = connect(&cluster.new_database().await).await.map(drop).unwrap_err();
    let expected = tokio_postgres::error::SqlState::INVALID_AUTHORIZATION_SPECIFICATION;
    assert_eq!(refused.code(), Some(&expected), "{refused:?}");
    for name in LOOPBACK_NAMES {
        handshake(&cluster, name).await.unwrap();
    }
    let elsewhere = start(&["elsewhere.example"]).await;
    handshake(&elsewhere, "localhost").await.unwrap_err();
    handshake(&elsewhere, "elsewhere.example").await.unwrap();
}

/// A TLS handshake with a server that is expected to have this name.
async fn handshake(cluster: &PostgresCluster, name: &str) -> std::io::Result<()> {
    let root = cluster.root_certificate_pem().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut stream = TcpStream::connect(cluster.address()).await?;
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
    assert_eq!(stream.read_u8().await?, b'S', "the server has TLS");
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(drop)
}

#[tokio::test]
async fn a_cluster_and_its_folder_are_gone_when_its_value_is() {
    let cluster = PostgresCluster::start().await;
    let database = cluster.new_database().await;
    let folder = cluster.sql(&database, "SHOW data_directory").await[0][0].clone().unwrap();
    assert!(Path::new(&folder).is_dir());
    drop(cluster);
    assert!(!Path::new(&folder).parent().unwrap().exists());
    connect(&database).await.map(drop).unwrap_err();
}
