//! Statements, as they are done on a file: find, decide, write, in one transaction.

use super::fault::{Result, Undone};
use super::table::Tables;
use crate::key::SessionId;
use crate::store::decide::{Decision, Found, Write, decide};
use crate::store::seal::Sealed;
use crate::store::{Change, Done as Answer, Floor, Outcome, Phase, Record, Statement};

/// Counters above this are not taken from a row that cannot be read: a store that counted a million
/// writes a second would be there in nine years, and what somebody wrote there could use up all
/// numbers.
const MOST_CREDIBLE: u64 = 1 << 48;

pub(super) fn apply(
    tables: &mut Tables<'_>,
    id: &SessionId,
    statement: &Statement<Sealed>,
) -> Result<Outcome<Sealed>> {
    let found = match tables.find(id) {
        // A row that cannot be read is deleted as well: that is the way to be rid of it.
        Err(Undone::Told(_)) if matches!(statement, Statement::Delete) => {
            return delete_unread(tables, id);
        }
        found => found?,
    };
    let now = tables.now();
    let (record, kept) = found.unzip();
    let floor = if record.is_some() { Floor::default() } else { tables.floor()? };
    let Decision { outcome, write, news } = decide(Found { record, floor }, statement, now);
    if matches!(statement, Statement::Claim(_)) && !matches!(write, Write::Nothing) {
        // Here and not with the commit: what has no room must not be sent for.
        tables.room.check()?;
    }
    match (write, kept.as_ref()) {
        (Write::Nothing, _) => {}
        (Write::PutLease(record), Some(kept)) => tables.put_lease(id, &record, kept)?,
        (Write::Put(record) | Write::PutLease(record), kept) => tables.put(id, &record, kept)?,
        (Write::Remove(floor), _) => {
            tables.raise(floor)?;
            tables.remove(id)?;
        }
    }
    if let Some(change) = news {
        tables.log.note(id, change)?;
    }
    Ok(outcome)
}

/// Raises the floor by what the row says of itself, as far as that can be.
fn delete_unread(tables: &mut Tables<'_>, id: &SessionId) -> Result<Outcome<Sealed>> {
    let Some(said) = tables.counters(id)? else { return Ok(Outcome::Conflict(None)) };
    let said = said.map(|said| u64::try_from(said).unwrap_or(0));
    let [version, epoch, generation] = said.map(|said| if said < MOST_CREDIBLE { said } else { 0 });
    let floor = Floor { version: version + 1, epoch: epoch + 1, generation: generation + 1 };
    tables.raise(floor)?;
    tables.remove(id)?;
    tables.log.note(id, Change { version: floor.version, epoch, generation, phase: None })?;
    let (version, phase) = (floor.version, Phase::Lost);
    Ok(Outcome::Done(Answer { version, epoch, generation, fence: 0, phase, suspect: false }))
}

/// A record as it was read, and its credentials under another key, if it has any.
pub(super) type Anew = (SessionId, Record<Sealed>, Option<Sealed>);

/// The same record under another key, unless it changed since it was read. How many did not. Its
/// version stays, because nothing is different for whoever reads it.
pub(super) fn reseal(tables: &mut Tables<'_>, page: &[Anew]) -> Result<usize> {
    // What is left is for what refreshes bring.
    tables.room.check()?;
    page.iter().try_fold(0, |done, anew| Ok(done + usize::from(reseal_one(tables, anew)?)))
}

fn reseal_one(tables: &mut Tables<'_>, (id, read, sealed): &Anew) -> Result<bool> {
    let Some((record, kept)) = tables.find(id).or_else(passed_over)? else { return Ok(false) };
    let same = record.version == read.version && record.credentials == read.credentials;
    // Never under a claim, whose holder may be about to commit.
    let rests = record.lease.is_none();
    if same && rests {
        tables.put(id, &Record { credentials: sealed.clone(), ..record }, Some(&kept))?;
    }
    Ok(same && rests)
}

/// A record that cannot be read is left alone.
fn passed_over<T>(undone: Undone) -> Result<Option<T>> {
    match undone {
        Undone::Told(_) => Ok(None),
        undone @ (Undone::Sql(_) | Undone::Meanwhile(_)) => Err(undone),
    }
}
