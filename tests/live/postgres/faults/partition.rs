//! A replica whose network to the database stops.

use session_warden::ErrorKind;
use session_warden::testing::FakeAuthServer;

use crate::peer::in_time;
use crate::postgres::replicas::{Replica, may_be_repeated};
use crate::postgres_cluster::{PostgresCluster, StoppableProxy};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partitioned_replica_serves_what_it_has_and_asks_for_nothing() {
    let cluster = PostgresCluster::shared().await;
    let (database, server) = (cluster.new_database().await, FakeAuthServer::start().await.unwrap());
    let proxy = StoppableProxy::start(cluster.address()).await;
    let apart = Replica::start(&proxy.url(&database), &server).await;
    let other = Replica::start(&database, &server).await;
    for name in ["refreshed elsewhere", "only here"] {
        apart.establish(name).await;
    }
    let former = apart.session("refreshed elsewhere").permission_token().await.unwrap();

    proxy.stop_copying();
    let refreshes = ["refreshed elsewhere", "only here"].map(|name| {
        let session = apart.session(name);
        async move { session.refresh().await.unwrap_err() }
    });
    let [first, second] = refreshes;
    let (first, second, elsewhere) =
        in_time(async { tokio::join!(first, second, other.refresh("refreshed elsewhere")) }).await;
    for error in [first, second] {
        assert!(may_be_repeated(&error), "{error:?}");
        assert!(matches!(error.kind(), ErrorKind::Store | ErrorKind::RetryLater), "{error:?}");
    }
    assert_eq!((elsewhere, server.refreshes()), (2, 1), "only the other asked");
    for name in ["refreshed elsewhere", "only here"] {
        let token = apart.session(name).permission_token().await.unwrap();
        assert_eq!(token.generation(), 1);
        assert!(server.is_active(token.expose_secret()));
    }
    // In time: a new session can be neither loaded nor claimed.
    let unknown = in_time(async { apart.session("unknown").permission_token().await });
    assert!(may_be_repeated(&unknown.await.unwrap_err()));
    assert_eq!(server.refreshes(), 1);

    proxy.copy_again();
    assert_eq!(apart.serves_after("refreshed elsewhere", &former).await, 2);
    assert_eq!(server.refreshes(), 1, "the token of the other is there");
    assert_eq!(apart.refresh("refreshed elsewhere").await, 3);
    // Its claim may have arrived long after it was given up.
    assert_eq!(apart.refresh("only here").await, 2);
    assert_eq!(other.refresh("only here").await, 3);
    assert_eq!((server.refreshes(), server.presented_twice()), (4, 0));
}
