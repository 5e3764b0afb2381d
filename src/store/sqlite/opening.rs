//! Opens a file: checks whose it is, brings it to the newest version, and sets SQLite up.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, TransactionBehavior};

use super::busy_retry::retry_while_busy;
use super::liveness::ProcessLock;
use super::migration::{self, VERSION_1, VERSION_2};
use super::sqlite_fault::{SqliteFault, fault};
use super::statement_error::{Result, StatementError};
use super::step_limit::StepLimit;
use super::{Shared, SqliteBuilder, change_log, file_permissions, holder_table, schema_check};
use crate::clock::{Clock, SystemClock};
use crate::policy::SQLITE_STEPS;
use crate::store::encoding::is_counter;
use crate::store::{SealFault, StoreError};

/// Marks the files of this crate, as SQLite's `application_id`: "SWRD".
const APPLICATION_ID: i64 = 0x5357_5244;

/// The migrations, each from one version to the next. A file's `user_version` says how many of them
/// it has had.
const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2];

/// SQLite truncates its log to this after a checkpoint. Defaults to 64 MiB because SQLite starts a
/// checkpoint at 4 MB, and only a long read makes the log longer.
const MAX_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// What an opening needs beside the path.
#[derive(Clone, Copy)]
pub(super) struct OpenContext<'o> {
    pub(super) options: &'o SqliteBuilder,
    pub(super) shared: &'o Shared,
    pub(super) process_lock: &'o ProcessLock,
}

pub(super) struct OpenedFile {
    pub(super) conn: Connection,
    pub(super) step_limit: StepLimit,
    /// It is of an older version, and its migration needs keys that the store does not have yet.
    pub(super) waits_for_keys: bool,
}

/// Opens the file at `path`, which must have no links.
pub(super) fn open(path: &Path, context: OpenContext<'_>) -> Result<OpenedFile, StoreError> {
    let by_group = context.options.by_group;
    // Before SQLite opens anything: it would replay a log that another user put beside the file.
    file_permissions::check(path, by_group)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|conn| {
        // `retry_while_busy` waits instead, with shorter pauses than SQLite's.
        conn.busy_timeout(Duration::ZERO)?;
        // Before the first read: a trigger or a view that somebody put into the file must not run.
        schema_check::harden(&conn)?;
        Ok(conn)
    });
    let mut conn = opened.map_err(|error| fault(&error))?;
    let step_limit = StepLimit::install(&mut conn, SQLITE_STEPS);
    let prepared = retry_while_busy((context.options.open_timeout, SqliteFault::InUse), || {
        step_limit.reset();
        prepare(&mut conn, context)
    });
    // Again, now that the log is there. Another user may have created one since the first check,
    // and SQLite uses it.
    match prepared.and_then(|waits| {
        file_permissions::check(path, by_group).map(|()| waits).map_err(Into::into)
    }) {
        Ok(waits_for_keys) => Ok(OpenedFile { conn, step_limit, waits_for_keys }),
        Err(refused) => {
            // Before the connection is dropped, which would write the log back: a file that is
            // refused must stay as it is.
            drop(conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true));
            Err(refused)
        }
    }
}

/// Migrates a file that waited for keys.
pub(super) fn migrate_waiting(
    conn: &mut Connection,
    step_limit: &StepLimit,
    context: OpenContext<'_>,
) -> Result<(), StoreError> {
    // Outside the retries: missing keys do not come while this waits.
    context.shared.cipher.ring()?;
    retry_while_busy((context.options.open_timeout, SqliteFault::InUse), || {
        step_limit.reset();
        let version = check_version(conn, MIGRATIONS)?;
        migrate(conn, version, MIGRATIONS, context)?;
        check_counters(conn).map(drop)
    })
}

/// Sets the connection up and migrates the file. True if the migration has to wait for keys.
fn prepare(conn: &mut Connection, context: OpenContext<'_>) -> Result<bool> {
    let options = context.options;
    // Before anything is written, so that another program's file stays as it is. Even to change
    // the journal mode is a write.
    let version = check_version(conn, MIGRATIONS)?;
    // Before the first access in WAL mode. Set later, it would not keep other processes out from
    // the start.
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
    // Before the migration, which would change a file that this store then refuses.
    if version > 0 {
        check_in_clear(conn, options.in_clear)?;
    }
    // The migration makes tags and reads when tokens expire. Both need keys.
    let older = version > 0 && version < newest_version(MIGRATIONS);
    if older && matches!(context.shared.cipher.ring(), Err(SealFault::NoKeys)) {
        return Ok(true);
    }
    migrate(conn, version, MIGRATIONS, context)?;
    check_counters(conn)?;
    // Again: another process may have made the file since `check_version`, for the other mode.
    check_in_clear(conn, options.in_clear)?;
    Ok(false)
}

/// Refuses a file for sealed records if this store writes in clear, and the other way round.
fn check_in_clear(conn: &Connection, in_clear: bool) -> Result<()> {
    let existing = conn.query_row("SELECT in_clear FROM store", [], |row| row.get::<_, i64>(0));
    match (existing.optional()?, in_clear) {
        (Some(1), false) => Err(SqliteFault::InClear.into()),
        (Some(0), true) => Err(SqliteFault::Sealed.into()),
        (Some(0 | 1), _) => Ok(()),
        (Some(_) | None, _) => Err(SqliteFault::Malformed.into()),
    }
}

/// Refuses a file with counters that no store can have reached: the next ones would have no number.
fn check_counters(conn: &Connection) -> Result<()> {
    let sql =
        "SELECT version, epoch, generation, (SELECT max(seq) FROM sqlite_sequence) FROM store";
    let numbers = |row: &Row<'_>| (0..4).map(|at| row.get(at)).collect();
    let read: Option<Vec<Option<i64>>> = conn.query_row(sql, [], numbers).optional()?;
    let in_bounds = |number: Option<i64>| number.is_none_or(is_counter);
    let sound = read.is_some_and(|numbers| numbers.into_iter().all(in_bounds));
    if sound { Ok(()) } else { Err(SqliteFault::Malformed.into()) }
}

/// The version of a file that is this crate's; 0 if the file is empty. Reads all in one
/// transaction: if another process made the file between two of the reads, it would look like a
/// foreign one.
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

/// The migrations that a file of this version has had.
fn migrations_of<'m, 's>(migrations: &'m [&'s str], version: i64) -> &'m [&'s str] {
    let done = usize::try_from(version).unwrap_or(0);
    migrations.get(..done).unwrap_or(migrations)
}

/// Brings the file to the newest version in one transaction, and enters this process in it. Because
/// that is a write, a file that cannot be written is refused now and not with the first claim.
fn migrate(
    conn: &mut Connection,
    version: i64,
    migrations: &[&str],
    context: OpenContext<'_>,
) -> Result<()> {
    let OpenContext { options, shared, process_lock } = context;
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Again, under the write lock: two processes may open a new file at once, and the second must
    // not run the migrations of the first once more.
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found < version {
        return Err(SqliteFault::Foreign.into());
    }
    let done = migrations_of(migrations, found);
    schema_check::check(&transaction, done)?;
    // Under the write lock as well. A process of the old version that opens the file during the
    // check waits for the lock, then finds the new version, and refuses the file.
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
    // After the migrations and in their transaction: a crash leaves either the old version as a
    // whole or the new one.
    let newest = found.max(newest_version(migrations));
    transaction.execute_batch(&format!(
        "PRAGMA user_version = {newest}; PRAGMA application_id = {APPLICATION_ID}"
    ))?;
    // What is left from before a start of the machine would seem to lie in the future.
    change_log::remove_expired(&transaction, SystemClock::new().now().boot)?;
    // Before the commit that lets others write: from then on they write no form of rows that this
    // process does not read.
    holder_table::register(&transaction, process_lock, shared.form)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests;
