//! The table `change`, by which processes learn of each other's writes: each enters its changes,
//! and the others read them several times a second.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Statement, Transaction, params};

use super::columns;
use super::liveness::ProcessLock;
use super::statement_error::{Result, StatementError};
use crate::clock::BootTime;
use crate::key::SessionId;
use crate::store::encoding::{
    decode_boot_time, decode_counter, decode_phase, encode_boot_time, encode_counter, encode_limit,
    encode_phase,
};
use crate::store::session_row::id_columns;
use crate::store::{Change, Changes, Cursor, Floor, News};

/// How long an entry stays. Defaults to 5 s: the others read several times a second, and a process
/// that has not read for so long learns that anything may have changed. The names of deleted
/// sessions are then gone as well.
pub(super) const RETENTION: Duration = Duration::from_secs(5);

/// How often old entries are removed. Defaults to 1 s, so that it costs nothing beside the writes.
const REMOVAL_INTERVAL: Duration = Duration::from_secs(1);

/// The change log of an open file.
pub(super) struct ChangeLog<'c> {
    conn: &'c Connection,
    process_lock: &'c ProcessLock,
    insert: Statement<'c>,
    /// The file's random number, which tells its cursors from those of another file.
    feed: i64,
    /// The time of the present batch; `None` if no other process or supervisor needs its changes.
    batch_time: Option<BootTime>,
    removed_at: BootTime,
    /// A row that named a session was deleted, so the name may still lie in SQLite's log.
    deleted_names: bool,
    /// The data version at the last read, and the number up to which it read.
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

    /// Whether a row that named a session was deleted since the last call.
    pub(super) fn take_deleted_names(&mut self) -> bool {
        std::mem::take(&mut self.deleted_names)
    }

    /// Takes back what [`take_deleted_names`](Self::take_deleted_names) returned, and forgets what was
    /// deleted since.
    pub(super) fn restore_deleted_names(&mut self, deleted: bool) {
        self.deleted_names = deleted;
    }

    /// Enters a change of a record, if another process or supervisor needs it.
    pub(super) fn append(&mut self, id: &SessionId, change: Change) -> Result<()> {
        // Before the return: the deleted row leaves the name in SQLite's log, also of a file that
        // no other process has open.
        self.deleted_names |= change.phase.is_none();
        let Some(now) = self.batch_time else { return Ok(()) };
        if now.since(self.removed_at) >= REMOVAL_INTERVAL {
            self.remove_expired(now)?;
        }
        let (provider, tenant, token_id) = id_columns(id);
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

    /// Removes old entries.
    pub(super) fn remove_expired(&mut self, now: BootTime) -> Result<()> {
        self.deleted_names |= remove_expired(self.conn, now)?;
        // Only after the removal, so that one that failed is tried again with the next entry.
        self.removed_at = now;
        Ok(())
    }

    /// The changes after `since`, those of other processes only unless `all` is set, and whether
    /// old entries must be removed.
    pub(super) fn read(
        &mut self,
        since: Option<&Cursor>,
        limit: usize,
        (all, now): (bool, BootTime),
    ) -> Result<(Changes, bool)> {
        // One snapshot for all reads below. If a change were written after the read of the data
        // version and before that of the newest number, the shortcut below would find the version
        // unchanged and move the cursor past the change. A batch of writes has a snapshot already.
        let begun: Option<Transaction<'_>> =
            self.conn.is_autocommit().then(|| self.conn.unchecked_transaction()).transpose()?;
        let version = self.conn.query_row("PRAGMA data_version", [], |row| row.get(0))?;
        let newest = newest_number(self.conn)?;
        let oldest = "SELECT made_at FROM change ORDER BY number LIMIT 1";
        let oldest = self.conn.query_row(oldest, [], |row| row.get(0)).optional()?;
        let stale = oldest.is_some_and(|made: i64| now.since(decode_boot_time(made)) >= RETENTION);
        let (read_to, news) = match since.map(|cursor| self.number(cursor)) {
            None => (newest, Some(Vec::new())),
            // No other connection has written since, so all newer entries are this process's own.
            Some(Some(since)) if !all && self.last_read == Some((version, since)) => {
                (newest, Some(Vec::new()))
            }
            Some(Some(since)) if since <= newest => {
                let own = (!all).then_some(&self.process_lock.name[..]);
                read_after(self.conn, own, (since, newest), limit.max(1))?
            }
            // A cursor of another file, or of this one before it was restored from a backup.
            Some(_) => (newest, None),
        };
        // Only if all was read: the rest of a longer list would be skipped by the shortcut above.
        self.last_read = Some((version, read_to)).filter(|_| read_to == newest);
        drop(begun);
        Ok((
            Changes { cursor: self.cursor(read_to), news, more: read_to < newest, failover: None },
            stale,
        ))
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

/// Removes old entries, and those from before the machine was started. True if some of them named
/// deleted sessions.
pub(super) fn remove_expired(conn: &Connection, now: BootTime) -> rusqlite::Result<bool> {
    let (expired, now) = (encode_boot_time(now.before(RETENTION)), encode_boot_time(now));
    let names = "SELECT EXISTS (SELECT 1 FROM change
        WHERE (made_at <= ?1 OR made_at > ?2) AND phase IS NULL)";
    // Before the DELETE, after which nothing says what the entries were.
    let names = conn.query_row(names, [expired, now], |row| row.get(0))?;
    conn.execute("DELETE FROM change WHERE made_at <= ?1 OR made_at > ?2", [expired, now])?;
    Ok(names)
}

/// The number of the newest entry, even if it was removed.
fn newest_number(conn: &Connection) -> Result<u64> {
    let given = "SELECT seq FROM sqlite_sequence WHERE name = 'change'";
    let given: Option<i64> = conn.query_row(given, [], |row| row.get(0)).optional()?;
    Ok(given.map_or(Ok(0), decode_counter)?)
}

/// Reads the entries after `since`. Returns the number up to which it read, and the changes of all
/// processes but `own`; `None` in their place if some of the entries are gone.
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
            // Numbers have no gaps, so the entries between were removed.
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
    let Floor { version, epoch, generation } = columns::read_counters(row, 5)?;
    Ok(News { id: columns::read_id(row, 2)?, of: Change { version, epoch, generation, phase } })
}
