//! Removes the records of sessions that ended long ago.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::Shared;
use super::database_clock::DatabaseTime;
use super::pending_write::{Basis, PendingWrite};
use super::postgres_fault::PostgresFault;
use super::row_reader::{columns_of_a_row, read_id};
use crate::store::decide::{Found, Write, decide};
use crate::store::encoding::{decode_wall_time, encode_duration, encode_limit, encode_wall_time};
use crate::store::session_row::id_columns;
use crate::store::{Ended, Floor, News, RemovedEnded, Statement, StoreError};

/// The place of the first column of a record, behind the time.
const FIRST_COLUMN: usize = 1;

impl Shared {
    /// Reads a page of ended sessions, and deletes those that nobody has changed since. Another
    /// replica may do the same: each row is then deleted by one of the two.
    pub(super) async fn remove_ended(
        &self,
        keep: Duration,
        after: Option<&Ended>,
        limit: usize,
    ) -> Result<RemovedEnded, StoreError> {
        let limit = limit.max(1);
        let (rows, now) = self.read_ended(keep, after, limit).await?;
        let page: Vec<_> = rows.iter().filter_map(|row| Some((row, read_ended(row)?))).collect();
        let next = page.last().filter(|_| page.len() == limit).map(|(_, ended)| ended.clone());
        let mut deletes = Vec::new();
        for (row, Ended { id, .. }) in page {
            // A row that cannot be read may be readable with another key ring, so it stays.
            let Ok(known) = self.read_verified(&id, row, FIRST_COLUMN) else { continue };
            let (record, floor) = (Some(known.record.clone()), Floor::default());
            let decision =
                decide(Found { record, floor }, &Statement::RemoveEnded { keep }, now.now());
            let (Write::Remove(_), Some(of)) = (&decision.write, decision.news) else { continue };
            let basis = Basis::of_reading(Arc::new(known));
            deletes.push((PendingWrite::new(self, &id, basis, decision)?, News { id, of }));
        }
        if deletes.is_empty() {
            return Ok(RemovedEnded { removed: Vec::new(), next });
        }
        // On a connection for reads, of which there are several: claims and commits do not wait for it.
        let mut connection = self.connections.get(&self.connections.reads).await?;
        let given: Vec<_> = deletes.iter().map(|(write, news)| (&news.id, write)).collect();
        let written = self.write_rows(&mut connection, None, &given).await;
        drop(connection);
        let mut removed = Vec::new();
        for (place, (write, news)) in deletes.into_iter().enumerate() {
            if written.of(place)? {
                write.done(&self.known, &news.id);
                removed.push(news);
            }
        }
        Ok(RemovedEnded { removed, next })
    }

    async fn read_ended(
        &self,
        keep: Duration,
        after: Option<&Ended>,
        limit: usize,
    ) -> Result<(Vec<Row>, DatabaseTime), PostgresFault> {
        let (keep, limit) = (encode_duration(keep), encode_limit(limit));
        let at = after.map_or(i64::MIN, |ended| encode_wall_time(ended.at));
        let (provider, tenant, token_id) =
            after.map_or(("", "", ""), |ended| id_columns(&ended.id));
        let parameters = [
            (&keep as &(dyn ToSql + Sync), Type::INT8),
            (&at as _, Type::INT8),
            (&provider as _, Type::TEXT),
            (&tenant as _, Type::TEXT),
            (&token_id as _, Type::TEXT),
            (&limit as _, Type::INT8),
        ];
        let rows = self.connections.query(&self.statements.ended, &parameters).await?;
        let head = rows.first().ok_or(PostgresFault::NotMigrated)?;
        let now = DatabaseTime(head.try_get(0)?);
        self.note_time(now);
        Ok((rows, now))
    }
}

/// The session of a row. `None` in the row that has the time only.
fn read_ended(row: &Row) -> Option<Ended> {
    let behind = FIRST_COLUMN + columns_of_a_row() + 1;
    let at: i64 = row.try_get::<_, Option<i64>>(behind + 3).ok()??;
    Some(Ended { at: decode_wall_time(at), id: read_id(row, behind)? })
}
