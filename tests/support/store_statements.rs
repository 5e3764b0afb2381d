//! Statements on a store, and what they come to.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where a store fails, and not each program here uses everything"
)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use session_warden::SessionKey;
use session_warden::key::{ProviderName, SessionId};
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::{
    Attempt, Claim, ClaimId, Close, Commit, Done, Ends, Intent, Outcome, Owner, Record, Statement,
    Store, StoreError, TakeOver,
};
use session_warden::testing::ManualClock;
use session_warden::token::{Credentials, Tokens};

/// How long the claims of these tests hold.
pub const LEASE: Duration = Duration::from_secs(20);

/// How long the access tokens of these tests live.
const LIFE: Duration = Duration::from_secs(900);

/// A ring of one key, the same for each number.
pub fn ring(number: u8) -> KeyRing {
    KeyRing::new(number.into(), MasterKey::from([number; 32]))
}

pub fn id(name: &str) -> SessionId {
    id_of("tenant", name)
}

pub fn id_of(tenant: &str, name: &str) -> SessionId {
    let key = SessionKey::new(tenant, name).unwrap();
    SessionId::new(ProviderName::new("p").unwrap(), key)
}

pub fn credentials(name: &str) -> Arc<Credentials> {
    let attributes: Arc<str> = Arc::from(format!("{{\"name\":\"{name}\"}}"));
    let tokens = Tokens::new(attributes)
        .with_access_token(
            format!("access-{name}"),
            Some(SystemTime::UNIX_EPOCH + ManualClock::START_WALL + LIFE),
        )
        .with_refresh_token(format!("refresh-{name}"), None)
        .with_token_secret(format!("secret-{name}"));
    Arc::new(Credentials::new(tokens, "https://login.example.com", "client"))
}

/// When they end, and when they are due.
pub const ENDS: Ends = Ends {
    access_in: Some(LIFE),
    refresh_in: None,
    due_in: Some(Duration::from_secs(700)),
    announce_in: None,
    retry_in: None,
};

/// The access token of a record.
pub fn access(record: &Record) -> Option<&str> {
    let credentials = record.credentials.as_ref()?;
    credentials.tokens().access_token().map(|token| token.expose_secret())
}

/// The stored record of a session.
pub async fn found(store: &impl Store, id: &SessionId) -> Record {
    store.load(id).await.unwrap().unwrap().record
}

pub fn claim(owner: Owner, intent: Intent, known: Option<(u64, u64)>) -> Claim {
    let (id, replaces) = (ClaimId(fastrand::u64(..)), None);
    let (epoch, generation) = (known.map(|known| known.0), known.map_or(0, |known| known.1));
    Claim { id, replaces, owner, intent, epoch, generation, lease: LEASE, journal: false }
}

/// The attempt under a claim that was granted.
pub fn attempt(claim: &Claim, done: Done) -> Attempt {
    Attempt { base: done.generation, fence: done.fence, claim: claim.id }
}

/// Claims a session that must be free.
pub async fn granted(
    store: &impl Store,
    id: &SessionId,
    claim: Claim,
) -> Result<(u64, Attempt), StoreError> {
    let done = done(Ok(store.apply(id, Statement::Claim(claim)).await?));
    Ok((done.epoch, attempt(&claim, done)))
}

/// The commit of the tokens that an exchange under this claim got.
pub fn commit(intent: Intent, (epoch, attempt): (u64, Attempt), name: &str) -> Statement {
    let credentials = credentials(name);
    Statement::Commit(Commit { intent, epoch, attempt, credentials, ends: ENDS })
}

pub fn close(generation: u64) -> Statement {
    let claim = ClaimId(fastrand::u64(..));
    Statement::Close(Close { generation, claim, owner: Owner(1), lease: LEASE })
}

/// By a process that waits only for the end of the lease, or of its holder.
pub fn take_over(claim: ClaimId) -> Statement {
    let hold = Duration::ZERO;
    let (hold_of_dead, hold_of_journal, hold_back) = (hold, hold, hold);
    let take_over = TakeOver { claim, hold, hold_of_dead, hold_of_journal, hold_back };
    Statement::TakeOver(take_over)
}

/// The outcome, which must be `Done`.
#[track_caller]
pub fn done(outcome: Result<Outcome, StoreError>) -> Done {
    match outcome {
        Ok(Outcome::Done(done)) => done,
        other => panic!("not done: {other:?}"),
    }
}

/// Claims and commits, like an exchange that succeeds. Returns the record after that.
pub async fn exchange(
    store: &impl Store,
    id: &SessionId,
    intent: Intent,
    name: &str,
) -> Result<Done, StoreError> {
    let known = store.load(id).await?.map(|found| (found.record.epoch, found.record.generation));
    let claim = granted(store, id, claim(Owner(1), intent, known)).await?;
    Ok(done(Ok(store.apply(id, commit(intent, claim, name)).await?)))
}

/// Deletes a session that must exist.
pub async fn delete(store: &impl Store, id: &SessionId) -> Done {
    done(store.apply(id, Statement::Delete).await)
}
