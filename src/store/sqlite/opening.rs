//! Opening of a file: whose it is, of which version, and how it is written.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, TransactionBehavior};

use super::busy_retry::retry_while_busy;
use super::encoding::is_counter;
use super::liveness::ProcessLock;
use super::migration::{self, VERSION_1, VERSION_2};
use super::sqlite_fault::{SqliteFault, fault};
use super::statement_error::{Result, StatementError};
use super::step_limit::StepLimit;
use super::{Shared, SqliteBuilder, change_log, file_permissions, holder_table, schema_check};
use crate::clock::{Clock, SystemClock};
use crate::policy::SQLITE_STEPS;
use crate::store::{SealFault, StoreError};

/// Tells our files from other programmes': "SWRD".
const APPLICATION_ID: i64 = 0x5357_5244;

/// What makes each version of the one before. A file's `user_version` says how many were done.
const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2];

/// How long an opening waits for other processes that open or write. Defaults to 5 s, in which
/// any of them has ended.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The log of changes is cut to this when it has been written back. Defaults to 64 MiB because
/// SQLite writes back at 4 MB, and only a long read makes it longer.
const MAX_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// What an opening is given beside the path.
#[derive(Clone, Copy)]
pub(super) struct OpenContext<'o> {
    pub(super) options: &'o SqliteBuilder,
    pub(super) shared: &'o Shared,
    pub(super) process_lock: &'o ProcessLock,
}

pub(super) struct OpenedFile {
    pub(super) conn: Connection,
    pub(super) step_limit: StepLimit,
    /// It is of an older version, and keys are needed to bring it forward.
    pub(super) waits_for_keys: bool,
}

/// `path` has no links.
pub(super) fn open(path: &Path, context: OpenContext<'_>) -> Result<OpenedFile, StoreError> {
    let by_group = context.options.by_group;
    file_permissions::check(path, by_group)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|conn| {
        // No waits of SQLite's: see `LOCK_PAUSE`.
        conn.busy_timeout(Duration::ZERO)?;
        schema_check::harden(&conn)?;
        Ok(conn)
    });
    let mut conn = opened.map_err(|error| fault(&error))?;
    let step_limit = StepLimit::install(&conn, SQLITE_STEPS);
    let prepared = retry_while_busy(context.options.open_timeout, || {
        step_limit.reset();
        prepare(&mut conn, context)
    });
    // Once more, now that the log is there: SQLite takes one that somebody made meanwhile.
    match prepared.and_then(|waits| {
        file_permissions::check(path, by_group).map(|()| waits).map_err(Into::into)
    }) {
        Ok(waits_for_keys) => Ok(OpenedFile { conn, step_limit, waits_for_keys }),
        Err(refused) => {
            // A file that is refused is left as it is, its log included.
            drop(conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true));
            Err(refused)
        }
    }
}

/// Brings a file forward that waited for keys.
pub(super) fn migrate_waiting(
    conn: &mut Connection,
    step_limit: &StepLimit,
    context: OpenContext<'_>,
) -> Result<(), StoreError> {
    context.shared.cipher.ring()?;
    retry_while_busy(context.options.open_timeout, || {
        step_limit.reset();
        let version = check_version(conn, MIGRATIONS)?;
        migrate(conn, version, MIGRATIONS, context)?;
        check_counters(conn).map(drop)
    })
}

/// True if the file is of an older version and waits for keys.
fn prepare(conn: &mut Connection, context: OpenContext<'_>) -> Result<bool> {
    let options = context.options;
    // Before anything is written: also the kind of journal is a write.
    let version = check_version(conn, MIGRATIONS)?;
    if options.exclusive || !super::liveness::MULTI_PROCESS {
        conn.execute_batch("PRAGMA locking_mode = EXCLUSIVE")?;
    }
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(SqliteFault::ReadOnly.into());
    }
    conn.execute_batch(&format!(
        "PRAGMA journal_size_limit = {MAX_LOG_BYTES}; PRAGMA secure_delete = ON;
         PRAGMA synchronous = FULL"
    ))?;
    if let Some(bytes) = options.max_bytes {
        let page: i64 = conn.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
        conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
    }
    if version > 0 {
        check_in_clear(conn, options.in_clear)?;
    }
    // The tags that the next version has need keys, and so does reading when tokens end.
    let older = version > 0 && version < newest_version(MIGRATIONS);
    if older && matches!(context.shared.cipher.ring(), Err(SealFault::NoKeys)) {
        return Ok(true);
    }
    migrate(conn, version, MIGRATIONS, context)?;
    check_counters(conn)?;
    check_in_clear(conn, options.in_clear)?;
    Ok(false)
}

/// Refuses a file that was made for sealed records to those who write in clear, and the other way
/// round.
fn check_in_clear(conn: &Connection, in_clear: bool) -> Result<()> {
    let existing = conn.query_row("SELECT in_clear FROM store", [], |row| row.get::<_, i64>(0));
    match (existing.optional()?, in_clear) {
        (Some(1), false) => Err(SqliteFault::InClear.into()),
        (Some(0), true) => Err(SqliteFault::Sealed.into()),
        (Some(0 | 1), _) => Ok(()),
        (Some(_) | None, _) => Err(SqliteFault::Malformed.into()),
    }
}

/// Refuses a file that cannot be what it says of itself: what counts on without end would have no
/// number left.
fn check_counters(conn: &Connection) -> Result<()> {
    let sql =
        "SELECT version, epoch, generation, (SELECT max(seq) FROM sqlite_sequence) FROM store";
    let numbers = |row: &Row<'_>| (0..4).map(|at| row.get(at)).collect();
    let read: Option<Vec<Option<i64>>> = conn.query_row(sql, [], numbers).optional()?;
    let in_bounds = |number: Option<i64>| number.is_none_or(is_counter);
    let sound = read.is_some_and(|numbers| numbers.into_iter().all(in_bounds));
    if sound { Ok(()) } else { Err(SqliteFault::Malformed.into()) }
}

/// The file's version, if it is ours or empty. All of it is read in one transaction: a file that
/// another process makes ours between two of the reads would look like a foreign one.
fn check_version(conn: &mut Connection, migrations: &[&str]) -> Result<i64> {
    let snapshot = conn.transaction()?;
    let read = |sql| snapshot.query_row(sql, [], |row| row.get::<_, i64>(0));
    let (version, application) = (read("PRAGMA user_version")?, read("PRAGMA application_id")?);
    let known = newest_version(migrations);
    if application != APPLICATION_ID {
        let fresh = version == 0 && application == 0 && schema_check::is_empty(&snapshot)?;
        return if fresh { Ok(0) } else { Err(SqliteFault::Foreign.into()) };
    }
    if version > known {
        return Err(SqliteFault::Newer { found: version, known }.into());
    }
    schema_check::check(&snapshot, migrations_of(migrations, version))?;
    Ok(version)
}

fn newest_version(migrations: &[&str]) -> i64 {
    i64::try_from(migrations.len()).unwrap_or(i64::MAX)
}

/// Those that make a file of this version.
fn migrations_of<'m, 's>(migrations: &'m [&'s str], version: i64) -> &'m [&'s str] {
    let done = usize::try_from(version).unwrap_or(0);
    migrations.get(..done).unwrap_or(migrations)
}

/// Brings the file to the newest version, all of it or nothing. This writes also where there is
/// nothing to do: a file that cannot be written is refused now, not with the first claim.
fn migrate(
    conn: &mut Connection,
    version: i64,
    migrations: &[&str],
    context: OpenContext<'_>,
) -> Result<()> {
    let OpenContext { options, shared, process_lock } = context;
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Read again under the lock: two processes may open a new file at once.
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found < version {
        return Err(SqliteFault::Foreign.into());
    }
    let done = migrations_of(migrations, found);
    schema_check::check(&transaction, done)?;
    // Under the lock as well: one that opens the file now finds the new version, and is refused.
    let open_elsewhere = match found {
        0 => false,
        1 => process_lock.has_older_peers(),
        found => {
            found < newest_version(migrations)
                && holder_table::has_other_process(&transaction, process_lock)?
        }
    };
    if open_elsewhere {
        return Err(StatementError::TryAgain(SqliteFault::OtherVersion));
    }
    for migration in migrations.iter().skip(done.len()) {
        transaction.execute_batch(migration)?;
    }
    match found {
        0 => migration::initialize(&transaction, options.in_clear)?,
        1 => migration::add_tags(&transaction, &shared.cipher)?,
        _ => {}
    }
    let newest = found.max(newest_version(migrations));
    transaction.execute_batch(&format!(
        "PRAGMA user_version = {newest}; PRAGMA application_id = {APPLICATION_ID}"
    ))?;
    change_log::remove_expired(&transaction, SystemClock::new().now().boot)?;
    holder_table::register(&transaction, process_lock, shared.form)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests;
