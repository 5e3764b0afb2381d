//! Reads rows as records, and refuses rows that no store wrote.

use rusqlite::{Connection, Row as SqlRow};

use super::Shared;
use super::columns::{self, ROWID_INDEX, SqlColumns};
use super::holder_table::HolderTable;
use super::liveness::ProcessLock;
use super::statement_error::{Result, StatementError};
use crate::clock::BootTime;
use crate::key::SessionId;
use crate::store::encoding::decode_boot_time;
use crate::store::record_cipher::{ROW_TAG_BYTES, RowTags, SealFault, SealedCredentials};
use crate::store::session_row::{LeaseColumns, SessionRow, unreadable_record};
use crate::store::{Holder, Lease, Record};

/// What a later write needs of a row beside its record.
pub(super) struct ExistingRow {
    /// The row's number.
    pub(super) rowid: i64,
    /// The lease of the record. If the record still has it, its columns stay as they are.
    pub(super) lease: Option<Lease>,
    pub(super) lease_columns: Option<LeaseColumns>,
    pub(super) form: i64,
    pub(super) key_id: Option<u32>,
    /// The column `extra`, for a write that leaves it alone.
    pub(super) extra: Option<Vec<u8>>,
}

/// Reads rows: checks their tags and finds out which holders of leases live.
pub(super) struct RowReader<'c> {
    pub(super) shared: &'c Shared,
    pub(super) process_lock: &'c ProcessLock,
    pub(super) holder_table: HolderTable<'c>,
    tags: RowTags,
}

impl<'c> RowReader<'c> {
    pub(super) fn new(
        conn: &'c Connection,
        process_lock: &'c ProcessLock,
        shared: &'c Shared,
    ) -> rusqlite::Result<Self> {
        let holder_table = HolderTable::new(conn, process_lock, shared.form)?;
        Ok(Self { shared, process_lock, holder_table, tags: RowTags::default() })
    }

    /// The tag over a row, made with this key if the ring has it.
    pub(super) fn tag(
        &mut self,
        id: &SessionId,
        key_id: Option<u32>,
        row: &SessionRow<'_>,
    ) -> Result<Option<[u8; ROW_TAG_BYTES]>> {
        Ok(self.tags.tag(&self.shared.cipher, id, key_id, &row.tag_input(id))?)
    }

    /// The record of a row whose tag is right.
    pub(super) fn read_verified(
        &mut self,
        sql_row: &SqlRow<'_>,
        id: &SessionId,
    ) -> Result<(Record<SealedCredentials>, ExistingRow)> {
        let row = SessionRow::read(&SqlColumns(sql_row))?;
        // Before any of it is decoded: somebody who can write the file chooses what stands in a
        // row.
        self.tags.check(&self.shared.cipher, id, &row.tag_input(id), row.mac)?;
        let (lease_columns, lease) = self.lease(&row)?;
        let record = row.decode_record(lease, |column, bytes| {
            Some(SealedCredentials { column, bytes: bytes.into() })
        })?;
        let key_id =
            row.key_id.map(u32::try_from).transpose().map_err(|_| StatementError::malformed())?;
        let rowid = sql_row.get(ROWID_INDEX)?;
        let extra = row.extra.map(<[u8]>::to_vec);
        Ok((record, ExistingRow { rowid, lease, lease_columns, form: row.form, key_id, extra }))
    }

    /// The record of a row without its credentials. If the row's key is missing, its tag cannot be
    /// checked, and the row is taken as it stands.
    pub(super) fn read_listed(
        &mut self,
        sql_row: &SqlRow<'_>,
        id: &SessionId,
    ) -> Result<Record<()>> {
        let row = SessionRow::read(&SqlColumns(sql_row))?;
        match self.tags.check(&self.shared.cipher, id, &row.tag_input(id), row.mac) {
            Ok(()) | Err(SealFault::KeyMissing(_) | SealFault::NoKeys) => {}
            Err(fault) => return Err(fault.into()),
        }
        let (_, lease) = self.lease(&row)?;
        Ok(row.decode_record(lease, |_, _| None)?)
    }

    /// The columns of a row's lease, and the lease as it is now. The holder is dead if its process
    /// or its supervisor has ended, or if the machine was started since; the lease's times then
    /// mean nothing.
    fn lease(&mut self, row: &SessionRow<'_>) -> Result<(Option<LeaseColumns>, Option<Lease>)> {
        // First: a newer form may give the columns below another meaning.
        row.check_form(self.shared.form)?;
        let lease_columns = row.lease_columns()?;
        let mut times = (BootTime::default(), BootTime::default());
        let (mut state, mut ended) = (Holder::Alive, false);
        if let (Some(lease_columns), Some(owner)) = (&lease_columns, row.lease_owner) {
            let process = lease_columns.process.as_ref();
            let (holder, boot) = process.ok_or_else(StatementError::malformed)?;
            let this_boot = *boot == self.process_lock.boot;
            if this_boot {
                times =
                    (decode_boot_time(lease_columns.from), decode_boot_time(lease_columns.until));
            }
            ended = self.holder_table.has_ended(owner)?;
            if ended || !this_boot || self.process_lock.is_dead(holder, boot) {
                state = Holder::Dead;
            }
        }
        let lease = row.lease(times, (state, ended))?;
        Ok((lease_columns, lease))
    }
}

/// The record as which an altered row is listed.
pub(super) fn listed_as_unreadable(row: &SqlRow<'_>) -> Result<Record<()>> {
    Ok(unreadable_record(columns::read_counters(row, 0)?))
}
