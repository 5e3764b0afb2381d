//! Random statements on a file and on memory, whose outcomes must be equal, and on a model that has
//! only the rules that callers rely on.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use proptest::prelude::*;
use session_warden::clock::Clock;
use session_warden::error::LostReason;
use session_warden::key::SessionId;
use session_warden::store::{
    Attempt, Claim, ClaimId, Done, DuePage, Failures, Import, Intent, Lose, MemoryStore, Outcome,
    Owner, Phase, Record, RecordFilter, Renew, Reschedule, Restore, Settle, SettleTo, Statement,
    Store, StoreContext, Stored, Suspect, TakeOver,
};

use super::store_folder::{ENDS, Folder, LEASE, access, close, commit, credentials, id, ring};
use crate::support::SECOND;

/// What is asked. Counters are those of the record, less `stale`, so that most statements fit and
/// some come late.
#[derive(Clone, Debug)]
enum Step {
    Claim { intent: Intent, owner: u64, stale: u64, own: bool },
    Renew { attempt: usize },
    Commit { attempt: usize },
    Settle { attempt: usize, to: SettleTo },
    TakeOver { attempt: usize },
    Close { stale: u64 },
    Lose { stale: u64, reason: LostReason },
    Suspect { stale: u64 },
    Reschedule { stale: u64, announced: bool },
    Restore { ahead: u64 },
    Import { ahead: u64, again: bool },
    Delete,
    Later(u64),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let intent = prop_oneof![
        3 => Just(Intent::Establish), 3 => Just(Intent::Refresh), 1 => Just(Intent::Revoke)
    ];
    let reason = || {
        prop_oneof![
            Just(LostReason::Rejected),
            Just(LostReason::Unclassified),
            Just(LostReason::SessionDeleted),
        ]
    };
    let to = prop_oneof![
        Just(SettleTo::Before),
        Just(SettleTo::BeforeSuspect),
        Just(SettleTo::InDoubt),
        reason().prop_map(SettleTo::Lost),
        Just(SettleTo::Revoked),
    ];
    // Which attempt, from the newest.
    let attempt = prop_oneof![8 => Just(0_usize), 2 => 0..4_usize];
    let stale = prop_oneof![8 => Just(0_u64), 2 => 0..3_u64];
    let claim = (intent, 1..3_u64, stale.clone(), any::<bool>())
        .prop_map(|(intent, owner, stale, own)| Step::Claim { intent, owner, stale, own });
    let step = prop_oneof![
        6 => claim,
        2 => attempt.clone().prop_map(|attempt| Step::Renew { attempt }),
        5 => attempt.clone().prop_map(|attempt| Step::Commit { attempt }),
        3 => (attempt.clone(), to).prop_map(|(attempt, to)| Step::Settle { attempt, to }),
        2 => attempt.prop_map(|attempt| Step::TakeOver { attempt }),
        1 => stale.clone().prop_map(|stale| Step::Close { stale }),
        1 => (stale.clone(), reason()).prop_map(|(stale, reason)| Step::Lose { stale, reason }),
        1 => stale.clone().prop_map(|stale| Step::Suspect { stale }),
        1 => (stale, any::<bool>())
            .prop_map(|(stale, announced)| Step::Reschedule { stale, announced }),
        1 => (0..4_u64).prop_map(|ahead| Step::Restore { ahead }),
        1 => (0..5_u64, any::<bool>()).prop_map(|(ahead, again)| Step::Import { ahead, again }),
        1 => Just(Step::Delete),
        2 => (1..30_u64).prop_map(Step::Later),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec((0..2_usize, step), 1..60)
}

/// A claim that was granted, as its holder remembers it.
#[derive(Clone, Copy)]
struct GrantedClaim {
    intent: Intent,
    epoch: u64,
    attempt: Attempt,
}

/// The state of one session that callers rely on.
#[derive(Default)]
struct Model {
    claims: Vec<GrantedClaim>,
    /// No fence is given twice, even after a removal.
    fences: HashSet<u64>,
    /// Credentials that were stored, by their generation: they stay until others come.
    stored: Option<(u64, String)>,
    /// None of these goes down, also not by a delete.
    version: u64,
    epoch: u64,
    generation: u64,
}

impl Model {
    /// Records the effect of a statement.
    fn answered(&mut self, statement: &Statement, answer: &Outcome) {
        let Outcome::Done(done) = answer else { return };
        match statement {
            Statement::Claim(claim) => self.granted(claim, done),
            Statement::Commit(commit) => {
                self.stored = Some((done.generation, commit.attempt.fence.to_string()));
            }
            Statement::Restore(_) | Statement::Import(_) | Statement::Delete => self.stored = None,
            Statement::Renew(_)
            | Statement::Settle(_)
            | Statement::TakeOver(_)
            | Statement::Close(_)
            | Statement::Lose(_)
            | Statement::Suspect(_)
            | Statement::Reschedule(_) => {}
        }
    }

    fn granted(&mut self, claim: &Claim, done: &Done) {
        // An owner that takes its own claim again gets a new fence as well.
        assert!(self.fences.insert(done.fence), "fence {} was given twice", done.fence);
        let attempt = Attempt { base: done.generation, fence: done.fence, claim: claim.id };
        self.claims.push(GrantedClaim { intent: claim.intent, epoch: done.epoch, attempt });
    }

    fn claim(&self, from_newest: usize) -> Option<GrantedClaim> {
        self.claims.iter().rev().nth(from_newest).copied()
    }

    /// A record of another store, whose counters are by so much above those that were seen here.
    fn import(&self, ahead: u64) -> Import {
        let (version, epoch) = (self.version + ahead, self.epoch + ahead);
        let phases = [Phase::Active, Phase::InDoubt, Phase::Lost, Phase::Closed];
        let phase = phases[usize::try_from(ahead).unwrap() % phases.len()];
        let attempt = Attempt { base: epoch, fence: version, claim: ClaimId(8) };
        let (live, closed) = (Some(credentials("imported")), phase == Phase::Closed);
        Import {
            version,
            epoch,
            generation: self.generation + ahead,
            fence: version,
            phase,
            credentials: live.clone().filter(|_| !closed),
            outbox: live.filter(|_| closed),
            made_by: Some(attempt),
            ends: ENDS,
            suspect: ahead == 1,
            lost: (phase == Phase::Lost).then_some(LostReason::Unclassified),
            tries: 3,
            failures: Some(Box::new(Failures { unclassified: 2, ..Failures::default() })),
            failing_for: Some(SECOND * 6),
        }
    }

    /// The record that a store shows must agree with its outcomes.
    fn check(&mut self, record: Option<&Record>) {
        let Some(record) = record else { return };
        assert!(record.version >= self.version, "a version went down");
        assert!(record.epoch >= self.epoch, "an epoch went down");
        assert!(record.generation >= self.generation, "a generation went down");
        (self.version, self.epoch) = (record.version, record.epoch);
        self.generation = record.generation;
        let held = record.credentials.is_some() || record.outbox.is_some();
        assert!(!held || record.made_by.is_some());
        if let Some((_, name)) = self.stored.as_ref().filter(|(g, _)| *g == record.generation) {
            assert_eq!(access(record).unwrap(), format!("access-{name}"));
        }
    }
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

fn same(file: &impl Debug, memory: &impl Debug, step: &Step) {
    assert_eq!(format!("{file:?}"), format!("{memory:?}"), "{step:?}");
}

struct Run {
    folder: Folder,
    /// Both ask the same file.
    files: [session_warden::store::sqlite::SqliteStore; 2],
    memory: MemoryStore,
    models: HashMap<SessionId, Model>,
    turn: usize,
}

impl Run {
    fn new() -> Self {
        let folder = Folder::new();
        let files = [folder.store(), folder.store()];
        let (memory, models) = (MemoryStore::new(), HashMap::new());
        let clock = Arc::new(folder.clock.clone());
        memory.prepare(&StoreContext::new(ring(1), clock)).unwrap();
        Self { folder, files, memory, models, turn: 0 }
    }

    /// Asks both, which must answer alike.
    async fn ask(&mut self, id: &SessionId, statement: Statement, step: &Step) -> Outcome {
        self.turn += 1;
        let file = self.files[self.turn % 2].apply(id, statement.clone()).await.unwrap();
        let memory = self.memory.apply(id, statement).await.unwrap();
        same(&told(&file), &told(&memory), step);
        file
    }

    async fn step(&mut self, id: &SessionId, step: &Step) {
        match step {
            Step::Later(seconds) => self.folder.later(*seconds),
            Step::Reopen => self.reopen().await,
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
            | Step::Delete => {
                let found = self.memory.load(id).await.unwrap();
                let found = found.map(|Stored { record, .. }| record);
                let Some(statement) = self.statement(id, step, found) else { return };
                let answer = self.ask(id, statement.clone(), step).await;
                self.model(id).answered(&statement, &answer);
            }
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
                let (claim_id, owner) = (ClaimId(fastrand::u64(..)), Owner(*owner));
                let replaces = found.as_ref().and_then(|r| r.lease).filter(|_| *own);
                Statement::Claim(Claim {
                    id: claim_id,
                    replaces: replaces.map(|lease| lease.claim),
                    owner,
                    intent: *intent,
                    epoch: found.as_ref().filter(|r| r.phase != Phase::Vacant).map(|r| r.epoch),
                    generation: generation.saturating_sub(*stale),
                    lease: LEASE,
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
                Statement::TakeOver(TakeOver { claim, hold, hold_of_dead: hold, hold_back: hold })
            }
            Step::Close { stale } => close(generation.saturating_sub(*stale)),
            Step::Lose { stale, reason } => {
                let (generation, reason) = (generation.saturating_sub(*stale), *reason);
                Statement::Lose(Lose { epoch, generation, reason })
            }
            Step::Suspect { stale } => {
                let generation = generation.saturating_sub(*stale);
                Statement::Suspect(Suspect { epoch, generation })
            }
            Step::Reschedule { stale, announced } => {
                let version = found.map_or(0, |record| record.version).saturating_sub(*stale);
                let (announced, due_in) = (*announced, Some(SECOND * 5));
                Statement::Reschedule(Reschedule { version, announced, due_in })
            }
            Step::Restore { ahead } => {
                let version = found.map_or(0, |record| record.version) + ahead;
                let generation = generation + ahead;
                let attempt = Attempt { base: generation, fence: version, claim: ClaimId(7) };
                let (credentials, ends) = (credentials("restored"), ENDS);
                let restore = Restore { version, epoch, generation, attempt, credentials, ends };
                Statement::Restore(restore)
            }
            Step::Import { ahead, again } => self.import(id, found.filter(|_| *again), *ahead),
            Step::Delete => Statement::Delete,
            Step::Later(_) | Step::Reopen => return None,
        })
    }

    /// Of the record that is there, or of another.
    fn import(&mut self, id: &SessionId, there: Option<Record>, ahead: u64) -> Statement {
        let stored = there.map(|record| Stored { record, now: self.folder.clock.now() });
        let import = stored.map(|stored| Import::from(&stored));
        Statement::Import(Box::new(import.unwrap_or_else(|| self.model(id).import(ahead))))
    }

    /// One of two processes ends and another begins. The one that goes on is the holder of no
    /// lease then, or leases would end at once, which memory does not do.
    async fn reopen(&mut self) {
        let leased = self.memory.list(&RecordFilter::default(), None, 9).await.unwrap();
        if leased.iter().all(|listed| listed.stored.record.lease.is_none()) {
            self.files[0].shutdown().await;
            self.files[0] = self.folder.store();
        }
    }

    async fn check(&mut self, id: &SessionId, step: &Step) {
        let memory = self.memory.load(id).await.unwrap();
        for file in self.files.clone() {
            let found = file.load(id).await.unwrap().map(|stored| stored.record);
            let expected = memory.as_ref().map(|stored| shown(&stored.record));
            same(&found.as_ref().map(shown), &expected, step);
            let (provider, within) = (id.provider(), 9 * SECOND);
            let due = |page: DuePage| (page.due, page.now);
            let in_file = file.due(provider, within, None, 9).await.map(due);
            same(&in_file, &self.memory.due(provider, within, None, 9).await.map(due), step);
            self.model(id).check(found.as_ref());
        }
    }

    fn model(&mut self, id: &SessionId) -> &mut Model {
        self.models.entry(id.clone()).or_default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_file_two_processes_share_memory_and_the_model_agree_on_any_statements(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new();
            let ids = [id("a"), id("b")];
            for (which, step) in &steps {
                run.step(&ids[*which], step).await;
                run.check(&ids[*which], step).await;
            }
        });
    }
}
