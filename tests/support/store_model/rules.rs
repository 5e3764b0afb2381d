//! The rules that callers rely on, whatever a store does.

use std::collections::HashMap;

use session_warden::error::LostReason;
use session_warden::store::{
    Attempt, Claim, ClaimId, Done, Failures, Import, Intent, Outcome, Phase, Record, Statement,
};

use super::SECOND;
use crate::store_statements::{ENDS, access, credentials};

/// A claim that was granted, as its holder remembers it.
#[derive(Clone, Copy)]
pub struct GrantedClaim {
    pub intent: Intent,
    pub epoch: u64,
    pub attempt: Attempt,
}

/// The state of one session that callers rely on.
#[derive(Default)]
pub struct Model {
    claims: Vec<GrantedClaim>,
    /// No fence is given to two claims, even after a removal.
    fences: HashMap<u64, ClaimId>,
    /// Credentials that were stored, by their generation: they stay until others come.
    stored: Option<(u64, String)>,
    /// None of these goes down, also not by a delete.
    version: u64,
    epoch: u64,
    generation: u64,
}

impl Model {
    /// Records the effect of a statement.
    pub fn answered(&mut self, statement: &Statement, answer: &Outcome) {
        let Outcome::Done(done) = answer else { return };
        match statement {
            Statement::Claim(claim) => self.granted(claim, done),
            Statement::Commit(commit) => {
                self.stored = Some((done.generation, commit.attempt.fence.to_string()));
            }
            Statement::Restore(_)
            | Statement::Import(_)
            | Statement::RemoveEnded { .. }
            | Statement::Delete => self.stored = None,
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
        // The answer to the same claim is the same.
        let former = self.fences.insert(done.fence, claim.id);
        let fence = done.fence;
        assert!(former.is_none_or(|of| of == claim.id), "fence {fence} was given twice");
        let attempt = Attempt { base: done.generation, fence: done.fence, claim: claim.id };
        self.claims.push(GrantedClaim { intent: claim.intent, epoch: done.epoch, attempt });
    }

    pub fn claim(&self, from_newest: usize) -> Option<GrantedClaim> {
        self.claims.iter().rev().nth(from_newest).copied()
    }

    /// A record of another store, whose counters are by so much above those that were seen here.
    pub fn import(&self, ahead: u64) -> Import {
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
            ended_for: None,
        }
    }

    /// The record that a store shows must agree with its outcomes.
    pub fn check(&mut self, record: Option<&Record>) {
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
