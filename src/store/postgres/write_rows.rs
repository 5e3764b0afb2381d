//! Writes rows: one SQL statement for each kind of write.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::Shared;
use super::batch::{Batch, RowToDelete, RowToWrite, changed_columns};
use super::connections::Connection;
use super::database_clock::DatabaseTime;
use super::pending_write::{PendingWrite, WriteKind};
use super::postgres_fault::PostgresFault;
use super::update_sql::update_sql;
use super::wal_position::WalPosition;
use crate::key::SessionId;
use crate::store::Floor;
use crate::store::encoding::encode_counter;

/// Which writes of a turn were done, in their order.
pub(super) struct Written(Vec<Result<bool, PostgresFault>>);

impl Written {
    /// Whether the write at this place was done. It was not if the row had changed.
    pub(super) fn of(&self, place: usize) -> Result<bool, PostgresFault> {
        self.0.get(place).cloned().unwrap_or(Ok(false))
    }
}

impl Shared {
    /// Writes these, with one statement for each kind. `wal` is the position that the database's log
    /// of writes must still have, if that matters.
    pub(super) async fn write_rows(
        &self,
        connection: &mut Connection,
        wal: Option<WalPosition>,
        writes: &[(&SessionId, &PendingWrite)],
    ) -> Written {
        let (mut updates, mut inserts, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
        let (mut at, mut floor) = (DatabaseTime(0), None);
        for (place, (id, write)) in writes.iter().enumerate() {
            match &write.kind {
                WriteKind::Update { at: decided_at, .. } => {
                    at = at.max(*decided_at);
                    updates.extend(write.kind.row_to_write(id).map(|row| (place, row)));
                }
                // Those above another floor are decided again, as if the floor had just risen.
                WriteKind::Insert { floor: above, .. } => {
                    if *floor.get_or_insert(*above) == *above {
                        inserts.extend(write.kind.row_to_write(id).map(|row| (place, row)));
                    }
                }
                WriteKind::Delete { .. } => {
                    deletes.extend(write.kind.row_to_delete(id).map(|row| (place, row)));
                }
            }
        }
        // In the order of the names, so that two inserts of the same names wait for each other in
        // the same order.
        updates.sort_by(|a, b| a.1.id.cmp(b.1.id));
        inserts.sort_by(|a, b| a.1.id.cmp(b.1.id));
        let (updates, inserts) = (Places::of(updates), Places::of(inserts));
        let deletes = Places::of(deletes);
        let wal = wal.map_or_else(Vec::new, |wal| vec![wal.timeline, wal.flushed]);
        let mut written = vec![Ok(false); writes.len()];
        updates.note(self.update(connection, (at, &wal), &updates.rows).await, &mut written);
        let above = (floor.unwrap_or_default(), &wal);
        inserts.note(self.insert(connection, above, &inserts.rows).await, &mut written);
        deletes.note(self.delete(connection, &deletes.rows).await, &mut written);
        Written(written)
    }

    async fn update(
        &self,
        connection: &mut Connection,
        (at, wal): (DatabaseTime, &Vec<i64>),
        rows: &[RowToWrite<'_>],
    ) -> Result<Vec<i32>, PostgresFault> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let before = [
            (&at.0 as _, Type::INT8),
            (&self.maker as _, Type::INT8),
            (wal as _, Type::INT8_ARRAY),
        ];
        if let [row] = rows {
            let batch = Batch::of_update(row);
            let answer =
                connection.query(&self.statements.write, &batch.parameters(&before)).await?;
            let written = answer.first().map(|row| row.try_get(0)).transpose()?.flatten();
            let written = written.map(|at| self.note_time(DatabaseTime(at)));
            return Ok(written.map(|()| 1).into_iter().collect());
        }
        let columns = changed_columns(rows);
        let has_news = rows.iter().any(|row| row.has_news);
        let sql = update_sql(&self.names, &columns, has_news);
        let batch = Batch::of_updates(rows, &columns);
        let answer = connection.query(&sql, &batch.parameters(&before)).await?;
        self.places(&answer)
    }

    async fn insert(
        &self,
        connection: &mut Connection,
        (floor, wal): (Floor, &Vec<i64>),
        rows: &[RowToWrite<'_>],
    ) -> Result<Vec<i32>, PostgresFault> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let batch = Batch::of_inserts(rows);
        let floor = [floor.version, floor.epoch, floor.generation].map(encode_counter).to_vec();
        let before = [
            (&floor as _, Type::INT8_ARRAY),
            (&self.maker as _, Type::INT8),
            (wal as _, Type::INT8_ARRAY),
        ];
        let answer = connection.query(&self.statements.insert, &batch.parameters(&before)).await?;
        self.places(&answer)
    }

    async fn delete(
        &self,
        connection: &mut Connection,
        rows: &[RowToDelete<'_>],
    ) -> Result<Vec<i32>, PostgresFault> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let batch = Batch::of_deletes(rows);
        let before = [(&self.maker as _, Type::INT8)];
        let answer = connection.query(&self.statements.delete, &batch.parameters(&before)).await?;
        self.places(&answer)
    }

    /// The places of the rows that were written, from the only row of the answer. It is one row so
    /// that the server never waits for a reader that has stopped while it holds locks.
    fn places(&self, answer: &[Row]) -> Result<Vec<i32>, PostgresFault> {
        let Some(row) = answer.first() else { return Ok(Vec::new()) };
        self.note_time(DatabaseTime(row.try_get(1)?));
        Ok(row.try_get::<_, Option<Vec<i32>>>(0)?.unwrap_or_default())
    }
}

/// The rows of one statement, and their places in the turn.
struct Places<R> {
    rows: Vec<R>,
    places: Vec<usize>,
}

impl<R> Places<R> {
    fn of(rows: Vec<(usize, R)>) -> Self {
        let (places, rows) = rows.into_iter().unzip();
        Self { rows, places }
    }

    fn note(
        &self,
        answer: Result<Vec<i32>, PostgresFault>,
        written: &mut [Result<bool, PostgresFault>],
    ) {
        match answer {
            Ok(done) => {
                for place in done {
                    let place = usize::try_from(place - 1).ok();
                    let place = place.and_then(|place| self.places.get(place));
                    if let Some(written) = place.and_then(|place| written.get_mut(*place)) {
                        *written = Ok(true);
                    }
                }
            }
            Err(fault) => {
                for place in &self.places {
                    if let Some(written) = written.get_mut(*place) {
                        *written = Err(fault.clone());
                    }
                }
            }
        }
    }
}
