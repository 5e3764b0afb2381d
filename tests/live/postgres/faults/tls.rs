//! TLS between a store and PostgreSQL.

use std::error::Error as _;

use session_warden::store::Owner;
use session_warden::store::StoreError;
use session_warden::store::postgres::{PostgresFault, PostgresStore};

use super::openings::fault;
use crate::postgres::statements::{establish, id};
use crate::postgres_cluster::{ClusterOptions, LOOPBACK_NAMES, PostgresCluster};
use crate::processes::orders::keys;

async fn cluster(names: &[&str]) -> PostgresCluster {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let options = ClusterOptions { tls_names: Some(names), ..ClusterOptions::default() };
    PostgresCluster::start_with(options).await
}

/// Opens the store of a new database, trusting the root of `trusted`.
async fn opened(
    cluster: &PostgresCluster,
    (trusted, mode): (Option<&PostgresCluster>, &str),
) -> Result<PostgresStore, StoreError> {
    let url = format!("{}?sslmode={mode}", cluster.new_database().await);
    let builder = PostgresStore::builder(&url).key_ring(keys());
    let root = trusted.and_then(PostgresCluster::root_certificate_pem);
    match root {
        Some(root) => builder.root_certificate_pem(root.as_bytes()).open().await,
        None => builder.open().await,
    }
}

fn is_unreachable(refused: Result<PostgresStore, StoreError>, why: &str) {
    let refused = refused.unwrap_err();
    let PostgresFault::Unreachable { cause } = fault(&refused) else { panic!("{refused:?}") };
    assert!(cause.contains(why), "{cause}");
    assert!(refused.to_string().contains("certificate"), "{refused}");
    assert!(refused.source().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_server_with_a_trusted_root_and_the_right_name_gets_a_connection() {
    let (good, elsewhere) = (cluster(&LOOPBACK_NAMES).await, cluster(&["elsewhere.example"]).await);
    for mode in ["verify-full", "verify-ca", "require"] {
        let store = opened(&good, (Some(&good), mode)).await.unwrap();
        establish(&store, &id(1), Owner(1)).await;
        is_unreachable(opened(&good, (None, mode)).await, "UnknownIssuer");
        is_unreachable(opened(&good, (Some(&elsewhere), mode)).await, "BadSignature");
        is_unreachable(opened(&elsewhere, (Some(&elsewhere), mode)).await, "not valid for name");
    }
    let in_clear = opened(&good, (Some(&good), "disable")).await.unwrap_err();
    assert!(matches!(fault(&in_clear), PostgresFault::Denied { .. }), "{in_clear:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_may_be_a_file_that_the_url_names() {
    let (good, folder) = (cluster(&LOOPBACK_NAMES).await, tempfile::tempdir().unwrap());
    let file = folder.path().join("root.pem");
    std::fs::write(&file, good.root_certificate_pem().unwrap()).unwrap();
    let mode = format!("verify-full&sslrootcert={}", file.display());
    opened(&good, (None, &mode)).await.unwrap();
    opened(&good, (None, "verify-full&sslrootcert=/nowhere")).await.map(drop).unwrap_err();
}
