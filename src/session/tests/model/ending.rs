//! Close, revocation and forget, as `exchange::close`, `exchange::revocation` and
//! `exchange::delete` do them.

use std::time::Duration;

use super::act::Model;
use super::product::{LEASE, tok_of};
use super::seconds;
use super::world::{Claiming, Sent, Time, Tok, Work, World};
use crate::error::{Error, ErrorKind};
use crate::session::from_record;
use crate::session::machine::{BackoffState, Closed, Input, Settled, Start};
use crate::store::{
    Attempt, Claim, ClaimId, Close, Intent, Outcome, Owner, Settle, SettleTo, Statement, TakeOver,
};

const CLOSE_TRIES: u8 = 4;

impl Model {
    pub(super) fn end_session(&mut self, w: &mut World, p: usize, work: Work) {
        match work {
            Work::Idle | Work::Exchange(_) => {}
            Work::Close { generation, claim, outbox, tries } => {
                self.close(w, p, (generation, claim), (outbox, tries));
            }
            Work::Revoke(how) => self.claim_revocation(w, p, how),
            Work::SendRevocation(attempt, until) => self.send_revocation(w, p, (attempt, until)),
            Work::Revoked(attempt, revoked) => self.settle_revocation(w, p, attempt, revoked),
            Work::Forget => match self.store(w, Statement::Delete) {
                Some(_) => {
                    let process = &mut w.processes[p];
                    let generation = process.state.counters().1;
                    process.dead_up_to = process.dead_up_to.max(generation);
                    self.apply(w, p, Input::Forgotten);
                }
                None => drop(self.apply(w, p, Input::ForgetFailed)),
            },
        }
    }

    fn close(
        &mut self,
        w: &mut World,
        p: usize,
        (generation, claim): (u64, ClaimId),
        (outbox, tries): (Option<Tok>, u8),
    ) {
        if w.processes[p].unsaved.is_some() {
            match self.save_unsaved(w, p) {
                true => w.processes[p].work = Work::Close { generation, claim, outbox, tries },
                false => drop(self.apply(w, p, Input::CloseFailed)),
            }
            return;
        }
        let (owner, lease) = (Owner(w.processes[p].owner), seconds(LEASE));
        let epoch = w.record.as_ref().map_or(0, |record| record.epoch);
        let close = Statement::Close(Close { generation, claim, owner, lease });
        match self.store(w, close) {
            None => drop(self.apply(w, p, Input::CloseFailed)),
            Some(Outcome::Done(done)) => {
                w.claim_answered(p, claim, outbox.is_some());
                let attempt = Attempt { base: done.generation, fence: done.fence, claim };
                let outbox = outbox.map(|tok| self.product.credentials(tok));
                let generation = done.generation;
                let closed = Closed { epoch, generation, outbox, backoff: None, unrenewed: None };
                let version = done.version;
                let process = &mut w.processes[p];
                process.dead_up_to = process.dead_up_to.max(generation);
                if self.apply(w, p, Input::ClosedDurably { version, closed }) == Some(Start::Revoke)
                {
                    w.processes[p].work = Work::SendRevocation(attempt, w.lease_end());
                }
            }
            Some(Outcome::Conflict(Some(found))) if tries + 1 < CLOSE_TRIES => {
                let (generation, outbox) = (found.record.generation, found.record.credentials);
                let tries = tries + 1;
                w.processes[p].work = Work::Close { generation, claim, outbox, tries };
            }
            Some(_) => drop(self.apply(w, p, Input::Conflict { found: None })),
        }
    }

    /// As `revocation::claim`, one statement at a time.
    fn claim_revocation(&mut self, w: &mut World, p: usize, how: Claiming) {
        if let Claiming::TakeOver(claim) = how {
            let hold = Duration::ZERO;
            let take_over = TakeOver {
                claim,
                hold,
                hold_of_dead: hold,
                hold_of_journal: hold,
                hold_back: hold,
            };
            match self.store(w, Statement::TakeOver(take_over)) {
                Some(_) => w.processes[p].work = Work::Revoke(Claiming::Again),
                None => self.revocation_failed(w, p),
            }
            return;
        }
        let (epoch, generation) = w.processes[p].state.counters();
        let (id, replaces, _) = w.begin_claim(p);
        let (owner, lease) = (Owner(w.processes[p].owner), seconds(LEASE));
        let (epoch, intent) = (Some(epoch), Intent::Revoke);
        let claim = Claim { id, replaces, owner, intent, epoch, generation, lease, journal: false };
        let Some(outcome) = self.store(w, Statement::Claim(claim)) else {
            return self.revocation_failed(w, p);
        };
        w.claim_answered(p, id, outcome.has_claim(id));
        let found = match outcome {
            Outcome::Done(done) => {
                self.apply(w, p, Input::Wrote { version: done.version });
                let attempt = Attempt { base: generation, fence: done.fence, claim: id };
                w.processes[p].work = Work::SendRevocation(attempt, w.lease_end());
                return;
            }
            Outcome::Conflict(found) => found,
            Outcome::Leased(found) | Outcome::Wait { found, .. } => Some(found),
        };
        let silent = found.as_ref().filter(|found| from_record::lease_left(found).is_zero());
        match silent.and_then(|found| found.record.lease) {
            Some(lease) if how == Claiming::First => {
                w.processes[p].work = Work::Revoke(Claiming::TakeOver(lease.claim));
            }
            _ => drop(self.superseded(w, p, Some(found))),
        }
    }

    fn revocation_failed(&self, w: &mut World, p: usize) {
        let closed = w.processes[p].settled().and_then(Settled::closed);
        let Some(closed) = closed else { return };
        let step_context = self.product.step_context(w.now, w.processes[p].offset);
        let error = Error::new(ErrorKind::RetryLater);
        let backoff = BackoffState::after(closed.backoff.as_ref(), error, &step_context);
        self.apply(w, p, Input::RevocationFailed { backoff });
    }

    /// Revokes at the server. If the answer is lost, the process revokes again later.
    fn send_revocation(&mut self, w: &mut World, p: usize, (attempt, until): (Attempt, Time)) {
        let closed = w.processes[p].settled().and_then(Settled::closed);
        let Some(outbox) = closed.and_then(|closed| closed.outbox.as_ref()) else { return };
        let (tok, claim, now) = (tok_of(outbox), attempt.claim, w.now);
        // A process that was paused for longer than its lease cannot know which process revokes
        // now, and to revoke twice is harmless.
        let again = w.sends.iter().any(|sent| sent.revokes && sent.tok == tok && now < sent.until);
        if again && now < until {
            w.broken = Some(format!("{tok} is revoked twice"));
        }
        w.server.revoke(tok);
        w.sends.push(Sent { claim, tok, revokes: true, until, lost: None });
        let revoked = !std::mem::take(&mut self.unanswered);
        if !revoked {
            self.revocation_failed(w, p);
        }
        w.processes[p].work = Work::Revoked(attempt, revoked);
    }

    fn settle_revocation(&mut self, w: &mut World, p: usize, attempt: Attempt, revoked: bool) {
        let settled = w.processes[p].settled();
        let retry_at = settled.and_then(Settled::earliest_retry);
        let epoch = w.processes[p].state.counters().0;
        let now = super::product::boot(w.now);
        let (to, retry_in) = match revoked {
            true => (SettleTo::Revoked, None),
            false => (SettleTo::Before, retry_at.map(|at| at.since(now))),
        };
        let settle = Statement::Settle(Settle {
            epoch,
            attempt,
            to,
            retry_in,
            due_in: None,
            failures: None,
        });
        w.sends.retain(|sent| !(sent.revokes && sent.claim == attempt.claim));
        if let Some(outcome) = self.store(w, settle) {
            w.claim_ended(p, attempt.claim);
            if let Outcome::Done(done) = outcome {
                self.apply(w, p, Input::Wrote { version: done.version });
            }
        }
        if revoked {
            self.apply(w, p, Input::Revoked);
        }
    }
}

impl World {
    /// When the claim on the record ends.
    fn lease_end(&self) -> Time {
        let lease = self.record.as_ref().and_then(|record| record.lease);
        lease.map_or(self.now, |lease| super::product::time(lease.until).unsigned_abs())
    }
}
