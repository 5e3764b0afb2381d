//! The store of a process, which reports each statement and how long it took.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use session_warden::key::{ProviderName, SessionId};
use session_warden::seal::KeyRing;
use session_warden::store::{
    Attempt, Changes, Cursor, Due, DuePage, Intent, Listed, LoginClaim, LoginOutcome, Outcome,
    Owner, Presence, RecordFilter, Resealed, SettleTo, Statement, Store, StoreContext, StoreError,
    Stored,
};

use super::child::{DEED, write};
use super::orders::{Deed, Did, Seen, Span, Took, boot_now, hash, name_of};

pub struct Witness {
    inner: Arc<dyn Store>,
    took: Mutex<Took>,
}

impl Witness {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, took: Mutex::default() }
    }

    pub fn took(&self) -> Took {
        self.took.lock().unwrap().clone()
    }

    /// Reports it before the caller can go on.
    pub fn tell(&self, start: u64, key: String, what: Did) {
        let (pid, end) = (std::process::id(), boot_now());
        write(DEED, &Deed { pid, start, end, key, what });
    }

    async fn read<T>(&self, statement: impl Future<Output = T>) -> T {
        let (answer, took) = measured(statement).await;
        self.took.lock().unwrap().reads.push(took);
        answer
    }

    async fn write<T>(&self, statement: impl Future<Output = T>) -> T {
        let (answer, took) = measured(statement).await;
        self.took.lock().unwrap().writes.push(took);
        answer
    }
}

async fn measured<T>(statement: impl Future<Output = T>) -> (T, Span) {
    let from = boot_now();
    let answer = statement.await;
    (answer, Span { from, until: boot_now() })
}

/// The parts of a statement that are reported: the statement is consumed before its outcome is
/// known.
enum Asked {
    /// A claim for a refresh.
    Refresh {
        base: u64,
    },
    /// Credentials, of which `token` is the hash of the access token.
    Credentials {
        attempt: Attempt,
        token: String,
        grant: bool,
    },
    /// The end of an attempt, with any outcome.
    End {
        attempt: Attempt,
        in_doubt: bool,
    },
    Close,
    Other,
}

impl Asked {
    fn of(statement: &Statement) -> Self {
        match statement {
            Statement::Claim(claim) if claim.intent == Intent::Refresh => {
                Self::Refresh { base: claim.generation }
            }
            Statement::Commit(commit) => {
                let access = commit.credentials.tokens().access_token();
                let token = access.map(|access| hash(access.expose_secret())).unwrap_or_default();
                let grant = commit.intent == Intent::Establish;
                Self::Credentials { attempt: commit.attempt, token, grant }
            }
            Statement::Settle(settle) => {
                let in_doubt = matches!(settle.to, SettleTo::InDoubt | SettleTo::BeforeSuspect);
                Self::End { attempt: settle.attempt, in_doubt }
            }
            Statement::Close(_) => Self::Close,
            Statement::Claim(_)
            | Statement::Renew(_)
            | Statement::TakeOver(_)
            | Statement::Lose(_)
            | Statement::Suspect(_)
            | Statement::Reschedule(_)
            | Statement::Restore(_)
            | Statement::Import(_)
            | Statement::RemoveEnded { .. }
            | Statement::Delete => Self::Other,
        }
    }

    /// The report of it.
    fn deed(self, outcome: &Result<Outcome, StoreError>) -> Option<Did> {
        match (self, outcome) {
            (Self::End { attempt, in_doubt }, _) => {
                Some(Did::Ended { fence: attempt.fence, in_doubt })
            }
            (Self::Refresh { base }, Ok(Outcome::Done(done))) => {
                Some(Did::Claimed { base, fence: done.fence })
            }
            (Self::Credentials { attempt, token, grant }, Ok(Outcome::Done(done))) => {
                let (epoch, generation, fence) = (done.epoch, done.generation, attempt.fence);
                Some(Did::Stored { epoch, generation, token, grant, fence })
            }
            (Self::Credentials { attempt, .. }, Ok(Outcome::Conflict(_))) => {
                Some(Did::Superseded { fence: attempt.fence })
            }
            (Self::Close, Ok(Outcome::Done(done))) => {
                Some(Did::Closed { generation: done.generation })
            }
            _ => None,
        }
    }
}

#[async_trait]
impl Store for Witness {
    fn prepare(&self, context: &StoreContext) -> Result<(), StoreError> {
        self.inner.prepare(context)
    }

    fn key_ring(&self) -> Option<KeyRing> {
        self.inner.key_ring()
    }

    async fn presence(&self, owner: Owner, presence: Presence) -> Result<(), StoreError> {
        self.write(self.inner.presence(owner, presence)).await
    }

    async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        self.write(self.inner.reseal(limit)).await
    }

    async fn claim_login(&self, claim: &LoginClaim) -> Result<Option<LoginOutcome>, StoreError> {
        self.inner.claim_login(claim).await
    }

    async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError> {
        let start = boot_now();
        let found = self.read(self.inner.load(id)).await;
        if let Ok(Some(found)) = &found {
            self.tell(start, name_of(id), Did::Saw(Seen::of(&found.record)));
        }
        found
    }

    async fn load_many(&self, ids: &[SessionId]) -> Vec<Result<Option<Stored>, StoreError>> {
        let start = boot_now();
        let read = self.read(self.inner.load_many(ids)).await;
        for (id, found) in ids.iter().zip(&read) {
            if let Ok(Some(found)) = found {
                self.tell(start, name_of(id), Did::Saw(Seen::of(&found.record)));
            }
        }
        read
    }

    async fn apply(&self, id: &SessionId, statement: Statement) -> Result<Outcome, StoreError> {
        let (start, asked) = (boot_now(), Asked::of(&statement));
        let outcome = self.write(self.inner.apply(id, statement)).await;
        if let Some(deed) = asked.deed(&outcome) {
            self.tell(start, name_of(id), deed);
        }
        if let Ok(
            Outcome::Conflict(Some(found)) | Outcome::Leased(found) | Outcome::Wait { found, .. },
        ) = &outcome
        {
            self.tell(start, name_of(id), Did::Saw(Seen::of(&found.record)));
        }
        outcome
    }

    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        self.read(self.inner.due(provider, within, after, limit)).await
    }

    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        self.read(self.inner.list(filter, after, limit)).await
    }

    /// Not measured: a feed may wait until there is a change.
    async fn changes(
        &self,
        since: Option<&Cursor>,
        limit: usize,
    ) -> Result<Option<Changes>, StoreError> {
        self.inner.changes(since, limit).await
    }
}
