//! What the cases use: a store, a session in it, and short words for statements.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::error::LostReason;
use crate::key::{ProviderName, SessionId, SessionKey};
use crate::store::{
    Attempt, Claim, ClaimId, Close, Commit, Done, DuePage, Ends, Intent, Lose, Outcome, Owner,
    Phase, Record, Settle, SettleTo, Statement, Store, Stored, TakeOver,
};
use crate::token::{Credentials, Tokens};

pub(super) const ALICE: Owner = Owner(0xA11CE);
pub(super) const BOB: Owner = Owner(0xB0B);

/// What is not over when a case ends: none runs as long.
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// How long claims hold.
pub(super) const LEASE: Duration = HOUR;

/// When credentials end, where a case does not say it.
pub(super) const ENDS: Ends = Ends {
    access_in: Some(HOUR),
    refresh_in: None,
    due_in: Some(HOUR),
    announce_in: None,
    retry_in: None,
};

/// How far a time may be from what was asked for: a case may be slow, and a store may round.
const SLOW: Duration = Duration::from_secs(600);
const ROUNDED: Duration = Duration::from_secs(1);

/// A store and the session that the case is about.
#[derive(Clone)]
pub(super) struct Fixture {
    pub(super) store: Arc<dyn Store>,
    pub(super) id: SessionId,
}

/// A claim that was granted: all that its end must name.
#[derive(Clone, Copy, Debug)]
pub(super) struct GrantedClaim {
    pub(super) intent: Intent,
    pub(super) epoch: u64,
    pub(super) attempt: Attempt,
}

impl GrantedClaim {
    pub(super) fn id(&self) -> ClaimId {
        self.attempt.claim
    }
}

impl Fixture {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, id: id("provider", "tenant", "device") }
    }

    /// The same store, another session.
    pub(super) fn of(&self, id: SessionId) -> Self {
        Self { store: Arc::clone(&self.store), id }
    }

    pub(super) fn named(&self, name: &str) -> Self {
        self.of(id("provider", "tenant", name))
    }

    pub(super) async fn load(&self) -> Option<Stored> {
        self.store.load(&self.id).await.unwrap()
    }

    pub(super) async fn stored(&self) -> Stored {
        self.load().await.unwrap()
    }

    pub(super) async fn record(&self) -> Record {
        self.stored().await.record
    }

    pub(super) async fn apply(&self, statement: Statement) -> Outcome {
        self.store.apply(&self.id, statement).await.unwrap()
    }

    pub(super) async fn claim(&self, claim: Claim) -> Outcome {
        self.apply(Statement::Claim(claim)).await
    }

    /// A claim on the record as it is, which is not asked yet.
    pub(super) async fn next_claim(&self, owner: Owner, intent: Intent) -> Claim {
        let found = self.load().await.map(|stored| stored.record.counters());
        claim(owner, intent, found)
    }

    /// A claim that must be granted, on the record as it is.
    pub(super) async fn granted(&self, owner: Owner, intent: Intent) -> GrantedClaim {
        let claim = self.next_claim(owner, intent).await;
        self.granted_as(claim).await
    }

    /// The claim of a holder that falls silent at once.
    pub(super) async fn silent(&self, owner: Owner, intent: Intent) -> GrantedClaim {
        let claim = self.next_claim(owner, intent).await;
        self.granted_as(Claim { lease: Duration::ZERO, ..claim }).await
    }

    pub(super) async fn granted_as(&self, claim: Claim) -> GrantedClaim {
        let Done { epoch, generation, fence, .. } = done(self.claim(claim).await);
        let attempt = Attempt { base: generation, fence, claim: claim.id };
        GrantedClaim { intent: claim.intent, epoch, attempt }
    }

    pub(super) async fn commit(&self, claim: GrantedClaim, name: &str) -> Outcome {
        self.commit_with(claim, name, ENDS).await
    }

    pub(super) async fn commit_with(&self, claim: GrantedClaim, name: &str, ends: Ends) -> Outcome {
        let GrantedClaim { intent, epoch, attempt } = claim;
        let commit = Commit { intent, epoch, attempt, credentials: credentials(name), ends };
        self.apply(Statement::Commit(commit)).await
    }

    /// A settle after which nothing is waited for.
    pub(super) async fn settle(&self, claim: GrantedClaim, to: SettleTo) -> Outcome {
        self.settle_for(claim, to, None).await
    }

    pub(super) async fn settle_for(
        &self,
        claim: GrantedClaim,
        to: SettleTo,
        retry_in: Option<Duration>,
    ) -> Outcome {
        let due_in = match to {
            SettleTo::Lost(reason) if reason.is_provisional() => retry_in,
            SettleTo::Before if self.is_lost_or_closed().await => retry_in,
            SettleTo::Lost(_) => None,
            SettleTo::Before | SettleTo::BeforeSuspect | SettleTo::InDoubt | SettleTo::Revoked => {
                self.store.load(&self.id).await.unwrap().and_then(|stored| stored.due_in())
            }
        };
        self.settle_until(claim, (to, retry_in), due_in).await
    }

    pub(super) async fn settle_until(
        &self,
        claim: GrantedClaim,
        (to, retry_in): (SettleTo, Option<Duration>),
        due_in: Option<Duration>,
    ) -> Outcome {
        let GrantedClaim { epoch, attempt, .. } = claim;
        let settle = Settle { epoch, attempt, to, retry_in, due_in, failures: None };
        self.apply(Statement::Settle(settle)).await
    }

    async fn is_lost_or_closed(&self) -> bool {
        let stored = self.store.load(&self.id).await.unwrap();
        let phase = stored.map(|stored| stored.record.phase);
        matches!(phase, Some(Phase::Lost | Phase::Closed))
    }

    /// A take-over that waits for nothing but the end of the lease.
    pub(super) async fn take_over(&self, claim: ClaimId) -> Outcome {
        self.take_over_after(claim, Duration::ZERO, Duration::ZERO).await
    }

    pub(super) async fn take_over_after(
        &self,
        claim: ClaimId,
        hold: Duration,
        hold_of_dead: Duration,
    ) -> Outcome {
        let (hold_of_journal, hold_back) = (Duration::ZERO, Duration::ZERO);
        let take_over = TakeOver { claim, hold, hold_of_dead, hold_of_journal, hold_back };
        self.apply(Statement::TakeOver(take_over)).await
    }

    /// A take-over that waits for what may be in the holder's journal.
    pub(super) async fn take_over_after_journal(
        &self,
        claim: ClaimId,
        hold_of_journal: Duration,
    ) -> Outcome {
        let none = Duration::ZERO;
        let (hold, hold_of_dead, hold_back) = (none, none, none);
        let take_over = TakeOver { claim, hold, hold_of_dead, hold_of_journal, hold_back };
        self.apply(Statement::TakeOver(take_over)).await
    }

    /// A close by Alice.
    pub(super) async fn close(&self, generation: u64) -> Outcome {
        let claim = ClaimId::random();
        let close = Close { generation, claim, owner: ALICE, lease: LEASE };
        self.apply(Statement::Close(close)).await
    }

    /// A close that must be done, with the claim under which the server hears of it.
    pub(super) async fn closed(&self) -> GrantedClaim {
        let generation = self.record().await.generation;
        let claim = ClaimId::random();
        self.closed_as(Close { generation, claim, owner: ALICE, lease: LEASE }).await
    }

    pub(super) async fn closed_as(&self, close: Close) -> GrantedClaim {
        let Done { epoch, generation, fence, phase, .. } =
            done(self.apply(Statement::Close(close)).await);
        assert_eq!(phase, Phase::Closed);
        let attempt = Attempt { base: generation, fence, claim: close.claim };
        GrantedClaim { intent: Intent::Revoke, epoch, attempt }
    }

    /// The session closed, and its server not informed: no process has claimed that.
    pub(super) async fn uninformed(&self) {
        self.established().await;
        let closed = self.closed().await;
        done(self.settle(closed, SettleTo::Before).await);
    }

    /// A loss of the session as it is.
    pub(super) async fn lose(&self, reason: LostReason) -> Outcome {
        let (epoch, generation) = self.record().await.counters();
        self.apply(Statement::Lose(Lose { epoch, generation, reason })).await
    }

    pub(super) async fn delete(&self) -> Outcome {
        self.apply(Statement::Delete).await
    }

    /// The session after its first grant, which gave `access-first`.
    pub(super) async fn established(&self) -> GrantedClaim {
        let grant = self.granted(ALICE, Intent::Establish).await;
        let (epoch, generation) = (grant.epoch + 1, grant.attempt.base + 1);
        is_stored(self.commit(grant, "first").await, epoch, generation);
        grant
    }

    /// The session after its first grant, with a refresh claimed by Alice.
    pub(super) async fn refreshing(&self) -> GrantedClaim {
        self.established().await;
        self.granted(ALICE, Intent::Refresh).await
    }

    /// The session after its first grant, with a refresh claimed by Alice, who no longer renews it.
    pub(super) async fn silently_refreshing(&self) -> GrantedClaim {
        self.established().await;
        self.silent(ALICE, Intent::Refresh).await
    }

    /// The session after a refresh that was rejected.
    pub(super) async fn lost(&self) -> GrantedClaim {
        let refresh = self.refreshing().await;
        done(self.settle(refresh, SettleTo::Lost(LostReason::LostInDoubt)).await);
        refresh
    }

    /// Counters, phase and access token, which say most of a record.
    pub(super) async fn gist(&self) -> Gist {
        let record = self.record().await;
        (record.epoch, record.generation, record.phase, access(record.credentials.as_deref()))
    }

    /// Whose claim is on the record.
    pub(super) async fn claimed_by(&self) -> Option<ClaimId> {
        self.record().await.lease.map(|lease| lease.claim)
    }

    pub(super) async fn is_suspect(&self) -> bool {
        self.record().await.suspect
    }

    pub(super) async fn due(&self) -> DuePage {
        self.store.due(self.id.provider(), 1000 * HOUR, None, 1000).await.unwrap()
    }

    /// Whether the schedule looks at it, now or later.
    pub(super) async fn is_to_be_looked_at(&self) -> bool {
        self.record().await.due_at.is_some()
    }

    pub(super) async fn is_due(&self) -> bool {
        self.due().await.due.iter().any(|due| due.id == self.id)
    }
}

/// Runs all of them at once, each on a thread of its own: the runtime of a test may have but one.
pub(super) async fn at_once<T: Send + 'static>(
    futures: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let here = Handle::current();
    let threads = futures.map(|future| {
        let here = here.clone();
        spawn_blocking(move || here.block_on(future))
    });
    // All are started before the first is awaited.
    let threads: Vec<_> = threads.collect();
    join_all(threads).await.into_iter().map(|ended| ended.unwrap()).collect()
}

/// A new claim by a process that knows these counters, or no session.
pub(super) fn claim(owner: Owner, intent: Intent, known: Option<(u64, u64)>) -> Claim {
    let (epoch, generation) = known.unzip();
    let (id, generation) = (ClaimId::random(), generation.unwrap_or_default());
    let (replaces, lease, journal) = (None, LEASE, false);
    Claim { id, replaces, owner, intent, epoch, generation, lease, journal }
}

/// A statement that must be done.
#[track_caller]
pub(super) fn done(outcome: Outcome) -> Done {
    let Outcome::Done(done) = outcome else { panic!("it is not done: {outcome:?}") };
    done
}

/// A commit that must be stored, and not as suspect.
#[track_caller]
pub(super) fn is_stored(outcome: Outcome, epoch: u64, generation: u64) {
    let done = done(outcome);
    assert_eq!((done.epoch, done.generation, done.phase), (epoch, generation, Phase::Active));
    assert!(!done.suspect, "{done:?}");
}

/// A statement that must find another record than it knew; which, if any.
#[track_caller]
pub(super) fn conflict(outcome: Outcome) -> Option<Record> {
    let Outcome::Conflict(found) = outcome else { panic!("it is no conflict: {outcome:?}") };
    found.map(|found| found.record)
}

/// A statement that must find another claim; the record.
#[track_caller]
pub(super) fn leased(outcome: Outcome) -> Stored {
    let Outcome::Leased(found) = outcome else {
        panic!("it is not held back by a claim: {outcome:?}")
    };
    found
}

/// A statement that must come too early; for how long, and the record.
#[track_caller]
pub(super) fn too_early(outcome: Outcome) -> (Duration, Record) {
    let Outcome::Wait { left, found } = outcome else { panic!("it is not too early: {outcome:?}") };
    (left, found.record)
}

/// This much is left, but for what the case and the store took of it.
#[track_caller]
pub(super) fn is_about(left: Option<Duration>, asked: Duration) {
    let near = left.is_some_and(|left| left <= asked + ROUNDED && left + SLOW >= asked);
    assert!(near, "{left:?} is not about {asked:?}");
}

/// Epoch, generation, phase and access token of a record.
pub(super) type Gist = (u64, u64, Phase, String);

pub(super) fn gist(epoch: u64, generation: u64, phase: Phase, name: &str) -> Gist {
    (epoch, generation, phase, format!("access-{name}"))
}

pub(super) fn id(provider: &str, tenant: &str, name: &str) -> SessionId {
    let key = SessionKey::new(tenant, name).unwrap();
    SessionId::new(ProviderName::new(provider).unwrap(), key)
}

/// Credentials that differ by name: `access-name` and `refresh-name`.
pub(super) fn credentials(name: &str) -> Arc<Credentials> {
    let attributes: Arc<str> = Arc::from(format!("{{\"name\":\"{name}\"}}"));
    let tokens = Tokens::new(attributes)
        .with_access_token(format!("access-{name}"), Some(wall(900)))
        .with_refresh_token(format!("refresh-{name}"), None);
    Arc::new(Credentials::new(tokens, "https://login.example.com", "client"))
}

pub(super) fn access(credentials: Option<&Credentials>) -> String {
    let token = credentials.and_then(|credentials| credentials.tokens().access_token());
    token.map_or_else(String::new, |token| token.expose_secret().to_owned())
}

/// A time in credentials, in whole seconds, which every store can keep.
pub(super) fn wall(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_735_689_600 + seconds)
}
