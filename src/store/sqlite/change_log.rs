//! What processes tell each other of what they wrote: each names it in the file, and the others
//! look there now and then.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Statement, Transaction, params};

use super::columns;
use super::encoding::{
    decode_boot_time, decode_counter, decode_phase, encode_boot_time, encode_counter, encode_limit,
    encode_phase,
};
use super::liveness::ProcessLock;
use super::statement_error::{Result, StatementError};
use crate::clock::BootTime;
use crate::key::SessionId;
use crate::store::{Change, Changes, Cursor, News};

/// How long it is told what was changed. Defaults to 5 s: the others look several times a second,
/// and one that did not for so long is told that anything may have changed. What names a deleted
/// session is then gone as well.
pub(super) const RETENTION: Duration = Duration::from_secs(5);

/// How often what was told for long enough is removed. Defaults to 1 s, so that it costs nothing
/// beside the writes.
const REMOVAL_INTERVAL: Duration = Duration::from_secs(1);

/// What this process says and hears.
pub(super) struct ChangeLog<'c> {
    conn: &'c Connection,
    process_lock: &'c ProcessLock,
    insert: Statement<'c>,
    /// Which feed this is: another file's cursors mean nothing here.
    feed: i64,
    /// When the present batch is written; none if there is nobody to be told.
    batch_time: Option<BootTime>,
    removed_at: BootTime,
    /// Something was deleted that named a session, and lies in the log of the file still.
    deleted_names: bool,
    /// The file's version when it was last read, and up to which number.
    last_read: Option<(i64, u64)>,
}

impl<'c> ChangeLog<'c> {
    pub(super) fn new(
        conn: &'c Connection,
        process_lock: &'c ProcessLock,
    ) -> rusqlite::Result<Self> {
        let insert = conn.prepare(
            "INSERT INTO change (made_at, maker, provider, tenant, token_id, version, epoch,
                 generation, phase)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        let feed = conn.query_row("SELECT feed FROM store", [], |row| row.get(0))?;
        let (batch_time, removed_at, last_read) = (None, BootTime::default(), None);
        Ok(Self {
            conn,
            process_lock,
            insert,
            feed,
            batch_time,
            removed_at,
            deleted_names: false,
            last_read,
        })
    }

    pub(super) fn begin_batch(&mut self, now: Option<BootTime>) {
        self.batch_time = now;
    }

    /// Whether something was forgotten since this was last asked.
    pub(super) fn take_deleted_names(&mut self) -> bool {
        std::mem::take(&mut self.deleted_names)
    }

    /// What became of a record, for those who are to be told of it.
    pub(super) fn append(&mut self, id: &SessionId, change: Change) -> Result<()> {
        self.deleted_names |= change.phase.is_none();
        let Some(now) = self.batch_time else { return Ok(()) };
        if now.since(self.removed_at) >= REMOVAL_INTERVAL {
            self.remove_expired(now)?;
        }
        let (provider, tenant, token_id) = columns::id_columns(id);
        self.insert.execute(params![
            encode_boot_time(now),
            self.process_lock.name,
            provider,
            tenant,
            token_id,
            encode_counter(change.version),
            encode_counter(change.epoch),
            encode_counter(change.generation),
            change.phase.map(encode_phase),
        ])?;
        Ok(())
    }

    /// Removes what was told for long enough.
    pub(super) fn remove_expired(&mut self, now: BootTime) -> Result<()> {
        self.deleted_names |= remove_expired(self.conn, now)?;
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
        let newest = newest_number(self.conn)?;
        let oldest = "SELECT made_at FROM change ORDER BY number LIMIT 1";
        let oldest = self.conn.query_row(oldest, [], |row| row.get(0)).optional()?;
        let stale = oldest.is_some_and(|made: i64| now.since(decode_boot_time(made)) >= RETENTION);
        let (read_to, news) = match since.map(|cursor| self.number(cursor)) {
            None => (newest, Some(Vec::new())),
            // Whatever is new since is one's own.
            Some(Some(since)) if !all && self.last_read == Some((version, since)) => {
                (newest, Some(Vec::new()))
            }
            Some(Some(since)) if since <= newest => {
                let own = (!all).then_some(&self.process_lock.name[..]);
                read_after(self.conn, own, (since, newest), limit.max(1))?
            }
            // Of another file, or of this one before it was restored from a backup.
            Some(_) => (newest, None),
        };
        self.last_read = Some((version, read_to)).filter(|_| read_to == newest);
        drop(begun);
        Ok((Changes { cursor: self.cursor(read_to), news, more: read_to < newest }, stale))
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
pub(super) fn remove_expired(conn: &Connection, now: BootTime) -> rusqlite::Result<bool> {
    let (told, now) = (encode_boot_time(now.before(RETENTION)), encode_boot_time(now));
    let names = "SELECT EXISTS (SELECT 1 FROM change
        WHERE (made_at <= ?1 OR made_at > ?2) AND phase IS NULL)";
    let names = conn.query_row(names, [told, now], |row| row.get(0))?;
    conn.execute("DELETE FROM change WHERE made_at <= ?1 OR made_at > ?2", [told, now])?;
    Ok(names)
}

/// The highest number that was given.
fn newest_number(conn: &Connection) -> Result<u64> {
    let given = "SELECT seq FROM sqlite_sequence WHERE name = 'change'";
    let given: Option<i64> = conn.query_row(given, [], |row| row.get(0)).optional()?;
    given.map_or(Ok(0), decode_counter)
}

/// Up to which number it was read, and what was changed until there by others than `own`; none if
/// some of it is gone.
fn read_after(
    conn: &Connection,
    own: Option<&[u8]>,
    (since, newest): (u64, u64),
    limit: usize,
) -> Result<(u64, Option<Vec<News>>)> {
    let mut statement = conn.prepare(
        "SELECT number, maker, provider, tenant, token_id, version, epoch, generation, phase
         FROM change WHERE number > ?1 ORDER BY number LIMIT ?2",
    )?;
    let mut rows = statement.query(params![encode_counter(since), encode_limit(limit)])?;
    let (mut read_to, mut news) = (since, Vec::new());
    while let Some(row) = rows.next()? {
        let number = decode_counter(row.get(0)?)?;
        if number != read_to + 1 {
            // What stood between was removed.
            return Ok((newest, None));
        }
        read_to = number;
        if own.is_none() || row.get_ref(1)?.as_blob().ok() != own {
            news.extend(read_news(row).ok());
        }
    }
    let lost = read_to == since && newest > since;
    Ok(if lost { (newest, None) } else { (read_to, Some(news)) })
}

fn read_news(row: &Row<'_>) -> Result<News> {
    let phase: Option<i64> = row.get(8)?;
    let phase =
        phase.map(|phase| decode_phase(phase).ok_or_else(StatementError::malformed)).transpose()?;
    let (version, epoch, generation) = (row.get(5)?, row.get(6)?, row.get(7)?);
    let (version, epoch, generation) =
        (decode_counter(version)?, decode_counter(epoch)?, decode_counter(generation)?);
    Ok(News { id: columns::read_id(row, 2)?, of: Change { version, epoch, generation, phase } })
}
