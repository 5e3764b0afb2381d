//! The tables of an open file: reads and writes of records, by prepared SQL statements. All of it
//! runs on the worker's thread, in the worker's transaction.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, Statement, params, params_from_iter};

use super::Shared;
use super::change_log::ChangeLog;
use super::columns::{self, ID_INDEX, ROWID_INDEX};
use super::free_space::FreeSpace;
use super::list_query;
use super::liveness::ProcessLock;
use super::row_reader::{self, ExistingRow, RowReader};
use super::sqlite_fault::SqliteFault;
use super::statement_error::{Result, StatementError};
use crate::clock::Now;
use crate::key::{ProviderName, SessionId};
use crate::log::{LogLimit, log_session};
use crate::policy::SEALED_BYTES;
use crate::store::encoding::{
    decode_counter, decode_wall_time, encode_boot_time, encode_counter, encode_limit,
    encode_wall_time,
};
use crate::store::record_cipher::SealedCredentials;
use crate::store::session_row::{self, LeaseColumns, id_columns};
use crate::store::session_row::{ALL_COLUMNS, ColumnValue, SessionRow, VALUE_COLUMNS};
use crate::store::{Due, Floor, Record, RecordFilter, StoreError};

/// Writes the columns that a claim changes in an existing row, and no others: SQLite writes an
/// indexed column to its index again even if the value is the same.
const UPDATE_LEASE: &str =
    "UPDATE session SET version = ?2, fence = ?3, tries = ?4, lease_claim = ?5,
    lease_owner = ?6, lease_intent = ?7, lease_from = ?8, lease_until = ?9, lease_holder = ?10,
    lease_boot = ?11, mac = ?12 WHERE rowid = ?1";

const WHERE_ID: &str = "provider = ?1 AND tenant = ?2 AND token_id = ?3";

/// A page of the records that one key seals.
pub(super) struct KeyPage {
    pub(super) records: Vec<(SessionId, Record<SealedCredentials>)>,
    /// How many rows the page has, with those that cannot be read.
    pub(super) rows: usize,
    /// The number of the last row.
    pub(super) last: i64,
}

/// The tables of an open file. SQL statements are prepared once, because to prepare one takes
/// longer than most of them run.
pub(super) struct Database<'c> {
    pub(super) conn: &'c Connection,
    pub(super) free_space: FreeSpace<'c>,
    pub(super) change_log: ChangeLog<'c>,
    pub(super) rows: RowReader<'c>,
    find: Statement<'c>,
    insert: Statement<'c>,
    update: Statement<'c>,
    update_lease: Statement<'c>,
    delete: Statement<'c>,
    read_floor: Statement<'c>,
    raise_floor: Statement<'c>,
}

/// A record, and the row that it was read from.
type FoundRow = (Record<SealedCredentials>, ExistingRow);

impl<'c> Database<'c> {
    pub(super) fn new(
        conn: &'c Connection,
        (process_lock, shared): (&'c ProcessLock, &'c Shared),
        free_space: FreeSpace<'c>,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            conn,
            free_space,
            change_log: ChangeLog::new(conn, process_lock)?,
            rows: RowReader::new(conn, process_lock, shared)?,
            find: conn
                .prepare(&format!("SELECT {ALL_COLUMNS}, rowid FROM session WHERE {WHERE_ID}"))?,
            insert: conn.prepare(&insert_sql())?,
            update: conn.prepare(&update_sql())?,
            update_lease: conn.prepare(UPDATE_LEASE)?,
            delete: conn.prepare(&format!("DELETE FROM session WHERE {WHERE_ID}"))?,
            read_floor: conn.prepare("SELECT version, epoch, generation FROM store")?,
            raise_floor: conn.prepare(
                "UPDATE store SET version = max(version, ?1), epoch = max(epoch, ?2),
                     generation = max(generation, ?3)",
            )?,
        })
    }

    pub(super) fn now(&self) -> Now {
        self.rows.shared.now()
    }

    /// The record of this id, if its row is as a store wrote it.
    pub(super) fn find(&mut self, id: &SessionId) -> Result<Option<FoundRow>> {
        let Self { find, rows, .. } = self;
        let found = find.query_row(id_columns(id), |row| Ok(rows.read_verified(row, id)));
        found.optional()?.transpose()
    }

    /// Writes a record over the existing row, or as a new one.
    pub(super) fn put(
        &mut self,
        id: &SessionId,
        record: &Record<SealedCredentials>,
        existing: Option<&ExistingRow>,
    ) -> Result<()> {
        let record = self.rows.shared.cipher.seal_for_columns(id, record)?;
        let held = record.credentials.as_ref().or(record.outbox.as_ref());
        if held.is_some_and(|sealed| sealed.bytes.len() > SEALED_BYTES) {
            return Err(SqliteFault::TooLarge.into());
        }
        let key_id = match held {
            Some(sealed) => sealed.key_number(),
            None => self.rows.shared.cipher.ring()?.map(|ring| ring.sealing_number()),
        };
        // The last check. From here on a failure rolls the batch back.
        let form = self.rows.holder_table.form_to_write()?;
        let lease_columns = self.lease_columns(&record, existing);
        let extra = session_row::extra(&record);
        let mut row = SessionRow::from_record(
            &record,
            lease_columns.as_ref(),
            (form, key_id),
            extra.as_deref(),
        );
        // After all other columns are set, because the tag covers them.
        let tag = self.rows.tag(id, key_id, &row)?;
        row.mac = tag.as_ref().map(<[u8; _]>::as_slice);
        let (values, (provider, tenant, token_id)) = (row.values().into_iter(), id_columns(id));
        // By its number: to look the row up again takes as long as to write it.
        let done = match existing {
            Some(existing) => {
                let rowid = ColumnValue::Number(Some(existing.rowid));
                self.update.execute(params_from_iter(values.chain([rowid])))
            }
            None => {
                let names = [provider, tenant, token_id].map(|name| ColumnValue::Text(Some(name)));
                self.insert.execute(params_from_iter(values.chain(names)))
            }
        };
        done.map(drop).map_err(StatementError::from)
    }

    /// Writes the columns that a claim changes in an existing row.
    pub(super) fn put_lease(
        &mut self,
        id: &SessionId,
        record: &Record<SealedCredentials>,
        existing: &ExistingRow,
    ) -> Result<()> {
        let lease_columns = self.lease_columns(record, Some(existing));
        // From the row and not from the record: these columns stay as they are, and the tag covers
        // what stands in the file.
        let (form, extra) = ((existing.form, existing.key_id), existing.extra.as_deref());
        let mut row = SessionRow::from_record(record, lease_columns.as_ref(), form, extra);
        let tag = self.rows.tag(id, existing.key_id, &row)?;
        row.mac = tag.as_ref().map(<[u8; _]>::as_slice);
        self.update_lease.execute(params![
            existing.rowid,
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

    /// The columns of the record's lease: those of the existing row if the lease is unchanged, and
    /// otherwise those of a lease that this process holds.
    fn lease_columns(
        &self,
        record: &Record<SealedCredentials>,
        existing: Option<&ExistingRow>,
    ) -> Option<LeaseColumns> {
        let lease = record.lease.as_ref()?;
        match existing {
            Some(existing) if existing.lease.as_ref() == Some(lease) => {
                existing.lease_columns.clone()
            }
            _ => {
                let lock = self.rows.process_lock;
                Some(LeaseColumns {
                    from: encode_boot_time(lease.from),
                    until: encode_boot_time(lease.until),
                    process: Some((lock.name.to_vec(), lock.boot.clone())),
                })
            }
        }
    }

    /// Version, epoch and generation of a row, even of one that cannot be read.
    pub(super) fn counters(&self, id: &SessionId) -> Result<Option<[i64; 3]>> {
        let sql = format!("SELECT version, epoch, generation FROM session WHERE {WHERE_ID}");
        let read = |row: &SqlRow<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?]);
        Ok(self.conn.query_row(&sql, id_columns(id), read).optional()?)
    }

    pub(super) fn remove(&mut self, id: &SessionId) -> Result<()> {
        self.delete.execute(id_columns(id))?;
        Ok(())
    }

    /// The floor that deleted records left.
    pub(super) fn floor(&mut self) -> Result<Floor> {
        self.read_floor.query_row([], |row| Ok(columns::read_counters(row, 0)))?
    }

    /// Raises the floor to this at least.
    pub(super) fn raise_floor(&mut self, floor: Floor) -> Result<()> {
        let Floor { version, epoch, generation } = floor;
        self.raise_floor.execute([version, epoch, generation].map(encode_counter))?;
        Ok(())
    }

    /// A page of due records. No column of a lease is in an index, so that a claim writes to none.
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
                 AND (lease_claim IS NULL OR lease_boot <> ?6 OR lease_until <= ?7
                     OR lease_owner IN (
                         SELECT owner FROM holder WHERE ended AND owner IS NOT NULL))
             ORDER BY due_at, tenant, token_id LIMIT ?8",
        )?;
        let last = encode_wall_time(now.wall.checked_add(within).unwrap_or(now.wall));
        let at = after.map_or(i64::MIN, |due| encode_wall_time(due.at));
        let (_, tenant, token_id) = after.map_or(("", "", ""), |due| id_columns(&due.id));
        let (boot, leased) = (&self.rows.process_lock.boot, encode_boot_time(now.boot));
        let given = params![
            provider.as_str(),
            last,
            at,
            tenant,
            token_id,
            boot,
            leased,
            encode_limit(limit)
        ];
        let mut rows = statement.query(given)?;
        let mut due = Vec::new();
        while let Some(row) = rows.next()? {
            // A row without a valid id cannot be loaded either.
            if let Ok(id) = columns::read_id(row, 1) {
                due.push(Due { at: decode_wall_time(row.get(0)?), id });
            }
        }
        Ok(due)
    }

    /// A page of records, with no secret opened. A row that was altered is listed as lost with
    /// `Unreadable`: it does not hide the others, the caller can find and delete it, and `load`
    /// says what is wrong with it. If the key of a row is missing, the store cannot know whether
    /// the row was altered, and lists it as it stands.
    pub(super) fn list(
        &mut self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<(SessionId, Record<()>)>> {
        let (sql, given) = list_query::query(filter, after, limit);
        let mut statement = self.conn.prepare(&sql)?;
        let mut rows = statement.query(params_from_iter(given))?;
        let mut listed = Vec::new();
        while let Some(sql_row) = rows.next()? {
            // A row without a valid id cannot be loaded or deleted either.
            let Ok(id) = columns::read_id(sql_row, ID_INDEX) else { continue };
            match self.rows.read_listed(sql_row, &id) {
                Ok(record) => listed.push((id, record)),
                Err(StatementError::Rejected(fault)) => {
                    let shown = list_damaged(sql_row, &id, &fault, &self.rows.shared.log_limit);
                    listed.extend(shown.map(|record| (id, record)));
                }
                Err(failed) => return Err(failed),
            }
        }
        Ok(listed)
    }

    /// At most `limit` records that this key seals, of the rows after `after`. In the order of row
    /// numbers, which is the order of the index: a page costs the same however large the file is.
    pub(super) fn sealed_by(&mut self, key: u32, after: i64, limit: usize) -> Result<KeyPage> {
        let sql = format!(
            "SELECT {ALL_COLUMNS}, rowid FROM session WHERE key_id = ?1 AND rowid > ?2
             ORDER BY rowid LIMIT ?3"
        );
        let mut statement = self.conn.prepare(&sql)?;
        let mut rows = statement.query(params![key, after, encode_limit(limit)])?;
        let mut page = KeyPage { records: Vec::new(), rows: 0, last: after };
        while let Some(row) = rows.next()? {
            (page.rows, page.last) = (page.rows + 1, row.get(ROWID_INDEX)?);
            let Ok(id) = columns::read_id(row, ID_INDEX) else { continue };
            match self.rows.read_verified(row, &id) {
                Ok((record, _)) => page.records.push((id, record)),
                Err(StatementError::Rejected(_)) => {}
                Err(failed) => return Err(failed),
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
        keys.map(|key| {
            key.map_err(StatementError::from).and_then(|(key, of)| Ok((key, decode_counter(of)?)))
        })
        .collect()
    }
}

/// Inserts a whole row.
fn insert_sql() -> String {
    let values = vec!["?"; VALUE_COLUMNS.len() + 3].join(", ");
    format!("INSERT INTO session ({ALL_COLUMNS}) VALUES ({values})")
}

/// Replaces all columns of a row but its id.
fn update_sql() -> String {
    let columns = VALUE_COLUMNS.join(" = ?, ");
    format!("UPDATE session SET {columns} = ? WHERE rowid = ?")
}

/// Logs that a row was altered, and gives the record as which it is listed.
fn list_damaged(
    row: &SqlRow<'_>,
    id: &SessionId,
    fault: &StoreError,
    log_limit: &LogLimit,
) -> Option<Record<()>> {
    let why = std::error::Error::source(fault).map(ToString::to_string);
    log_session!(
        log_limit,
        warn,
        id,
        "the session's record is damaged, and is listed as lost",
        cause = why
    );
    row_reader::listed_as_unreadable(row).ok()
}
