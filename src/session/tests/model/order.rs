//! Chooses the actions that may happen next, and leaves out orders that make no difference.

use super::Mutation;
use super::act::{Action, Model, Part};
use super::product::{TICK, boot, instant};
use super::world::{Exchange, PendingLoad, Phase, Process, Request, Work, World};
use crate::session::machine::{self, Renewable, Settled, TokenDecision};
use crate::store::{Found, Outcome, Statement, decide};

const PARTS: [Part; 6] =
    [Part::Work, Part::SaveUnsaved, Part::Load, Part::Notice, Part::Lose, Part::Wake];

impl Model {
    /// All actions that may happen next.
    ///
    /// A process takes its private steps just before the next action that others can see, and the
    /// server processes a request when it is sent: any action between the two could as well come
    /// before both. Only a fault of that process itself comes between.
    pub(super) fn actions(&self, w: &World) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(r) = w.requests.iter().position(|r| r.owner.is_some() && r.reply.is_none()) {
            let owner = w.processes.iter().position(|p| Some(p.owner) == w.requests[r].owner);
            actions.push(Action::Process(r));
            if w.left.faults > 0 {
                actions.push(Action::Lose(r));
                actions.extend(owner.map(Action::Crash));
            }
            return actions;
        }
        if let Some((p, part)) = w.next {
            actions.push(Action::Do(p, part));
            if w.left.faults > 0 {
                actions.extend((part == Part::Work).then_some(Action::DoUnanswered(p, part)));
                actions.extend([Action::Pause(p), Action::Crash(p)]);
            }
            return actions;
        }
        for p in 0..w.processes.len() {
            self.actions_of(w, p, &mut actions);
        }
        for (r, request) in w.requests.iter().enumerate() {
            match request.reply {
                None => actions.push(Action::Process(r)),
                Some(_) if self.is_awaited(w, request) => actions.push(Action::Deliver(r)),
                Some(_) => {}
            }
            if w.left.faults > 0 && self.is_awaited(w, request) {
                actions.push(Action::Lose(r));
            }
        }
        if self.may_pass(w) {
            actions.push(Action::Pass);
        }
        actions
    }

    fn actions_of(&self, w: &World, p: usize, actions: &mut Vec<Action>) {
        let process = &w.processes[p];
        let fault = w.left.faults > 0;
        if process.paused {
            actions.push(Action::Resume(p));
        } else {
            let parts = PARTS.into_iter().filter(|part| self.is_to_do(w, p, *part));
            for part in parts {
                actions.push(Action::Do(p, part));
                if fault && !matches!(part, Part::Notice | Part::Wake) {
                    actions.push(Action::DoUnanswered(p, part));
                }
            }
            self.calls(w, p, actions);
            if fault && process.has_something_to_do() {
                actions.push(Action::Pause(p));
            }
        }
        if fault && !process.is_as_good_as_new() {
            actions.push(Action::Crash(p));
        }
        if fault && process.settled().is_some() {
            actions.push(Action::SetClock(p));
        }
    }

    /// The calls that may come to a process.
    fn calls(&self, w: &World, p: usize, actions: &mut Vec<Action>) {
        let (process, left) = (&w.processes[p], w.left);
        let rests = process.is_idle() && !process.state.is_busy();
        if !rests {
            return;
        }
        if self.asks(w, p, 0) {
            actions.push(Action::Demand(p));
        }
        let newest = process.state.counters().1;
        if process.refreshes > 0 && newest > 0 && self.asks(w, p, newest) {
            actions.push(Action::Refresh(p));
        }
        let read = !process.state.is_unloaded();
        if left.establish > 0 && read {
            actions.push(Action::Establish(p));
        }
        if left.revoke > 0 && read && !process.state.has_nothing_to_close() {
            actions.push(Action::Revoke(p));
        }
        if left.forget > 0 {
            actions.push(Action::Forget(p));
        }
        if let Some(shown) = process.shown.filter(|shown| *shown > process.rejected_through) {
            let newest = shown == newest;
            if left.reject > 0 {
                actions.push(Action::Reject(p));
            }
            if left.dead > 0 && newest {
                actions.push(Action::Dead(p));
            }
        }
    }

    /// Whether a caller who wants a token above this one starts something.
    pub(super) fn asks(&self, w: &World, p: usize, newer_than: u64) -> bool {
        let process = &w.processes[p];
        let reads = !matches!(process.load, PendingLoad::None);
        match self.answer(w, p, newer_than) {
            TokenDecision::Ask => true,
            TokenDecision::Load => !reads,
            TokenDecision::Token(_) | TokenDecision::Fail(_) | TokenDecision::Wait => false,
        }
    }

    pub(super) fn answer(&self, w: &World, p: usize, newer_than: u64) -> TokenDecision {
        let process = &w.processes[p];
        let newer_than = newer_than.max(self.rejected_through(process));
        machine::token_decision(&process.state, newer_than, Renewable::No, boot(w.now))
    }

    pub(super) fn rejected_through(&self, process: &Process) -> u64 {
        match self.has(Mutation::RejectedAgain) {
            true => 0,
            false => process.rejected_through,
        }
    }

    /// Whether its sender still runs to receive the answer.
    fn is_awaited(&self, w: &World, request: &Request) -> bool {
        let owner = w.processes.iter().find(|process| Some(process.owner) == request.owner);
        owner.is_some_and(|owner| !owner.paused)
    }

    /// Whether a process that is not paused has this to do before time passes.
    pub(super) fn is_to_do(&self, w: &World, p: usize, part: Part) -> bool {
        let process = &w.processes[p];
        match part {
            Part::Work => self.is_work_to_do(w, process),
            Part::SaveUnsaved => {
                let about = |x: &Exchange| matches!(x.phase, Phase::Commit | Phase::Claim);
                let by_work = matches!(&process.work, Work::Exchange(x) if about(x));
                let unsaved = process.unsaved.as_ref().filter(|_| !by_work && !w.sleeps(p));
                unsaved.is_some_and(|commit| {
                    let found = Found { record: w.record.clone(), floor: w.floor };
                    let commit = Statement::Commit(commit.clone());
                    let outcome = decide(found, &commit, instant(w.now, 0)).outcome;
                    !matches!(outcome, Outcome::Leased(_))
                })
            }
            Part::Load => !matches!(process.load, PendingLoad::None),
            Part::Notice => !process.feed.is_empty(),
            Part::Lose => process.dead.is_some(),
            Part::Wake => {
                let policy = self.product.step_context(w.now, 0).policy;
                let wake = machine::next_wake(&process.state, &policy);
                let revokes = process.settled().and_then(Settled::closed).is_some_and(|closed| {
                    closed.outbox.is_some() && process.is_idle() && !process.state.is_busy()
                });
                revokes && wake.is_some_and(|wake| wake <= boot(w.now))
            }
        }
    }

    fn is_work_to_do(&self, w: &World, process: &Process) -> bool {
        let Work::Exchange(exchange) = &process.work else { return !process.is_idle() };
        match exchange.phase {
            Phase::Outlast(claim) => {
                let lease = w.record.as_ref().and_then(|record| record.lease);
                let lease = lease.filter(|lease| lease.claim == claim);
                lease.is_none_or(|lease| lease.until <= boot(w.now)) || w.now >= exchange.last
            }
            Phase::Open(_) => false,
            Phase::Claim | Phase::Send(..) | Phase::Commit | Phase::Settle(_) => true,
        }
    }

    /// Time passes when all processes that are not paused have done all their work. A request
    /// reaches its server within a budget; the answer may take as long as [`Limits`] allows.
    fn may_pass(&self, w: &World) -> bool {
        let busy = (0..w.processes.len()).any(|p| {
            !w.processes[p].paused && PARTS.into_iter().any(|part| self.is_to_do(w, p, part))
        });
        let late = w.requests.iter().any(|request| match request.reply {
            None => w.now >= request.at + TICK,
            Some(_) => self.is_awaited(w, request) && w.now >= request.at + self.limits.answer,
        });
        !busy && !late
    }
}

/// What a process does next if this action was a private step: it writes, or loads.
pub(super) fn comes_next(before: &World, action: Action, after: &World) -> Option<(usize, Part)> {
    let writes = |p: &usize| !after.sleeps(*p) && after.processes[*p].is_about_to_write();
    if let Some(p) = decided(before, action).filter(writes) {
        return Some((p, Part::Work));
    }
    let need = |w: &World, p: usize| matches!(w.processes[p].load, PendingLoad::Wanted(_));
    let mut all = 0..after.processes.len();
    let reads = all.find(|p| !after.sleeps(*p) && need(after, *p) && !need(before, *p));
    reads.map(|p| (p, Part::Load))
}

fn decided(before: &World, action: Action) -> Option<usize> {
    match action {
        Action::Demand(p)
        | Action::Refresh(p)
        | Action::Establish(p)
        | Action::Revoke(p)
        | Action::Forget(p)
        | Action::Do(p, Part::Wake) => Some(p),
        Action::Do(p, Part::Work) => {
            let Work::Exchange(exchange) = &before.processes[p].work else { return None };
            matches!(exchange.phase, Phase::Send(..)).then_some(p)
        }
        Action::Deliver(r) | Action::Lose(r) => {
            let owner = before.requests[r].owner;
            before.processes.iter().position(|process| Some(process.owner) == owner)
        }
        Action::Do(..)
        | Action::DoUnanswered(..)
        | Action::Process(_)
        | Action::Reject(_)
        | Action::Dead(_)
        | Action::Crash(_)
        | Action::Pause(_)
        | Action::Resume(_)
        | Action::SetClock(_)
        | Action::Pass => None,
    }
}
