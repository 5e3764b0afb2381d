//! A pause that one replica writes holds for the others, and for those that start later.

use session_warden::key::{PauseScope, Tenant};
use session_warden::seal::KeyRing;
use session_warden::store::postgres::PostgresStore;
use session_warden::testing::ScriptedProvider;
use session_warden::{ErrorKind, Session, SessionKey, Supervisor};

use super::store_suite::KEYS;
use crate::postgres_cluster::{PgBouncer, PostgresCluster};

async fn replica(url: &str) -> (Supervisor, Session<ScriptedProvider>) {
    let keys = KeyRing::parse(KEYS).expect("a key ring");
    let store = PostgresStore::connect(url).await.expect("the store opens");
    let builder = Supervisor::builder().key_ring(keys).store(store);
    let supervisor = builder.provider("p", ScriptedProvider::new()).start().await.expect("a start");
    let sessions = supervisor.sessions::<ScriptedProvider>("p").expect("registered");
    let session = sessions.session(SessionKey::new("north", "device").expect("a key"));
    (supervisor, session)
}

#[tokio::test]
async fn replicas_behind_pgbouncer_learn_of_a_pause_and_of_its_end() {
    let url = PostgresCluster::shared().await.new_database().await;
    let url = PgBouncer::shared().await.url_of(&url);
    let ((one, _), (_two, session)) = (replica(&url).await, replica(&url).await);
    let _ = session.establish(()).await.expect("a grant");
    let scope = PauseScope::Tenant(Tenant::new("north").expect("a tenant"));
    assert!(one.pause(&scope).await.expect("it is written"));
    let refused = loop {
        if let Err(error) = session.refresh().await {
            break error;
        }
    };
    assert_eq!(refused.kind(), ErrorKind::RetryLater, "{refused}");
    let served = session.permission_token().await.expect("the token is valid");
    let (later, session_there) = replica(&url).await;
    assert_eq!(session_there.refresh().await.expect_err("paused").kind(), ErrorKind::RetryLater);
    let there = session_there.permission_token().await.expect("the token is valid");
    assert_eq!(there.generation(), served.generation());
    assert!(later.resume(&scope).await.expect("it is written"));
    while session.refresh().await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(one.paused().await.expect("a read").is_empty());
}
