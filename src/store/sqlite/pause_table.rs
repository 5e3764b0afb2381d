//! The table `pause`: what the backend has paused.

use rusqlite::params;

use super::database::Database;
use super::statement_error::Result;
use crate::key::PauseScope;

/// Writes that a scope is paused, or that it is not. Returns whether that changed anything.
pub(super) fn set(db: &Database<'_>, scope: &PauseScope, paused: bool) -> Result<bool> {
    let (provider, tenant) = scope.columns();
    let sql = if paused {
        "INSERT INTO pause (provider, tenant) VALUES (?1, ?2) ON CONFLICT DO NOTHING"
    } else {
        "DELETE FROM pause WHERE provider = ?1 AND tenant = ?2"
    };
    Ok(db.conn.execute(sql, params![provider, tenant])? > 0)
}

/// All scopes that are paused. A row that names none is passed over.
pub(super) fn read(db: &Database<'_>) -> Result<Vec<PauseScope>> {
    let mut statement = db.conn.prepare("SELECT provider, tenant FROM pause")?;
    let mut rows = statement.query([])?;
    let mut scopes = Vec::new();
    while let Some(row) = rows.next()? {
        let (provider, tenant): (String, String) = (row.get(0)?, row.get(1)?);
        scopes.extend(PauseScope::of_columns(&provider, &tenant));
    }
    scopes.sort_unstable();
    Ok(scopes)
}
