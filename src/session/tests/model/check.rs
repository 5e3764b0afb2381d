//! The rules that hold in every world, and the rest to which each world must lead without further
//! faults.

use std::collections::HashSet;

use super::act::{Action, Model, Part};
use super::world::{PendingLoad, Process, World};
use crate::error::ErrorKind;
use crate::session::machine::{self, Settled, TokenDecision};
use crate::store::Phase;

/// After this many steps without faults a world counts as stuck.
const MOST_STEPS: usize = 3000;

const ORDER: [Part; 6] =
    [Part::Notice, Part::Load, Part::Work, Part::SaveUnsaved, Part::Lose, Part::Wake];

impl Model {
    /// The rule that this world breaks, if any.
    pub(super) fn broken(&self, w: &World) -> Option<String> {
        if w.broken.is_some() {
            return w.broken.clone();
        }
        for (p, process) in w.processes.iter().enumerate() {
            let dead = process.dead_up_to;
            if let TokenDecision::Token(token) = self.answer(w, p, 0)
                && token.generation() <= dead
            {
                return Some(format!("{p} answers with {}, which is dead", token.generation()));
            }
            let rejected = self.rejected_through(process);
            let shown = process.shown.filter(|shown| *shown > rejected);
            if let Some(shown) = shown.filter(|shown| *shown <= dead) {
                return Some(format!("{p} serves {shown}, which is dead"));
            }
        }
        None
    }

    /// Whether the world comes to rest, where callers get what the store has. `known` are the
    /// worlds that are known to do so; the worlds on the way are added to them.
    pub(super) fn ends_well(
        &mut self,
        world: &World,
        known: &mut HashSet<u64>,
    ) -> Result<(), String> {
        let mut w = world.clone();
        w.processes.iter_mut().for_each(|process| process.paused = false);
        let mut way = Vec::new();
        for _ in 0..MOST_STEPS {
            let key = w.key();
            way.push(key);
            if known.contains(&key) || self.rests(&w) {
                known.extend(way);
                return Ok(());
            }
            let action = self.fair(&w);
            let Some(next) = self.act(&w, action) else {
                return Err(format!("{action:?} does nothing"));
            };
            w = next;
        }
        Err(format!("no rest: {}", self.describe(&w)))
    }

    /// The next action of a fair scheduler: any work that can be done, then time.
    fn fair(&self, w: &World) -> Action {
        if let Some(request) = w.requests.first() {
            return if request.reply.is_none() { Action::Process(0) } else { Action::Deliver(0) };
        }
        // Processes take turns, so that one that repeats the same work does not starve the others.
        let count = w.processes.len();
        let first = usize::try_from(w.ids).unwrap() % count;
        for p in (first..first + count).map(|p| p % count) {
            for part in ORDER {
                if self.is_to_do(w, p, part) {
                    return Action::Do(p, part);
                }
            }
        }
        for p in 0..count {
            let process = &w.processes[p];
            if process.is_idle() && !process.state.is_busy() && self.asks(w, p, 0) {
                return Action::Demand(p);
            }
        }
        Action::Pass
    }

    /// Whether no work is left, and each caller gets what the store says.
    fn rests(&self, w: &World) -> bool {
        let revoked = w.record.as_ref().is_none_or(|record| record.outbox.is_none());
        revoked
            && w.requests.is_empty()
            && (0..w.processes.len()).all(|p| {
                let process = &w.processes[p];
                let quiet = process.is_idle()
                    && process.unsaved.is_none()
                    && process.feed.is_empty()
                    && process.dead.is_none()
                    && matches!(process.load, PendingLoad::None);
                quiet && self.answers_truly(w, p, process)
            })
    }

    fn answers_truly(&self, w: &World, p: usize, process: &Process) -> bool {
        let record = w.record.as_ref();
        let phase = record.map(|record| record.phase);
        let shown = process.shown.filter(|shown| *shown > self.rejected_through(process));
        match self.answer(w, p, 0) {
            TokenDecision::Token(token) => {
                let live = matches!(phase, Some(Phase::Active | Phase::InDoubt));
                let newest = record.is_some_and(|r| r.generation == token.generation());
                live && newest && shown == Some(token.generation())
            }
            TokenDecision::Fail(error) => {
                let none = matches!(phase, None | Some(Phase::Closed | Phase::Vacant));
                let lost = matches!(error.kind(), ErrorKind::SignInAgain(_));
                let says_none = error.kind() == ErrorKind::NotEstablished;
                shown.is_none() && (lost && phase == Some(Phase::Lost) || says_none && none)
            }
            TokenDecision::Wait | TokenDecision::Load | TokenDecision::Ask => false,
        }
    }

    /// Describes a world in a trace.
    pub(super) fn describe(&self, w: &World) -> String {
        use std::fmt::Write as _;
        let mut text = format!("now {}; ", w.now);
        match &w.record {
            None => text.push_str("no record"),
            Some(record) => {
                let lease = record.lease.map(|lease| {
                    let until = super::product::time(lease.until);
                    (lease.owner.0, lease.claim.0, lease.intent, until)
                });
                let (tok, outbox) = (record.credentials, record.outbox);
                write!(
                    text,
                    "{:?} v{} e{} g{} tok {tok:?} outbox {outbox:?} suspect {} lease {lease:?}",
                    record.phase, record.version, record.epoch, record.generation, record.suspect
                )
                .unwrap();
            }
        }
        write!(text, "; server {:?}", w.server.0).unwrap();
        for process in &w.processes {
            let phase = match process.settled() {
                None => "unread",
                Some(Settled::Vacant { .. }) => "vacant",
                Some(Settled::Active(_)) => "active",
                Some(Settled::InDoubt(..)) => "in doubt",
                Some(Settled::Lost(_)) => "lost",
                Some(Settled::Closed(_)) => "closed",
            };
            let state = &process.state;
            let serves = machine::serving(state, super::product::boot(w.now));
            write!(
                text,
                "; [{} {phase} v{} {:?} shows {:?} serves {:?} feed {} {:?}{}]",
                process.owner,
                state.version,
                state.counters(),
                process.shown,
                serves.map(|held| held.generation),
                process.feed.len(),
                process.load,
                if process.paused { " paused" } else { "" }
            )
            .unwrap();
        }
        text
    }
}
