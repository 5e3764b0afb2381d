//! Statements on a store, without a supervisor.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use session_warden::SessionKey;
use session_warden::key::{ProviderName, SessionId};
use session_warden::store::postgres::PostgresStore;
use session_warden::store::{
    Attempt, Claim, ClaimId, Commit, Ends, Intent, Outcome, Owner, Statement, Store,
};
use session_warden::token::{Credentials, Tokens};

use crate::postgres_cluster::{PostgresCluster, StoppableProxy};
use crate::processes::orders::keys;

const HOUR: Duration = Duration::from_secs(3600);

pub async fn open(url: &str) -> PostgresStore {
    PostgresStore::builder(url).key_ring(keys()).open().await.expect("the store opens")
}

pub fn id(number: usize) -> SessionId {
    let key = SessionKey::new("tenant", format!("device-{number}")).unwrap();
    SessionId::new(ProviderName::new("server").unwrap(), key)
}

/// Makes a session with a claim and a commit.
pub async fn establish(store: &PostgresStore, id: &SessionId, owner: Owner) {
    let (intent, claim) = (Intent::Establish, ClaimId(fastrand::u64(..)));
    let statement = Statement::Claim(Claim {
        id: claim,
        replaces: None,
        owner,
        intent,
        epoch: None,
        generation: 0,
        lease: HOUR,
        journal: false,
    });
    let Outcome::Done(done) = store.apply(id, statement).await.unwrap() else {
        panic!("{id:?} is new")
    };
    let attempt = Attempt { base: done.generation, fence: done.fence, claim };
    let tokens = Tokens::new(Arc::from("{}")).with_access_token("access", None);
    let tokens = tokens.with_refresh_token("refresh", None);
    let credentials = Arc::new(Credentials::new(tokens, "https://login.example.com", "client"));
    let ends = Ends { access_in: Some(HOUR), due_in: Some(HOUR), ..Ends::default() };
    let commit = Commit { intent, epoch: done.epoch, attempt, credentials, ends };
    let outcome = store.apply(id, Statement::Commit(commit)).await.unwrap();
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
}

#[tokio::test]
async fn no_connection_has_two_statements_under_way() {
    let cluster = PostgresCluster::shared().await;
    let proxy = StoppableProxy::start(cluster.address()).await;
    let store = open(&proxy.url(&cluster.new_database().await)).await;
    let (store, owner) = (&store, Owner(1));
    // Some begin while others commit and end, so that one turn of a lane has all kinds.
    join_all((0..24).map(|number| async move {
        for _ in 0..10 {
            establish(store, &id(number), owner).await;
            for _ in 0..number % 4 {
                store.load(&id(number)).await.unwrap().unwrap();
            }
            store.apply(&id(number), Statement::Delete).await.unwrap();
        }
    }))
    .await;
    assert_eq!(proxy.early_statements(), 0);
}
