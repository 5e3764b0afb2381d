//! A session, three owners who claim it, and all that can happen to them.

use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Deed, Label};
use crate::clock::{BootTime, Now};
use crate::error::LostReason;
use crate::store::decide::{Decision, Found, Write, decide};
use crate::store::record::{Attempt, ClaimId, Floor, Holder, Intent, Owner, Phase, Stored};
use crate::store::statement::{
    Claim, Close, Commit, Done, Ends, Import, Lose, Outcome, Renew, Reschedule, Restore, Settle,
    SettleTo, Statement, Suspect, TakeOver,
};

/// The owner whose claims say that it keeps a journal.
const KEEPS_JOURNAL: Owner = Owner(2);

/// What happens next. A claim is named by how many were granted after it, a time is in seconds.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Pass(u64),
    Claim {
        owner: u64,
        intent: Intent,
        known: Known,
        replaces: Option<usize>,
        lease: u64,
    },
    Renew {
        claim: usize,
        lease: u64,
    },
    Commit {
        claim: usize,
        due_in: Option<u64>,
    },
    Settle {
        claim: usize,
        to: SettleTo,
        retry_in: Option<u64>,
    },
    TakeOver {
        claim: usize,
        hold: u64,
        hold_of_dead: u64,
    },
    Close {
        owner: u64,
        known: Known,
    },
    Lose {
        known: Known,
        reason: LostReason,
    },
    Suspect {
        known: Known,
    },
    Reschedule {
        back: u64,
        announced: bool,
    },
    RemoveEnded {
        keep: u64,
    },
    Restore {
        version: u64,
        epoch: u64,
        generation: u64,
    },
    /// With a version, an epoch and a generation as in a restore; none for those of the record.
    Import(Option<(u64, u64, u64)>),
    Delete,
    /// Another session of the store is deleted.
    DeleteElsewhere(Floor),
    /// An owner is known to be dead.
    Die(u64),
}

/// What the sender of a statement knows of the record's counters.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known {
    Newest,
    Older,
    Newer,
    Nothing,
}

pub(super) fn config() -> ProptestConfig {
    // Without files of what failed: a failure prints its steps.
    ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() }
}

pub(super) fn histories() -> impl Strategy<Value = Vec<Step>> {
    let stories = prop_oneof![
        16 => step().prop_map(|step| vec![step]),
        2 => Just(grant()),
        1 => Just(lost_grant()),
        1 => ends().prop_map(failed_refresh),
        1 => Just(siblings(&[1])),
        1 => Just(siblings(&[0, 1])),
        1 => Just(closed_siblings()),
        1 => Just(late_renewal()),
        1 => (0_u64..2).prop_map(|keep| vec![lose(), Step::RemoveEnded { keep }]),
        1 => reasons().prop_map(|reason| {
            let known = Known::Newest;
            vec![claim(0, Intent::Refresh), Step::Lose { known, reason }]
        }),
    ];
    vec(stories, 1..30).prop_map(|stories| stories.concat())
}

/// Without it, most of what is asked is asked of nothing.
fn grant() -> Vec<Step> {
    vec![claim(0, Intent::Establish), Step::Commit { claim: 0, due_in: Some(10) }]
}

fn lost_grant() -> Vec<Step> {
    let to = SettleTo::BeforeSuspect;
    vec![claim(0, Intent::Establish), Step::Settle { claim: 0, to, retry_in: None }]
}

/// Nothing is tried for a while then.
fn failed_refresh(to: SettleTo) -> Vec<Step> {
    let settle = Step::Settle { claim: 0, to, retry_in: Some(20) };
    vec![claim(0, Intent::Refresh), settle, claim(1, Intent::Refresh)]
}

/// Two refreshes from one generation, whose answers come in this order: chance alone makes few.
fn siblings(answers: &[usize]) -> Vec<Step> {
    let take_over = Step::TakeOver { claim: 0, hold: 0, hold_of_dead: 0 };
    let mut steps = vec![claim(0, Intent::Refresh), take_over, claim(1, Intent::Refresh)];
    steps.extend(answers.iter().map(|claim| Step::Commit { claim: *claim, due_in: None }));
    steps
}

/// The second answer comes after a close.
fn closed_siblings() -> Vec<Step> {
    let mut steps = siblings(&[1]);
    steps.extend([close(), untold(), Step::Commit { claim: 1, due_in: None }]);
    steps
}

/// The first goes on after it was taken over.
fn late_renewal() -> Vec<Step> {
    let mut steps = siblings(&[]);
    steps.push(Step::Renew { claim: 1, lease: 30 });
    steps
}

fn close() -> Step {
    Step::Close { owner: 0, known: Known::Newest }
}

fn lose() -> Step {
    Step::Lose { known: Known::Newest, reason: LostReason::Rejected }
}

fn untold() -> Step {
    Step::Settle { claim: 0, to: SettleTo::Before, retry_in: None }
}

fn claim(owner: u64, intent: Intent) -> Step {
    Step::Claim { owner, intent, known: Known::Newest, replaces: None, lease: 0 }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0_u64..30).prop_map(Step::Pass),
        8 => (0_u64..3, intents(), known(), replaced(), times()).prop_map(
            |(owner, intent, known, replaces, lease)| {
                Step::Claim { owner, intent, known, replaces, lease }
            }
        ),
        1 => (granted(), times()).prop_map(|(claim, lease)| Step::Renew { claim, lease }),
        6 => (granted(), proptest::option::of(times()))
            .prop_map(|(claim, due_in)| Step::Commit { claim, due_in }),
        4 => (granted(), ends(), proptest::option::of(times()))
            .prop_map(|(claim, to, retry_in)| Step::Settle { claim, to, retry_in }),
        4 => (granted(), times(), times())
            .prop_map(|(claim, hold, hold_of_dead)| Step::TakeOver { claim, hold, hold_of_dead }),
        1 => (0_u64..3, known()).prop_map(|(owner, known)| Step::Close { owner, known }),
        1 => (known(), reasons()).prop_map(|(known, reason)| Step::Lose { known, reason }),
        1 => known().prop_map(|known| Step::Suspect { known }),
        1 => (0_u64..2, any::<bool>())
            .prop_map(|(back, announced)| Step::Reschedule { back, announced }),
        1 => (0_u64..6, 0_u64..3, 0_u64..4).prop_map(|(version, epoch, generation)| {
            Step::Restore { version, epoch, generation }
        }),
        1 => (0_u64..6, 0_u64..3, 0_u64..4).prop_map(|counters| Step::Import(Some(counters))),
        1 => Just(Step::Import(None)),
        1 => Just(Step::Delete),
        1 => (0_u64..20, 0_u64..4, 0_u64..6).prop_map(|(version, epoch, generation)| {
            Step::DeleteElsewhere(Floor { version, epoch, generation })
        }),
        1 => (0_u64..3).prop_map(Step::Die),
    ]
}

fn intents() -> impl Strategy<Value = Intent> {
    prop_oneof![
        2 => Just(Intent::Establish),
        4 => Just(Intent::Refresh),
        1 => Just(Intent::Revoke),
    ]
}

/// Mostly what is there, or hardly anything could be claimed.
fn known() -> impl Strategy<Value = Known> {
    prop_oneof![
        12 => Just(Known::Newest),
        1 => Just(Known::Older),
        1 => Just(Known::Newer),
        1 => Just(Known::Nothing),
    ]
}

fn granted() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(0_usize), 2 => Just(1), 1 => 2_usize..5]
}

fn replaced() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![3 => Just(None), 1 => granted().prop_map(Some)]
}

fn times() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0_u64), 1 => 1_u64..40]
}

fn ends() -> impl Strategy<Value = SettleTo> {
    prop_oneof![
        2 => Just(SettleTo::Before),
        1 => Just(SettleTo::BeforeSuspect),
        2 => Just(SettleTo::InDoubt),
        2 => reasons().prop_map(SettleTo::Lost),
        1 => Just(SettleTo::Revoked),
    ]
}

fn reasons() -> impl Strategy<Value = LostReason> {
    select(
        &[
            LostReason::Rejected,
            LostReason::Unclassified,
            LostReason::TokensDeleted,
            LostReason::SessionDeleted,
        ][..],
    )
}

/// All that statements did in this history.
pub(super) fn run(steps: &[Step]) -> Vec<Deed> {
    let mut simulation = Simulation::new();
    steps.iter().filter_map(|step| simulation.goes_on(step)).collect()
}

struct Simulation {
    found: Found<Label>,
    now: Now,
    granted: Vec<Granted>,
    /// The number of the next claim.
    next: u64,
}

/// What a claim's holder knows.
#[derive(Clone, Copy)]
struct Granted {
    intent: Intent,
    epoch: u64,
    attempt: Attempt,
}

impl Simulation {
    fn new() -> Self {
        let start = Duration::from_secs(1000);
        let now = Now::new(SystemTime::UNIX_EPOCH + start, BootTime::new(start), start);
        let found = Found { record: None, floor: Floor::default() };
        Self { found, now, granted: Vec::new(), next: 1 }
    }

    /// None if it is no statement.
    fn goes_on(&mut self, step: &Step) -> Option<Deed> {
        let statement = self.statement(step)?;
        let before = self.found.clone();
        let decision = decide(before.clone(), &statement, self.now);
        let Decision { outcome, write, news } = decision;
        match &write {
            Write::Nothing => {}
            Write::Put(record) | Write::PutLease(record) => {
                self.found.record = Some(record.clone());
            }
            Write::Remove(floor) => {
                self.found.record = None;
                self.found.floor = self.found.floor.max(*floor);
            }
        }
        if let Outcome::Done(done) = &outcome {
            self.is_done(&statement, *done);
        }
        let (now, after) = (self.now, self.found.clone());
        Some(Deed { statement, now, before, after, outcome, write, news })
    }

    fn is_done(&mut self, statement: &Statement<Label>, done: Done) {
        let (claim, intent) = match statement {
            Statement::Claim(claim) => (claim.id, claim.intent),
            Statement::Close(close) => (close.claim, Intent::Revoke),
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
            | Statement::Delete => return,
        };
        let attempt = Attempt { base: done.generation, fence: done.fence, claim };
        self.granted.push(Granted { intent, epoch: done.epoch, attempt });
    }

    fn statement(&mut self, step: &Step) -> Option<Statement<Label>> {
        let seconds = Duration::from_secs;
        Some(match *step {
            Step::Pass(passed) => {
                self.pass(seconds(passed));
                return None;
            }
            Step::DeleteElsewhere(floor) => {
                self.found.floor = self.found.floor.max(floor);
                return None;
            }
            Step::Die(owner) => {
                self.die(Owner(owner));
                return None;
            }
            Step::Claim { owner, intent, known, replaces, lease } => {
                let (id, owner, lease) = (self.fresh(), Owner(owner), seconds(lease));
                let counters = self.counters(known);
                let (epoch, generation) = (counters.map(|of| of.0), counters.unwrap_or_default().1);
                let replaces = replaces.and_then(|claim| self.granted(claim));
                let replaces = replaces.map(|granted| granted.attempt.claim);
                let journal = owner == KEEPS_JOURNAL;
                let claim =
                    Claim { id, replaces, owner, intent, epoch, generation, lease, journal };
                Statement::Claim(claim)
            }
            Step::Renew { claim, lease } => {
                let claim = self.granted(claim)?.attempt.claim;
                Statement::Renew(Renew { claim, lease: seconds(lease) })
            }
            Step::Commit { claim, due_in } => {
                let Granted { intent, epoch, attempt } = self.granted(claim)?;
                let ends = Ends { due_in: due_in.map(seconds), ..Ends::default() };
                let credentials = attempt.claim.0;
                Statement::Commit(Commit { intent, epoch, attempt, credentials, ends })
            }
            Step::Settle { claim, to, retry_in } => {
                let Granted { epoch, attempt, .. } = self.granted(claim)?;
                let (retry_in, failures) = (retry_in.map(seconds), None);
                let due_in = retry_in;
                Statement::Settle(Settle { epoch, attempt, to, retry_in, due_in, failures })
            }
            Step::TakeOver { claim, hold, hold_of_dead } => {
                let claim = self.granted(claim)?.attempt.claim;
                Statement::TakeOver(take_over(claim, seconds(hold), seconds(hold_of_dead)))
            }
            Step::Close { owner, known } => {
                let (claim, lease) = (self.fresh(), seconds(20));
                let generation = self.counters(known).unwrap_or_default().1;
                Statement::Close(Close { generation, claim, owner: Owner(owner), lease })
            }
            Step::Lose { .. } | Step::Suspect { .. } | Step::Reschedule { .. } => {
                self.unclaimed(step)?
            }
            Step::Restore { version, epoch, generation } => {
                self.restore(version, (epoch, generation))
            }
            Step::Import(counters) => self.import(counters)?,
            Step::RemoveEnded { keep } => Statement::RemoveEnded { keep: seconds(keep) },
            Step::Delete => Statement::Delete,
        })
    }

    /// What is written without a claim.
    fn unclaimed(&self, step: &Step) -> Option<Statement<Label>> {
        match *step {
            Step::Lose { known, reason } => {
                let (epoch, generation) = self.counters(known).unwrap_or_default();
                Some(Statement::Lose(Lose { epoch, generation, reason }))
            }
            Step::Suspect { known } => {
                let (epoch, generation) = self.counters(known).unwrap_or_default();
                Some(Statement::Suspect(Suspect { epoch, generation }))
            }
            Step::Reschedule { back, announced } => {
                let version = self.found.record.as_ref()?.version.saturating_sub(back);
                let due_in = self.found.record.as_ref()?.due_at.map(|_| Duration::from_secs(9));
                Some(Statement::Reschedule(Reschedule { version, announced, due_in }))
            }
            Step::Pass(_)
            | Step::Claim { .. }
            | Step::Renew { .. }
            | Step::Commit { .. }
            | Step::Settle { .. }
            | Step::TakeOver { .. }
            | Step::Close { .. }
            | Step::Restore { .. }
            | Step::Import(_)
            | Step::RemoveEnded { .. }
            | Step::Delete
            | Step::DeleteElsewhere(_)
            | Step::Die(_) => None,
        }
    }

    /// What is by so much above one below what is there.
    fn restore(&mut self, version: u64, (epoch, generation): (u64, u64)) -> Statement<Label> {
        let floor = self.found.floor;
        let there = self.found.record.as_ref().map(|record| (record.version, record.counters()));
        let there = there.unwrap_or((floor.version, (floor.epoch, floor.generation)));
        let (version, epoch) = (there.0 + version, there.1.0 + epoch);
        let (version, epoch) = (version.saturating_sub(1), epoch.saturating_sub(1));
        let generation = (there.1.1 + generation).saturating_sub(1);
        let attempt = Attempt {
            base: generation.saturating_sub(1),
            fence: version.saturating_sub(1),
            claim: self.fresh(),
        };
        let (credentials, ends) = (attempt.claim.0, Ends::default());
        Statement::Restore(Restore { version, epoch, generation, attempt, credentials, ends })
    }

    /// What another store has.
    fn import(&mut self, counters: Option<(u64, u64, u64)>) -> Option<Statement<Label>> {
        let Some((version, epoch, generation)) = counters else {
            let stored = Stored { record: self.found.record.clone()?, now: self.now };
            return Some(Statement::Import(Box::new(Import::from(&stored))));
        };
        let restore = self.restore(version, (epoch, generation));
        let Statement::Restore(restore) = restore else { return None };
        let Restore { version, epoch, generation, attempt, credentials, ends } = restore;
        Some(Statement::Import(Box::new(Import {
            version,
            epoch,
            generation,
            fence: attempt.fence,
            phase: Phase::Active,
            credentials: Some(credentials),
            outbox: None,
            made_by: Some(attempt),
            ends,
            suspect: false,
            lost: None,
            tries: 0,
            failures: None,
            failing_for: None,
            ended_for: None,
        })))
    }

    fn pass(&mut self, passed: Duration) {
        let Now { wall, boot, monotonic, .. } = self.now;
        self.now = Now::new(wall + passed, boot.after(passed), monotonic + passed);
    }

    fn die(&mut self, owner: Owner) {
        let lease = self.found.record.as_mut().and_then(|record| record.lease.as_mut());
        if let Some(lease) = lease.filter(|lease| lease.owner == owner) {
            lease.holder = Holder::Dead;
        }
    }

    fn fresh(&mut self) -> ClaimId {
        self.next += 1;
        ClaimId(self.next)
    }

    fn counters(&self, known: Known) -> Option<(u64, u64)> {
        let (epoch, generation) = self.found.record.as_ref()?.counters();
        match known {
            Known::Newest => Some((epoch, generation)),
            Known::Older => Some((epoch, generation.saturating_sub(1))),
            Known::Newer => Some((epoch + 1, generation)),
            Known::Nothing => None,
        }
    }

    fn granted(&self, after: usize) -> Option<Granted> {
        let place = self.granted.len().checked_sub(after + 1)?;
        self.granted.get(place).copied()
    }
}

fn take_over(claim: ClaimId, hold: Duration, hold_of_dead: Duration) -> TakeOver {
    let (hold_of_journal, hold_back) = (hold + hold_of_dead, Duration::ZERO);
    TakeOver { claim, hold, hold_of_dead, hold_of_journal, hold_back }
}
