//! Reads rows as records, refuses rows that no store wrote, and makes rows of records.

use std::sync::Arc;

use tokio_postgres::Row;

use super::Shared;
use super::postgres_fault::PostgresFault;
use crate::key::{ProviderName, SessionId, SessionKey};
use crate::policy::SEALED_BYTES;
use crate::store::encoding::{decode_boot_time, decode_counter, encode_boot_time};
use crate::store::record_cipher::{ROW_TAG_BYTES, SealFault, SealedColumn, SealedCredentials};
use crate::store::row_fault::RowFault;
use crate::store::session_row::{
    self, LeaseColumns, NEWEST_FORM, ReadColumns, SessionRow, column_kinds, unreadable_record,
};
use crate::store::{Floor, Holder, Lease, Record, StoreError};

/// A record as it was last seen in the database, and what its row has beside it.
#[derive(Debug)]
pub(super) struct KnownRow {
    pub(super) record: Record<SealedCredentials>,
    lease_columns: Option<LeaseColumns>,
    extra: Option<Vec<u8>>,
    key_id: Option<u32>,
    form: i64,
    mac: Option<[u8; ROW_TAG_BYTES]>,
}

impl KnownRow {
    pub(super) fn row(&self) -> SessionRow<'_> {
        let mut row = SessionRow::from_record(
            &self.record,
            self.lease_columns.as_ref(),
            (self.form, self.key_id),
            self.extra.as_deref(),
        );
        row.mac = self.mac.as_ref().map(<[u8; _]>::as_slice);
        row
    }

    /// A row that stands for any.
    #[cfg(test)]
    pub(super) fn of_nothing() -> Self {
        let record = Record::vacant(Floor::default());
        Self {
            record,
            lease_columns: None,
            extra: None,
            key_id: None,
            form: NEWEST_FORM,
            mac: None,
        }
    }
}

impl Shared {
    /// The record of a row whose tag is right. `first` is the place of the first column; the column
    /// behind the last one says whether the holder of the claim has ended.
    pub(super) fn read_verified(
        &self,
        id: &SessionId,
        sql_row: &Row,
        first: usize,
    ) -> Result<KnownRow, StoreError> {
        let row = SessionRow::read(&RowColumns { row: sql_row, first })?;
        // Before any of it is decoded: somebody who can write the tables chooses what is in a row.
        self.tags.lock().check(&self.cipher, id, &row.tag_input(id), row.mac)?;
        let record = self.decode(&row, ended(sql_row, first)?, |column, bytes| {
            Some(SealedCredentials { column, bytes: bytes.into() })
        })?;
        let key_id = row.key_id.map(u32::try_from).transpose().map_err(|_| RowFault::Malformed)?;
        Ok(KnownRow {
            record,
            lease_columns: row.lease_columns()?,
            extra: row.extra.map(<[u8]>::to_vec),
            key_id,
            form: row.form,
            mac: row.mac.and_then(|mac| mac.try_into().ok()),
        })
    }

    /// The record of a row without its credentials. If the row's key is missing, its tag cannot be
    /// checked, and the row is taken as it stands.
    pub(super) fn read_listed(
        &self,
        id: &SessionId,
        sql_row: &Row,
        first: usize,
    ) -> Result<Record<()>, StoreError> {
        let row = SessionRow::read(&RowColumns { row: sql_row, first })?;
        match self.tags.lock().check(&self.cipher, id, &row.tag_input(id), row.mac) {
            Ok(()) | Err(SealFault::KeyMissing(_) | SealFault::NoKeys) => {}
            Err(fault) => return Err(fault.into()),
        }
        self.decode(&row, ended(sql_row, first)?, |_, _| None)
    }

    fn decode<C>(
        &self,
        row: &SessionRow<'_>,
        ended: bool,
        sealed: impl Fn(SealedColumn, &[u8]) -> Option<C>,
    ) -> Result<Record<C>, StoreError> {
        // First: a newer form may give the columns below another meaning.
        row.check_form(NEWEST_FORM)?;
        let times = row.lease_columns()?.map_or((0, 0), |lease| (lease.from, lease.until));
        let times = (decode_boot_time(times.0), decode_boot_time(times.1));
        let holder = if ended { Holder::Dead } else { Holder::Alive };
        let lease: Option<Lease> = row.lease(times, (holder, ended))?;
        Ok(row.decode_record(lease, sealed)?)
    }

    /// Makes the row of a record.
    pub(super) fn prepare_row(
        &self,
        id: &SessionId,
        record: &Record<SealedCredentials>,
    ) -> Result<Arc<KnownRow>, StoreError> {
        let record = self.cipher.seal_for_columns(id, record)?;
        let held = record.credentials.as_ref().or(record.outbox.as_ref());
        if held.is_some_and(|sealed| sealed.bytes.len() > SEALED_BYTES) {
            return Err(PostgresFault::TooLarge.into());
        }
        let key_id = match held {
            Some(sealed) => sealed.key_number(),
            None => self.cipher.ring()?.map(|ring| ring.sealing_number()),
        };
        let lease_columns = record.lease.map(|lease| LeaseColumns {
            from: encode_boot_time(lease.from),
            until: encode_boot_time(lease.until),
            process: None,
        });
        let extra = session_row::extra(&record);
        let (form, mac) = (NEWEST_FORM, None);
        let mut row = KnownRow { record, lease_columns, extra, key_id, form, mac };
        // After all other columns are set, because the tag covers them.
        let input = row.row().tag_input(id);
        row.mac = self.tags.lock().tag(&self.cipher, id, key_id, &input)?;
        Ok(Arc::new(row))
    }
}

/// How many columns a row has, without those of the id.
pub(super) fn columns_of_a_row() -> usize {
    column_kinds().len()
}

/// The record as which an altered row is listed.
pub(super) fn listed_as_unreadable(row: &Row, first: usize) -> Result<Record<()>, StoreError> {
    let [version, epoch, generation] = stored_counters(row, first)?;
    let counter = |number| decode_counter(number).map_err(StoreError::from);
    let (version, epoch, generation) = (counter(version)?, counter(epoch)?, counter(generation)?);
    Ok(unreadable_record(Floor { version, epoch, generation }))
}

/// Version, epoch and generation of a row, even of one that cannot be read.
pub(super) fn stored_counters(row: &Row, first: usize) -> Result<[i64; 3], StoreError> {
    let get = |at| row.try_get::<_, i64>(at).map_err(|_| StoreError::from(RowFault::Malformed));
    Ok([get(first)?, get(first + 1)?, get(first + 2)?])
}

/// The tag of a row, even of one that cannot be read.
pub(super) fn stored_mac(row: &Row, first: usize) -> Option<Vec<u8>> {
    let at = column_kinds().position(|(name, _)| name == "mac")?;
    row.try_get::<_, Option<&[u8]>>(first + at).ok()?.map(<[u8]>::to_vec)
}

/// The id in the three columns from `at` on.
pub(super) fn read_id(row: &Row, at: usize) -> Option<SessionId> {
    let provider = ProviderName::new(row.try_get::<_, &str>(at).ok()?).ok()?;
    read_id_after(row, &provider, at + 1)
}

/// The id of this provider's session in the two columns from `at` on.
pub(super) fn read_id_after(row: &Row, provider: &ProviderName, at: usize) -> Option<SessionId> {
    let text = |at| row.try_get::<_, &str>(at).ok();
    let key = SessionKey::new(text(at)?, text(at + 1)?).ok()?;
    Some(SessionId::new(provider.clone(), key))
}

fn ended(row: &Row, first: usize) -> Result<bool, StoreError> {
    row.try_get(first + columns_of_a_row()).map_err(|_| RowFault::Malformed.into())
}

/// The columns of a row, which begin at `first`.
struct RowColumns<'r> {
    row: &'r Row,
    first: usize,
}

impl<'r> ReadColumns<'r> for RowColumns<'r> {
    type Error = StoreError;

    fn number(&self, at: usize) -> Result<Option<i64>, StoreError> {
        // Only a file has the columns behind.
        if at >= columns_of_a_row() {
            return Ok(None);
        }
        self.row.try_get(self.first + at).map_err(|_| RowFault::Malformed.into())
    }

    fn bytes(&self, at: usize, most: usize) -> Result<Option<&'r [u8]>, StoreError> {
        if at >= columns_of_a_row() {
            return Ok(None);
        }
        let bytes: Option<&[u8]> =
            self.row.try_get(self.first + at).map_err(|_| StoreError::from(RowFault::Malformed))?;
        let fits = bytes.is_none_or(|bytes| bytes.len() <= most);
        if fits { Ok(bytes) } else { Err(RowFault::Malformed.into()) }
    }

    fn text(&self, _: usize, _: usize) -> Result<Option<&'r str>, StoreError> {
        Ok(None)
    }
}
