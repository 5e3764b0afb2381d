//! What processes tell each other of what they wrote: each names it in the file, and the others look
//! there now and then.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Statement, Transaction, params};

use super::alive::Holder;
use super::code;
use super::fault::Undone;
use super::table::{Done, count, id, key, most};
use crate::clock::BootTime;
use crate::key::SessionId;
use crate::store::{Changed, ChangedTo, Changes};

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
            "INSERT INTO change (made_at, maker, provider, tenant, token_id, epoch, generation)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let (now, removed_at, read) = (None, BootTime::default(), None);
        Ok(Self { conn, holder, note, now, removed_at, forgot: false, read })
    }

    /// A batch begins.
    pub(super) fn begin(&mut self, now: Option<BootTime>) {
        self.now = now;
    }

    pub(super) fn stored(&mut self, id: &SessionId, epoch: u64, generation: u64) -> Done<()> {
        self.note(id, Some((epoch, generation)))
    }

    pub(super) fn deleted(&mut self, id: &SessionId) -> Done<()> {
        self.forgot = true;
        self.note(id, None)
    }

    /// Whether something was forgotten since this was last asked.
    pub(super) fn take_forgot(&mut self) -> bool {
        std::mem::take(&mut self.forgot)
    }

    fn note(&mut self, id: &SessionId, counters: Option<(u64, u64)>) -> Done<()> {
        let Some(now) = self.now else { return Ok(()) };
        if now.since(self.removed_at) >= REMOVAL {
            self.remove(now)?;
        }
        let (provider, tenant, token_id) = key(id);
        let (epoch, generation) = counters.unzip();
        self.note.execute(params![
            code::of_boot(now),
            self.holder.name,
            provider,
            tenant,
            token_id,
            epoch.map(code::of_count),
            generation.map(code::of_count),
        ])?;
        Ok(())
    }

    /// Removes what was told for long enough.
    pub(super) fn remove(&mut self, now: BootTime) -> Done<()> {
        self.forgot |= remove(self.conn, now)?;
        self.removed_at = now;
        Ok(())
    }

    /// What others changed after `since`, and whether something is to be removed.
    pub(super) fn read(
        &mut self,
        since: Option<u64>,
        limit: usize,
        now: BootTime,
    ) -> Done<(Changes, bool)> {
        // One snapshot, or a change that comes between two of the reads would be passed over. In a
        // batch of writes there is one already.
        let begun: Option<Transaction<'_>> =
            self.conn.is_autocommit().then(|| self.conn.unchecked_transaction()).transpose()?;
        let version = self.conn.query_row("PRAGMA data_version", [], |row| row.get(0))?;
        let newest = newest(self.conn)?;
        let oldest = "SELECT made_at FROM change ORDER BY number LIMIT 1";
        let oldest = self.conn.query_row(oldest, [], |row| row.get(0)).optional()?;
        let stale = oldest.is_some_and(|made: i64| now.since(code::boot(made)) >= TOLD_FOR);
        let Some(since) = since.filter(|since| self.read != Some((version, *since))) else {
            // Whatever is new since is one's own.
            self.read = Some((version, newest));
            return Ok((Changes { mark: newest, of: Some(Vec::new()) }, stale));
        };
        let changes = after(self.conn, &self.holder.name, (since, newest), limit)?;
        self.read = Some((version, changes.mark)).filter(|_| changes.mark == newest);
        drop(begun);
        Ok((changes, stale))
    }
}

/// Removes what was told for long enough, and what was told before the machine was started. True
/// if deleted sessions are named there.
pub(super) fn remove(conn: &Connection, now: BootTime) -> rusqlite::Result<bool> {
    let (told, now) = (code::of_boot(now.before(TOLD_FOR)), code::of_boot(now));
    let names = "SELECT EXISTS (SELECT 1 FROM change
        WHERE (made_at <= ?1 OR made_at > ?2) AND generation IS NULL)";
    let names = conn.query_row(names, [told, now], |row| row.get(0))?;
    conn.execute("DELETE FROM change WHERE made_at <= ?1 OR made_at > ?2", [told, now])?;
    Ok(names)
}

/// The highest number that was given.
fn newest(conn: &Connection) -> Done<u64> {
    let given = "SELECT seq FROM sqlite_sequence WHERE name = 'change'";
    let given: Option<i64> = conn.query_row(given, [], |row| row.get(0)).optional()?;
    given.map_or(Ok(0), count)
}

fn after(
    conn: &Connection,
    own: &[u8],
    (since, newest): (u64, u64),
    limit: usize,
) -> Done<Changes> {
    let mut statement = conn.prepare(
        "SELECT number, maker, provider, tenant, token_id, epoch, generation FROM change
         WHERE number > ?1 ORDER BY number LIMIT ?2",
    )?;
    let mut rows = statement.query(params![code::of_count(since), most(limit)])?;
    let (mut mark, mut changed) = (since, Vec::new());
    while let Some(row) = rows.next()? {
        let number = count(row.get(0)?)?;
        if number != mark + 1 {
            // What stood between was removed.
            return Ok(Changes { mark: newest, of: None });
        }
        mark = number;
        if row.get_ref(1)?.as_blob().ok() != Some(own) {
            changed.extend(read(row).ok());
        }
    }
    let lost = mark == since && newest > since;
    Ok(Changes { mark: if lost { newest } else { mark }, of: (!lost).then_some(changed) })
}

fn read(row: &Row<'_>) -> Done<Changed> {
    let to = match (row.get::<_, Option<i64>>(5)?, row.get::<_, Option<i64>>(6)?) {
        (Some(epoch), Some(generation)) => {
            ChangedTo::Stored { epoch: count(epoch)?, generation: count(generation)? }
        }
        (None, None) => ChangedTo::Deleted,
        (Some(_), None) | (None, Some(_)) => return Err(Undone::malformed()),
    };
    Ok(Changed { id: id(row, 2)?, to })
}
