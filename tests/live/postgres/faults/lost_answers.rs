//! The connection is cut around a claim and around a commit.

use session_warden::store::Store;
use session_warden::testing::{Endpoint, FakeAuthServer, Fault};

use crate::peer::in_time;
use crate::postgres::replicas::Replica;
use crate::postgres::statements::open;
use crate::postgres_cluster::{PostgresCluster, StoppableProxy};

/// In the statement of each claim and commit of an established session.
const WRITE: &str = "session-warden writes";

const DEVICE: &str = "device";

/// Which write is lost.
#[derive(Clone, Copy, Debug)]
enum Of {
    Claim,
    Commit,
}

/// How much of it is lost.
#[derive(Clone, Copy, Debug)]
enum Lost {
    /// The server has it.
    Answer,
    /// The server never gets it.
    Statement,
}

impl Lost {
    fn wish(self, proxy: &StoppableProxy) {
        match self {
            Self::Answer => proxy.cut_next_answer_after(WRITE),
            Self::Statement => proxy.cut_before_next(WRITE),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_or_commit_whose_connection_is_cut_counts_once_and_asks_the_server_once() {
    let cluster = PostgresCluster::shared().await;
    let (database, server) = (cluster.new_database().await, FakeAuthServer::start().await.unwrap());
    let proxy = StoppableProxy::start(cluster.address()).await;
    let replica = Replica::start(&proxy.url(&database), &server).await;
    let beside = Replica::start(&database, &server).await;
    let reader = open(&database).await;
    replica.establish(DEVICE).await;
    let cases = [
        (Of::Claim, Lost::Answer),
        (Of::Claim, Lost::Statement),
        (Of::Commit, Lost::Answer),
        (Of::Commit, Lost::Statement),
    ];
    for (asked, (of, lost)) in (1..).zip(cases) {
        let session = replica.session(DEVICE);
        match of {
            Of::Claim => lost.wish(&proxy),
            Of::Commit => server.fail_next(Endpoint::RefreshToken, Fault::HoldUntilReleased),
        }
        let refresh = async { session.refresh().await };
        let commits = async {
            if matches!(of, Of::Commit) {
                server.held(1).await;
                lost.wish(&proxy);
                server.release();
            }
        };
        let (refreshed, ()) = in_time(async { tokio::join!(refresh, commits) }).await;
        let token = refreshed.unwrap_or_else(|error| panic!("{of:?} {lost:?}: {error:?}"));
        assert_eq!(token.generation(), asked + 1, "{of:?} {lost:?}");
        in_time(proxy.until_cuts(asked)).await;
        assert_eq!((proxy.cuts(), server.refreshes()), (asked, asked), "{of:?} {lost:?}");
        assert!(server.is_active(token.expose_secret()));
        let found = reader.load(session.id()).await.unwrap().expect("it was established").record;
        assert_eq!((found.epoch, found.generation), (1, asked + 1), "{of:?} {lost:?}");
        assert!(found.lease.is_none(), "{of:?} {lost:?}");
    }
    in_time(async { while beside.serves(DEVICE).await < 5 {} }).await;
    assert_eq!(beside.refresh(DEVICE).await, 6);
    assert_eq!((server.refreshes(), server.presented_twice()), (5, 0));
}
