//! Random statements, asked of a file and of memory, which must answer alike; and of a model that
//! knows no more than what callers rely on.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::time::Duration;

use proptest::prelude::*;
use session_warden::error::LostReason;
use session_warden::key::SessionId;
use session_warden::store::{
    Attempt, Claim, Claimed, Close, Closed, Commit, Committed, Filter, Intent, MemoryStore, Owner,
    Phase, Record, Settle, SettleTo, Store, TakeOver,
};

use super::bed::{Folder, access, credentials, id, now, wall};

/// What is asked. Counters are those of the record, less `stale`, so that most statements fit and
/// some come late.
#[derive(Clone, Debug)]
enum Step {
    Claim { intent: Intent, owner: u64, stale: u64 },
    Commit { attempt: usize },
    Settle { attempt: usize, to: SettleTo },
    TakeOver { stale: u64 },
    Close { stale: u64 },
    Outbox { stale: u64 },
    Delete,
    Later(u64),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let intent = prop_oneof![Just(Intent::Establish), Just(Intent::Refresh)];
    let to = prop_oneof![
        Just(SettleTo::Before),
        Just(SettleTo::BeforeSuspect),
        Just(SettleTo::InDoubt),
        Just(SettleTo::Lost(LostReason::Rejected)),
    ];
    // Which attempt, from the newest.
    let attempt = prop_oneof![8 => Just(0_usize), 2 => 0..4_usize];
    let stale = prop_oneof![8 => Just(0_u64), 2 => 0..3_u64];
    let claim = (intent, 1..3_u64, stale.clone()).prop_map(|(intent, owner, stale)| Step::Claim {
        intent,
        owner,
        stale,
    });
    let step = prop_oneof![
        6 => claim,
        5 => attempt.clone().prop_map(|attempt| Step::Commit { attempt }),
        3 => (attempt, to).prop_map(|(attempt, to)| Step::Settle { attempt, to }),
        2 => stale.clone().prop_map(|stale| Step::TakeOver { stale }),
        1 => stale.clone().prop_map(|stale| Step::Close { stale }),
        1 => stale.prop_map(|stale| Step::Outbox { stale }),
        1 => Just(Step::Delete),
        2 => (1..30_u64).prop_map(Step::Later),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec((0..2_usize, step), 1..60)
}

/// A claim that was granted, as its holder remembers it.
#[derive(Clone, Copy)]
struct Grip {
    intent: Intent,
    epoch: u64,
    attempt: Attempt,
}

/// What callers rely on, of one session.
#[derive(Default)]
struct Model {
    grips: Vec<Grip>,
    /// No fence is given twice, whatever was removed.
    fences: HashSet<u64>,
    /// Credentials that were stored, by their generation: they stay until others come.
    stored: Option<(u64, String)>,
    /// Since the last delete.
    generation: u64,
}

impl Model {
    fn granted(&mut self, claim: &Claim, base: u64, fence: u64) {
        // An owner that takes its own claim again gets a new fence as well.
        assert!(self.fences.insert(fence), "fence {fence} was given twice");
        let (intent, epoch) = (claim.intent, claim.epoch);
        self.grips.push(Grip { intent, epoch, attempt: Attempt { base, fence } });
    }

    fn grip(&self, from_newest: usize) -> Option<Grip> {
        self.grips.iter().rev().nth(from_newest).copied()
    }

    fn committed(&mut self, name: String, answer: Committed) {
        if let Committed::Stored { generation, .. } = answer {
            assert!(generation >= self.generation);
            self.generation = generation;
            self.stored = Some((generation, name));
        }
    }

    /// What a store shows must be what it answered for.
    fn check(&mut self, record: Option<&Record>) {
        let Some(record) = record else { return };
        assert!(record.generation >= self.generation, "a generation went down");
        self.generation = record.generation;
        assert_eq!(record.lease.is_some(), record.phase == Phase::Claimed);
        assert_eq!(record.credentials.is_some(), record.made_by.is_some());
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

fn same(file: &impl Debug, memory: &impl Debug, step: &Step) {
    assert_eq!(format!("{file:?}"), format!("{memory:?}"), "{step:?}");
}

struct Run {
    folder: Folder,
    /// Both ask the same file.
    files: [session_warden::store::sqlite::SqliteStore; 2],
    memory: MemoryStore,
    models: HashMap<SessionId, Model>,
    seconds: u64,
    turn: usize,
}

impl Run {
    fn new() -> Self {
        let folder = Folder::new();
        let files = [folder.store(), folder.store()];
        let (memory, models) = (MemoryStore::new(), HashMap::new());
        Self { folder, files, memory, models, seconds: 0, turn: 0 }
    }

    async fn step(&mut self, id: &SessionId, step: &Step) {
        self.turn += 1;
        let file = self.files[self.turn % 2].clone();
        let found = self.memory.load(id).await.unwrap();
        let at = found.as_ref().map_or((0, 0, 0), |r| (r.epoch, r.generation, r.fence));
        match step {
            Step::Claim { intent, owner, stale } => {
                let (owner, generation) = (Owner(*owner), at.1.saturating_sub(*stale));
                let (at, lease, epoch) = (now(self.seconds), Duration::from_secs(20), at.0);
                let claim = Claim { owner, intent: *intent, epoch, generation, at, lease };
                let answers = (file.claim(id, claim).await, self.memory.claim(id, claim).await);
                same(&answers.0, &answers.1, step);
                if let Ok(Claimed::Granted { fence }) = answers.0 {
                    self.model(id).granted(&claim, generation, fence);
                }
            }
            Step::Commit { attempt } => {
                let Some(grip) = self.model(id).grip(*attempt) else { return };
                let Grip { intent, epoch, attempt } = grip;
                // One exchange has one answer, however often it is committed.
                let name = format!("{}", attempt.fence);
                let (credentials, due_at) = (credentials(&name), Some(wall(self.seconds + 9)));
                let commit = Commit { intent, epoch, attempt, credentials, due_at };
                let answer = file.commit(id, commit.clone()).await;
                same(&answer, &self.memory.commit(id, commit).await, step);
                self.model(id).committed(name, answer.unwrap());
            }
            Step::Settle { attempt, to } => {
                let Some(Grip { epoch, attempt, .. }) = self.model(id).grip(*attempt) else {
                    return;
                };
                let retry_at = Some(wall(self.seconds + 3));
                let settle = Settle { epoch, attempt, to: *to, retry_at };
                same(&file.settle(id, settle).await, &self.memory.settle(id, settle).await, step);
            }
            Step::TakeOver { stale } => {
                let (fence, at) = (at.2.saturating_sub(*stale), now(self.seconds));
                let take = TakeOver { fence, at, retry_at: None };
                same(&file.take_over(id, take).await, &self.memory.take_over(id, take).await, step);
            }
            Step::Close { stale } => {
                let (generation, at) = (at.1.saturating_sub(*stale), now(self.seconds));
                let close = Close { generation, at };
                let answer: Closed = Store::close(&file, id, close.clone()).await.unwrap();
                same(&answer, &self.memory.close(id, close).await.unwrap(), step);
            }
            Step::Outbox { stale } => {
                let generation = at.1.saturating_sub(*stale);
                file.outbox(id, generation).await.unwrap();
                self.memory.outbox(id, generation).await.unwrap();
            }
            Step::Delete => {
                same(&file.delete(id).await, &self.memory.delete(id).await, step);
                let model = self.model(id);
                (model.generation, model.stored) = (0, None);
            }
            Step::Later(seconds) => self.seconds += seconds,
            Step::Reopen => self.reopen().await,
        }
    }

    /// One of two processes ends and another begins. The one that goes on is the holder of no
    /// lease then, or leases would end at once, which memory does not do.
    async fn reopen(&mut self) {
        let leased = self.memory.list(&Filter::default(), None, 9).await.unwrap();
        if leased.iter().all(|listed| listed.record.lease.is_none()) {
            self.files[0].shutdown().await;
            self.files[0] = self.folder.store();
        }
    }

    async fn check(&mut self, id: &SessionId, step: &Step) {
        let memory = self.memory.load(id).await.unwrap();
        for file in self.files.clone() {
            let found = file.load(id).await.unwrap();
            same(&found.as_ref().map(shown), &memory.as_ref().map(shown), step);
            same(&file.due(None, 9).await, &self.memory.due(None, 9).await, step);
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
