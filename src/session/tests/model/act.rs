//! The actions that may happen, and their effects. The product decides the statements and steps the
//! machine; the code between follows `session::exchange`, `session::load` and `session::slot`.

use super::product::{CALL, HOLD, LEASE, Product, TICK, boot, instant};
use super::world::{
    Claiming, Exchange, PendingLoad, Phase, Process, Reply, Request, Time, Tok, Work, World,
};
use super::{Limits, Mutation};
use crate::error::LostReason;
use crate::session::machine::{
    self, ExternalChange, Input, Renewable, Run, Settled, Start, State, TokenDecision,
};
use crate::session::slot::offset;
use crate::store::{
    Decision, Floor, Found, Intent, Lose, Outcome, Renew, SettleTo, Statement, Write, decide,
};

/// One action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A process goes on with this part.
    Do(usize, Part),
    /// The same, but the answer to its first statement is lost, and the process takes it for a
    /// failure.
    DoUnanswered(usize, Part),
    /// The server processes a request.
    Process(usize),
    /// Its answer arrives.
    Deliver(usize),
    /// Its answer is lost.
    Lose(usize),
    /// A caller wants a token.
    Demand(usize),
    /// A caller wants a newer token.
    Refresh(usize),
    Establish(usize),
    Revoke(usize),
    Forget(usize),
    /// An API rejects the token that this process shows.
    Reject(usize),
    /// The grant ended at the server, and an API reports that to this process.
    Dead(usize),
    Crash(usize),
    Pause(usize),
    Resume(usize),
    /// A process's wall clock is set.
    SetClock(usize),
    Pass,
}

/// A part of a process's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Work,
    SaveUnsaved,
    Load,
    Notice,
    /// Writes that the session is lost.
    Lose,
    /// The schedule wakes it.
    Wake,
}

/// The model: the product's parts, and which line of it is broken.
pub(super) struct Model {
    pub(super) product: Product,
    pub(super) limits: Limits,
    mutation: Option<Mutation>,
    /// The answer to the next statement is lost.
    pub(super) unanswered: bool,
}

impl Model {
    pub(super) fn new(mutation: Option<Mutation>, limits: &Limits) -> Self {
        let hold = if mutation == Some(Mutation::TakeOverAtOnce) { 0 } else { HOLD };
        Self { product: Product::new(hold), limits: *limits, mutation, unanswered: false }
    }

    pub(super) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// The world after the action; `None` if the action cannot happen.
    pub(super) fn act(&mut self, w: &World, action: Action) -> Option<World> {
        let mut next = w.clone();
        self.unanswered = matches!(action, Action::DoUnanswered(..));
        self.perform(&mut next, action);
        if std::mem::take(&mut self.unanswered) {
            return None;
        }
        for p in 0..next.processes.len() {
            Self::drop_known_changes(&mut next, p);
        }
        next.next = super::order::comes_next(w, action, &next);
        next.forget_old_sends();
        Some(next)
    }

    fn perform(&mut self, w: &mut World, action: Action) {
        match action {
            Action::Do(p, part) => self.part(w, p, part),
            Action::DoUnanswered(p, part) => {
                w.left.faults -= 1;
                self.part(w, p, part);
            }
            Action::Process(r) => {
                let Request { sent, owner, .. } = w.requests[r];
                let reply = match sent {
                    Some(sent) => {
                        let reused = w.server.knows_newer(sent);
                        if reused && w.left.faults == self.limits.left.faults {
                            w.broken = Some(format!("{sent} is used again without any fault"));
                        }
                        w.server.refresh(sent)
                    }
                    None => Reply::Tokens(w.server.grant()),
                };
                w.requests[r].reply = Some(reply);
                if owner.is_none() {
                    w.requests.remove(r);
                }
            }
            Action::Deliver(r) => self.deliver(w, r),
            Action::Lose(r) => self.lose_answer(w, r),
            Action::Demand(p) => self.request(w, p, 0),
            Action::Refresh(p) => {
                let newest = w.processes[p].state.counters().1;
                self.request(w, p, newest);
            }
            Action::Establish(p) => {
                w.left.establish -= 1;
                self.begin(w, p, Start::Establish);
            }
            Action::Revoke(p) => {
                w.left.revoke -= 1;
                self.begin(w, p, Start::Close);
            }
            Action::Forget(p) => {
                w.left.forget -= 1;
                self.begin(w, p, Start::Forget);
            }
            Action::Reject(p) => self.reject(w, p),
            Action::Dead(p) => self.dead(w, p),
            Action::Crash(p) => Self::crash(w, p),
            Action::Pause(p) => {
                w.left.faults -= 1;
                w.processes[p].paused = true;
            }
            Action::Resume(p) => w.processes[p].paused = false,
            Action::SetClock(p) => {
                w.left.faults -= 1;
                w.processes[p].offset += 3600;
            }
            Action::Pass => self.pass(w),
        }
    }

    fn part(&mut self, w: &mut World, p: usize, part: Part) {
        match part {
            Part::Work => self.work(w, p),
            Part::SaveUnsaved => drop(self.save_unsaved(w, p)),
            Part::Load => self.load(w, p),
            Part::Notice => self.notice_all(w, p),
            Part::Lose => {
                let Some((epoch, generation)) = w.processes[p].dead.take() else { return };
                let reason = LostReason::Revoked;
                let lose = Statement::Lose(Lose { epoch, generation, reason });
                if let Some(Outcome::Done(done)) = self.store(w, lose) {
                    self.apply(w, p, Input::Wrote { version: done.version });
                }
            }
            Part::Wake => {
                self.apply(w, p, Input::Tick);
                if self.apply(w, p, Input::Begin(Start::Revoke)) == Some(Start::Revoke) {
                    w.processes[p].work = Work::Revoke(Claiming::First);
                }
            }
        }
    }

    /// Steps a process's machine and publishes the token. A load that the step starts is left to
    /// [`Part::Load`].
    pub(super) fn apply(&self, w: &mut World, p: usize, input: Input) -> Option<Start> {
        let now = w.now;
        let process = &mut w.processes[p];
        let step_context = self.product.step_context(now, process.offset);
        let forgotten = matches!(input, Input::Forgotten);
        if let Some(external_change) = moved_clock(process, now) {
            step(process, Input::ExternalChange(external_change), &step_context);
        }
        if forgotten {
            (process.unsaved, process.asked, process.written) = (None, None, None);
        }
        let conflict = matches!(input, Input::Conflict { found: Some(_) });
        if conflict && self.has(Mutation::RejectedAgain) {
            process.state.settled = None;
        }
        let start = step(process, input, &step_context);
        publish(process, now);
        start
    }

    /// Applies a statement; `None` if its answer is lost.
    pub(super) fn store(
        &mut self,
        w: &mut World,
        statement: Statement<Tok>,
    ) -> Option<Outcome<Tok>> {
        let (mut record, mut floor) = (w.record.clone(), w.floor);
        if self.has(Mutation::ClaimInDoubt) && matches!(statement, Statement::Claim(_)) {
            record.as_mut().into_iter().for_each(|record| record.retry_at = None);
        }
        let revokes = matches!(&statement, Statement::Claim(c) if c.intent == Intent::Revoke);
        if self.has(Mutation::RevokedUnclaimed) && revokes {
            record.as_mut().into_iter().for_each(|record| record.lease = None);
        }
        if self.has(Mutation::FloorIgnored) {
            floor = Floor::default();
        }
        let found = Found { record, floor };
        let Decision { outcome, write, news } = decide(found, &statement, instant(w.now, 0));
        match write {
            Write::Nothing => {}
            Write::Put(record) | Write::PutLease(record) => w.put(record),
            Write::Remove(floor) => {
                w.record = None;
                w.floor = w.floor.max(floor);
            }
        }
        let settles =
            matches!(&statement, Statement::Settle(s) if matches!(s.to, SettleTo::Lost(_)));
        let death = settles || matches!(&statement, Statement::Lose(_));
        let passed_on = !(death && self.has(Mutation::DeathNotPassedOn));
        if let Some(change) = news.filter(|_| passed_on) {
            w.processes.iter_mut().for_each(|process| process.feed.push(change));
        }
        (!std::mem::take(&mut self.unanswered)).then_some(outcome)
    }

    /// Handles a caller's request for a token.
    pub(super) fn request(&self, w: &mut World, p: usize, newer_than: u64) {
        match self.answer(w, p, newer_than) {
            TokenDecision::Ask => {
                let newer_than = newer_than.max(self.rejected_through(&w.processes[p]));
                let need = Input::Need { newer_than, renewable: Renewable::No };
                if self.apply(w, p, need) == Some(Start::Refresh) {
                    self.begin_exchange(w, p, Intent::Refresh);
                }
            }
            TokenDecision::Load => {
                let process = &mut w.processes[p];
                process.load = PendingLoad::Wanted(machine::begin_load(&mut process.state));
            }
            TokenDecision::Token(_) | TokenDecision::Fail(_) | TokenDecision::Wait => {}
        }
    }

    /// Begins a job from the queue.
    fn begin(&self, w: &mut World, p: usize, what: Start) {
        match self.apply(w, p, Input::Begin(what)) {
            Some(Start::Establish) => {
                let closed = w.processes[p].settled().and_then(Settled::closed);
                if let Some(outbox) = closed.and_then(|closed| closed.outbox.clone()) {
                    // Revoked before the grant, even if another process revokes it too.
                    w.server.revoke(super::product::tok_of(&outbox));
                }
                self.begin_exchange(w, p, Intent::Establish);
            }
            Some(Start::Close) => {
                let state = &w.processes[p].state;
                let generation = state.counters().1;
                let outbox = state.settled.as_ref().and_then(Settled::credentials);
                let outbox = outbox.map(|outbox| super::product::tok_of(outbox));
                let (claim, ..) = w.begin_claim(p);
                w.processes[p].work = Work::Close { generation, claim, outbox, tries: 0 };
            }
            Some(Start::Forget) => w.processes[p].work = Work::Forget,
            Some(_) | None => {}
        }
    }

    fn begin_exchange(&self, w: &mut World, p: usize, intent: Intent) {
        let state = &w.processes[p].state;
        let (epoch, base) = state.counters();
        let held = state.settled.as_ref().and_then(Settled::credentials);
        let held = held.map(|held| super::product::tok_of(held));
        let (last, phase) = (w.now + CALL, Phase::Claim);
        let known = (epoch > 0).then_some(epoch);
        let exchange = Exchange { intent, known, epoch, base, held, last, phase };
        w.processes[p].work = Work::Exchange(Box::new(exchange));
    }

    fn reject(&self, w: &mut World, p: usize) {
        w.left.reject -= 1;
        let process = &mut w.processes[p];
        let Some(generation) = process.shown else { return };
        process.rejected_through = process.rejected_through.max(generation);
        process.dead_up_to = process.dead_up_to.max(generation);
        self.apply(w, p, Input::Rejected { generation });
    }

    /// The user ended the grant at the server.
    fn dead(&self, w: &mut World, p: usize) {
        w.left.dead -= 1;
        let Some(generation) = w.processes[p].shown else { return };
        let settled = w.processes[p].settled().and_then(Settled::credentials);
        if let Some(credentials) = settled {
            w.server.revoke(super::product::tok_of(credentials));
        }
        let process = &mut w.processes[p];
        process.dead_up_to = process.dead_up_to.max(generation);
        let reason = LostReason::Revoked;
        self.apply(w, p, Input::Dead { generation, reason });
        let State { settled, running, .. } = &w.processes[p].state;
        let lost = settled.as_ref().and_then(Settled::lost);
        let refreshing = matches!(running, Some(Run::Refresh { .. }));
        let ended = lost == Some(reason) && !refreshing;
        w.processes[p].dead = ended.then(|| w.processes[p].state.counters());
    }

    /// A new process without any state replaces it.
    fn crash(w: &mut World, p: usize) {
        w.left.faults -= 1;
        let owner = w.processes[p].owner;
        w.requests.retain(|request| request.owner != Some(owner) || request.reply.is_none());
        let of_it = w.requests.iter_mut().filter(|request| request.owner == Some(owner));
        of_it.for_each(|request| request.owner = None);
        w.ids += 1;
        w.processes[p] = Process::new(w.ids, w.processes[p].refreshes);
    }

    /// Time passes. Processes that wait for an answer renew their claims.
    fn pass(&mut self, w: &mut World) {
        w.now += TICK;
        for p in 0..w.processes.len() {
            let Work::Exchange(exchange) = &w.processes[p].work else { continue };
            let Phase::Open(attempt) = exchange.phase else { continue };
            if w.processes[p].paused || self.has(Mutation::NotRenewed) {
                continue;
            }
            let renew = Renew { claim: attempt.claim, lease: super::seconds(LEASE) };
            if let Some(Outcome::Done(done)) = self.store(w, Statement::Renew(renew)) {
                let until = w.now + LEASE;
                let sends = w.sends.iter_mut().filter(|sent| sent.claim == attempt.claim);
                sends.for_each(|sent| sent.until = until);
                self.apply(w, p, Input::Wrote { version: done.version });
            }
        }
    }
}

fn step(process: &mut Process, input: Input, step_context: &machine::StepContext) -> Option<Start> {
    let state = std::mem::take(&mut process.state);
    let (state, effects) = machine::step(state, input, step_context);
    process.state = state;
    match effects.start {
        Some(Start::Load(number)) => process.load = PendingLoad::Wanted(number),
        Some(Start::Restore) => process.load = PendingLoad::Restore,
        start => return start,
    }
    None
}

/// As the slot does.
fn moved_clock(process: &Process, now: Time) -> Option<ExternalChange> {
    let (Settled::Active(held) | Settled::InDoubt(held, _)) = process.settled()? else {
        return None;
    };
    let apart = held.derived_at?.abs_diff(offset(instant(now, process.offset)));
    let moved = apart > crate::policy::DRIFT && !process.state.is_busy();
    moved.then_some(ExternalChange::UNKNOWN)
}

/// As the slot does: never a lower generation than before.
fn publish(process: &mut Process, now: Time) {
    let Some(held) = machine::serving(&process.state, boot(now)) else {
        process.shown = None;
        return;
    };
    if held.generation >= process.published {
        process.published = held.generation;
        process.shown = Some(held.generation);
    }
}

impl World {
    pub(super) fn sleeps(&self, p: usize) -> bool {
        self.processes[p].paused
    }

    fn put(&mut self, record: crate::store::Record<Tok>) {
        if let Some(tok) = record.credentials.filter(|tok| *tok != self.newest.1) {
            if record.generation <= self.newest.0 {
                self.broken = Some(format!("generation {} begins again", record.generation));
            }
            self.newest = (record.generation, tok);
        }
        self.record = Some(record);
    }
}
