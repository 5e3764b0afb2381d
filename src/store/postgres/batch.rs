//! The parameters of statements about several rows, and of updates of one row.

use tokio_postgres::types::{ToSql, Type};

use crate::key::SessionId;
use crate::store::session_row::{ColumnKind, ColumnValue, SessionRow, column_kinds};
use crate::store::{Change, Floor};

/// A row to be written.
pub(super) struct RowToWrite<'r> {
    pub(super) id: &'r SessionId,
    /// The row as it must be before an update; `None` for a new row.
    pub(super) former: Option<SessionRow<'r>>,
    pub(super) has_news: bool,
    pub(super) row: SessionRow<'r>,
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
    pub(super) fn of_names(ids: impl Iterator<Item = &'r SessionId> + Clone) -> Self {
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
        let former = |row: &RowToWrite<'r>| row.former.map(|former| former.version);
        batch.0.push(Parameter::Numbers(rows.iter().map(former).collect()));
        let mac = |row: &RowToWrite<'r>| row.former.and_then(|former| former.mac);
        batch.0.push(Parameter::ManyBytes(rows.iter().map(mac).collect()));
        batch.0.push(Parameter::Flags(rows.iter().map(|row| row.has_news).collect()));
        for column in columns {
            batch.push_column(*column, rows);
        }
        let bytes = columns.iter().filter(|column| kind(**column) == Some(ColumnKind::Bytes));
        for column in bytes {
            let kept = rows.iter().map(|row| !row.changes(*column));
            batch.0.push(Parameter::Flags(kept.collect()));
        }
        batch
    }

    /// The parameters of an update of one row. A long value that stays is not sent again.
    pub(super) fn of_update(write: &RowToWrite<'r>) -> Self {
        let id = write.id;
        let names = [id.provider().as_str(), id.key().tenant().as_str(), id.key().token_id()];
        let mut parameters: Vec<_> = names.map(Parameter::Text).into();
        parameters.push(Parameter::Number(write.former.map(|former| former.version)));
        parameters.push(Parameter::Bytes(write.former.and_then(|former| former.mac)));
        let mut row = write.row;
        let keep_sealed = write.former.is_some_and(|former| former.sealed == row.sealed);
        let keep_outbox = write.former.is_some_and(|former| former.outbox == row.outbox);
        row.sealed = row.sealed.filter(|_| !keep_sealed);
        row.outbox = row.outbox.filter(|_| !keep_outbox);
        parameters.extend([write.has_news, keep_sealed, keep_outbox].map(Parameter::Flag));
        let values = row.values().into_iter().take(column_kinds().len());
        parameters.extend(values.map(|value| match value {
            ColumnValue::Number(number) => Parameter::Number(number),
            ColumnValue::Bytes(bytes) => Parameter::Bytes(bytes),
            ColumnValue::Text(_) => Parameter::Bytes(None),
        }));
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
        let values = rows.iter().map(|row| (row, row.row.values().get(column).copied()));
        if kind(column) == Some(ColumnKind::Bytes) {
            let bytes = values.map(|(row, value)| match value {
                Some(ColumnValue::Bytes(bytes)) => bytes.filter(|_| row.changes(column)),
                _ => None,
            });
            self.0.push(Parameter::ManyBytes(bytes.collect()));
        } else {
            let numbers = values.map(|(_, value)| match value {
                Some(ColumnValue::Number(number)) => number,
                _ => None,
            });
            self.0.push(Parameter::Numbers(numbers.collect()));
        }
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

impl RowToWrite<'_> {
    /// Whether the write changes this column. A new row changes all.
    fn changes(&self, column: usize) -> bool {
        self.former
            .is_none_or(|former| former.values().get(column) != self.row.values().get(column))
    }
}

/// The columns that at least one of these updates changes.
pub(super) fn changed_columns(rows: &[RowToWrite<'_>]) -> Vec<usize> {
    let mut changed = vec![false; column_kinds().len()];
    for row in rows {
        let former = row.former.map(|former| former.values());
        for (at, (changed, value)) in changed.iter_mut().zip(row.row.values()).enumerate() {
            *changed |= former.as_ref().and_then(|former| former.get(at)) != Some(&value);
        }
    }
    changed.into_iter().enumerate().filter_map(|(at, changed)| changed.then_some(at)).collect()
}

fn kind(column: usize) -> Option<ColumnKind> {
    column_kinds().nth(column).map(|(_, kind)| kind)
}

fn names<'r>(ids: impl Iterator<Item = &'r SessionId> + Clone) -> Vec<Parameter<'r>> {
    vec![
        Parameter::Texts(ids.clone().map(|id| id.provider().as_str()).collect()),
        Parameter::Texts(ids.clone().map(|id| id.key().tenant().as_str()).collect()),
        Parameter::Texts(ids.map(|id| id.key().token_id()).collect()),
    ]
}
