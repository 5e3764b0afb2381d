//! PostgreSQL passes the suite of every store, directly and through PgBouncer.

use session_warden::seal::KeyRing;
use session_warden::store::postgres::PostgresStore;

use crate::postgres_cluster::{PgBouncer, PostgresCluster};

/// The master key of the tests.
pub const KEYS: &str = "1:pXuPDMX9pSDp8xDVRuuO1HpV5LQHbS5nGGRE8rqwIVo=";

async fn opened(url: &str) -> PostgresStore {
    let keys = KeyRing::parse(KEYS).expect("a key ring");
    PostgresStore::builder(url).key_ring(keys).open().await.expect("the store opens")
}

/// A store on a database of its own.
async fn store() -> PostgresStore {
    opened(&PostgresCluster::shared().await.new_database().await).await
}

/// The same through a PgBouncer in transaction mode, which has two connections to the database.
async fn pooled_store() -> PostgresStore {
    let url = PostgresCluster::shared().await.new_database().await;
    opened(&PgBouncer::shared().await.url_of(&url)).await
}

mod direct {
    session_warden::store_suite!(super::store());
}

mod through_pgbouncer {
    session_warden::store_suite!(super::pooled_store());
}
