//! Removes the records of sessions that ended long ago.

use std::time::Duration;

use rusqlite::params;

use super::apply;
use super::columns;
use super::database::Database;
use super::statement_error::{Result, StatementError};
use super::worker_handle::WorkerHandle;
use super::worker_job::JobKind;
use crate::store::encoding::{decode_wall_time, encode_limit, encode_wall_time};
use crate::store::session_row::id_columns;
use crate::store::{Change, Ended, News, Outcome, RemovedEnded, Statement, StoreError};

/// How many records one job removes. Defaults to 16: other jobs run in between, so a caller waits
/// for no more than these.
const REMOVED_AT_ONCE: usize = 16;

/// Removes at most `limit` records, in several jobs.
pub(super) async fn remove(
    worker: &WorkerHandle,
    keep: Duration,
    after: Option<&Ended>,
    limit: usize,
) -> std::result::Result<RemovedEnded, StoreError> {
    let (mut after, mut removed, mut left) = (after.cloned(), Vec::new(), limit.max(1));
    while left > 0 {
        let count = left.min(REMOVED_AT_ONCE);
        let from = after.clone();
        let read = move |db: &mut Database<'_>| page(db, keep, from.as_ref(), count);
        let ended = worker.call(JobKind::Read, read).await?;
        let is_last = ended.len() < count;
        after = ended.last().cloned();
        let remove = move |db: &mut Database<'_>| remove_all(db, keep, &ended);
        if after.is_some() {
            removed.extend(worker.call(JobKind::Claim, remove).await?);
        }
        if is_last {
            return Ok(RemovedEnded { removed, next: None });
        }
        left -= count;
    }
    Ok(RemovedEnded { removed, next: after })
}

/// The sessions that ended at least `keep` ago, after `after`.
fn page(
    db: &Database<'_>,
    keep: Duration,
    after: Option<&Ended>,
    limit: usize,
) -> Result<Vec<Ended>> {
    let Some(last) = db.now().wall.checked_sub(keep) else { return Ok(Vec::new()) };
    let mut statement = db.conn.prepare(
        "SELECT ended_at, provider, tenant, token_id FROM session
         WHERE ended_at <= ?1 AND (ended_at, provider, tenant, token_id) > (?2, ?3, ?4, ?5)
         ORDER BY ended_at, provider, tenant, token_id LIMIT ?6",
    )?;
    let at = after.map_or(i64::MIN, |ended| encode_wall_time(ended.at));
    let (provider, tenant, token_id) = after.map_or(("", "", ""), |ended| id_columns(&ended.id));
    let last = encode_wall_time(last);
    let given = params![last, at, provider, tenant, token_id, encode_limit(limit)];
    let mut rows = statement.query(given)?;
    let mut ended = Vec::new();
    while let Some(row) = rows.next()? {
        let at = decode_wall_time(row.get(0)?);
        ended.push(Ended { at, id: columns::read_id(row, 1)? });
    }
    Ok(ended)
}

fn remove_all(db: &mut Database<'_>, keep: Duration, page: &[Ended]) -> Result<Vec<News>> {
    // No caller waits for the names to be gone, and to empty SQLite's log after each page would make
    // callers wait for the disk. SQLite overwrites the names when its log has grown.
    let deleted_names = db.change_log.take_deleted_names();
    let mut removed = Vec::new();
    for Ended { id, .. } in page {
        match apply::apply(db, id, &Statement::RemoveEnded { keep }) {
            Ok(Outcome::Done(done)) => {
                let (epoch, generation) = (done.epoch, done.generation);
                let of = Change { version: done.version, epoch, generation, phase: None };
                removed.push(News { id: id.clone(), of });
            }
            // A record that is claimed again, or that cannot be read.
            Ok(_) | Err(StatementError::Rejected(_)) => {}
            Err(failed) => return Err(failed),
        }
    }
    db.change_log.restore_deleted_names(deleted_names);
    Ok(removed)
}
