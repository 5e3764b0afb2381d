//! What processes tell each other of what they wrote: each names it in the file, and the others
//! look there now and then.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Statement, Transaction, params};

use super::alive::Holder;
use super::code;
use super::columns;
use super::fault::{Result, Undone};
use crate::clock::BootTime;
use crate::key::SessionId;
use crate::store::{Change, Changes, Cursor, News};

/// How long it is told what was changed. Defaults to 5 s: the others look several times a second,
/// and one that did not for so long is told that anything may have changed. What names a deleted
/// session is then gone as well.
pub(super) const TOLD_FOR: Duration = Duration::from_secs(5);

/// How often what was told for long enough is removed. Defaults to 1 s, so that it costs nothing
/// beside the writes.
const REMOVAL: Duration = Duration::from_secs(1);

/// What this process says and hears.
pub(super) struct Log<'c> {
    conn: &'c Connection,
    holder: &'c Holder,
    note: Statement<'c>,
    /// Which feed this is: another file's cursors mean nothing here.
    feed: i64,
    /// When the present batch is written; none if there is nobody to be told.
    now: Option<BootTime>,
    removed_at: BootTime,
    /// Something was deleted that named a session, and lies in the log of the file still.
    forgot: bool,
    /// The file's version when it was last read, and up to which number.
    read: Option<(i64, u64)>,
}

impl<'c> Log<'c> {
    pub(super) fn new(conn: &'c Connection, holder: &'c Holder) -> rusqlite::Result<Self> {
        let note = conn.prepare(
            "INSERT INTO change (made_at, maker, provider, tenant, token_id, version, epoch,
                 generation, phase)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        let feed = conn.query_row("SELECT feed FROM store", [], |row| row.get(0))?;
        let (now, removed_at, read) = (None, BootTime::default(), None);
        Ok(Self { conn, holder, note, feed, now, removed_at, forgot: false, read })
    }

    pub(super) fn begin(&mut self, now: Option<BootTime>) {
        self.now = now;
    }

    /// Whether something was forgotten since this was last asked.
    pub(super) fn take_forgot(&mut self) -> bool {
        std::mem::take(&mut self.forgot)
    }

    /// What became of a record, for those who are to be told of it.
    pub(super) fn note(&mut self, id: &SessionId, change: Change) -> Result<()> {
        self.forgot |= change.phase.is_none();
        let Some(now) = self.now else { return Ok(()) };
        if now.since(self.removed_at) >= REMOVAL {
            self.remove(now)?;
        }
        let (provider, tenant, token_id) = columns::of_id(id);
        self.note.execute(params![
            code::of_boot(now),
            self.holder.name,
            provider,
            tenant,
            token_id,
            code::of_count(change.version),
            code::of_count(change.epoch),
            code::of_count(change.generation),
            change.phase.map(code::of_phase),
        ])?;
        Ok(())
    }

    /// Removes what was told for long enough.
    pub(super) fn remove(&mut self, now: BootTime) -> Result<()> {
        self.forgot |= remove(self.conn, now)?;
        self.removed_at = now;
        Ok(())
    }

    /// What others changed after `since`, or what `all` did, and whether something is to be
    /// removed.
    pub(super) fn read(
        &mut self,
        since: Option<&Cursor>,
        limit: usize,
        (all, now): (bool, BootTime),
    ) -> Result<(Changes, bool)> {
        // One snapshot, or a change that comes between two of the reads would be passed over. In a
        // batch of writes there is one already.
        let begun: Option<Transaction<'_>> =
            self.conn.is_autocommit().then(|| self.conn.unchecked_transaction()).transpose()?;
        let version = self.conn.query_row("PRAGMA data_version", [], |row| row.get(0))?;
        let newest = newest(self.conn)?;
        let oldest = "SELECT made_at FROM change ORDER BY number LIMIT 1";
        let oldest = self.conn.query_row(oldest, [], |row| row.get(0)).optional()?;
        let stale = oldest.is_some_and(|made: i64| now.since(code::boot(made)) >= TOLD_FOR);
        let (mark, news) = match since.map(|cursor| self.number(cursor)) {
            None => (newest, Some(Vec::new())),
            // Whatever is new since is one's own.
            Some(Some(since)) if !all && self.read == Some((version, since)) => {
                (newest, Some(Vec::new()))
            }
            Some(Some(since)) if since <= newest => {
                let own = (!all).then_some(&self.holder.name[..]);
                after(self.conn, own, (since, newest), limit.max(1))?
            }
            // Of another file, or of this one before it was restored from a backup.
            Some(_) => (newest, None),
        };
        self.read = Some((version, mark)).filter(|_| mark == newest);
        drop(begun);
        Ok((Changes { cursor: self.cursor(mark), news, more: mark < newest }, stale))
    }

    fn cursor(&self, number: u64) -> Cursor {
        Cursor(Arc::from([self.feed.to_be_bytes(), number.to_be_bytes()].concat()))
    }

    /// The number of a cursor of this feed.
    fn number(&self, cursor: &Cursor) -> Option<u64> {
        let (feed, number) = cursor.0.split_first_chunk()?;
        let number = number.try_into().ok().map(u64::from_be_bytes)?;
        (i64::from_be_bytes(*feed) == self.feed).then_some(number)
    }
}

/// Removes what was told for long enough, and what was told before the machine was started. True
/// if deleted sessions are named there.
pub(super) fn remove(conn: &Connection, now: BootTime) -> rusqlite::Result<bool> {
    let (told, now) = (code::of_boot(now.before(TOLD_FOR)), code::of_boot(now));
    let names = "SELECT EXISTS (SELECT 1 FROM change
        WHERE (made_at <= ?1 OR made_at > ?2) AND phase IS NULL)";
    let names = conn.query_row(names, [told, now], |row| row.get(0))?;
    conn.execute("DELETE FROM change WHERE made_at <= ?1 OR made_at > ?2", [told, now])?;
    Ok(names)
}

/// The highest number that was given.
fn newest(conn: &Connection) -> Result<u64> {
    let given = "SELECT seq FROM sqlite_sequence WHERE name = 'change'";
    let given: Option<i64> = conn.query_row(given, [], |row| row.get(0)).optional()?;
    given.map_or(Ok(0), code::count)
}

/// Up to which number it was read, and what was changed until there by others than `own`; none if
/// some of it is gone.
fn after(
    conn: &Connection,
    own: Option<&[u8]>,
    (since, newest): (u64, u64),
    limit: usize,
) -> Result<(u64, Option<Vec<News>>)> {
    let mut statement = conn.prepare(
        "SELECT number, maker, provider, tenant, token_id, version, epoch, generation, phase
         FROM change WHERE number > ?1 ORDER BY number LIMIT ?2",
    )?;
    let mut rows = statement.query(params![code::of_count(since), code::of_limit(limit)])?;
    let (mut mark, mut news) = (since, Vec::new());
    while let Some(row) = rows.next()? {
        let number = code::count(row.get(0)?)?;
        if number != mark + 1 {
            // What stood between was removed.
            return Ok((newest, None));
        }
        mark = number;
        if own.is_none() || row.get_ref(1)?.as_blob().ok() != own {
            news.extend(read(row).ok());
        }
    }
    let lost = mark == since && newest > since;
    Ok(if lost { (newest, None) } else { (mark, Some(news)) })
}

fn read(row: &Row<'_>) -> Result<News> {
    let phase: Option<i64> = row.get(8)?;
    let phase = phase.map(|phase| code::phase(phase).ok_or_else(Undone::malformed)).transpose()?;
    let (version, epoch, generation) = (row.get(5)?, row.get(6)?, row.get(7)?);
    let (version, epoch, generation) =
        (code::count(version)?, code::count(epoch)?, code::count(generation)?);
    Ok(News { id: columns::id(row, 2)?, of: Change { version, epoch, generation, phase } })
}
