//! The statements, as they are done on a file: find, decide, write, in one transaction.

use super::table::{Done, Stored, Tables};
use crate::key::SessionId;
use crate::store::seal::Sealed;
use crate::store::statement::{self, Change, Claiming, Closing, Fences};
use crate::store::{Claim, Close, Commit, Committed, Phase, Record, Settle, Settled, TakeOver};

pub(super) fn load(tables: &mut Tables<'_>, id: &SessionId) -> Done<Option<Record<Sealed>>> {
    Ok(tables.find(id)?.record)
}

pub(super) fn claim(
    tables: &mut Tables<'_>,
    id: &SessionId,
    claim: &Claim,
) -> Done<Claiming<Sealed>> {
    let found = tables.find(id)?;
    let fences = fences(tables, found.record.as_ref())?;
    let there = found.record.is_some();
    let claiming = statement::claim(found.record, fences, claim);
    if let Claiming::Granted(record) = &claiming {
        // Here and not with the commit: what has no room must not be sent for.
        tables.room.check()?;
        let hold = tables.hold(claim.at.boot, record);
        if there {
            tables.put_claim(id, record, &hold)?;
        } else {
            tables.put(id, record, Some(&hold))?;
        }
    }
    Ok(claiming)
}

pub(super) fn commit(
    tables: &mut Tables<'_>,
    id: &SessionId,
    commit: &Commit,
    sealed: &Sealed,
) -> Done<Committed> {
    let found = tables.find(id)?;
    let fences = fences(tables, found.record.as_ref())?;
    let (committed, record) = statement::commit(found.record, fences, commit, sealed.clone());
    if let Some(record) = record {
        tables.put(id, &record, found.hold.as_ref())?;
        tables.log.stored(id, record.epoch, record.generation)?;
    }
    Ok(committed)
}

/// What is remembered of records that are gone, if it matters here: a session that was established
/// is found, or it is not there.
fn fences(tables: &mut Tables<'_>, found: Option<&Record<Sealed>>) -> Done<Fences> {
    match found {
        Some(record) if record.epoch > 0 => Ok(Fences::default()),
        Some(_) | None => tables.fences(),
    }
}

pub(super) fn settle(tables: &mut Tables<'_>, id: &SessionId, settle: &Settle) -> Done<Settled> {
    change(tables, id, |found| statement::settle(found, settle))
}

pub(super) fn take_over(tables: &mut Tables<'_>, id: &SessionId, take: &TakeOver) -> Done<bool> {
    change(tables, id, |found| statement::take_over(found, take))
}

pub(super) fn close(
    tables: &mut Tables<'_>,
    id: &SessionId,
    close: &Close,
) -> Done<Closing<Sealed>> {
    let closing = statement::close(tables.find(id)?.record, close);
    if let Closing::Done(record) = &closing {
        tables.put(id, record, None)?;
        tables.log.stored(id, record.epoch, record.generation)?;
    }
    Ok(closing)
}

pub(super) fn outbox(tables: &mut Tables<'_>, id: &SessionId, generation: u64) -> Done<()> {
    let Stored { record, hold } = tables.find(id)?;
    match statement::told(record, generation) {
        // A grant may be claimed on the tombstone, and its lease stays.
        Some(record) => tables.put(id, &record, hold.as_ref()),
        None => Ok(()),
    }
}

/// True if there was one. A row that cannot be read is deleted as well: that is the way to be rid
/// of it.
pub(super) fn delete(tables: &mut Tables<'_>, id: &SessionId) -> Done<bool> {
    let fence = tables.fence(id)?;
    if let Some(fence) = fence {
        let fences = tables.fences()?.deleted(fence);
        tables.set_fences(fences)?;
    }
    let removed = tables.remove(id)?;
    if removed {
        tables.log.deleted(id)?;
    }
    Ok(removed)
}

/// A record as it was read, and its credentials under another key.
pub(super) type Anew = (SessionId, Record<Sealed>, Sealed);

/// S9: the same credentials under another key, unless the record changed since it was read. How
/// many did not.
pub(super) fn reseal(tables: &mut Tables<'_>, page: &[Anew]) -> Done<usize> {
    // What is left is for what refreshes bring.
    tables.room.check()?;
    page.iter().try_fold(0, |done, anew| Ok(done + usize::from(reseal_one(tables, anew)?)))
}

fn reseal_one(tables: &mut Tables<'_>, (id, read, sealed): &Anew) -> Done<bool> {
    let Stored { record: Some(record), .. } = tables.find(id)? else { return Ok(false) };
    let same = record.credentials == read.credentials && record.generation == read.generation;
    // Never into a tombstone, and never under a claim, whose holder may be about to commit.
    let rests = record.lease.is_none() && record.phase != Phase::Closed;
    if same && rests {
        tables.put(id, &Record { credentials: Some(sealed.clone()), ..record }, None)?;
    }
    Ok(same && rests)
}

/// Writes what a statement decides on what there is.
fn change<T>(
    tables: &mut Tables<'_>,
    id: &SessionId,
    decide: impl FnOnce(Option<Record<Sealed>>) -> (T, Change<Sealed>),
) -> Done<T> {
    let Stored { record, hold } = tables.find(id)?;
    let fence = record.as_ref().map_or(0, |record| record.fence);
    let (answer, change) = decide(record);
    match change {
        Change::Nothing => {}
        Change::Put(record) => tables.put(id, &record, hold.as_ref())?,
        Change::Remove => {
            let fences = tables.fences()?.removed(fence);
            tables.set_fences(fences)?;
            tables.remove(id)?;
        }
    }
    Ok(answer)
}
