//! Opening of a file: whose it is, of which version, and how it is written.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};

use super::fault::{SqliteFault, fault, is_busy};
use super::steps::Steps;
use super::{SqliteBuilder, Synchronous, changes, code, file, shape};
use crate::clock::{Clock, SystemClock};
use crate::policy::SQLITE_STEPS;
use crate::task;

/// Tells our files from other programmes': "SWRD".
const APPLICATION: i64 = 0x5357_5244;

/// What makes each version of the one before. A file's `user_version` says how many were done.
const MIGRATIONS: &[&str] = &[VERSION_1];

/// Names in the order of the primary key are the order of ids. Times are in nanoseconds: since 1970
/// those of the day, since the start of the machine those of leases. Codes are in `code.rs`.
const VERSION_1: &str = "
    CREATE TABLE store (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        in_clear INTEGER NOT NULL,
        removed INTEGER NOT NULL,
        deleted INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE session (
        provider TEXT NOT NULL,
        tenant TEXT NOT NULL,
        token_id TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        fence INTEGER NOT NULL,
        phase INTEGER NOT NULL,
        lease_owner INTEGER,
        lease_intent INTEGER,
        lease_before INTEGER,
        lease_from INTEGER,
        lease_until INTEGER,
        lease_holder BLOB,
        lease_boot TEXT,
        cred_base INTEGER,
        cred_fence INTEGER,
        sealed BLOB,
        outbox BLOB,
        key_id INTEGER,
        suspect INTEGER NOT NULL,
        lost INTEGER,
        retry_at INTEGER,
        tries INTEGER NOT NULL,
        due_at INTEGER,
        PRIMARY KEY (provider, tenant, token_id)
    ) STRICT;
    CREATE TABLE change (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        made_at INTEGER NOT NULL,
        maker BLOB NOT NULL,
        provider TEXT NOT NULL,
        tenant TEXT NOT NULL,
        token_id TEXT NOT NULL,
        epoch INTEGER,
        generation INTEGER
    ) STRICT;
    CREATE INDEX session_tenant ON session (tenant, provider, token_id);
    CREATE INDEX session_due ON session (due_at, provider, tenant, token_id)
        WHERE due_at IS NOT NULL;
    CREATE INDEX session_key ON session (key_id) WHERE key_id IS NOT NULL;";

/// How long an opening waits for other processes that open or write. Defaults to 5 s, in which
/// any of them has ended.
const OPENING: Duration = Duration::from_secs(5);

/// Between two tries for the file's lock. Defaults to 0.2 to 1 ms: SQLite's own waits grow to 100 ms,
/// in which other processes get the lock again and again.
pub(super) const LOCK_PAUSE: (Duration, Duration) =
    (Duration::from_micros(200), Duration::from_millis(1));

/// The log of changes is cut to this when it has been written back. Defaults to 64 MiB because
/// SQLite writes back at 4 MB, and only a long read makes it longer.
const WAL_BYTES: u64 = 64 * 1024 * 1024;

/// `path` has no links.
pub(super) fn open(path: &Path, with: &SqliteBuilder) -> Result<(Connection, Steps), SqliteFault> {
    file::check(path, with.by_group)?;
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
    let prepared = patiently(OPENING, || {
        steps.begin();
        prepare(&mut conn, with)
    });
    // Once more, now that the log is there: SQLite takes one that somebody made meanwhile.
    match prepared.and_then(|()| file::check(path, with.by_group)) {
        Ok(()) => Ok((conn, steps)),
        Err(refused) => {
            // A file that is refused is left as it is, its log included.
            drop(conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true));
            Err(refused)
        }
    }
}

/// Does it again while another process is in the way, at most so long.
pub(super) fn patiently<T>(
    within: Duration,
    mut step: impl FnMut() -> Result<T, Refused>,
) -> Result<T, SqliteFault> {
    let clock = SystemClock::new();
    let begun = clock.now().monotonic;
    loop {
        match step() {
            Ok(done) => return Ok(done),
            Err(Refused::Fault(fault)) => return Err(fault),
            Err(Refused::Sql(error)) if !is_busy(&error) => return Err(fault(&error)),
            Err(Refused::Sql(_)) => {}
        }
        if clock.now().monotonic.saturating_sub(begun) >= within {
            return Err(SqliteFault::Locked);
        }
        task::pause(lock_pause());
    }
}

/// One wait for the file's lock.
pub(super) fn lock_pause() -> Duration {
    let (least, most) = LOCK_PAUSE;
    least + (most - least).mul_f64(fastrand::f64())
}

/// Why an opening does not go on.
pub(super) enum Refused {
    Sql(rusqlite::Error),
    Fault(SqliteFault),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<SqliteFault> for Refused {
    fn from(fault: SqliteFault) -> Self {
        Self::Fault(fault)
    }
}

fn prepare(conn: &mut Connection, with: &SqliteBuilder) -> Result<(), Refused> {
    // Before anything is written: also the kind of journal is a write.
    let version = recognized(conn)?;
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
    migrate(conn, version, MIGRATIONS, with.in_clear)?;
    match (sound(conn)?, with.in_clear) {
        (true, false) => Err(SqliteFault::InClear.into()),
        (false, true) => Err(SqliteFault::Sealed.into()),
        (true, true) | (false, false) => Ok(()),
    }
}

/// Whether the file is for records in clear, if what it says of itself can be: what counts on
/// without end would have no number left.
fn sound(conn: &Connection) -> Result<bool, Refused> {
    let malformed = || Refused::Fault(SqliteFault::Malformed);
    let sql =
        "SELECT in_clear, removed, deleted, (SELECT max(seq) FROM sqlite_sequence) FROM store";
    let numbers = |row: &Row<'_>| Ok((0..4).map(|at| row.get::<_, Option<i64>>(at)).collect());
    let read: Option<Vec<_>> = conn.query_row(sql, [], numbers).optional()?;
    let read: Vec<Option<i64>> = read
        .ok_or_else(malformed)?
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|_| malformed())?;
    let in_bounds = |number: &Option<i64>| number.is_none_or(code::is_count);
    match read.first() {
        Some(Some(in_clear @ (0 | 1))) if read.iter().all(in_bounds) => Ok(*in_clear == 1),
        Some(_) | None => Err(malformed()),
    }
}

/// The file's version, if it is ours or empty. All of it is read in one transaction: a file that
/// another process makes ours between two of the reads would look like a foreign one.
fn recognized(conn: &mut Connection) -> Result<i64, Refused> {
    let snapshot = conn.transaction()?;
    let read = |sql| snapshot.query_row(sql, [], |row| row.get::<_, i64>(0));
    let (version, application) = (read("PRAGMA user_version")?, read("PRAGMA application_id")?);
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if application != APPLICATION {
        let fresh = version == 0 && application == 0 && shape::is_empty(&snapshot)?;
        return if fresh { Ok(0) } else { Err(SqliteFault::Foreign.into()) };
    }
    if version > known {
        return Err(SqliteFault::Newer { found: version, known }.into());
    }
    shape::check(&snapshot, of_version(MIGRATIONS, version))?;
    Ok(version)
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
    in_clear: bool,
) -> Result<(), Refused> {
    let transaction = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    // Read again under the lock: two processes may open a new file at once.
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found < version {
        return Err(SqliteFault::Foreign.into());
    }
    let done = of_version(migrations, found);
    shape::check(&transaction, done)?;
    for migration in migrations.iter().skip(done.len()) {
        transaction.execute_batch(migration)?;
    }
    if found == 0 {
        transaction.execute("INSERT INTO store VALUES (1, ?1, 0, 0)", [in_clear])?;
    }
    let newest = found.max(i64::try_from(migrations.len()).unwrap_or(i64::MAX));
    transaction.execute_batch(&format!(
        "PRAGMA user_version = {newest}; PRAGMA application_id = {APPLICATION}"
    ))?;
    changes::remove(&transaction, SystemClock::new().now().boot)?;
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
mod tests {
    use super::*;

    #[test]
    fn a_file_of_an_older_version_is_brought_forward_and_keeps_what_it_has() {
        let mut conn = Connection::open_in_memory().unwrap();
        let second = "ALTER TABLE session ADD COLUMN more TEXT";
        let version = |conn: &mut Connection| recognized(conn).map_err(|_| "refused").unwrap();
        for (migrations, newest) in [(&[VERSION_1][..], 1), (&[VERSION_1, second][..], 2)] {
            migrate(&mut conn, 0, migrations, true).map_err(|_| "refused").unwrap();
            let found: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
            assert_eq!(found, newest);
            let stores: i64 = conn
                .query_row("SELECT count(*) FROM store WHERE in_clear", [], |row| row.get(0))
                .unwrap();
            assert_eq!(stores, 1);
            if newest == 1 {
                assert_eq!(version(&mut conn), 1);
            }
        }
        conn.query_row("SELECT count(more) FROM session", [], |_| Ok(())).unwrap();
        // Version 2 is not known to this programme.
        assert!(matches!(
            recognized(&mut conn),
            Err(Refused::Fault(SqliteFault::Newer { found: 2, .. }))
        ));
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, 0, &[VERSION_1], false).map_err(|_| "refused").unwrap();
        let broken = [VERSION_1, "CREATE TABLE more (a); CREATE TABLE more (a)"];
        assert!(migrate(&mut conn, 1, &broken, false).is_err());
        assert_eq!(recognized(&mut conn).map_err(|_| "refused").unwrap(), 1);
        conn.query_row("SELECT count(*) FROM more", [], |_| Ok(())).unwrap_err();
    }
}
