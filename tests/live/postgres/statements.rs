//! Statements on a store, without a supervisor.

use std::sync::Arc;
use std::time::Duration;

use session_warden::SessionKey;
use session_warden::key::{ProviderName, SessionId};
use session_warden::store::postgres::PostgresStore;
use session_warden::store::{
    Attempt, Claim, ClaimId, Commit, Ends, Intent, Outcome, Owner, Statement, Store,
};
use session_warden::token::{Credentials, Tokens};

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
