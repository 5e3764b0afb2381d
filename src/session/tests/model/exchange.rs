//! An exchange, statement by statement, as `session::exchange` does it in `claim`, `send` and
//! `save`.

use std::time::Duration;

use super::act::Model;
use super::product::{LEASE, instant};
use super::world::{Ending, Exchange, Phase, Reply, Request, Sent, Time, Tok, Work, World};
use super::{Mutation, seconds};
use crate::error::{Error, ErrorKind};
use crate::policy::CLAIM_POLL_CAP;
use crate::session::from_record::{self, Holds};
use crate::session::machine::{
    self, Class, ExternalChange, Failure, Input, Retry, Settled, State, StepContext,
};
use crate::store::{
    self, Attempt, Claim, ClaimId, Commit, Ends, Intent, Lease, Outcome, Owner, Renew, Settle,
    SettleTo, Statement, Stored, TakeOver,
};

impl World {
    /// As the slot's `Claims`.
    pub(super) fn begin_claim(&mut self, p: usize) -> (ClaimId, Option<ClaimId>, Time) {
        self.ids += 1;
        let (next, now) = (ClaimId(self.ids), self.now);
        let process = &mut self.processes[p];
        let (id, at) = *process.asked.get_or_insert((next, now));
        (id, process.written, at)
    }

    pub(super) fn claim_answered(&mut self, p: usize, claim: ClaimId, granted: bool) {
        let process = &mut self.processes[p];
        if process.asked.take_if(|(asked, _)| *asked == claim).is_some() && granted {
            process.written = Some(claim);
        }
    }

    pub(super) fn claim_ended(&mut self, p: usize, claim: ClaimId) {
        self.processes[p].written.take_if(|written| *written == claim);
    }
}

/// The step after the wait for another process.
enum NextStep {
    Claim,
    Read,
}

impl Model {
    pub(super) fn work(&mut self, w: &mut World, p: usize) {
        let work = std::mem::replace(&mut w.processes[p].work, Work::Idle);
        let Work::Exchange(mut exchange) = work else { return self.end_session(w, p, work) };
        if self.advance(w, p, &mut exchange) {
            w.processes[p].work = Work::Exchange(exchange);
        }
    }

    /// One step; false if that ended the exchange.
    fn advance(&mut self, w: &mut World, p: usize, x: &mut Exchange) -> bool {
        match x.phase.clone() {
            Phase::Claim => self.claim(w, p, x),
            Phase::Outlast(claim) => {
                let now = instant(w.now, 0);
                let record = w.record.clone();
                match record.map(|record| Stored { record, now }) {
                    Some(found) => self.wait_for_lease(w, p, x, (found, Some(claim))),
                    None => self.waited(w, p, x, (NextStep::Read, None)),
                }
            }
            Phase::Send(attempt, at) => self.send(w, p, x, (attempt, at)),
            Phase::Open(_) => true,
            Phase::Commit => {
                self.commit(w, p);
                false
            }
            Phase::Settle(ending) => {
                self.settle(w, p, x, *ending);
                false
            }
        }
    }

    fn claim(&mut self, w: &mut World, p: usize, x: &mut Exchange) -> bool {
        if w.processes[p].unsaved.is_some() {
            let saved = self.save_unsaved(w, p);
            if !saved {
                self.fail(w, p, harmless(Duration::ZERO), w.now);
            }
            return saved;
        }
        let (id, replaces, at) = w.begin_claim(p);
        let lease = seconds(LEASE);
        let owner = Owner(w.processes[p].owner);
        let (intent, epoch, generation) = (x.intent, x.known, x.base);
        let claim = Claim { id, replaces, owner, intent, epoch, generation, lease, journal: false };
        let Some(mut outcome) = self.store(w, Statement::Claim(claim)) else {
            self.fail(w, p, harmless(Duration::ZERO), w.now);
            return false;
        };
        if matches!(outcome, Outcome::Done(_)) && at < w.now {
            let renew = Statement::Renew(Renew { claim: id, lease });
            outcome = self.store(w, renew).unwrap_or(outcome);
        }
        w.claim_answered(p, id, outcome.has_claim(id));
        let Outcome::Done(done) = outcome else { return self.refused(w, p, x, outcome) };
        self.apply(w, p, Input::Wrote { version: done.version });
        (x.epoch, x.base) = (done.epoch, done.generation);
        let attempt = Attempt { base: done.generation, fence: done.fence, claim: id };
        x.phase = Phase::Send(attempt, w.now);
        true
    }

    /// Whether the exchange goes on after a claim that was not granted.
    fn refused(
        &mut self,
        w: &mut World,
        p: usize,
        x: &mut Exchange,
        refused: Outcome<Tok>,
    ) -> bool {
        let follows = x.intent == Intent::Establish;
        match refused {
            Outcome::Conflict(found) if follows && w.now < x.last => {
                let found = found.map(|found| found.record);
                let found = found.filter(store::Record::was_established);
                x.known = found.as_ref().map(|record| record.epoch);
                x.base = found.map_or(0, |record| record.generation);
                self.apply(w, p, Input::ExternalChange(ExternalChange::UNKNOWN));
                true
            }
            Outcome::Conflict(found) => self.superseded(w, p, Some(found)),
            Outcome::Wait { left, found } => {
                assert!(left > CLAIM_POLL_CAP, "no wait of the model is that short");
                self.superseded(w, p, Some(Some(found)))
            }
            Outcome::Leased(found) => {
                let claim = found.record.lease.map(|lease| lease.claim);
                self.wait_for_lease(w, p, x, (found, claim))
            }
            Outcome::Done(_) => false,
        }
    }

    /// Waits until another process's claim has ended, or its holder is silent.
    fn wait_for_lease(
        &mut self,
        w: &mut World,
        p: usize,
        x: &mut Exchange,
        (found, claim): (Stored<Tok>, Option<ClaimId>),
    ) -> bool {
        let lease = found.record.lease.filter(|lease| Some(lease.claim) == claim);
        let Some(lease) = lease else {
            let waited = Self::ended(x, &found);
            return match waited {
                Ok(waited) => self.waited(w, p, x, (waited, Some(found))),
                Err(failed) => {
                    self.fail(w, p, failed, w.now);
                    false
                }
            };
        };
        let left = from_record::lease_left(&found);
        if left.is_zero() {
            return match self.silent(w, p, (&found, lease), x.intent) {
                Some(waited) => self.waited(w, p, x, (waited, Some(found))),
                None => {
                    self.fail(w, p, harmless(Duration::ZERO), w.now);
                    false
                }
            };
        }
        if w.now >= x.last {
            self.fail(w, p, harmless(left), w.now);
            return false;
        }
        x.phase = Phase::Outlast(lease.claim);
        true
    }

    fn waited(
        &mut self,
        w: &mut World,
        p: usize,
        x: &mut Exchange,
        (waited, found): (NextStep, Option<Stored<Tok>>),
    ) -> bool {
        if matches!(waited, NextStep::Claim) || x.intent == Intent::Establish {
            x.phase = Phase::Claim;
            return true;
        }
        self.superseded(w, p, found.map(Some))
    }

    fn ended(x: &Exchange, found: &Stored<Tok>) -> Result<NextStep, Failure> {
        let known = found.record.was_established().then_some(found.record.epoch);
        let same = (known, found.record.generation) == (x.known, x.base);
        if !same || found.record.phase != store::Phase::Active {
            return Ok(NextStep::Read);
        }
        found.retry_in().map_or(Ok(NextStep::Claim), |wait| Err(harmless(wait)))
    }

    fn silent(
        &mut self,
        w: &mut World,
        p: usize,
        (found, lease): (&Stored<Tok>, Lease),
        intent: Intent,
    ) -> Option<NextStep> {
        let both_refresh = (intent, lease.intent) == (Intent::Refresh, Intent::Refresh);
        if both_refresh && !w.processes[p].state.is_tried_in_doubt() {
            return Some(NextStep::Read);
        }
        let Holds { alive: hold, dead: hold_of_dead, journal: hold_of_journal } = match lease.intent
        {
            Intent::Refresh if both_refresh => self.product.holds(),
            Intent::Refresh | Intent::Establish | Intent::Revoke => Default::default(),
        };
        let hold_back = match lease.intent == Intent::Refresh && !both_refresh {
            true => self.product.held_back(found, &lease),
            false => Duration::ZERO,
        };
        let claim = lease.claim;
        let take_over = TakeOver { claim, hold, hold_of_dead, hold_of_journal, hold_back };
        Some(match self.store(w, Statement::TakeOver(take_over))? {
            Outcome::Wait { .. } => NextStep::Read,
            Outcome::Done(_) | Outcome::Conflict(_) | Outcome::Leased(_) => NextStep::Claim,
        })
    }

    fn send(
        &self,
        w: &mut World,
        p: usize,
        x: &mut Exchange,
        (attempt, at): (Attempt, Time),
    ) -> bool {
        let until = at + LEASE - crate::policy::SEND_MARGIN.as_secs().min(LEASE / 2);
        if w.now > until && !self.has(Mutation::NoSendGuard) {
            self.gave_nothing(w, p, x, (attempt, harmless(Duration::ZERO)));
            return true;
        }
        let sent = x.held.filter(|_| x.intent == Intent::Refresh);
        if let Some(tok) = sent {
            w.inspect_send(tok);
            let refreshes = &mut w.processes[p].refreshes;
            *refreshes = refreshes.saturating_sub(1);
            let claim = attempt.claim;
            // Counted from the claim that the store has, which may be older than this one knows.
            let until = at + LEASE;
            w.sends.push(Sent { claim, tok, revokes: false, until, lost: None });
        }
        let owner = Some(w.processes[p].owner);
        let (claim, at) = (attempt.claim, w.now);
        w.requests.push(Request { owner, claim, sent, at, reply: None });
        x.phase = Phase::Open(attempt);
        true
    }

    /// The answer arrives.
    pub(super) fn deliver(&mut self, w: &mut World, r: usize) {
        let Request { owner, reply, .. } = w.requests.remove(r);
        let process = w.processes.iter().position(|process| Some(process.owner) == owner);
        let (Some(p), Some(reply)) = (process, reply) else { return };
        let Some((mut x, attempt)) = w.take_open(p) else { return };
        match reply {
            Reply::Tokens(tok) => {
                self.issued(w, p, &x, (attempt, tok));
                x.phase = Phase::Commit;
            }
            Reply::Rejected => {
                let class = Class::Rejected;
                self.gave_nothing(w, p, &mut x, (attempt, failure(class, Duration::ZERO)));
            }
        }
        w.processes[p].work = Work::Exchange(x);
    }

    pub(super) fn lose_answer(&self, w: &mut World, r: usize) {
        w.left.faults -= 1;
        let owner = w.requests[r].owner.take();
        if w.requests[r].reply.is_some() {
            w.requests.remove(r);
        }
        let process = w.processes.iter().position(|process| Some(process.owner) == owner);
        let Some(p) = process else { return };
        let Some((mut x, attempt)) = w.take_open(p) else { return };
        let now = w.now;
        let sends = w.sends.iter_mut().filter(|sent| sent.claim == attempt.claim);
        sends.for_each(|sent| sent.lost = Some(now));
        let lost = failure(Class::Ambiguous(Retry::Late), Duration::ZERO);
        self.gave_nothing(w, p, &mut x, (attempt, lost));
        w.processes[p].work = Work::Exchange(x);
    }

    fn issued(&mut self, w: &mut World, p: usize, x: &Exchange, (attempt, tok): (Attempt, Tok)) {
        let epoch = if x.intent == Intent::Establish { x.epoch + 1 } else { x.epoch };
        let held = self.product.held(&w.processes[p], w.now, (tok, (epoch, x.base + 1)));
        let (intent, ends) = (x.intent, Ends::default());
        let commit = Commit { intent, epoch: x.epoch, attempt, credentials: tok, ends };
        w.processes[p].unsaved = Some(commit);
        self.apply(w, p, Input::Issued(held));
    }

    /// Ends the exchange without tokens. The claim is settled next.
    fn gave_nothing(
        &self,
        w: &World,
        p: usize,
        x: &mut Exchange,
        (attempt, failure): (Attempt, Failure),
    ) {
        let step_context = self.product.step_context(w.now, w.processes[p].offset);
        let state = w.processes[p].state.clone();
        let (to, retry_in) = settles_to(state, x.intent, &failure, &step_context);
        let (retry_in, at) = (retry_in.map(|wait| wait.as_secs()), w.now);
        x.phase = Phase::Settle(Box::new(Ending { attempt, to, retry_in, failure, at }));
    }

    fn settle(&mut self, w: &mut World, p: usize, x: &Exchange, ending: Ending) {
        let Ending { attempt, to, retry_in, failure, at } = ending;
        let retry_in = retry_in.map(seconds);
        let settle = Statement::Settle(Settle {
            epoch: x.epoch,
            attempt,
            to,
            retry_in,
            due_in: None,
            failures: None,
        });
        let outcome = self.store(w, settle);
        if outcome.is_some() {
            w.claim_ended(p, attempt.claim);
        }
        match outcome {
            Some(Outcome::Done(done)) => {
                if failure.class == Class::Rejected {
                    w.spend(attempt.claim);
                }
                self.apply(w, p, Input::Wrote { version: done.version });
                self.fail(w, p, failure, at);
            }
            None => self.fail(w, p, failure, at),
            Some(Outcome::Conflict(found)) => {
                self.superseded(w, p, Some(found));
            }
            Some(Outcome::Leased(found) | Outcome::Wait { found, .. }) => {
                self.superseded(w, p, Some(Some(found)));
            }
        }
    }

    fn fail(&self, w: &mut World, p: usize, failure: Failure, at: Time) {
        let rejected = failure.class == Class::Rejected;
        let now = std::mem::replace(&mut w.now, at);
        self.apply(w, p, Input::Failed(failure));
        w.now = now;
        let process = &mut w.processes[p];
        if rejected && process.settled().is_some_and(|settled| settled.lost().is_some()) {
            process.dead_up_to = process.dead_up_to.max(process.state.counters().1);
        }
    }

    /// Another process was faster. Ends the exchange.
    pub(super) fn superseded(
        &mut self,
        w: &mut World,
        p: usize,
        found: Option<Option<Stored<Tok>>>,
    ) -> bool {
        let found = found.map(|found| self.product.found(&w.processes[p], w.now, found));
        self.apply(w, p, Input::Conflict { found });
        false
    }

    /// Saves the exchange's credentials.
    fn commit(&mut self, w: &mut World, p: usize) {
        let Some(unsaved) = w.processes[p].unsaved.clone() else { return };
        let claim = unsaved.attempt.claim;
        match self.store(w, Statement::Commit(unsaved.clone())) {
            None | Some(Outcome::Leased(_) | Outcome::Wait { .. }) => {
                self.apply(w, p, Input::Unsaved);
            }
            Some(outcome) => {
                if let Some(found) = self.saved(w, p, claim, outcome) {
                    self.end_superseded(w, &unsaved);
                    self.superseded(w, p, Some(found));
                }
            }
        }
    }

    /// Saves unsaved credentials; false if the store did not answer.
    pub(super) fn save_unsaved(&mut self, w: &mut World, p: usize) -> bool {
        let Some(unsaved) = w.processes[p].unsaved.clone() else { return true };
        let claim = unsaved.attempt.claim;
        let Some(outcome) = self.store(w, Statement::Commit(unsaved.clone())) else {
            self.apply(w, p, Input::Unsaved);
            return false;
        };
        if matches!(outcome, Outcome::Leased(_) | Outcome::Wait { .. }) {
            self.apply(w, p, Input::Unsaved);
        } else if self.saved(w, p, claim, outcome).is_some() {
            self.end_superseded(w, &unsaved);
        }
        true
    }

    /// Handles the store's answer to a commit. Returns the record that the store has instead, if
    /// another process wrote one.
    fn saved(
        &mut self,
        w: &mut World,
        p: usize,
        claim: ClaimId,
        outcome: Outcome<Tok>,
    ) -> Option<Option<Stored<Tok>>> {
        w.claim_ended(p, claim);
        w.processes[p].unsaved = None;
        match outcome {
            Outcome::Done(done) => {
                w.spend(claim);
                let store::Done { version, epoch, generation, suspect, .. } = done;
                self.apply(w, p, Input::Saved { version, epoch, generation, suspect });
                None
            }
            Outcome::Conflict(found) => {
                let settled = self.product.found(&w.processes[p], w.now, found.clone());
                self.apply(w, p, Input::TokensSuperseded { found: Some(settled) });
                Some(found)
            }
            Outcome::Leased(_) | Outcome::Wait { .. } => None,
        }
    }

    /// As `superseded_tokens::revoke_or_report`, at a server whose revocation may reach more than
    /// one grant.
    fn end_superseded(&self, w: &mut World, unsaved: &Commit<Tok>) {
        let ends = w.record.as_ref().is_some_and(|record| {
            let granting = record.lease.is_some_and(|lease| lease.intent == Intent::Establish);
            record.phase == store::Phase::Closed && !granting
        });
        if ends {
            w.server.revoke(unsaved.credentials);
        }
    }
}

/// As `Exchange::settles_to`.
fn settles_to(
    state: State,
    intent: Intent,
    failure: &Failure,
    at: &StepContext,
) -> (SettleTo, Option<Duration>) {
    let (state, _) = machine::step(state, Input::Failed(failure.clone()), at);
    let settled = state.settled.as_ref();
    let own = failure.class != Class::Misconfigured;
    let retry_at = settled.filter(|_| own).and_then(Settled::earliest_retry);
    let to = match (intent, failure.class, settled) {
        (Intent::Establish, Class::Ambiguous(_), _) => SettleTo::BeforeSuspect,
        (Intent::Refresh, _, Some(Settled::InDoubt(..))) => SettleTo::InDoubt,
        (Intent::Refresh, _, Some(Settled::Lost(lost))) => SettleTo::Lost(lost.reason),
        (Intent::Establish | Intent::Refresh | Intent::Revoke, _, _) => SettleTo::Before,
    };
    (to, retry_at.map(|retry_at| retry_at.since(at.now.boot)))
}

fn harmless(wait: Duration) -> Failure {
    failure(Class::Harmless, wait)
}

fn failure(class: Class, wait: Duration) -> Failure {
    Failure { class, error: Error::new(ErrorKind::RetryLater), wait }
}

impl World {
    fn take_open(&mut self, p: usize) -> Option<(Box<Exchange>, Attempt)> {
        let work = std::mem::replace(&mut self.processes[p].work, Work::Idle);
        let Work::Exchange(exchange) = work else { return None };
        let Phase::Open(attempt) = exchange.phase else { return None };
        Some((exchange, attempt))
    }
}
