//! Statements, as they are done on a file: find, decide, write, in one transaction.

use super::database::Database;
use super::statement_error::{Result, StatementError};
use crate::key::SessionId;
use crate::store::decide::{Decision, Found, Write, decide};
use crate::store::record_cipher::SealedCredentials;
use crate::store::{Change, Done, Floor, Outcome, Phase, Record, Statement};

/// Counters above this are not taken from a row that cannot be read: a store that counted a million
/// writes a second would be there in nine years, and what somebody wrote there could use up all
/// numbers.
const MAX_CREDIBLE_COUNTER: u64 = 1 << 48;

pub(super) fn apply(
    db: &mut Database<'_>,
    id: &SessionId,
    statement: &Statement<SealedCredentials>,
) -> Result<Outcome<SealedCredentials>> {
    let found = match db.find(id) {
        // A row that cannot be read is deleted as well: that is the way to be rid of it.
        Err(StatementError::Rejected(_)) if matches!(statement, Statement::Delete) => {
            return delete_unreadable(db, id);
        }
        found => found?,
    };
    let now = db.now();
    let (record, existing) = found.unzip();
    let floor = if record.is_some() { Floor::default() } else { db.floor()? };
    let Decision { outcome, write, news } = decide(Found { record, floor }, statement, now);
    if matches!(statement, Statement::Claim(_)) && !matches!(write, Write::Nothing) {
        // Here and not with the commit: what has no room must not be sent for.
        db.free_space.check()?;
    }
    match (write, existing.as_ref()) {
        (Write::Nothing, _) => {}
        (Write::PutLease(record), Some(existing)) => db.put_lease(id, &record, existing)?,
        (Write::Put(record) | Write::PutLease(record), existing) => {
            db.put(id, &record, existing)?
        }
        (Write::Remove(floor), _) => {
            db.raise_floor(floor)?;
            db.remove(id)?;
        }
    }
    if let Some(change) = news {
        db.change_log.append(id, change)?;
    }
    Ok(outcome)
}

/// Raises the floor by what the row says of itself, as far as that can be.
fn delete_unreadable(db: &mut Database<'_>, id: &SessionId) -> Result<Outcome<SealedCredentials>> {
    let Some(counter) = db.counters(id)? else { return Ok(Outcome::Conflict(None)) };
    let counter = counter.map(|counter| u64::try_from(counter).unwrap_or(0));
    let [version, epoch, generation] =
        counter.map(|counter| if counter < MAX_CREDIBLE_COUNTER { counter } else { 0 });
    let floor = Floor { version: version + 1, epoch: epoch + 1, generation: generation + 1 };
    db.raise_floor(floor)?;
    db.remove(id)?;
    db.change_log.append(id, Change { version: floor.version, epoch, generation, phase: None })?;
    let (version, phase) = (floor.version, Phase::Lost);
    Ok(Outcome::Done(Done { version, epoch, generation, fence: 0, phase, suspect: false }))
}

/// A record as it was read, and its credentials under another key, if it has any.
pub(super) type ResealedRecord = (SessionId, Record<SealedCredentials>, Option<SealedCredentials>);

/// The same record under another key, unless it changed since it was read. How many did not. Its
/// version stays, because nothing is different for whoever reads it.
pub(super) fn reseal(db: &mut Database<'_>, page: &[ResealedRecord]) -> Result<usize> {
    // What is left is for what refreshes bring.
    db.free_space.check()?;
    page.iter().try_fold(0, |done, resealed| Ok(done + usize::from(reseal_one(db, resealed)?)))
}

fn reseal_one(db: &mut Database<'_>, (id, read, sealed): &ResealedRecord) -> Result<bool> {
    let Some((record, existing)) = db.find(id).or_else(skip_unreadable)? else { return Ok(false) };
    let same = record.version == read.version && record.credentials == read.credentials;
    // Never under a claim, whose holder may be about to commit.
    let rests = record.lease.is_none();
    if same && rests {
        db.put(id, &Record { credentials: sealed.clone(), ..record }, Some(&existing))?;
    }
    Ok(same && rests)
}

/// A record that cannot be read is left alone.
fn skip_unreadable<T>(failed: StatementError) -> Result<Option<T>> {
    match failed {
        StatementError::Rejected(_) => Ok(None),
        failed @ (StatementError::Sql(_) | StatementError::TryAgain(_)) => Err(failed),
    }
}
