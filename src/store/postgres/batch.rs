//! The parameters of a statement that writes several rows.

use tokio_postgres::types::{ToSql, Type};

use crate::key::SessionId;
use crate::store::session_row::{ColumnKind, ColumnValue, SessionRow, column_kinds};
use crate::store::{Change, Floor};

/// A row to be written.
pub(super) struct RowToWrite<'r> {
    pub(super) id: &'r SessionId,
    /// The version that the row must have; `None` for a new row.
    pub(super) expected: Option<i64>,
    /// The tag that the row must have.
    pub(super) expected_mac: Option<&'r [u8]>,
    /// Leave the column as it is. Long values are then not sent and not written again.
    pub(super) keep_sealed: bool,
    pub(super) keep_outbox: bool,
    pub(super) has_news: bool,
    pub(super) row: SessionRow<'r>,
}

/// A row to be deleted.
pub(super) struct RowToDelete<'r> {
    pub(super) id: &'r SessionId,
    pub(super) expected: i64,
    pub(super) floor: Floor,
    pub(super) news: Option<Change>,
}

/// The values of one parameter, one for each row of the batch.
enum Column<'r> {
    Texts(Vec<&'r str>),
    Flags(Vec<bool>),
    Numbers(Vec<Option<i64>>),
    Bytes(Vec<Option<&'r [u8]>>),
}

/// All parameters of a batch.
pub(super) struct Batch<'r>(Vec<Column<'r>>);

impl<'r> Batch<'r> {
    /// The parameters of an update or an insert, without the first two.
    pub(super) fn of_writes(rows: &[RowToWrite<'r>]) -> Self {
        let mut columns = names(rows.iter().map(|row| row.id));
        columns.push(Column::Numbers(rows.iter().map(|row| row.expected).collect()));
        columns.push(Column::Bytes(rows.iter().map(|row| row.expected_mac).collect()));
        columns.push(Column::Flags(rows.iter().map(|row| row.keep_sealed).collect()));
        columns.push(Column::Flags(rows.iter().map(|row| row.keep_outbox).collect()));
        columns.push(Column::Flags(rows.iter().map(|row| row.has_news).collect()));
        let first = columns.len();
        columns.extend(column_kinds().map(|(_, kind)| match kind {
            ColumnKind::Count | ColumnKind::Number => {
                Column::Numbers(Vec::with_capacity(rows.len()))
            }
            ColumnKind::Bytes => Column::Bytes(Vec::with_capacity(rows.len())),
        }));
        for write in rows {
            for (column, value) in columns.iter_mut().skip(first).zip(write.row.values()) {
                column.push(value);
            }
        }
        Self(columns)
    }

    /// The parameters of a delete, without the first one.
    pub(super) fn of_deletes(rows: &[RowToDelete<'r>]) -> Self {
        let mut columns = names(rows.iter().map(|row| row.id));
        let mut numbers = |of: &dyn Fn(&RowToDelete<'r>) -> Option<u64>| {
            let number = |row| of(row).map(|count| i64::try_from(count).unwrap_or(i64::MAX));
            columns.push(Column::Numbers(rows.iter().map(number).collect()));
        };
        numbers(&|row| u64::try_from(row.expected).ok());
        numbers(&|row| row.news.map(|news| news.version));
        numbers(&|row| row.news.map(|news| news.epoch));
        numbers(&|row| row.news.map(|news| news.generation));
        columns.push(Column::Flags(rows.iter().map(|row| row.news.is_some()).collect()));
        let mut numbers = |of: &dyn Fn(Floor) -> u64| {
            let number = |row: &RowToDelete<'r>| i64::try_from(of(row.floor)).ok();
            columns.push(Column::Numbers(rows.iter().map(number).collect()));
        };
        numbers(&|floor| floor.version);
        numbers(&|floor| floor.epoch);
        numbers(&|floor| floor.generation);
        Self(columns)
    }

    /// The parameters of a read.
    pub(super) fn of_names(ids: impl Iterator<Item = &'r SessionId> + Clone) -> Self {
        Self(names(ids))
    }

    /// The parameters as the driver takes them, behind `before`.
    pub(super) fn parameters<'p>(
        &'p self,
        before: &[(&'p (dyn ToSql + Sync), Type)],
    ) -> Vec<(&'p (dyn ToSql + Sync), Type)> {
        let mut parameters = before.to_vec();
        parameters.extend(self.0.iter().map(|column| match column {
            Column::Texts(texts) => (texts as &(dyn ToSql + Sync), Type::TEXT_ARRAY),
            Column::Flags(flags) => (flags as _, Type::BOOL_ARRAY),
            Column::Numbers(numbers) => (numbers as _, Type::INT8_ARRAY),
            Column::Bytes(bytes) => (bytes as _, Type::BYTEA_ARRAY),
        }));
        parameters
    }
}

impl<'r> Column<'r> {
    fn push(&mut self, value: ColumnValue<'r>) {
        match (self, value) {
            (Self::Numbers(numbers), ColumnValue::Number(number)) => numbers.push(number),
            (Self::Bytes(of), ColumnValue::Bytes(bytes)) => of.push(bytes),
            // The kinds of the columns come from the same list as the values.
            (Self::Numbers(numbers), _) => numbers.push(None),
            (Self::Bytes(of), _) => of.push(None),
            (Self::Texts(_) | Self::Flags(_), _) => {}
        }
    }
}

fn names<'r>(ids: impl Iterator<Item = &'r SessionId> + Clone) -> Vec<Column<'r>> {
    vec![
        Column::Texts(ids.clone().map(|id| id.provider().as_str()).collect()),
        Column::Texts(ids.clone().map(|id| id.key().tenant().as_str()).collect()),
        Column::Texts(ids.map(|id| id.key().token_id()).collect()),
    ]
}
