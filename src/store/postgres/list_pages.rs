//! Pages of records: for lists, and to encrypt records again.

use std::error::Error as _;
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::Shared;
use super::database_clock::DatabaseTime;
use super::pending_write::{Basis, PendingWrite};
use super::postgres_fault::PostgresFault;
use super::row_reader::{KnownRow, columns_of_a_row, listed_as_unreadable, read_id};
use super::statements::Statements;
use crate::key::SessionId;
use crate::log::log_session;
use crate::store::decide::{Decision, Write};
use crate::store::encoding::{encode_limit, encode_phase};
use crate::store::resealing::credentials_anew;
use crate::store::session_row::id_columns;
use crate::store::{Done, Listed, Outcome, Record, RecordFilter, StoreError, Stored};

/// A value of a condition.
enum Bound {
    Text(String),
    Number(i64),
}

/// A page of the records that one key seals.
pub(super) struct ResealPage {
    /// How many rows the page has, with those that cannot be read.
    pub(super) rows: usize,
    pub(super) done: usize,
    /// The last row that was seen.
    pub(super) last: Option<SessionId>,
}

impl Shared {
    /// A page of records, with no secret opened. A row that was altered is listed as lost with
    /// `Unreadable`: it does not hide the others, and the caller can find and delete it.
    pub(super) async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let (conditions, bounds) = conditions(filter, after);
        let sql = Statements::list(&self.names, &conditions, bounds.len() + 1);
        let limit = encode_limit(limit);
        let mut parameters: Vec<_> = bounds.iter().map(Bound::parameter).collect();
        parameters.push((&limit as _, Type::INT8));
        let rows = self.connections.query(&sql, &parameters).await?;
        Ok(rows.iter().filter_map(|row| self.listed(row)).collect())
    }

    fn listed(&self, row: &Row) -> Option<Listed> {
        let behind = columns_of_a_row() + 1;
        // A row without a valid id cannot be loaded or deleted either.
        let id = read_id(row, behind)?;
        let now = DatabaseTime(row.try_get(behind + 3).ok()?).now();
        let record = match self.read_listed(&id, row, 0) {
            Ok(record) => record,
            Err(fault) => {
                log_session!(
                    self.log_limit,
                    warn,
                    &id,
                    "the session's record is damaged, and is listed as lost",
                    cause = fault.source().map(ToString::to_string)
                );
                listed_as_unreadable(row, 0).ok()?
            }
        };
        Some(Listed { id, stored: Stored { record, now } })
    }

    /// Reads a page of the records that this key seals, and encrypts them with the sealing key.
    pub(super) async fn reseal_page(
        &self,
        key: u32,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<ResealPage, StoreError> {
        let (key, limit) = (i64::from(key), encode_limit(limit));
        let (provider, tenant, token_id) = after.map_or(("", "", ""), id_columns);
        let parameters = [
            (&key as &(dyn ToSql + Sync), Type::INT8),
            (&provider as _, Type::TEXT),
            (&tenant as _, Type::TEXT),
            (&token_id as _, Type::TEXT),
            (&limit as _, Type::INT8),
        ];
        let rows = self.connections.query(&self.statements.sealed_by, &parameters).await?;
        let ids: Vec<_> = rows.iter().map(|row| read_id(row, columns_of_a_row() + 1)).collect();
        let mut writes = Vec::new();
        for (row, id) in rows.iter().zip(&ids) {
            let Some(id) = id else { continue };
            let Ok(known) = self.read_verified(id, row, 0) else { continue };
            writes.extend(self.sealed_anew(id, Arc::new(known)).map(|write| (id, write)));
        }
        // Only now: claims wait for this connection.
        let mut connection = self.connections.get(&self.connections.claims).await?;
        let given: Vec<_> = writes.iter().map(|(id, write)| (*id, write)).collect();
        let written = self.write_rows(&mut connection, None, &given).await;
        let mut done = 0;
        for place in 0..given.len() {
            done += usize::from(written.of(place)?);
        }
        Ok(ResealPage { rows: rows.len(), done, last: ids.into_iter().flatten().next_back() })
    }

    /// The write of a record with its credentials under the sealing key; `None` if it must stay as
    /// it is. The write raises the version: otherwise a claim that was decided on the former text
    /// would keep the new one under a tag over the former.
    fn sealed_anew(&self, id: &SessionId, known: Arc<KnownRow>) -> Option<PendingWrite> {
        let record = &known.record;
        let credentials = credentials_anew((&self.cipher, &self.log_limit), id, record)?;
        let version = record.version + 1;
        let record = Record { version, credentials, ..record.clone() };
        let outcome = Outcome::Done(Done::from(&record));
        let decision = Decision { outcome, write: Write::Put(record), news: None };
        let basis = Basis::of_reading(known);
        PendingWrite::new(self, id, basis, decision).ok()
    }

    /// How many records each key seals.
    pub(super) async fn keys(&self) -> Result<Vec<(u32, u64)>, PostgresFault> {
        let rows = self.connections.query(&self.statements.keys, &[]).await?;
        let key = |row: &Row| {
            let (key, records): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            Ok((u32::try_from(key).unwrap_or(0), u64::try_from(records).unwrap_or(0)))
        };
        rows.iter().map(key).collect()
    }
}

impl Bound {
    fn parameter(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Text(text) => (text, Type::TEXT),
            Self::Number(number) => (number, Type::INT8),
        }
    }
}

/// The conditions of a list, with their values. Equal names come first, so that the index leads to
/// the start of the page, and every page costs the same.
fn conditions(filter: &RecordFilter, after: Option<&SessionId>) -> (String, Vec<Bound>) {
    let (mut conditions, mut bounds) = (Vec::new(), Vec::new());
    let mut equal = |column: &str, value: Bound| {
        bounds.push(value);
        let collation = if column == "phase" { "" } else { " COLLATE \"C\"" };
        conditions.push(format!("s.{column} = ${}{collation}", bounds.len()));
    };
    if let Some(provider) = &filter.provider {
        equal("provider", Bound::Text(provider.as_str().to_owned()));
    }
    if let Some(tenant) = &filter.tenant {
        equal("tenant", Bound::Text(tenant.as_str().to_owned()));
    }
    if let Some(phase) = filter.phase {
        equal("phase", Bound::Number(encode_phase(phase)));
    }
    let (provider, tenant, token_id) = after.map_or(("", "", ""), id_columns);
    for name in [provider, tenant, token_id] {
        bounds.push(Bound::Text(name.to_owned()));
    }
    let last = bounds.len();
    conditions.push(format!(
        "(s.provider, s.tenant, s.token_id) > (${} COLLATE \"C\", ${} COLLATE \"C\", ${} COLLATE \"C\")",
        last - 2,
        last - 1,
        last
    ));
    (conditions.join(" AND "), bounds)
}
