//! The migrations of a file, each from one version to the next.

use rusqlite::{Connection, params};

use super::columns::{self, ID_INDEX, ROWID_INDEX, SqlColumns};
use super::statement_error::Result;
use crate::key::SessionId;
use crate::store::encoding::encode_wall_time;
use crate::store::record_cipher::{RecordCipher, RowTags, SealedColumn, SealedCredentials};
use crate::store::session_row::{ALL_COLUMNS, SessionRow};

/// How many rows are read at once. Defaults to 256, some 250 KB.
const ROWS_AT_ONCE: usize = 256;

/// A file's schema is compared byte for byte, so the text of a released version never changes, not
/// even its indents.
///
/// Names in the order of the primary key are the order of ids. Times are in nanoseconds: since 1970
/// those of the day, since the start of the machine those of leases. Codes are in `encoding.rs`.
pub(super) const VERSION_1: &str = include_str!("migration/version_1.sql");

/// Adds columns for versions, claims and the expiry of tokens, a tag over each row, the floor of
/// deleted sessions, more columns for changes, and a table of the processes that have the file
/// open. A claimed session keeps the phase that it had before the claim. The old tables are renamed
/// and their indexes dropped first, so that SQLite stores the new texts as they are written here.
///
/// The floor is computed from fences: each grant and each refresh has a fence of its own, and
/// between two of them a session is closed at most once.
pub(super) const VERSION_2: &str = include_str!("migration/version_2.sql");

pub(super) fn initialize(conn: &Connection, in_clear: bool) -> rusqlite::Result<()> {
    conn.execute("INSERT INTO store VALUES (1, ?1, 0, 0, 0, random())", [in_clear]).map(drop)
}

/// Gives each row of version 1 its tag, and the expiry of its tokens if they can be opened.
///
/// It runs in the transaction that makes the file one of version 2, and covers rows of the first
/// form too. So no row of version 2 is without a tag, and nobody can pass a forged row off as an
/// old one.
pub(super) fn add_tags(conn: &Connection, cipher: &RecordCipher) -> Result<()> {
    let (mut last, mut tags) = (i64::MIN, RowTags::default());
    while let Some(reached) = add_tags_to_page(conn, (cipher, &mut tags), last)? {
        last = reached;
    }
    Ok(())
}

/// Does one page after this row. Returns the number of the page's last row, or `None` after the
/// end.
fn add_tags_to_page(
    conn: &Connection,
    (cipher, tags): (&RecordCipher, &mut RowTags),
    after: i64,
) -> Result<Option<i64>> {
    let sql = format!(
        "SELECT {ALL_COLUMNS}, rowid FROM session WHERE rowid > ?1 ORDER BY rowid LIMIT {ROWS_AT_ONCE}"
    );
    let (mut page, mut set) = (conn.prepare(&sql)?, conn.prepare(
        "UPDATE session SET access_expires_at = ?2, refresh_expires_at = ?3, key_id = ?4, mac = ?5
         WHERE rowid = ?1",
    )?);
    let (mut rows, mut last) = (page.query([after])?, None);
    while let Some(sql_row) = rows.next()? {
        let number: i64 = sql_row.get(ROWID_INDEX)?;
        last = Some(number);
        // A row that cannot be read gets no tag. It stays unreadable, as it was.
        let named = columns::read_id(sql_row, ID_INDEX)
            .and_then(|id| Ok((id, SessionRow::read(&SqlColumns(sql_row))?)));
        let Ok((id, mut row)) = named else { continue };
        let ends = ends(cipher, &id, &row);
        (row.access_expires_at, row.refresh_expires_at) = ends.unwrap_or_default();
        if let (None, Some(ring)) = (row.key_id, cipher.ring()?) {
            row.key_id = Some(ring.sealing_number().into());
        }
        let key_id = row.key_id.and_then(|number| u32::try_from(number).ok());
        let mac = tags.tag(cipher, &id, key_id, &row.tag_input(&id))?;
        let mac = mac.as_ref().map(<[u8; _]>::as_slice);
        let ends = (row.access_expires_at, row.refresh_expires_at);
        set.execute(params![number, ends.0, ends.1, row.key_id, mac])?;
    }
    Ok(last)
}

/// When the tokens of a live session expire. `None` if they cannot be opened; a load says why.
fn ends(
    cipher: &RecordCipher,
    id: &SessionId,
    row: &SessionRow<'_>,
) -> Option<(Option<i64>, Option<i64>)> {
    let (made, bytes) = (row.made_by().ok()??, row.sealed?);
    let epoch = u64::try_from(row.epoch).ok()?;
    let sealed = SealedCredentials { column: SealedColumn::Unnamed, bytes: bytes.into() };
    let credentials = cipher.open(id, (epoch, made), &sealed).ok()?;
    let tokens = credentials.tokens();
    let ends = [tokens.access_expires_at(), tokens.refresh_expires_at()];
    let [access, refresh] = ends.map(|end| end.map(encode_wall_time));
    Some((access, refresh))
}

#[cfg(test)]
mod tests;
