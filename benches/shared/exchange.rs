//! What the benches of stores repeat: a claim and a commit.

use std::sync::Arc;
use std::time::Duration;

use session_warden::SessionKey;
use session_warden::clock::{Clock, SystemClock};
use session_warden::key::{ProviderName, SessionId};
use session_warden::store::{
    Attempt, Claim, ClaimId, Commit, Done, Ends, Intent, Outcome, Owner, Statement, Store,
};
use session_warden::token::{Credentials, Tokens};

/// The size of a sealed record with the tokens of [`exchange`], some 500 bytes.
pub(crate) const SEALED: usize = 45 + 768;

/// A claim and a commit. Returns the generation after them.
pub(crate) async fn exchange(
    store: &impl Store,
    id: &SessionId,
    intent: Intent,
    known: Option<(u64, u64)>,
) -> u64 {
    let claim = Claim {
        id: ClaimId(fastrand::u64(..)),
        replaces: None,
        owner: Owner(1),
        intent,
        epoch: known.map(|known| known.0),
        generation: known.map_or(0, |known| known.1),
        lease: Duration::from_secs(20),
        journal: false,
    };
    let claimed = store.apply(id, Statement::Claim(claim)).await;
    let Ok(Outcome::Done(Done { epoch, generation, fence, .. })) = claimed else {
        panic!("no claim: {claimed:?}")
    };
    let tokens = Tokens::new(Arc::from("{}"));
    let tokens = tokens.with_access_token("a".repeat(300), Some(SystemClock::new().now().wall));
    let tokens = tokens.with_refresh_token("r".repeat(200), None);
    let credentials = Arc::new(Credentials::new(tokens, "https://login.example.com", "client"));
    let attempt = Attempt { base: generation, fence, claim: claim.id };
    let hour = Some(Duration::from_secs(3600));
    let ends = Ends { access_in: hour, due_in: hour, ..Ends::default() };
    let commit = Commit { intent, epoch, attempt, credentials, ends };
    match store.apply(id, Statement::Commit(commit)).await {
        Ok(Outcome::Done(done)) => done.generation,
        other => panic!("not stored: {other:?}"),
    }
}

/// The session of this number.
pub(crate) fn id(session: usize) -> SessionId {
    let key = SessionKey::new("tenant", format!("device-{session}")).expect("a key");
    SessionId::new(ProviderName::new("provider").expect("a name"), key)
}
