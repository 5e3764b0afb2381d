//! Opening of a file: whose it is, of which version, and how it is written.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, TransactionBehavior};

use super::alive::Holder;
use super::fault::{Result, SqliteFault, Undone, fault, is_busy};
use super::migration::{self, VERSION_1, VERSION_2};
use super::steps::Steps;
use super::{Shared, SqliteBuilder, Synchronous, changes, code, file, holders, shape};
use crate::clock::{Clock, SystemClock};
use crate::policy::SQLITE_STEPS;
use crate::store::{SealFault, StoreError};
use crate::task;

/// Tells our files from other programmes': "SWRD".
const APPLICATION: i64 = 0x5357_5244;

/// What makes each version of the one before. A file's `user_version` says how many were done.
const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2];

/// How long an opening waits for other processes that open or write. Defaults to 5 s, in which
/// any of them has ended.
pub(super) const OPENING: Duration = Duration::from_secs(5);

/// The pause between two tries for the file's lock. Defaults to 0.2 to 1 ms: SQLite's own pauses
/// grow to 100 ms, in which other processes get the lock again and again.
const LOCK_PAUSE: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(1));

/// The log of changes is cut to this when it has been written back. Defaults to 64 MiB because
/// SQLite writes back at 4 MB, and only a long read makes it longer.
const WAL_BYTES: u64 = 64 * 1024 * 1024;

/// What an opening is given beside the path.
#[derive(Clone, Copy)]
pub(super) struct Opening<'o> {
    pub(super) with: &'o SqliteBuilder,
    pub(super) shared: &'o Shared,
    pub(super) holder: &'o Holder,
}

pub(super) struct Opened {
    pub(super) conn: Connection,
    pub(super) steps: Steps,
    /// It is of an older version, and keys are needed to bring it forward.
    pub(super) waits_for_keys: bool,
}

/// `path` has no links.
pub(super) fn open(path: &Path, opening: Opening<'_>) -> Result<Opened, StoreError> {
    let by_group = opening.with.by_group;
    file::check(path, by_group)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|conn| {
        // No waits of SQLite's: see `LOCK_PAUSE`.
        conn.busy_timeout(Duration::ZERO)?;
        shape::distrust(&conn)?;
        Ok(conn)
    });
    let mut conn = opened.map_err(|error| fault(&error))?;
    let steps = Steps::bound(&conn, SQLITE_STEPS);
    let prepared = patiently(opening.with.opening, || {
        steps.begin();
        prepare(&mut conn, opening)
    });
    // Once more, now that the log is there: SQLite takes one that somebody made meanwhile.
    match prepared.and_then(|waits| file::check(path, by_group).map(|()| waits).map_err(Into::into))
    {
        Ok(waits_for_keys) => Ok(Opened { conn, steps, waits_for_keys }),
        Err(refused) => {
            // A file that is refused is left as it is, its log included.
            drop(conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true));
            Err(refused)
        }
    }
}

/// Brings a file forward that waited for keys.
pub(super) fn bring_forward(
    conn: &mut Connection,
    steps: &Steps,
    opening: Opening<'_>,
) -> Result<(), StoreError> {
    opening.shared.vault.ring()?;
    patiently(opening.with.opening, || {
        steps.begin();
        let version = recognized(conn, MIGRATIONS)?;
        migrate(conn, version, MIGRATIONS, opening)?;
        sound(conn).map(drop)
    })
}

/// Does it again while another process is in the way, at most so long.
pub(super) fn patiently<T>(
    within: Duration,
    mut step: impl FnMut() -> Result<T>,
) -> Result<T, StoreError> {
    let clock = SystemClock::new();
    let begun = clock.now().monotonic;
    loop {
        let late = match step() {
            Ok(done) => return Ok(done),
            Err(Undone::Told(told)) => return Err(told),
            Err(Undone::Sql(error)) if !is_busy(&error) => return Err(fault(&error).into()),
            Err(Undone::Sql(_)) => SqliteFault::Locked,
            Err(Undone::Meanwhile(fault)) => fault,
        };
        if clock.now().monotonic.saturating_sub(begun) >= within {
            return Err(late.into());
        }
        task::pause(lock_pause());
    }
}

pub(super) fn lock_pause() -> Duration {
    let (least, most) = LOCK_PAUSE;
    least + (most - least).mul_f64(fastrand::f64())
}

/// True if the file is of an older version and waits for keys.
fn prepare(conn: &mut Connection, opening: Opening<'_>) -> Result<bool> {
    let with = opening.with;
    // Before anything is written: also the kind of journal is a write.
    let version = recognized(conn, MIGRATIONS)?;
    if with.exclusive || !super::alive::SHARED {
        conn.execute_batch("PRAGMA locking_mode = EXCLUSIVE")?;
    }
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(SqliteFault::ReadOnly.into());
    }
    conn.execute_batch(&format!(
        "PRAGMA journal_size_limit = {WAL_BYTES}; PRAGMA secure_delete = ON;
         PRAGMA synchronous = FULL"
    ))?;
    if let Some(bytes) = with.max_bytes {
        let page: i64 = conn.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
        conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
    }
    if version > 0 {
        kept_in_clear(conn, with.in_clear)?;
    }
    // The tags that the next version has need keys, and so does reading when tokens end.
    let older = version > 0 && version < newest(MIGRATIONS);
    if older && matches!(opening.shared.vault.ring(), Err(SealFault::NoKeys)) {
        return Ok(true);
    }
    migrate(conn, version, MIGRATIONS, opening)?;
    sound(conn)?;
    kept_in_clear(conn, with.in_clear)?;
    Ok(false)
}

/// Refuses a file that was made for sealed records to those who write in clear, and the other way
/// round.
fn kept_in_clear(conn: &Connection, in_clear: bool) -> Result<()> {
    let kept = conn.query_row("SELECT in_clear FROM store", [], |row| row.get::<_, i64>(0));
    match (kept.optional()?, in_clear) {
        (Some(1), false) => Err(SqliteFault::InClear.into()),
        (Some(0), true) => Err(SqliteFault::Sealed.into()),
        (Some(0 | 1), _) => Ok(()),
        (Some(_) | None, _) => Err(SqliteFault::Malformed.into()),
    }
}

/// Refuses a file that cannot be what it says of itself: what counts on without end would have no
/// number left.
fn sound(conn: &Connection) -> Result<()> {
    let sql =
        "SELECT version, epoch, generation, (SELECT max(seq) FROM sqlite_sequence) FROM store";
    let numbers = |row: &Row<'_>| (0..4).map(|at| row.get(at)).collect();
    let read: Option<Vec<Option<i64>>> = conn.query_row(sql, [], numbers).optional()?;
    let in_bounds = |number: Option<i64>| number.is_none_or(code::is_count);
    let sound = read.is_some_and(|numbers| numbers.into_iter().all(in_bounds));
    if sound { Ok(()) } else { Err(SqliteFault::Malformed.into()) }
}

/// The file's version, if it is ours or empty. All of it is read in one transaction: a file that
/// another process makes ours between two of the reads would look like a foreign one.
fn recognized(conn: &mut Connection, migrations: &[&str]) -> Result<i64> {
    let snapshot = conn.transaction()?;
    let read = |sql| snapshot.query_row(sql, [], |row| row.get::<_, i64>(0));
    let (version, application) = (read("PRAGMA user_version")?, read("PRAGMA application_id")?);
    let known = newest(migrations);
    if application != APPLICATION {
        let fresh = version == 0 && application == 0 && shape::is_empty(&snapshot)?;
        return if fresh { Ok(0) } else { Err(SqliteFault::Foreign.into()) };
    }
    if version > known {
        return Err(SqliteFault::Newer { found: version, known }.into());
    }
    shape::check(&snapshot, of_version(migrations, version))?;
    Ok(version)
}

fn newest(migrations: &[&str]) -> i64 {
    i64::try_from(migrations.len()).unwrap_or(i64::MAX)
}

/// Those that make a file of this version.
fn of_version<'m, 's>(migrations: &'m [&'s str], version: i64) -> &'m [&'s str] {
    let done = usize::try_from(version).unwrap_or(0);
    migrations.get(..done).unwrap_or(migrations)
}

/// Brings the file to the newest version, all of it or nothing. This writes also where there is
/// nothing to do: a file that cannot be written is refused now, not with the first claim.
fn migrate(
    conn: &mut Connection,
    version: i64,
    migrations: &[&str],
    opening: Opening<'_>,
) -> Result<()> {
    let Opening { with, shared, holder } = opening;
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Read again under the lock: two processes may open a new file at once.
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found < version {
        return Err(SqliteFault::Foreign.into());
    }
    let done = of_version(migrations, found);
    shape::check(&transaction, done)?;
    // Under the lock as well: one that opens the file now finds the new version, and is refused.
    let open_elsewhere = match found {
        0 => false,
        1 => holder.has_older_peers(),
        found => found < newest(migrations) && holders::any_other(&transaction, holder)?,
    };
    if open_elsewhere {
        return Err(Undone::Meanwhile(SqliteFault::OtherVersion));
    }
    for migration in migrations.iter().skip(done.len()) {
        transaction.execute_batch(migration)?;
    }
    match found {
        0 => migration::begin(&transaction, with.in_clear)?,
        1 => migration::secure(&transaction, &shared.vault)?,
        _ => {}
    }
    let newest = found.max(newest(migrations));
    transaction.execute_batch(&format!(
        "PRAGMA user_version = {newest}; PRAGMA application_id = {APPLICATION}"
    ))?;
    changes::remove(&transaction, SystemClock::new().now().boot)?;
    holders::enter(&transaction, holder, shared.form)?;
    transaction.commit()?;
    Ok(())
}

/// The words for a level, for the batch that begins.
pub(super) fn level(synchronous: Synchronous, firm: bool) -> &'static str {
    let full = match synchronous {
        Synchronous::Commits => firm,
        Synchronous::Everything => true,
        Synchronous::Nothing => false,
    };
    if full { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" }
}

#[cfg(test)]
mod tests;
