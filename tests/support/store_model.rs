//! Random statements on stores and on memory, whose outcomes must be equal, and on a model that has
//! only the rules that callers rely on.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where a store fails, and not each program here uses everything"
)]

#[path = "store_model/file.rs"]
mod file;
#[path = "store_model/rules.rs"]
mod rules;
#[path = "store_model/steps.rs"]
mod steps;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use session_warden::clock::Clock;
use session_warden::key::SessionId;
use session_warden::store::{
    Attempt, Claim, ClaimId, Close, DuePage, Failures, Import, Lose, MemoryStore, Outcome, Owner,
    Phase, Presence, Record, RecordFilter, Renew, Reschedule, Restore, Settle, Statement, Store,
    StoreContext, Stored, Suspect, TakeOver,
};
use session_warden::testing::ManualClock;

pub use self::file::File;
use self::rules::{GrantedClaim, Model};
pub use self::steps::{Asked, Step, walks};
use crate::store_statements::{ENDS, LEASE, access, commit, credentials, id, ring};

const SECOND: Duration = Duration::from_secs(1);

/// How many handles a database has.
pub const HANDLES: usize = 2;

/// A database with several handles, as several processes have them.
#[async_trait(?Send)]
pub trait Database {
    /// One of the handles.
    fn handle(&self, number: usize) -> &dyn Store;

    /// Those that see what the handles do.
    fn observers(&self) -> Vec<&dyn Store>;

    /// Applies a statement through a handle. It writes once and its answer is lost, if so said: its
    /// sender, or the store itself, sends it a second time.
    async fn apply(
        &self,
        handle: usize,
        (id, statement): (&SessionId, Statement),
        is_lost: bool,
    ) -> Outcome {
        if is_lost {
            self.handle(handle).apply(id, statement.clone()).await.unwrap();
        }
        self.handle(handle).apply(id, statement).await.unwrap()
    }

    /// The clock was moved.
    async fn time_has_passed(&self) {}

    /// A process with this handle ends and another one begins.
    async fn reopen(&mut self, handle: usize, is_leased: bool);
}

/// A record as text, its secrets included, because its `Debug` shows none.
fn shown(record: &Record) -> String {
    let outbox = record.outbox.as_ref().map(|outbox| {
        outbox.tokens().refresh_token().map(|token| token.expose_secret().to_owned())
    });
    format!("{record:?} {:?} {outbox:?}", access(record))
}

/// An outcome with its record, as text.
fn told(outcome: &Outcome) -> String {
    let record = match outcome {
        Outcome::Done(_) | Outcome::Conflict(None) => None,
        Outcome::Conflict(Some(found)) | Outcome::Leased(found) | Outcome::Wait { found, .. } => {
            Some(shown(&found.record))
        }
    };
    format!("{outcome:?} {record:?}")
}

fn same(database: &impl Debug, memory: &impl Debug, asked: &Asked) {
    assert_eq!(format!("{database:?}"), format!("{memory:?}"), "{asked:?}");
}

/// Databases, memory and the model at one walk.
pub struct Run {
    clock: ManualClock,
    /// The same time as the databases show it.
    shown: Arc<dyn Clock>,
    databases: Vec<Box<dyn Database>>,
    memory: MemoryStore,
    models: HashMap<SessionId, Model>,
    /// All statements, in their order.
    sent: Vec<(SessionId, Statement)>,
    /// How many supervisors with this number have ended.
    retired: HashMap<u64, u64>,
    /// The number of the next claim.
    next: u64,
}

impl Run {
    /// `shown` is the clock as the databases show it.
    pub fn new(
        clock: ManualClock,
        shown: Arc<dyn Clock>,
        databases: Vec<Box<dyn Database>>,
    ) -> Self {
        let memory = MemoryStore::new();
        memory.prepare(&StoreContext::new(ring(1), Arc::clone(&shown))).unwrap();
        let (models, retired) = (HashMap::new(), HashMap::new());
        Self { clock, shown, databases, memory, models, sent: Vec::new(), retired, next: 100 }
    }

    /// Walks from step to step, and compares all after each.
    pub async fn walk(&mut self, walk: &[Asked]) {
        let ids = [id("a"), id("b")];
        for asked in walk {
            self.step(&ids[asked.session], asked).await;
            self.check(&ids[asked.session], asked).await;
        }
    }

    async fn step(&mut self, id: &SessionId, asked: &Asked) {
        match &asked.step {
            Step::Later(seconds) => {
                self.clock.suspend(Duration::from_secs(*seconds));
                for database in &self.databases {
                    database.time_has_passed().await;
                }
            }
            Step::Reopen => self.reopen(asked.handle).await,
            Step::Retire { owner } => self.retire(*owner, asked.handle).await,
            Step::Claim { .. }
            | Step::Renew { .. }
            | Step::Commit { .. }
            | Step::Settle { .. }
            | Step::TakeOver { .. }
            | Step::Close { .. }
            | Step::Lose { .. }
            | Step::Suspect { .. }
            | Step::Reschedule { .. }
            | Step::Restore { .. }
            | Step::Import { .. }
            | Step::RemoveEnded(_)
            | Step::Delete
            | Step::Again { .. } => {
                let found = self.memory.load(id).await.unwrap();
                let found = found.map(|Stored { record, .. }| record);
                let Some(statement) = self.statement(id, &asked.step, found) else { return };
                self.sent.push((id.clone(), statement.clone()));
                self.ask(id, statement, asked).await;
            }
        }
    }

    /// Asks memory and all databases, which must answer alike.
    async fn ask(&mut self, id: &SessionId, statement: Statement, asked: &Asked) {
        let before = self.memory.load(id).await.unwrap();
        let mut outcome = self.memory.apply(id, statement.clone()).await.unwrap();
        self.model(id).answered(&statement, &outcome);
        let after = self.memory.load(id).await.unwrap();
        let record = |stored: &Option<Stored>| stored.as_ref().map(|stored| shown(&stored.record));
        let is_lost = asked.is_lost && record(&before) != record(&after);
        if is_lost {
            outcome = self.memory.apply(id, statement.clone()).await.unwrap();
            self.model(id).answered(&statement, &outcome);
        }
        for database in &self.databases {
            if asked.looks || is_lost {
                database.handle(asked.handle).load(id).await.unwrap();
            }
            let sent = (id, statement.clone());
            let answer = database.apply(asked.handle, sent, is_lost).await;
            same(&told(&answer), &told(&outcome), asked);
        }
    }

    /// The statement of a step; none if its attempt was never made.
    fn statement(
        &mut self,
        id: &SessionId,
        step: &Step,
        found: Option<Record>,
    ) -> Option<Statement> {
        let (epoch, generation) = found.as_ref().map_or((0, 0), |r| (r.epoch, r.generation));
        let mut claim = |attempt: &usize| self.model(id).claim(*attempt);
        Some(match step {
            Step::Claim { intent, owner, stale, own } => {
                let (claim_id, owner) = (self.fresh(), self.owner(*owner));
                let replaces = found.as_ref().and_then(|r| r.lease).filter(|_| *own);
                Statement::Claim(Claim {
                    id: claim_id,
                    replaces: replaces.map(|lease| lease.claim),
                    owner,
                    intent: *intent,
                    epoch: found.as_ref().filter(|r| r.phase != Phase::Vacant).map(|r| r.epoch),
                    generation: generation.saturating_sub(*stale),
                    lease: LEASE,
                    journal: *own,
                })
            }
            Step::Renew { attempt } => {
                Statement::Renew(Renew { claim: claim(attempt)?.attempt.claim, lease: LEASE })
            }
            Step::Commit { attempt } => {
                let GrantedClaim { intent, epoch, attempt } = claim(attempt)?;
                // One exchange has one answer, however often it is committed.
                commit(intent, (epoch, attempt), &attempt.fence.to_string())
            }
            Step::Settle { attempt, to } => {
                let (GrantedClaim { epoch, attempt, .. }, to) = (claim(attempt)?, *to);
                let (retry_in, due_in) = (Some(SECOND * 3), Some(SECOND * 4));
                let failures = Some(Box::new(Failures { unclassified: 1, ..Failures::default() }));
                Statement::Settle(Settle { epoch, attempt, to, retry_in, due_in, failures })
            }
            Step::TakeOver { attempt } => {
                let (claim, hold) = (claim(attempt)?.attempt.claim, SECOND);
                Statement::TakeOver(TakeOver {
                    claim,
                    hold,
                    hold_of_dead: hold,
                    hold_of_journal: 2 * hold,
                    hold_back: hold,
                })
            }
            Step::Again { back } => self.again(id, *back)?,
            Step::RemoveEnded(keep) => Statement::RemoveEnded { keep: Duration::from_secs(*keep) },
            Step::Delete => Statement::Delete,
            Step::Later(_) | Step::Reopen | Step::Retire { .. } => return None,
            Step::Close { .. }
            | Step::Lose { .. }
            | Step::Suspect { .. }
            | Step::Reschedule { .. }
            | Step::Restore { .. }
            | Step::Import { .. } => self.unclaimed(id, step, found, (epoch, generation))?,
        })
    }

    /// What is written without a claim.
    fn unclaimed(
        &mut self,
        id: &SessionId,
        step: &Step,
        found: Option<Record>,
        (epoch, generation): (u64, u64),
    ) -> Option<Statement> {
        let version = found.as_ref().map_or(0, |record| record.version);
        Some(match step {
            Step::Close { stale } => {
                let generation = generation.saturating_sub(*stale);
                let (claim, owner) = (self.fresh(), self.owner(1));
                Statement::Close(Close { generation, claim, owner, lease: LEASE })
            }
            Step::Lose { stale, reason } => {
                let (generation, reason) = (generation.saturating_sub(*stale), *reason);
                Statement::Lose(Lose { epoch, generation, reason })
            }
            Step::Suspect { stale } => {
                let generation = generation.saturating_sub(*stale);
                Statement::Suspect(Suspect { epoch, generation })
            }
            Step::Reschedule { stale, announced } => {
                let (announced, due_in) = (*announced, Some(SECOND * 5));
                let version = version.saturating_sub(*stale);
                Statement::Reschedule(Reschedule { version, announced, due_in })
            }
            Step::Restore { ahead } => {
                let (version, generation) = (version + ahead, generation + ahead);
                let attempt = Attempt { base: generation, fence: version, claim: ClaimId(7) };
                let (credentials, ends) = (credentials("restored"), ENDS);
                let restore = Restore { version, epoch, generation, attempt, credentials, ends };
                Statement::Restore(restore)
            }
            Step::Import { ahead, again } => self.import(id, found.filter(|_| *again), *ahead),
            Step::Claim { .. }
            | Step::Renew { .. }
            | Step::Commit { .. }
            | Step::Settle { .. }
            | Step::TakeOver { .. }
            | Step::RemoveEnded(_)
            | Step::Delete
            | Step::Again { .. }
            | Step::Later(_)
            | Step::Reopen
            | Step::Retire { .. } => return None,
        })
    }

    /// Of the record that is there, or of another.
    fn import(&mut self, id: &SessionId, there: Option<Record>, ahead: u64) -> Statement {
        let stored = there.map(|record| Stored { record, now: self.shown.now() });
        let import = stored.map(|stored| Import::from(&stored));
        Statement::Import(Box::new(import.unwrap_or_else(|| self.model(id).import(ahead))))
    }

    /// A statement that was sent before, or arrives only now. None of a supervisor that has ended:
    /// it sends nothing.
    fn again(&self, id: &SessionId, back: usize) -> Option<Statement> {
        let mut sent = self.sent.iter().rev().filter(|(of, _)| of == id);
        let statement = sent.nth(back).map(|(_, statement)| statement.clone())?;
        let owner = match &statement {
            Statement::Claim(claim) => Some(claim.owner),
            Statement::Close(close) => Some(close.owner),
            Statement::Renew(_)
            | Statement::Commit(_)
            | Statement::Settle(_)
            | Statement::TakeOver(_)
            | Statement::Lose(_)
            | Statement::Suspect(_)
            | Statement::Reschedule(_)
            | Statement::Restore(_)
            | Statement::Import(_)
            | Statement::RemoveEnded { .. }
            | Statement::Delete => None,
        };
        let lives = owner.is_none_or(|owner| self.owner(owner.0 % 10) == owner);
        lives.then_some(statement)
    }

    /// The supervisor that has this number now.
    fn owner(&self, number: u64) -> Owner {
        Owner(number + 10 * self.retired.get(&number).copied().unwrap_or(0))
    }

    async fn retire(&mut self, number: u64, handle: usize) {
        let owner = self.owner(number);
        self.memory.presence(owner, Presence::Retire).await.unwrap();
        for database in &self.databases {
            database.handle(handle).presence(owner, Presence::Retire).await.unwrap();
        }
        *self.retired.entry(number).or_default() += 1;
    }

    async fn reopen(&mut self, handle: usize) {
        let listed = self.memory.list(&RecordFilter::default(), None, 9).await.unwrap();
        let is_leased = listed.iter().any(|listed| listed.stored.record.lease.is_some());
        for database in &mut self.databases {
            database.reopen(handle, is_leased).await;
        }
    }

    async fn check(&mut self, id: &SessionId, asked: &Asked) {
        let memory = self.memory.load(id).await.unwrap();
        let expected = memory.as_ref().map(|stored| shown(&stored.record));
        let (provider, within) = (id.provider(), 9 * SECOND);
        for database in &self.databases {
            let due = |page: DuePage| (page.due, page.now);
            let expected_due = self.memory.due(provider, within, None, 9).await.map(due);
            for observer in database.observers() {
                let found = observer.load(id).await.unwrap().map(|stored| stored.record);
                same(&found.as_ref().map(shown), &expected, asked);
                same(&observer.due(provider, within, None, 9).await.map(due), &expected_due, asked);
            }
        }
        self.model(id).check(memory.as_ref().map(|stored| &stored.record));
    }

    fn fresh(&mut self) -> ClaimId {
        self.next += 1;
        ClaimId(self.next)
    }

    fn model(&mut self, id: &SessionId) -> &mut Model {
        self.models.entry(id.clone()).or_default()
    }
}
