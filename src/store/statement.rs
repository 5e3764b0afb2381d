//! The statements of the protocol, as functions on one record.
//!
//! The stores of this crate run these, so that a statement means the same in all of them. What a
//! function gives back, its store writes in the same step in which it read what it gave in.

use super::record::{
    Claim, Close, Commit, Committed, Holder, Intent, Lease, Phase, Record, Settle, SettleTo,
    Settled, TakeOver,
};
use crate::error::LostReason;

/// What is remembered of records that are no longer there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fences {
    /// The highest fence of all records that were removed. New ones begin above it, so that a
    /// late statement on a removed record never fits its successor.
    pub(super) removed: u64,
    /// The same of those that were deleted. A first grant's commit makes a record, because its
    /// claim's record may have been removed when it was taken over; but never one that was deleted.
    pub(super) deleted: u64,
}

impl Fences {
    /// After a record of this fence was removed.
    pub(super) fn removed(self, fence: u64) -> Self {
        Self { removed: self.removed.max(fence), ..self }
    }

    /// After a record of this fence was deleted for good.
    pub(super) fn deleted(self, fence: u64) -> Self {
        Self { deleted: self.deleted.max(fence), ..self.removed(fence) }
    }
}

/// What is to be written.
#[derive(Debug)]
pub(super) enum Change<C> {
    Nothing,
    Put(Record<C>),
    Remove,
}

/// What becomes of a claim.
#[derive(Debug)]
pub(super) enum Claiming<C> {
    /// To be written; the fence is the record's.
    Granted(Record<C>),
    Moved(Option<Record<C>>),
    Leased(Record<C>),
}

/// What becomes of a close.
#[derive(Debug)]
pub(super) enum Closing<C> {
    /// To be written; the generation is the record's.
    Done(Record<C>),
    /// It was closed before, as this generation.
    Already(u64),
    Moved(Option<Record<C>>),
}

/// S0 and S1. What an owner itself left claimed is its own to claim again: it knows that its
/// exchange has ended, because it runs one at a time.
pub(super) fn claim<C>(found: Option<Record<C>>, fences: Fences, claim: &Claim) -> Claiming<C> {
    let (epoch, generation) = found.as_ref().map_or((0, 0), |r| (r.epoch, r.generation));
    let stale = claim.intent == Intent::Refresh && generation != claim.generation;
    if epoch != claim.epoch || stale {
        return Claiming::Moved(found);
    }
    let mut record = found.unwrap_or_else(|| vacant(fences.removed));
    let before = match record.lease {
        None => record.phase,
        Some(lease) if lease.owner == claim.owner => lease.before,
        Some(_) => return Claiming::Leased(record),
    };
    let provisional = before == Phase::Lost && is_provisional(&record);
    let refreshable = matches!(before, Phase::Active | Phase::InDoubt) || provisional;
    if claim.intent == Intent::Refresh && !refreshable {
        return Claiming::Moved(Some(record));
    }
    record.fence += 1;
    record.tries = record.tries.saturating_add(1);
    record.phase = Phase::Claimed;
    let until = claim.at.boot.after(claim.lease);
    let Claim { owner, intent, .. } = *claim;
    record.lease = Some(Lease { owner, intent, until, holder: Holder::Alive, before });
    Claiming::Granted(record)
}

/// S2 and S7. With a record if one is to be written; `credentials` are those of the commit in the
/// store's own form.
pub(super) fn commit<C>(
    found: Option<Record<C>>,
    fences: Fences,
    commit: &Commit,
    credentials: C,
) -> (Committed, Option<Record<C>>) {
    let claimed = found.as_ref().is_some_and(|record| record.fence == commit.attempt.fence);
    let mut record = found.unwrap_or_else(|| vacant(fences.removed));
    if record.made_by == Some(commit.attempt) && record.phase != Phase::Closed {
        // The acknowledgement of this very commit was lost.
        let Record { epoch, generation, suspect, .. } = record;
        return (Committed::Stored { epoch, generation, suspect }, None);
    }
    let Commit { intent, epoch, attempt, due_at, .. } = *commit;
    if record.epoch != epoch || (!claimed && attempt.fence <= fences.deleted && epoch == 0) {
        return (Committed::Superseded, None);
    }
    match intent {
        // A grant that succeeded stands even if the session was closed meanwhile by the
        // caller that it was closed for: close moves the generation, not the epoch.
        Intent::Establish => record.epoch += 1,
        Intent::Refresh => {
            // Two results for one base: the later claim wins. That also refuses an attempt
            // from before a record was removed.
            let newer = record.made_by.is_none_or(|made| made.fence < attempt.fence);
            let sibling = record.made_by.is_some_and(|made| made.base == attempt.base);
            let fits = newer && (record.generation == attempt.base || sibling);
            if record.phase == Phase::Closed || !fits {
                return (Committed::Superseded, None);
            }
            if record.generation != attempt.base && record.phase == Phase::Claimed {
                return (Committed::Busy, None);
            }
        }
    }
    // Lost, perhaps with a grant claimed on it. What was lost provisionally was not rejected.
    let lost = record.lost.is_some() && !is_provisional(&record);
    let suspect = intent == Intent::Refresh && lost;
    rest(&mut record);
    record.generation += 1;
    record.phase = Phase::Active;
    record.suspect = suspect;
    record.credentials = Some(credentials);
    record.made_by = Some(attempt);
    record.due_at = due_at;
    record.lost = None;
    record.outbox = None;
    record.tries = 0;
    let Record { epoch, generation, .. } = record;
    (Committed::Stored { epoch, generation, suspect }, Some(record))
}

/// S3, S4 and S5: fenced, all of them.
pub(super) fn settle<C>(found: Option<Record<C>>, settle: &Settle) -> (Settled, Change<C>) {
    let Some(mut record) = found else { return (Settled::Moved, Change::Nothing) };
    let lease = record.lease.filter(|lease| {
        record.epoch == settle.epoch
            && record.fence == settle.attempt.fence
            && (lease.intent == Intent::Establish || record.generation == settle.attempt.base)
    });
    let Some(lease) = lease else {
        return (Settled::Moved, suspect(record, settle));
    };
    if lease.before == Phase::Vacant && !matches!(settle.to, SettleTo::Lost(_)) {
        return (Settled::Done, Change::Remove);
    }
    rest(&mut record);
    record.retry_at = settle.retry_at;
    match settle.to {
        SettleTo::Before => {
            record.phase = lease.before;
            if lease.before == Phase::Lost && is_provisional(&record) {
                record.due_at = settle.retry_at;
            }
        }
        SettleTo::BeforeSuspect => {
            record.phase = lease.before;
            record.suspect = record.credentials.is_some();
        }
        SettleTo::InDoubt => {
            record.phase = Phase::InDoubt;
            record.lost = None;
        }
        SettleTo::Lost(reason) => {
            record.phase = Phase::Lost;
            record.lost = Some(reason);
            // What is lost provisionally is tried again, also after a restart.
            record.due_at = settle.retry_at.filter(|_| is_provisional(&record));
        }
    }
    (Settled::Done, Change::Put(record))
}

/// S6.
pub(super) fn take_over<C>(found: Option<Record<C>>, take: &TakeOver) -> (bool, Change<C>) {
    let Some(mut record) = found else { return (false, Change::Nothing) };
    let Some(lease) = record.lease else { return (false, Change::Nothing) };
    if record.fence != take.fence || take.at.boot < lease.until {
        return (false, Change::Nothing);
    }
    if lease.before == Phase::Vacant {
        return (true, Change::Remove);
    }
    rest(&mut record);
    record.fence += 1;
    record.retry_at = take.retry_at;
    match lease.intent {
        Intent::Refresh => {
            record.phase = Phase::InDoubt;
            record.lost = None;
        }
        Intent::Establish => {
            record.phase = lease.before;
            record.suspect = record.credentials.is_some();
        }
    }
    (true, Change::Put(record))
}

/// S8.
pub(super) fn close<C>(found: Option<Record<C>>, close: &Close) -> Closing<C> {
    if let Some(Record { phase: Phase::Closed, generation, .. }) = found {
        // Closed already, perhaps by this very close, whose acknowledgement was lost.
        if generation == close.generation || generation == close.generation.saturating_add(1) {
            return Closing::Already(generation);
        }
    }
    let mut record = match found {
        Some(record) if record.generation == close.generation => record,
        found => return Closing::Moved(found),
    };
    rest(&mut record);
    record.lost = None;
    record.generation += 1;
    record.phase = Phase::Closed;
    record.suspect = false;
    record.made_by = None;
    record.outbox = record.credentials.take().or(record.outbox);
    record.due_at = record.outbox.is_some().then_some(close.at.wall);
    Closing::Done(record)
}

/// The record without its outbox; none if that is not the generation's. The generation names the
/// tombstone, also while a grant is claimed on it.
pub(super) fn told<C>(found: Option<Record<C>>, generation: u64) -> Option<Record<C>> {
    let record = found.filter(|record| record.generation == generation)?;
    record.outbox.is_some().then_some(Record { outbox: None, due_at: None, ..record })
}

/// Somebody else rotated while this attempt was out: it may have tripped the server's reuse
/// detection, so what is there now is looked at before it is used.
fn suspect<C>(record: Record<C>, settle: &Settle) -> Change<C> {
    let sibling = record.made_by.is_some_and(|made| made.base == settle.attempt.base);
    let hurt = settle.to != SettleTo::Before
        && record.epoch == settle.epoch
        && sibling
        && record.phase != Phase::Closed;
    if hurt { Change::Put(Record { suspect: true, ..record }) } else { Change::Nothing }
}

fn is_provisional<C>(record: &Record<C>) -> bool {
    record.lost.is_some_and(LostReason::is_provisional)
}

/// Without a claim and without its waiting time.
fn rest<C>(record: &mut Record<C>) {
    record.lease = None;
    record.retry_at = None;
}

/// The record that a first claim makes.
fn vacant<C>(fence: u64) -> Record<C> {
    Record {
        epoch: 0,
        generation: 0,
        fence,
        phase: Phase::Vacant,
        lease: None,
        credentials: None,
        made_by: None,
        suspect: false,
        lost: None,
        outbox: None,
        retry_at: None,
        tries: 0,
        due_at: None,
    }
}
