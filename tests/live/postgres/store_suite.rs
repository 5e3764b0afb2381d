//! PostgreSQL passes the suite of every store: directly, through PgBouncer, and behind a wrapper.

use session_warden::seal::KeyRing;
use session_warden::store::postgres::PostgresStore;

use crate::postgres_cluster::{PgBouncer, PostgresCluster};

/// A store on a database of its own.
async fn store() -> PostgresStore {
    let url = PostgresCluster::shared().await.new_database().await;
    PostgresStore::builder(&url).key_ring(KeyRing::generate().expect("random bytes")).open().await.expect("opens")
}

mod direct {
    session_warden::store_suite!(super::store());
}
