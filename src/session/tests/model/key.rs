//! When two worlds count as the same: times count from now, claims and versions by their order.

use super::product::{HOLD, LEASE, offset_of, time, tok_of};
use super::world::{
    Claiming, Ending, Exchange, PendingLoad, Phase, Process, Reply, Time, Tok, Work, World,
};
use crate::clock::BootTime;
use crate::session::machine::{BackoffState, CredentialState, ExternalChange, Run, Settled};
use crate::store::{Attempt, Change, ClaimId, Commit, Record, SettleTo};

/// A world's parts as numbers.
struct Writer<'a> {
    world: &'a World,
    hash: u64,
    claims: Vec<u64>,
    versions: Vec<u64>,
    /// From when times count: the model's now, or that of a load.
    now: i64,
}

impl World {
    /// The same for worlds from which the same can happen, whichever of its processes is which.
    pub(super) fn key(&self) -> u64 {
        let versions = self.versions();
        let mut order: Vec<usize> = (0..self.processes.len()).collect();
        let mut least = u64::MAX;
        permutations(&mut order, 0, &mut |order| {
            least = least.min(self.key_in(order, &versions));
        });
        least
    }

    fn key_in(&self, order: &[usize], versions: &[u64]) -> u64 {
        let (hash, claims) = (0, Vec::new());
        let mut writer = Writer {
            world: self,
            hash,
            claims,
            versions: versions.to_vec(),
            now: self.now.cast_signed(),
        };
        order.iter().for_each(|p| {
            writer.process(&self.processes[*p], self.next.is_some_and(|(next, _)| next == *p))
        });
        writer.record(self.record.as_ref());
        writer.rest(order);
        writer.hash
    }

    /// All versions that are remembered anywhere, in order.
    fn versions(&self) -> Vec<u64> {
        let mut all = vec![0, self.floor.version];
        let of_record = |record: &Record<Tok>, all: &mut Vec<u64>| {
            all.extend([record.version, record.fence]);
            all.extend(record.made_by.map(|made| made.fence));
        };
        self.record.iter().for_each(|record| of_record(record, &mut all));
        for process in &self.processes {
            all.push(process.state.version);
            let external_change =
                [process.state.external_change, process.state.load.running.flatten()];
            all.extend(
                external_change
                    .into_iter()
                    .flatten()
                    .filter_map(|external_change| external_change.version),
            );
            all.extend(process.feed.iter().map(|change| change.version));
            all.extend(process.unsaved.iter().map(|unsaved| unsaved.attempt.fence));
            if let PendingLoad::Found(_, Some(found)) = &process.load {
                of_record(&found.record, &mut all);
            }
            match &process.work {
                Work::Exchange(exchange) => match &exchange.phase {
                    Phase::Send(attempt, _) | Phase::Open(attempt) => all.push(attempt.fence),
                    Phase::Settle(ending) => all.push(ending.attempt.fence),
                    Phase::Claim | Phase::Outlast(_) | Phase::Commit => {}
                },
                Work::SendRevocation(attempt, _) | Work::Revoked(attempt, _) => {
                    all.push(attempt.fence)
                }
                Work::Idle | Work::Close { .. } | Work::Revoke(_) | Work::Forget => {}
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

fn permutations(order: &mut Vec<usize>, from: usize, each: &mut impl FnMut(&[usize])) {
    if from + 1 >= order.len() {
        return each(order);
    }
    for with in from..order.len() {
        order.swap(from, with);
        permutations(order, from + 1, each);
        order.swap(from, with);
    }
}

impl Writer<'_> {
    fn put(&mut self, number: u64) {
        // Folded multiplication: one word changes all bits of what follows.
        let product = u128::from(self.hash ^ number) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        self.hash = (product as u64).wrapping_add((product >> 64) as u64) ^ 0x2d35_8dcc_aa6c_78a5;
    }

    fn flag(&mut self, flag: bool) {
        self.put(u64::from(flag));
    }

    fn claim(&mut self, claim: Option<ClaimId>) {
        let Some(ClaimId(id)) = claim else { return self.put(0) };
        let index = self.claims.iter().position(|known| *known == id);
        let index = index.unwrap_or_else(|| {
            self.claims.push(id);
            self.claims.len() - 1
        });
        self.put(index as u64 + 1);
    }

    fn version(&mut self, version: u64) {
        let index = self.versions.binary_search(&version).expect("all versions are known");
        self.put(index as u64);
    }

    /// Writes how far a time lies ahead, or behind by at most `past`.
    fn at(&mut self, at: i64, past: Time) {
        let past = past.cast_signed();
        self.put((at - self.now).max(-past).wrapping_add(past + 1).unsigned_abs());
    }

    fn time(&mut self, at: Time, past: Time) {
        self.at(at.cast_signed(), past);
    }

    fn boot(&mut self, at: Option<BootTime>, past: Time) {
        match at {
            Some(at) => self.at(time(at), past),
            None => self.put(0),
        }
    }

    fn record(&mut self, record: Option<&Record<Tok>>) {
        let Some(record) = record else { return self.put(0) };
        self.put(1 + record.phase as u64);
        self.version(record.version);
        self.version(record.fence);
        self.put(record.epoch);
        self.put(record.generation);
        self.put(record.credentials.map_or(0, u64::from));
        self.put(record.outbox.map_or(0, u64::from));
        self.flag(record.suspect);
        self.put(record.lost.map_or(0, |lost| 1 + lost as u64));
        if let Some(made) = record.made_by {
            self.attempt(made);
        } else {
            self.put(0);
        }
        let retry = record.retry_at.map(|at| super::product::instant(0, 0).boot_at(at));
        self.boot(retry, 0);
        match record.lease {
            None => self.put(0),
            Some(lease) => {
                self.claim(Some(lease.claim));
                let owner = |process: &Process| process.owner == lease.owner.0;
                let living = self.world.processes.iter().find(|process| owner(process));
                let claims = living.map(|process| (process.written, process.asked.map(|a| a.0)));
                self.flag(living.is_some());
                let (written, asked) = claims.unwrap_or_default();
                self.claim(written);
                self.claim(asked);
                self.put(lease.intent as u64);
                self.boot(Some(lease.until), HOLD);
            }
        }
    }

    fn attempt(&mut self, attempt: Attempt) {
        self.put(attempt.base + 1);
        self.version_or_new(attempt.fence);
        self.claim(Some(attempt.claim));
    }

    /// Fences of attempts that no longer matter are not among the versions.
    fn version_or_new(&mut self, version: u64) {
        match self.versions.binary_search(&version) {
            Ok(index) => self.put(index as u64),
            Err(_) => self.put(u64::MAX),
        }
    }

    fn process(&mut self, process: &Process, next: bool) {
        self.settled(process.settled(), process);
        let state = &process.state;
        self.version(state.version);
        self.external_change(state.external_change);
        match state.load.running {
            None => self.put(0),
            Some(external_change) => {
                self.put(1);
                self.external_change(external_change);
            }
        }
        self.flag(state.load.restored);
        self.run(state.running.as_ref(), process);
        self.backoff(state.load_backoff.as_ref());
        self.load(process);
        self.put(u64::from(process.paused) + 2 * u64::from(next));
        let unsaved = process.unsaved.as_ref();
        self.put(unsaved.map_or(0, |unsaved| 1 + u64::from(unsaved.credentials)));
        unsaved.into_iter().for_each(|unsaved: &Commit<Tok>| {
            self.put(unsaved.epoch);
            self.attempt(unsaved.attempt);
        });
        match process.asked {
            None => self.put(0),
            Some((claim, at)) => {
                self.claim(Some(claim));
                self.time(at, 1);
            }
        }
        self.claim(process.written);
        self.put(process.feed.len() as u64);
        process.feed.iter().for_each(|change| self.change(change));
        // Generations never fall, so those below the current one do not matter any more.
        let newest = process.state.counters().1;
        let matters = |generation| if generation < newest { 0 } else { generation };
        self.put(matters(process.rejected_through));
        self.put(matters(process.published));
        self.put(process.shown.unwrap_or(0));
        self.put(matters(process.dead_up_to));
        self.put(u64::from(process.refreshes));
        self.put(process.dead.map_or(0, |(epoch, generation)| 1 + epoch * 64 + generation));
        self.work(&process.work);
    }

    fn change(&mut self, change: &Change) {
        self.version(change.version);
        self.put(change.epoch);
        self.put(change.generation);
        self.put(change.phase.map_or(0, |phase| 1 + phase as u64));
    }

    fn external_change(&mut self, external_change: Option<ExternalChange>) {
        let Some(ExternalChange { version, ends }) = external_change else { return self.put(0) };
        self.put(1 + u64::from(ends));
        match version {
            None => self.put(u64::MAX),
            Some(version) => self.version(version),
        }
    }

    fn load(&mut self, process: &Process) {
        let current = process.state.load.number;
        match &process.load {
            PendingLoad::None => self.put(0),
            PendingLoad::Restore => self.put(1),
            PendingLoad::Wanted(number) => self.put(2 + u64::from(*number == current)),
            PendingLoad::Found(number, found) => {
                self.put(4 + u64::from(*number == current));
                // The record's times count from when it was loaded.
                let now = found.as_ref().map_or(self.now, |found| time(found.now.boot));
                let now = std::mem::replace(&mut self.now, now);
                self.record(found.as_ref().map(|found| &found.record));
                self.now = now;
            }
        }
    }

    fn settled(&mut self, settled: Option<&Settled>, process: &Process) {
        match settled {
            None => self.put(0),
            Some(Settled::Vacant { backoff }) => {
                self.put(1);
                self.backoff(backoff.as_ref());
            }
            Some(Settled::Active(held)) => {
                self.put(2);
                self.held(held, process);
            }
            Some(Settled::InDoubt(held, in_doubt)) => {
                self.put(3);
                self.held(held, process);
                self.put(u64::from(in_doubt.tries.min(5)));
                self.boot(Some(in_doubt.retry_at), 0);
                self.boot(Some(in_doubt.floor), 0);
            }
            Some(Settled::Lost(lost)) => {
                self.put(4 + lost.reason as u64);
                self.put(lost.epoch);
                self.put(lost.generation);
                lost.held.iter().for_each(|held| self.held(held, process));
            }
            Some(Settled::Closed(closed)) => {
                self.put(100);
                self.put(closed.epoch);
                self.put(closed.generation);
                self.put(closed.outbox.as_ref().map_or(0, |c| 1 + u64::from(tok_of(c))));
                self.backoff(closed.backoff.as_ref());
            }
        }
    }

    fn held(&mut self, held: &CredentialState, process: &Process) {
        self.put(held.epoch);
        self.put(held.generation);
        self.put(u64::from(tok_of(&held.credentials)));
        self.flag(held.is_unsaved());
        self.flag(held.suspect);
        self.flag(held.rejected);
        let moved = held.derived_at.map(|at| at == offset_of(self.world.now, process.offset));
        self.put(moved.map_or(0, |moved| 1 + u64::from(moved)));
        self.backoff(held.backoff.as_ref());
        self.put(held.damping.as_ref().map_or(0, |damping| damping.span.as_secs()));
    }

    fn backoff(&mut self, backoff: Option<&BackoffState>) {
        let Some(backoff) = backoff else { return self.put(0) };
        self.put(1 + u64::from(backoff.tries.min(6)));
        self.boot(Some(backoff.retry_at), 0);
    }

    fn run(&mut self, run: Option<&Run>, process: &Process) {
        match run {
            None => self.put(0),
            Some(Run::Challenge { .. }) => self.put(1),
            Some(Run::Establish { answer, .. }) => {
                self.put(2);
                answer.iter().for_each(|held| self.held(held, process));
            }
            Some(Run::Refresh { answer }) => {
                self.put(3);
                answer.iter().for_each(|held| self.held(held, process));
            }
            Some(Run::Close) => self.put(4),
            Some(Run::Forget) => self.put(5),
            Some(Run::Revoke) => self.put(6),
        }
    }

    fn work(&mut self, work: &Work) {
        match work {
            Work::Idle => self.put(0),
            Work::Exchange(exchange) => self.exchange(exchange),
            Work::Close { generation, claim, outbox, tries } => {
                self.put(2);
                self.put(*generation);
                self.claim(Some(*claim));
                self.put(outbox.map_or(0, u64::from) * 8 + u64::from(*tries));
            }
            Work::Revoke(Claiming::First) => self.put(3),
            Work::Revoke(Claiming::Again) => self.put(8),
            Work::Revoke(Claiming::TakeOver(claim)) => {
                self.put(9);
                self.claim(Some(*claim));
            }
            Work::SendRevocation(attempt, until) => {
                self.put(4);
                self.time(*until, 0);
                self.attempt(*attempt);
            }
            Work::Revoked(attempt, revoked) => {
                self.put(5 + u64::from(*revoked));
                self.attempt(*attempt);
            }
            Work::Forget => self.put(7),
        }
    }

    fn exchange(&mut self, exchange: &Exchange) {
        let Exchange { intent, known, epoch, base, held, last, phase } = exchange;
        self.put(10 + *intent as u64);
        self.put(*epoch);
        self.put(*base);
        if matches!(phase, Phase::Claim | Phase::Outlast(_) | Phase::Send(..)) {
            self.put(known.map_or(0, |known| known + 1));
            self.put(held.map_or(0, |held| 1 + u64::from(held)));
            self.time(*last, 0);
        }
        match phase {
            Phase::Claim => self.put(0),
            Phase::Outlast(claim) => {
                self.put(1);
                self.claim(Some(*claim));
            }
            Phase::Send(attempt, at) => {
                self.put(2);
                self.attempt(*attempt);
                self.time(*at, LEASE);
            }
            Phase::Open(attempt) => {
                self.put(3);
                self.attempt(*attempt);
            }
            Phase::Commit => self.put(4),
            Phase::Settle(ending) => self.ending(ending),
        }
    }

    fn ending(&mut self, ending: &Ending) {
        let Ending { attempt, to, retry_in, failure, at } = ending;
        self.put(5);
        self.attempt(*attempt);
        self.put(match to {
            SettleTo::Before => 0,
            SettleTo::BeforeSuspect => 1,
            SettleTo::InDoubt => 2,
            SettleTo::Revoked => 3,
            SettleTo::Lost(reason) => 4 + *reason as u64,
        });
        self.put(retry_in.map_or(0, |wait| wait + 1));
        self.put(failure.wait.as_secs());
        self.time(*at, 100);
    }

    fn rest(&mut self, order: &[usize]) {
        let world = self.world;
        for grant in &world.server.0 {
            self.put(grant.map_or(0, u64::from));
        }
        self.version(world.floor.version);
        self.put(world.floor.epoch);
        self.put(world.floor.generation);
        self.put(world.newest.0 * 256 + u64::from(world.newest.1));
        let left = world.left;
        for part in [left.establish, left.forget, left.revoke, left.reject, left.dead, left.faults]
        {
            self.put(u64::from(part));
        }
        let mut requests: Vec<_> = world.requests.iter().collect();
        let index = |owner: Option<u64>| {
            let at = |p: &usize| Some(world.processes[*p].owner) == owner;
            order.iter().position(at).unwrap_or(usize::MAX)
        };
        requests.sort_by_key(|request| (index(request.owner), request.sent, request.at));
        for request in requests {
            self.put(50 + (index(request.owner) as u64).min(9));
            self.claim(Some(request.claim));
            self.put(request.sent.map_or(0, |sent| 1 + u64::from(sent)));
            self.time(request.at, 100);
            self.put(match request.reply {
                None => 0,
                Some(Reply::Rejected) => 1,
                Some(Reply::Tokens(tok)) => 2 + u64::from(tok),
            });
        }
        let mut sends: Vec<_> = world.sends.iter().collect();
        sends.sort_by_key(|sent| (sent.tok, sent.revokes, sent.until, sent.lost));
        for sent in sends {
            self.put(70 + u64::from(sent.revokes));
            self.claim(Some(sent.claim));
            self.put(u64::from(sent.tok));
            self.time(sent.until, HOLD);
            self.at(sent.lost.map_or(-1_000_000, Time::cast_signed), LEASE);
        }
        world.spent.iter().for_each(|tok| self.put(200 + u64::from(*tok)));
    }
}
