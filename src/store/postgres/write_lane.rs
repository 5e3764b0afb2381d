//! The task that writes statements in batches.
//!
//! The statements that have arrived while the last batch was under way make the next batch, so a
//! statement that comes alone waits for nobody. A batch takes one turn or more. In a turn, the lane
//! writes what is decided, and then reads what is not. A statement is decided on the record that
//! this process knows, if it writes and does not depend on the time; otherwise on the record that
//! the last turn read. A write names the version that it was decided on. If the row has another
//! version by then, the lane reads the row and decides again.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::connections::MAX_LOST;
use super::database_clock::DatabaseTime;
use super::pending_write::{Basis, PendingWrite};
use super::postgres_fault::PostgresFault;
use super::read_rows::{ReadRows, UnreadableRow};
use super::row_reader::KnownRow;
use super::wal_position::WalPosition;
use super::write_rows::Written;
use crate::key::SessionId;
use crate::store::decide::{Found, Write, decide};
use crate::store::record_cipher::SealedCredentials;
use crate::store::{Floor, Outcome, Statement, StoreError};

/// How many statements one turn has at most. Defaults to 1,024: so many share the write to the disk
/// by then that more would only make the first of them wait.
pub(super) const MAX_BATCH: usize = 1024;

/// How many statements wait for the lane at most; more wait outside. Defaults to 8,192, eight
/// batches, so that a batch is full whenever there is work for one.
pub(super) const MAX_QUEUE: usize = 8192;

/// How often a statement is decided again because its row has changed. Defaults to 32: others change
/// the same row at every turn only if they compete for it, and one of them wins each time.
const MAX_TRIES: u32 = 32;

/// A statement, and where its outcome goes.
pub(super) struct Job {
    pub(super) id: SessionId,
    pub(super) statement: Statement<SealedCredentials>,
    pub(super) reply: oneshot::Sender<Result<Outcome<SealedCredentials>, StoreError>>,
}

/// Which connection a lane uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Claims,
    Commits,
}

/// A statement that has no outcome yet.
struct OpenJob {
    job: Job,
    next: Next,
    tries: u32,
    /// How many reads of it found that the connection had ended.
    lost_reads: u32,
    /// A write of it may have been done.
    unknown: bool,
    /// Its batch was refused, so it runs alone.
    alone: bool,
}

enum Next {
    Decide,
    Read,
    Write(Box<PendingWrite>),
}

/// Serves the queue until the store is dropped.
pub(super) async fn run(shared: Arc<Shared>, lane: Lane, mut queue: mpsc::Receiver<Job>) {
    let mut open: Vec<OpenJob> = Vec::new();
    loop {
        if open.is_empty() {
            let Some(first) = queue.recv().await else { return };
            open.push(OpenJob::new(first));
        }
        while open.len() < MAX_BATCH {
            let Ok(job) = queue.try_recv() else { break };
            open.push(OpenJob::new(job));
        }
        open = turn(&shared, lane, open).await;
    }
}

impl OpenJob {
    fn new(job: Job) -> Self {
        Self { job, next: Next::Decide, tries: 0, lost_reads: 0, unknown: false, alone: false }
    }

    fn finish(self, result: Result<Outcome<SealedCredentials>, StoreError>) {
        // A caller that has gone finds the outcome in the record.
        drop(self.job.reply.send(result));
    }
}

/// Writes and reads once. Returns the statements that are still open.
async fn turn(shared: &Shared, lane: Lane, open: Vec<OpenJob>) -> Vec<OpenJob> {
    let (picked, mut later) = pick(open);
    let (mut picked, wal) = admit(shared, lane, picked);
    for job in &mut picked {
        if matches!(job.next, Next::Decide) {
            job.next = decide_on_known(shared, &job.job);
        }
    }
    let pool = match lane {
        Lane::Claims => &shared.connections.claims,
        Lane::Commits => &shared.connections.commits,
    };
    let mut connection = match shared.connections.get(pool).await {
        Ok(connection) => connection,
        Err(fault) => {
            picked.into_iter().for_each(|job| job.finish(Err(fault.clone().into())));
            return later;
        }
    };
    let mut writes = Vec::new();
    let mut reads = Vec::new();
    for job in &picked {
        match &job.next {
            Next::Write(write) => writes.push((&job.job.id, &**write)),
            Next::Read | Next::Decide => reads.push(&job.job.id),
        }
    }
    let written = shared.write_rows(&mut connection, wal, &writes).await;
    let read = shared.read_rows(&mut connection, &reads).await;
    drop(connection);
    let settled = Turn { shared, written, read, batch: picked.len() };
    // Before those that wait, whose sessions are the same.
    let mut still_open = settled.settle(picked);
    still_open.append(&mut later);
    still_open
}

/// The statements of this turn, and the others. A turn has one statement of each session. Those
/// whose callers have gone are dropped: a claim that nobody waits for would keep the session from
/// all others until its lease ends.
fn pick(open: Vec<OpenJob>) -> (Vec<OpenJob>, Vec<OpenJob>) {
    let mut open: Vec<_> = open.into_iter().filter(|open| !open.job.reply.is_closed()).collect();
    if let Some(alone) = open.iter().position(|open| open.alone) {
        let first = open.remove(alone);
        return (vec![first], open);
    }
    let first: Vec<bool> = {
        let mut sessions = HashSet::with_capacity(open.len());
        open.iter().map(|open| sessions.insert(&open.job.id)).collect()
    };
    let mut first = first.into_iter();
    open.into_iter().partition(|_| first.next().unwrap_or(false))
}

/// Refuses claims while they wait for the end of a failover. Returns the others, and the position
/// that the database's log of writes must still have when they are written.
fn admit(shared: &Shared, lane: Lane, picked: Vec<OpenJob>) -> (Vec<OpenJob>, Option<WalPosition>) {
    if lane == Lane::Commits {
        // What a server has answered is saved in every case.
        return (picked, None);
    }
    match shared.failover.expected(shared.clock().now().boot) {
        Ok(wal) => (picked, wal),
        Err(fault) => {
            let begins = |job: &OpenJob| {
                matches!(job.job.statement, Statement::Claim(_) | Statement::TakeOver(_))
            };
            let (refused, rest): (Vec<_>, Vec<_>) = picked.into_iter().partition(begins);
            refused.into_iter().for_each(|job| job.finish(Err(fault.clone().into())));
            (rest, None)
        }
    }
}

/// Decides on the record that this process knows. The time is an estimate that is not later than
/// the database's, so a statement that depends on the time is read first.
fn decide_on_known(shared: &Shared, job: &Job) -> Next {
    let (Some(known), Some(now)) = (shared.known.get(&job.id), shared.estimated_now()) else {
        return Next::Read;
    };
    let record = &known.record;
    let read_first = match &job.statement {
        Statement::Claim(_) => record.lease.is_some() || record.retry_at.is_some(),
        Statement::TakeOver(_) | Statement::RemoveEnded { .. } | Statement::Delete => true,
        Statement::Renew(_)
        | Statement::Commit(_)
        | Statement::Settle(_)
        | Statement::Close(_)
        | Statement::Lose(_)
        | Statement::Suspect(_)
        | Statement::Reschedule(_)
        | Statement::Restore(_)
        | Statement::Import(_) => false,
    };
    if read_first {
        return Next::Read;
    }
    let found = Found { record: Some(record.clone()), floor: Floor::default() };
    let decision = decide(found, &job.statement, now.now());
    if matches!(decision.write, Write::Nothing | Write::Remove(_)) {
        return Next::Read;
    }
    let basis = Basis { known: Some(known), floor: Floor::default(), at: now };
    // If this fails, the statement is decided again on what is read, and an error counts then.
    let write = PendingWrite::new(shared, &job.id, basis, decision);
    write.map_or(Next::Read, |write| Next::Write(Box::new(write)))
}

/// What a turn brought.
struct Turn<'a> {
    shared: &'a Shared,
    written: Written,
    read: Result<ReadRows, PostgresFault>,
    /// How many statements the turn had.
    batch: usize,
}

impl Turn<'_> {
    /// Answers the statements that have an outcome, and returns the others.
    fn settle(mut self, picked: Vec<OpenJob>) -> Vec<OpenJob> {
        let (mut write_place, mut read_place) = (0, 0);
        let mut open = Vec::new();
        for mut job in picked {
            let next = std::mem::replace(&mut job.next, Next::Read);
            let still_open = match next {
                Next::Write(write) => {
                    write_place += 1;
                    self.after_write(job, *write, write_place - 1)
                }
                Next::Read | Next::Decide => {
                    read_place += 1;
                    self.after_read(job, read_place - 1)
                }
            };
            open.extend(still_open);
        }
        open
    }

    fn after_write(&self, mut job: OpenJob, write: PendingWrite, place: usize) -> Option<OpenJob> {
        match self.written.of(place) {
            Ok(true) => {
                let now = self.shared.clock().now().boot;
                self.shared.failover.note_write(&job.job.id, &write.kind, now);
                let outcome = write.done(&self.shared.known, &job.job.id);
                job.finish(Ok(outcome));
                None
            }
            Ok(false) => {
                self.shared.known.forget(&job.job.id);
                self.again(job, PostgresFault::Contended)
            }
            Err(fault) => {
                self.shared.known.forget(&job.job.id);
                let unknown = fault.leaves_unknown();
                // The row shows whether the write was done: a claim by its id, a commit by its
                // attempt. A second failure is the caller's, who knows no more then.
                if (unknown && !job.unknown) || fault == PostgresFault::Contended {
                    job.unknown |= unknown;
                    return self.again(job, fault);
                }
                if fault.is_about_a_value() && self.batch > 1 && !job.alone {
                    job.alone = true;
                    return self.again(job, fault);
                }
                job.finish(Err(fault.into()));
                None
            }
        }
    }

    fn again(&self, mut job: OpenJob, fault: PostgresFault) -> Option<OpenJob> {
        job.tries += 1;
        if job.tries > MAX_TRIES {
            job.finish(Err(fault.into()));
            return None;
        }
        job.next = Next::Read;
        Some(job)
    }

    fn after_read(&mut self, mut job: OpenJob, place: usize) -> Option<OpenJob> {
        let read = match &mut self.read {
            Ok(read) => read,
            // Nothing was written in this turn, so the next one may read again.
            Err(PostgresFault::ConnectionLost) if job.lost_reads < MAX_LOST => {
                job.lost_reads += 1;
                return Some(job);
            }
            Err(fault) => {
                let fault = fault.clone();
                job.finish(Err(fault.into()));
                return None;
            }
        };
        let (floor, now, found) = (read.floor, read.at, read.take(place));
        let floor = raised(floor, &job);
        match self.decide_on_read(&job.job, found, (floor, now)) {
            Ok(Decided::Outcome(outcome)) => job.finish(Ok(outcome)),
            Ok(Decided::Write(write)) => {
                job.next = Next::Write(Box::new(write));
                return Some(job);
            }
            Err(error) => job.finish(Err(error)),
        }
        None
    }

    fn decide_on_read(
        &self,
        job: &Job,
        found: Option<Result<Arc<KnownRow>, UnreadableRow>>,
        (floor, now): (Floor, DatabaseTime),
    ) -> Result<Decided, StoreError> {
        let known = match found.transpose() {
            Ok(known) => known,
            // A delete must work on a row that cannot be read, or nobody could get rid of it.
            Err(row) if matches!(job.statement, Statement::Delete) => {
                return PendingWrite::delete_unreadable(row).map(Decided::Write);
            }
            Err(row) => return Err(row.error),
        };
        if let Some(known) = &known {
            self.shared.known.note(&job.id, Arc::clone(known));
        }
        let record = known.as_ref().map(|known| known.record.clone());
        let decision = decide(Found { record, floor }, &job.statement, now.now());
        if matches!(decision.write, Write::Nothing) {
            // The record that fits is perhaps not written again yet. To the caller, this conflict
            // would mean that its tokens are superseded.
            let held = || self.shared.failover.is_held(self.shared.clock().now().boot);
            if matches!(decision.outcome, Outcome::Conflict(_)) && held() {
                return Err(PostgresFault::FailedOver.into());
            }
            return Ok(Decided::Outcome(decision.outcome));
        }
        let basis = Basis { known, floor, at: now };
        PendingWrite::new(self.shared, &job.id, basis, decision).map(Decided::Write)
    }
}

/// The floor above which a new record begins. Others may raise the floor while the record is on its
/// way, so a claim that this has refused begins further above it each time.
fn raised(floor: Floor, job: &OpenJob) -> Floor {
    if job.tries < 2 || !matches!(job.job.statement, Statement::Claim(_)) {
        return floor;
    }
    let margin = 64 << job.tries.min(20);
    Floor {
        version: floor.version + margin,
        epoch: floor.epoch + margin,
        generation: floor.generation + margin,
    }
}

/// What a statement comes to.
enum Decided {
    Outcome(Outcome<SealedCredentials>),
    Write(PendingWrite),
}
