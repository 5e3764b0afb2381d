//! Reads rows by their names.

use std::sync::Arc;

use tokio_postgres::Row;

use super::Shared;
use super::batch::Batch;
use super::connections::Connection;
use super::database_clock::DatabaseTime;
use super::postgres_fault::PostgresFault;
use super::row_reader::{KnownRow, columns_of_a_row, stored_counters, stored_mac};
use crate::key::SessionId;
use crate::store::{Floor, StoreError};

/// The places of the columns before those of the row.
const FIRST_COLUMN: usize = 5;

/// The rows that one statement read, all in one state of the database.
pub(super) struct ReadRows {
    pub(super) at: DatabaseTime,
    pub(super) floor: Floor,
    /// In the order in which they were asked for; `None` if there is no such row.
    rows: Vec<Option<Result<Arc<KnownRow>, UnreadableRow>>>,
}

/// A row that no store wrote as it is now, or whose key is missing.
pub(super) struct UnreadableRow {
    pub(super) error: StoreError,
    /// Version, epoch and generation, if they are numbers.
    pub(super) counters: Option<[i64; 3]>,
    /// The tag as it stands in the row.
    pub(super) mac: Option<Vec<u8>>,
}

impl ReadRows {
    /// Takes the row that was asked for at this place.
    pub(super) fn take(&mut self, place: usize) -> Option<Result<Arc<KnownRow>, UnreadableRow>> {
        self.rows.get_mut(place).and_then(Option::take)
    }

    /// Whether there is a row at this place.
    pub(super) fn has(&self, place: usize) -> bool {
        self.rows.get(place).is_some_and(Option::is_some)
    }

    /// All rows, in the order in which they were asked for.
    pub(super) fn into_rows(
        self,
    ) -> impl Iterator<Item = Option<Result<Arc<KnownRow>, UnreadableRow>>> {
        self.rows.into_iter()
    }
}

impl Shared {
    /// Reads these rows. Asks for nothing if there are none.
    pub(super) async fn read_rows(
        &self,
        connection: &mut Connection,
        ids: &[&SessionId],
    ) -> Result<ReadRows, PostgresFault> {
        if ids.is_empty() {
            return Ok(ReadRows { at: DatabaseTime(0), floor: Floor::default(), rows: Vec::new() });
        }
        let batch = Batch::of_names(ids.iter().copied());
        let before = self.failover.position();
        let found = connection.query(&self.statements.load, &batch.parameters(&[])).await?;
        let head = found.first().ok_or(PostgresFault::NotMigrated)?;
        let at = DatabaseTime(head.try_get(0)?);
        self.note_time(at);
        self.note_wal(before, head.try_get(1)?);
        let counter = |at| Ok::<_, PostgresFault>(u64::try_from(head.try_get::<_, i64>(at)?));
        let floor = Floor {
            version: counter(2)?.unwrap_or(0),
            epoch: counter(3)?.unwrap_or(0),
            generation: counter(4)?.unwrap_or(0),
        };
        let mut rows: Vec<_> = ids.iter().map(|_| None).collect();
        for row in &found {
            let place: Option<i32> = row.try_get(FIRST_COLUMN + columns_of_a_row() + 1)?;
            let place = place.and_then(|place| usize::try_from(place - 1).ok());
            let Some(place) = place else { continue };
            if let (Some(slot), Some(id)) = (rows.get_mut(place), ids.get(place)) {
                *slot = Some(self.read_row(id, row));
            }
        }
        Ok(ReadRows { at, floor, rows })
    }

    fn read_row(&self, id: &SessionId, row: &Row) -> Result<Arc<KnownRow>, UnreadableRow> {
        self.read_verified(id, row, FIRST_COLUMN).map(Arc::new).map_err(|error| UnreadableRow {
            error,
            counters: stored_counters(row, FIRST_COLUMN).ok(),
            mac: stored_mac(row, FIRST_COLUMN),
        })
    }
}
