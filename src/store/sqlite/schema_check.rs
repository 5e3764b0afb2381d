//! Checks that a file has the schema of this crate. In a file that somebody changed, a trigger
//! could undo what a statement wrote, and a view in the place of a table could run for ever.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Row};

use super::sqlite_fault::SqliteFault;
use super::statement_error::Result;

/// A row of `sqlite_schema`: type, name, table and text.
type Object = (String, String, String, Option<String>);

/// Turns off all that a file could make SQLite run, and all writes to its schema. Must come before
/// the first read.
pub(super) fn harden(conn: &Connection) -> rusqlite::Result<()> {
    let settings = [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, false),
    ];
    for (setting, value) in settings {
        conn.set_db_config(setting, value)?;
    }
    // SQLite checks the cells of a page when it reads it. Without memory mapping, another process
    // cannot change a page after that check.
    conn.execute_batch("PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0")
}

/// Refuses a schema that differs in any byte from the one that `migrations` make.
pub(super) fn check(conn: &Connection, migrations: &[&str]) -> Result<()> {
    let own = Connection::open_in_memory()?;
    migrations.iter().try_for_each(|migration| own.execute_batch(migration))?;
    let expected = read(&own, usize::MAX)?;
    // One more than expected is enough to know that there are too many.
    let found = read(conn, expected.len() + 1)?;
    if found == expected { Ok(()) } else { Err(SqliteFault::OtherSchema.into()) }
}

pub(super) fn is_empty(conn: &Connection) -> Result<bool> {
    Ok(read(conn, 1)?.is_empty())
}

fn read(conn: &Connection, most: usize) -> Result<Vec<Object>> {
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name LIMIT ?1";
    let mut statement = conn.prepare(sql)?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut rows = statement.query([most])?;
    let mut objects = Vec::new();
    while let Some(row) = rows.next()? {
        // SQLite writes no other types into these columns.
        objects.push(object(row).map_err(|_| SqliteFault::OtherSchema)?);
    }
    Ok(objects)
}

fn object(row: &Row<'_>) -> rusqlite::Result<Object> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}
