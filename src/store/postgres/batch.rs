//! The parameters of statements about several rows, and of updates of one row.

use tokio_postgres::types::{ToSql, Type};

use crate::key::SessionId;
use crate::store::session_row::{
    ColumnKind, ColumnValue, RowValues, SessionRow, column_kinds, id_columns,
};
use crate::store::{Change, Floor};

/// A row to be written.
pub(super) struct RowToWrite<'r> {
    pub(super) id: &'r SessionId,
    pub(super) has_news: bool,
    /// The version and the tag that the row must have; `None` for a new row.
    expected: Option<i64>,
    expected_mac: Option<&'r [u8]>,
    values: RowValues<'r>,
    /// The values before an update.
    former: Option<RowValues<'r>>,
}

/// A row to be deleted.
pub(super) struct RowToDelete<'r> {
    pub(super) id: &'r SessionId,
    pub(super) expected: i64,
    pub(super) expected_mac: Option<&'r [u8]>,
    pub(super) floor: Floor,
    pub(super) news: Option<Change>,
}

/// A parameter: one value, or one for each row.
enum Parameter<'r> {
    Text(&'r str),
    Flag(bool),
    Number(Option<i64>),
    Bytes(Option<&'r [u8]>),
    Texts(Vec<&'r str>),
    Flags(Vec<bool>),
    Numbers(Vec<Option<i64>>),
    ManyBytes(Vec<Option<&'r [u8]>>),
}

/// All parameters of a statement but the first ones.
pub(super) struct Batch<'r>(Vec<Parameter<'r>>);

impl<'r> Batch<'r> {
    /// The names, and nothing more.
    pub(super) fn of_names(ids: impl Iterator<Item = &'r SessionId>) -> Self {
        Self(names(ids))
    }

    /// The parameters of an insert.
    pub(super) fn of_inserts(rows: &[RowToWrite<'r>]) -> Self {
        let mut batch = Self(names(rows.iter().map(|row| row.id)));
        batch.0.push(Parameter::Flags(rows.iter().map(|row| row.has_news).collect()));
        for column in 0..column_kinds().len() {
            batch.push_column(column, rows);
        }
        batch
    }

    /// The parameters of an update of several rows, of these columns. A long value that stays is not
    /// sent again: a flag says that it stays.
    pub(super) fn of_updates(rows: &[RowToWrite<'r>], columns: &[usize]) -> Self {
        let mut batch = Self(names(rows.iter().map(|row| row.id)));
        batch.0.push(Parameter::Numbers(rows.iter().map(|row| row.expected).collect()));
        batch.0.push(Parameter::ManyBytes(rows.iter().map(|row| row.expected_mac).collect()));
        batch.0.push(Parameter::Flags(rows.iter().map(|row| row.has_news).collect()));
        for column in columns {
            batch.push_column(*column, rows);
        }
        for column in columns.iter().filter(|column| is_bytes(**column)) {
            let kept = rows.iter().map(|row| !row.changes(*column));
            batch.0.push(Parameter::Flags(kept.collect()));
        }
        batch
    }

    /// The parameters of an update of one row: its numbers as one array, its bytes as another, and
    /// for each column of bytes whether it stays. A long value that stays is not sent again.
    pub(super) fn of_update(row: &RowToWrite<'r>) -> Self {
        let (provider, tenant, token_id) = id_columns(row.id);
        let mut parameters: Vec<_> = [provider, tenant, token_id].map(Parameter::Text).into();
        parameters.push(Parameter::Number(row.expected));
        parameters.push(Parameter::Bytes(row.expected_mac));
        parameters.push(Parameter::Flag(row.has_news));
        let (bytes, numbers): (Vec<_>, Vec<_>) =
            (0..column_kinds().len()).partition(|column| is_bytes(*column));
        let number = |column: &usize| row.changed(*column).number();
        parameters.push(Parameter::Numbers(numbers.iter().map(number).collect()));
        let value = |column: &usize| row.changed(*column).bytes();
        parameters.push(Parameter::ManyBytes(bytes.iter().map(value).collect()));
        let kept = |column: &usize| !row.changes(*column);
        parameters.push(Parameter::Flags(bytes.iter().map(kept).collect()));
        Self(parameters)
    }

    /// The parameters of a delete.
    pub(super) fn of_deletes(rows: &[RowToDelete<'r>]) -> Self {
        let mut batch = Self(names(rows.iter().map(|row| row.id)));
        batch.0.push(Parameter::Numbers(rows.iter().map(|row| Some(row.expected)).collect()));
        let mut numbers = |of: &dyn Fn(&RowToDelete<'r>) -> Option<u64>| {
            let number = |row| of(row).map(|count| i64::try_from(count).unwrap_or(i64::MAX));
            batch.0.push(Parameter::Numbers(rows.iter().map(number).collect()));
        };
        numbers(&|row| row.news.map(|news| news.version));
        numbers(&|row| row.news.map(|news| news.epoch));
        numbers(&|row| row.news.map(|news| news.generation));
        numbers(&|row| Some(row.floor.version));
        numbers(&|row| Some(row.floor.epoch));
        numbers(&|row| Some(row.floor.generation));
        batch.0.push(Parameter::ManyBytes(rows.iter().map(|row| row.expected_mac).collect()));
        batch
    }

    fn push_column(&mut self, column: usize, rows: &[RowToWrite<'r>]) {
        let values = rows.iter().map(|row| row.changed(column));
        self.0.push(if is_bytes(column) {
            Parameter::ManyBytes(values.map(ColumnValue::bytes).collect())
        } else {
            Parameter::Numbers(values.map(ColumnValue::number).collect())
        });
    }

    /// The parameters as the driver takes them, behind `before`.
    pub(super) fn parameters<'p>(
        &'p self,
        before: &[(&'p (dyn ToSql + Sync), Type)],
    ) -> Vec<(&'p (dyn ToSql + Sync), Type)> {
        let mut parameters = before.to_vec();
        parameters.extend(self.0.iter().map(|parameter| match parameter {
            Parameter::Text(text) => (text as &(dyn ToSql + Sync), Type::TEXT),
            Parameter::Flag(flag) => (flag as _, Type::BOOL),
            Parameter::Number(number) => (number as _, Type::INT8),
            Parameter::Bytes(bytes) => (bytes as _, Type::BYTEA),
            Parameter::Texts(texts) => (texts as _, Type::TEXT_ARRAY),
            Parameter::Flags(flags) => (flags as _, Type::BOOL_ARRAY),
            Parameter::Numbers(numbers) => (numbers as _, Type::INT8_ARRAY),
            Parameter::ManyBytes(bytes) => (bytes as _, Type::BYTEA_ARRAY),
        }));
        parameters
    }
}

impl<'r> RowToWrite<'r> {
    /// The write of this row over the former one; of a new row if there is none.
    pub(super) fn new(
        id: &'r SessionId,
        former: Option<SessionRow<'r>>,
        row: SessionRow<'r>,
        has_news: bool,
    ) -> Self {
        Self {
            id,
            has_news,
            expected: former.map(|former| former.version),
            expected_mac: former.and_then(|former| former.mac),
            values: row.values(),
            former: former.map(|former| former.values()),
        }
    }

    /// Whether the write changes this column. A new row changes all.
    fn changes(&self, column: usize) -> bool {
        self.former.is_none_or(|former| former.get(column) != self.values.get(column))
    }

    /// The value of this column. Of bytes that stay, nothing.
    fn changed(&self, column: usize) -> ColumnValue<'r> {
        let value = self.values.get(column).copied().unwrap_or(ColumnValue::Number(None));
        if is_bytes(column) && !self.changes(column) { ColumnValue::Bytes(None) } else { value }
    }
}

/// The columns that at least one of these updates changes.
pub(super) fn changed_columns(rows: &[RowToWrite<'_>]) -> Vec<usize> {
    let columns = 0..column_kinds().len();
    columns.filter(|column| rows.iter().any(|row| row.changes(*column))).collect()
}

fn is_bytes(column: usize) -> bool {
    column_kinds().nth(column).is_some_and(|(_, kind)| kind == ColumnKind::Bytes)
}

fn names<'r>(ids: impl Iterator<Item = &'r SessionId>) -> Vec<Parameter<'r>> {
    let (mut providers, mut tenants, mut token_ids) = (Vec::new(), Vec::new(), Vec::new());
    for (provider, tenant, token_id) in ids.map(id_columns) {
        providers.push(provider);
        tenants.push(tenant);
        token_ids.push(token_id);
    }
    [providers, tenants, token_ids].map(Parameter::Texts).into()
}
