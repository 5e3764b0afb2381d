//! How the columns of the table `session` are read and written by SQLite.

use rusqlite::types::ToSqlOutput;
use rusqlite::{Row as SqlRow, ToSql};

use super::statement_error::{Result, StatementError};
use crate::key::{ProviderName, SessionId, SessionKey};
use crate::store::Floor;
use crate::store::encoding::decode_counter;
use crate::store::session_row::{ColumnValue, ReadColumns, VALUE_COLUMNS};

/// The index of the id's first column in [`ALL_COLUMNS`](crate::store::session_row::ALL_COLUMNS).
pub(super) const ID_INDEX: usize = VALUE_COLUMNS.len();

/// The index of `rowid` in a query that asks for it after all columns.
pub(super) const ROWID_INDEX: usize = ID_INDEX + 3;

/// The columns of a row of a query of [`ALL_COLUMNS`](crate::store::session_row::ALL_COLUMNS).
pub(super) struct SqlColumns<'r, 's>(pub(super) &'r SqlRow<'s>);

impl<'r> ReadColumns<'r> for SqlColumns<'r, '_> {
    type Error = StatementError;

    fn number(&self, at: usize) -> Result<Option<i64>> {
        Ok(self.0.get(at)?)
    }

    fn bytes(&self, at: usize, most: usize) -> Result<Option<&'r [u8]>> {
        let bytes =
            self.0.get_ref(at)?.as_blob_or_null().map_err(|_| StatementError::malformed())?;
        let fits = bytes.is_none_or(|bytes| bytes.len() <= most);
        if fits { Ok(bytes) } else { Err(StatementError::malformed()) }
    }

    fn text(&self, at: usize, most: usize) -> Result<Option<&'r str>> {
        let text = self.0.get_ref(at)?.as_str_or_null().map_err(|_| StatementError::malformed())?;
        let fits = text.is_none_or(|text| text.len() <= most);
        if fits { Ok(text) } else { Err(StatementError::malformed()) }
    }
}

impl ToSql for ColumnValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Number(number) => number.to_sql(),
            Self::Bytes(bytes) => bytes.to_sql(),
            Self::Text(text) => text.to_sql(),
        }
    }
}

/// The id in the three columns from `at` on.
pub(super) fn read_id(row: &SqlRow<'_>, at: usize) -> Result<SessionId> {
    let text = |at| row.get::<_, String>(at);
    let provider = ProviderName::new(text(at)?).map_err(|_| StatementError::malformed())?;
    let key =
        SessionKey::new(text(at + 1)?, text(at + 2)?).map_err(|_| StatementError::malformed())?;
    Ok(SessionId::new(provider, key))
}

/// The three counters in the columns from `at` on.
pub(super) fn read_counters(row: &SqlRow<'_>, at: usize) -> Result<Floor> {
    let counter = |at| Ok::<_, StatementError>(decode_counter(row.get(at)?)?);
    Ok(Floor { version: counter(at)?, epoch: counter(at + 1)?, generation: counter(at + 2)? })
}
