//! Records in the table of sessions. A statement is a function on a record; here is how it is read
//! and written. All of this runs on the owner's thread, in its transaction.

use std::time::Duration;

use rusqlite::{
    Connection, OptionalExtension, Row as SqlRow, Statement, ToSql, params, params_from_iter,
};

use super::Shared;
use super::alive::Holder;
use super::changes::Log;
use super::code;
use super::columns::{self, BESIDE, COLUMNS, ID, Row, WRITTEN};
use super::fault::{Result, SqliteFault, Undone};
use super::listing;
use super::reader::{self, Kept, Reader};
use super::room::Room;
use super::row::{self, Hold};
use crate::clock::Now;
use crate::key::{ProviderName, SessionId};
use crate::policy::SEALED_BYTES;
use crate::store::seal::Sealed;
use crate::store::{Due, Filter, Floor, Record};

/// What a claim changes of a row that is there. Not all of it, because what stands in an index is
/// written there again even if it is the same.
const PUT_LEASE: &str = "UPDATE session SET version = ?2, fence = ?3, tries = ?4, lease_claim = ?5,
    lease_owner = ?6, lease_intent = ?7, lease_from = ?8, lease_until = ?9, lease_holder = ?10,
    lease_boot = ?11, mac = ?12 WHERE rowid = ?1";

const OF_ID: &str = "provider = ?1 AND tenant = ?2 AND token_id = ?3";

/// Records of one key.
pub(super) struct Page {
    pub(super) records: Vec<(SessionId, Record<Sealed>)>,
    /// With those that cannot be read.
    pub(super) rows: usize,
    /// The number of the last row.
    pub(super) last: i64,
}

/// The tables of an open file. Statements are prepared once, because that takes longer than most
/// of them do.
pub(super) struct Tables<'c> {
    pub(super) conn: &'c Connection,
    pub(super) room: Room<'c>,
    pub(super) log: Log<'c>,
    pub(super) reader: Reader<'c>,
    find: Statement<'c>,
    insert: Statement<'c>,
    update: Statement<'c>,
    put_lease: Statement<'c>,
    remove: Statement<'c>,
    floor: Statement<'c>,
    set_floor: Statement<'c>,
}

impl<'c> Tables<'c> {
    pub(super) fn new(
        conn: &'c Connection,
        (holder, shared): (&'c Holder, &'c Shared),
        room: Room<'c>,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            conn,
            room,
            log: Log::new(conn, holder)?,
            reader: Reader::new(conn, holder, shared)?,
            find: conn.prepare(&format!("SELECT {COLUMNS}, rowid FROM session WHERE {OF_ID}"))?,
            insert: conn.prepare(&format!(
                "INSERT INTO session ({COLUMNS}) VALUES ({})",
                vec!["?"; WRITTEN.len() + 3].join(", ")
            ))?,
            update: conn.prepare(&format!(
                "UPDATE session SET {} = ? WHERE rowid = ?",
                WRITTEN.join(" = ?, ")
            ))?,
            put_lease: conn.prepare(PUT_LEASE)?,
            remove: conn.prepare(&format!("DELETE FROM session WHERE {OF_ID}"))?,
            floor: conn.prepare("SELECT version, epoch, generation FROM store")?,
            set_floor: conn.prepare(
                "UPDATE store SET version = max(version, ?1), epoch = max(epoch, ?2),
                     generation = max(generation, ?3)",
            )?,
        })
    }

    pub(super) fn now(&self) -> Now {
        self.reader.shared.now()
    }

    /// The record, whose row is as this store wrote it.
    pub(super) fn find(&mut self, id: &SessionId) -> Result<Option<(Record<Sealed>, Kept)>> {
        let Self { find, reader, .. } = self;
        let found = find.query_row(columns::of_id(id), |row| Ok(reader.genuine(row, id)));
        found.optional()?.transpose()
    }

    /// Writes a record in the place of what was `kept`.
    pub(super) fn put(
        &mut self,
        id: &SessionId,
        record: &Record<Sealed>,
        kept: Option<&Kept>,
    ) -> Result<()> {
        let record = self.reader.shared.vault.placed(id, record)?;
        let held = record.credentials.as_ref().or(record.outbox.as_ref());
        if held.is_some_and(|sealed| sealed.bytes.len() > SEALED_BYTES) {
            return Err(SqliteFault::TooLarge.into());
        }
        let key_id = match held {
            Some(sealed) => sealed.key(),
            None => self.reader.shared.vault.ring()?.map(|ring| ring.sealing()),
        };
        let form = self.reader.holders.form_to_write()?;
        let hold = self.hold(&record, kept);
        let extra = row::extra(&record);
        let mut row = Row::of(&record, hold.as_ref(), (form, key_id), extra.as_deref());
        let tag = self.reader.tag(id, key_id, &row)?;
        row.mac = tag.as_ref().map(<[u8; _]>::as_slice);
        let (written, (provider, tenant, token_id)) =
            (row.written().into_iter(), columns::of_id(id));
        // The row is known by its number: to look it up again takes as long as to write it.
        let done = match kept {
            Some(kept) => {
                let number: [&dyn ToSql; 1] = [&kept.row];
                self.update.execute(params_from_iter(written.chain(number)))
            }
            None => {
                let names: [&dyn ToSql; 3] = [&provider, &tenant, &token_id];
                self.insert.execute(params_from_iter(written.chain(names)))
            }
        };
        done.map(drop).map_err(Undone::from)
    }

    /// Writes what a claim changes of a record that is there.
    pub(super) fn put_lease(
        &mut self,
        id: &SessionId,
        record: &Record<Sealed>,
        kept: &Kept,
    ) -> Result<()> {
        let hold = self.hold(record, Some(kept));
        let (form, extra) = ((kept.form, kept.key_id), kept.extra.as_deref());
        let mut row = Row::of(record, hold.as_ref(), form, extra);
        let tag = self.reader.tag(id, kept.key_id, &row)?;
        row.mac = tag.as_ref().map(<[u8; _]>::as_slice);
        self.put_lease.execute(params![
            kept.row,
            row.version,
            row.fence,
            row.tries,
            row.lease_claim,
            row.lease_owner,
            row.lease_intent,
            row.lease_from,
            row.lease_until,
            row.lease_holder,
            row.lease_boot,
            row.mac,
        ])?;
        Ok(())
    }

    /// What a row says of the record's lease: what it said before, or that it is this process's.
    fn hold(&self, record: &Record<Sealed>, kept: Option<&Kept>) -> Option<Hold> {
        let lease = record.lease.as_ref()?;
        match kept {
            Some(kept) if kept.lease.as_ref() == Some(lease) => kept.hold.clone(),
            _ => Some(Hold {
                holder: self.reader.holder.name.to_vec(),
                boot: self.reader.holder.boot.clone(),
                from: code::of_boot(lease.from),
                until: code::of_boot(lease.until),
            }),
        }
    }

    /// Version, epoch and generation of a row, whether it can be read or not.
    pub(super) fn counters(&self, id: &SessionId) -> Result<Option<[i64; 3]>> {
        let sql = format!("SELECT version, epoch, generation FROM session WHERE {OF_ID}");
        let read = |row: &SqlRow<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?]);
        Ok(self.conn.query_row(&sql, columns::of_id(id), read).optional()?)
    }

    pub(super) fn remove(&mut self, id: &SessionId) -> Result<()> {
        self.remove.execute(columns::of_id(id))?;
        Ok(())
    }

    /// What is remembered of deleted records.
    pub(super) fn floor(&mut self) -> Result<Floor> {
        let read = |row: &SqlRow<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let (version, epoch, generation) = self.floor.query_row([], read)?;
        let (version, epoch, generation) =
            (code::count(version)?, code::count(epoch)?, code::count(generation)?);
        Ok(Floor { version, epoch, generation })
    }

    /// Raises it to this at least.
    pub(super) fn raise(&mut self, floor: Floor) -> Result<()> {
        let Floor { version, epoch, generation } = floor;
        self.set_floor.execute([version, epoch, generation].map(code::of_count))?;
        Ok(())
    }

    /// The lease's columns stand in no index, so that a claim writes to none.
    pub(super) fn due(
        &self,
        provider: &ProviderName,
        (within, now): (Duration, Now),
        after: Option<&Due>,
        limit: usize,
    ) -> Result<Vec<Due>> {
        let mut statement = self.conn.prepare(
            "SELECT due_at, provider, tenant, token_id FROM session
             WHERE provider = ?1 AND due_at <= ?2 AND (due_at, tenant, token_id) > (?3, ?4, ?5)
                 AND (lease_claim IS NULL OR lease_boot <> ?6 OR lease_until <= ?7)
             ORDER BY due_at, tenant, token_id LIMIT ?8",
        )?;
        let last = code::of_wall(now.wall.checked_add(within).unwrap_or(now.wall));
        let at = after.map_or(i64::MIN, |due| code::of_wall(due.at));
        let (_, tenant, token_id) = after.map_or(("", "", ""), |due| columns::of_id(&due.id));
        let (boot, leased) = (&self.reader.holder.boot, code::of_boot(now.boot));
        let given = params![
            provider.as_str(),
            last,
            at,
            tenant,
            token_id,
            boot,
            leased,
            code::of_limit(limit)
        ];
        let mut rows = statement.query(given)?;
        let mut due = Vec::new();
        while let Some(row) = rows.next()? {
            // One that cannot be named cannot be looked at either.
            if let Ok(id) = columns::id(row, 1) {
                due.push(Due { at: code::wall(row.get(0)?), id });
            }
        }
        Ok(due)
    }

    /// Opens no secret. A row that was changed is shown as lost for want of its key, so that it
    /// does not hide the others, and can be found and deleted; its own `load` says what is wrong.
    /// One whose key is not there cannot be told from a changed one, and is shown as it stands.
    pub(super) fn list(
        &mut self,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<(SessionId, Record<()>)>> {
        let (sql, given) = listing::query(filter, after, limit);
        let mut statement = self.conn.prepare(&sql)?;
        let mut rows = statement.query(params_from_iter(given))?;
        let mut listed = Vec::new();
        while let Some(sql_row) = rows.next()? {
            // One that cannot be named cannot be asked for either.
            let Ok(id) = columns::id(sql_row, ID) else { continue };
            match self.reader.listed(sql_row, &id) {
                Ok(record) => listed.push((id, record)),
                Err(Undone::Told(fault)) => {
                    let (provider, tenant, token_id) = columns::of_id(&id);
                    let why = std::error::Error::source(&fault).map(ToString::to_string);
                    tracing::warn!(provider, tenant, token_id, error = why, "damaged");
                    if let Ok(shown) = reader::unreadable(sql_row) {
                        listed.push((id, shown));
                    }
                }
                Err(undone) => return Err(undone),
            }
        }
        Ok(listed)
    }

    /// At most `limit` records that this key seals, of the rows after `after`. In the order of
    /// rows, because that is the index's: a page costs what is in it, however large the file is.
    pub(super) fn sealed_by(&mut self, key: u32, after: i64, limit: usize) -> Result<Page> {
        let sql = format!(
            "SELECT {COLUMNS}, rowid FROM session WHERE key_id = ?1 AND rowid > ?2
             ORDER BY rowid LIMIT ?3"
        );
        let mut statement = self.conn.prepare(&sql)?;
        let mut rows = statement.query(params![key, after, code::of_limit(limit)])?;
        let mut page = Page { records: Vec::new(), rows: 0, last: after };
        while let Some(row) = rows.next()? {
            (page.rows, page.last) = (page.rows + 1, row.get(BESIDE)?);
            let Ok(id) = columns::id(row, ID) else { continue };
            match self.reader.genuine(row, &id) {
                Ok((record, _)) => page.records.push((id, record)),
                Err(Undone::Told(_)) => {}
                Err(undone) => return Err(undone),
            }
        }
        Ok(page)
    }

    /// How many records each key seals.
    pub(super) fn keys(&self) -> Result<Vec<(u32, u64)>> {
        let mut statement = self.conn.prepare(
            "SELECT key_id, count(*) FROM session WHERE key_id IS NOT NULL
             GROUP BY key_id ORDER BY key_id",
        )?;
        let read = |row: &SqlRow<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?));
        let keys = statement.query_map([], read)?;
        keys.map(|key| key.map_err(Undone::from).and_then(|(key, of)| Ok((key, code::count(of)?))))
            .collect()
    }
}
