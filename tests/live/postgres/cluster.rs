//! A cluster of the tests behaves as the other tests expect.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;

use super::one;
use crate::peer::in_time;
use crate::postgres_cluster::{ClusterOptions, LOOPBACK_NAMES, PostgresCluster, USER, connect};

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
    let client = connect(&database).await.unwrap();
    let long = "SELECT count(*) FROM generate_series(1, 100000000000)";
    let mut busy = Box::pin(client.batch_execute(long));
    let runs = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series(1, 1000%' \
                AND pid <> pg_backend_pid()";
    let count = async || cluster.sql(&database, runs).await[0][0].clone().unwrap();
    let begun = async { while count().await != "1" {} };
    tokio::select! {
        ended = &mut busy => panic!("it ended at once: {ended:?}"),
        () = in_time(begun) => {}
    }
    cluster.kill_9().await;
    in_time(busy).await.unwrap_err();
    cluster.start_again().await;
    assert_eq!(count().await, "0");
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
    let folder = cluster.sql("postgres", "SHOW data_directory").await[0][0].clone().unwrap();
    assert!(Path::new(&folder).is_dir());
    drop(cluster);
    // It is deleted when the server has ended.
    assert!(!Path::new(&folder).parent().unwrap().exists());
}

/// The name of [`hold`] for the test program.
const HOLD: &str = "postgres::cluster::hold";

/// Set for [`hold`], which is no test and never ends.
const HOLDS: &str = "SESSION_WARDEN_HOLDS_CLUSTER";

#[tokio::test]
#[ignore = "a process that another test starts and kills"]
async fn hold() {
    assert!(std::env::var_os(HOLDS).is_some(), "this is no test: another test starts it");
    let cluster = PostgresCluster::shared().await;
    let folder = cluster.sql("postgres", "SHOW data_directory").await[0][0].clone().unwrap();
    println!("\n@{folder}");
    std::future::pending().await
}

#[tokio::test]
async fn a_cluster_and_its_folder_are_gone_when_the_process_of_its_test_is_killed() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", HOLD]).env(HOLDS, "1");
    command.stdout(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let folder = in_time(async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the process goes on");
            if let Some(folder) = line.strip_prefix('@') {
                return PathBuf::from(folder);
            }
        }
    });
    let folder = folder.await;
    assert!(folder.is_dir());
    in_time(child.kill()).await.unwrap();
    let gone = async {
        while folder.parent().unwrap().exists() {
            tokio::task::yield_now().await
        }
    };
    in_time(gone).await;
}
