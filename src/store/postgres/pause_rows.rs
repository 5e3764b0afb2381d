//! What the backend has paused: one row for each scope.

use tokio_postgres::types::{ToSql, Type};

use super::Shared;
use super::postgres_fault::PostgresFault;
use crate::key::PauseScope;
use crate::policy::PAUSES_POLL;
use crate::store::Pauses;

impl Shared {
    /// Writes that a scope is paused, or that it is not. Returns whether that changed anything.
    pub(super) async fn set_paused(
        &self,
        scope: &PauseScope,
        paused: bool,
    ) -> Result<bool, PostgresFault> {
        let (provider, tenant) = scope.columns();
        let sql = if paused { &self.statements.pause } else { &self.statements.resume };
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&provider, Type::TEXT), (&tenant, Type::TEXT)];
        Ok(!self.connections.query(sql, &parameters).await?.is_empty())
    }

    /// All scopes that are paused. A row that names none is passed over.
    pub(super) async fn pauses(&self) -> Result<Pauses, PostgresFault> {
        let rows = self.connections.query(&self.statements.pauses, &[]).await?;
        let mut scopes = Vec::with_capacity(rows.len());
        for row in rows {
            scopes.extend(PauseScope::of_columns(row.try_get(0)?, row.try_get(1)?));
        }
        scopes.sort_unstable();
        Ok(Pauses { scopes, next_in: PAUSES_POLL })
    }
}
