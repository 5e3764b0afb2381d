//! PostgreSQL passes the suite of every store.

use session_warden::seal::KeyRing;
use session_warden::store::postgres::PostgresStore;

use crate::postgres_cluster::PostgresCluster;

/// The master key of the tests.
pub const KEYS: &str = "1:pXuPDMX9pSDp8xDVRuuO1HpV5LQHbS5nGGRE8rqwIVo=";

/// A store on a database of its own.
async fn store() -> PostgresStore {
    let url = PostgresCluster::shared().await.new_database().await;
    let keys = KeyRing::parse(KEYS).expect("a key ring");
    PostgresStore::builder(&url).key_ring(keys).open().await.expect("the store opens")
}

mod direct {
    session_warden::store_suite!(super::store());
}
