//! Applies statements to the file: find, decide and write, in one transaction.

use super::database::Database;
use super::statement_error::{Result, StatementError};
use crate::key::SessionId;
use crate::store::decide::{Decision, Found, Write, decide};
use crate::store::record_cipher::SealedCredentials;
use crate::store::session_row::floor_above_unreadable;
use crate::store::{Change, Done, Floor, Outcome, Phase, Record, Statement};

/// Applies one statement. A statement that is rejected does not roll back its batch, so all that
/// can reject it comes before its first write.
pub(super) fn apply(
    db: &mut Database<'_>,
    id: &SessionId,
    statement: &Statement<SealedCredentials>,
) -> Result<Outcome<SealedCredentials>> {
    let found = match db.find(id) {
        // A delete must work on a row that cannot be read, or nobody could get rid of it.
        Err(StatementError::Rejected(_)) if matches!(statement, Statement::Delete) => {
            return delete_unreadable(db, id);
        }
        found => found?,
    };
    let now = db.now();
    let (record, existing) = found.unzip();
    // Under the same write lock as the row. If another process could delete the session between
    // the two reads, the new record would begin below the deleted one, and a late commit of the
    // deleted session would fit it.
    let floor = if record.is_some() { Floor::default() } else { db.floor()? };
    let Decision { outcome, write, news } = decide(Found { record, floor }, statement, now);
    let needs_room = matches!(statement, Statement::Claim(_) | Statement::Import(_));
    if needs_room && !matches!(write, Write::Nothing) {
        // Before the claim and not before the commit. Between the two the server rotates the
        // refresh token; if the disk were found full only then, the new token would be lost.
        db.free_space.check()?;
    }
    match (write, existing.as_ref()) {
        (Write::Nothing, _) => {}
        (Write::PutLease(record), Some(existing)) => db.put_lease(id, &record, existing)?,
        (Write::Put(record) | Write::PutLease(record), existing) => {
            db.put(id, &record, existing)?
        }
        (Write::Remove(floor), _) => {
            // The floor first. If only one of the two took effect, a floor that is too high would
            // do no harm, while a removed record below the floor could be brought back by an old
            // commit.
            db.raise_floor(floor)?;
            db.remove(id)?;
        }
    }
    // In the transaction of the write. An entry that other processes see before the write makes
    // them load the old record as if it were the new one; a write without its entry leaves them
    // with a token that was replaced or revoked.
    if let Some(change) = news {
        db.change_log.append(id, change)?;
    }
    Ok(outcome)
}

/// Deletes a row that cannot be read, and raises the floor above its counters as far as they are
/// credible.
fn delete_unreadable(db: &mut Database<'_>, id: &SessionId) -> Result<Outcome<SealedCredentials>> {
    let Some(stored) = db.counters(id)? else { return Ok(Outcome::Conflict(None)) };
    let (floor, change) = floor_above_unreadable(stored);
    db.raise_floor(floor)?;
    db.remove(id)?;
    db.change_log.append(id, change)?;
    let Change { epoch, generation, .. } = change;
    let (version, phase) = (floor.version, Phase::Lost);
    Ok(Outcome::Done(Done { version, epoch, generation, fence: 0, phase, suspect: false }))
}

/// A record as it was read, and its credentials under another key, if it has any.
pub(super) type ResealedRecord = (SessionId, Record<SealedCredentials>, Option<SealedCredentials>);

/// Writes these records under their new key, except those that changed since they were read, and
/// returns how many it wrote. Their versions stay, because nothing changes for their readers.
pub(super) fn reseal(db: &mut Database<'_>, page: &[ResealedRecord]) -> Result<usize> {
    // The last free space is for the credentials that refreshes bring.
    db.free_space.check()?;
    page.iter().try_fold(0, |done, resealed| Ok(done + usize::from(reseal_one(db, resealed)?)))
}

fn reseal_one(db: &mut Database<'_>, (id, read, sealed): &ResealedRecord) -> Result<bool> {
    let Some((record, existing)) = db.find(id).or_else(skip_unreadable)? else { return Ok(false) };
    // Read again under the write lock: between the read of the page and this write a commit may
    // have stored newer credentials, and the old ones must not replace them.
    let same = record.version == read.version && record.credentials == read.credentials;
    // Not under a claim: its holder may be about to commit newer credentials.
    let rests = record.lease.is_none();
    if same && rests {
        db.put(id, &Record { credentials: sealed.clone(), ..record }, Some(&existing))?;
    }
    Ok(same && rests)
}

/// Takes a record that cannot be read for one that is not there.
fn skip_unreadable<T>(failed: StatementError) -> Result<Option<T>> {
    match failed {
        StatementError::Rejected(_) => Ok(None),
        failed @ (StatementError::Sql(_) | StatementError::TryAgain(_)) => Err(failed),
    }
}
