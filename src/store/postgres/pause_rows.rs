//! What the backend has paused: one row for each scope.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio_postgres::types::{ToSql, Type};

use super::Shared;
use super::postgres_fault::PostgresFault;
use super::recent_writes::REMEMBERED_FOR;
use crate::clock::BootTime;
use crate::key::PauseScope;
use crate::policy::{PAUSED_SCOPES, PAUSES_POLL};
use crate::store::Pauses;

/// What this process paused and resumed lately, and what it read last, for the time after a failover.
#[derive(Default)]
pub(super) struct RecentPauses(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    own: BTreeMap<PauseScope, (bool, BootTime)>,
    read: Vec<PauseScope>,
}

impl RecentPauses {
    /// Remembers up to [`PAUSED_SCOPES`] scopes for [`REMEMBERED_FOR`].
    fn note_own(&self, scope: &PauseScope, paused: bool, now: BootTime) {
        let Recent { own, read } = &mut *self.0.lock();
        own.retain(|_, (_, at)| now.since(*at) <= REMEMBERED_FOR);
        if own.len() < PAUSED_SCOPES || own.contains_key(scope) {
            own.insert(scope.clone(), (paused, now));
        }
        if !paused {
            read.retain(|known| known != scope);
        }
    }

    fn own(&self, now: BootTime) -> Vec<(PauseScope, bool)> {
        let recent = self.0.lock();
        let young = recent.own.iter().filter(|(_, (_, at))| now.since(*at) <= REMEMBERED_FOR);
        young.map(|(scope, (paused, _))| (scope.clone(), *paused)).collect()
    }

    /// What counts after this was read. While the rows may be older than what was written, a pause
    /// that was read before stays.
    fn note_read(&self, mut found: Vec<PauseScope>, is_held: bool) -> Vec<PauseScope> {
        let mut recent = self.0.lock();
        if is_held {
            found.append(&mut recent.read);
        }
        found.sort_unstable();
        found.dedup();
        recent.read.clone_from(&found);
        found
    }
}

impl Shared {
    /// Writes that a scope is paused, or that it is not. Returns whether that changed anything.
    pub(super) async fn set_paused(
        &self,
        scope: &PauseScope,
        paused: bool,
    ) -> Result<bool, PostgresFault> {
        let changed = self.write_pause(scope, paused).await?;
        self.pauses.note_own(scope, paused, self.clock().now().boot);
        Ok(changed)
    }

    async fn write_pause(&self, scope: &PauseScope, paused: bool) -> Result<bool, PostgresFault> {
        let (provider, tenant) = scope.columns();
        let sql = if paused { &self.statements.pause } else { &self.statements.resume };
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&provider, Type::TEXT), (&tenant, Type::TEXT)];
        Ok(!self.connections.query(sql, &parameters).await?.is_empty())
    }

    /// Pauses and resumes again what this process paused and resumed lately.
    pub(super) async fn write_pauses_again(&self) -> Result<(), PostgresFault> {
        for (scope, paused) in self.pauses.own(self.clock().now().boot) {
            self.write_pause(&scope, paused).await?;
        }
        Ok(())
    }

    /// All scopes that are paused. A row that names none is passed over.
    pub(super) async fn pauses(&self) -> Result<Pauses, PostgresFault> {
        let before = self.failover.position();
        let rows = self.connections.query(&self.statements.pauses, &[]).await?;
        let head = rows.first().ok_or(PostgresFault::NotMigrated)?;
        self.note_wal(before, head.try_get(0)?);
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let columns: (Option<&str>, Option<&str>) = (row.try_get(1)?, row.try_get(2)?);
            let (Some(provider), Some(tenant)) = columns else { continue };
            found.extend(PauseScope::of_columns(provider, tenant));
        }
        let is_held = self.failover.is_held(self.clock().now().boot);
        let scopes = self.pauses.note_read(found, is_held);
        Ok(Pauses { scopes, next_in: PAUSES_POLL })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::key::Tenant;

    const START: BootTime = BootTime::new(Duration::from_secs(1000));

    fn scope(number: usize) -> PauseScope {
        PauseScope::Tenant(Tenant::new(number.to_string()).unwrap())
    }

    #[test]
    fn a_pause_that_the_database_has_lost_stays_during_the_hold_unless_it_is_resumed() {
        let pauses = RecentPauses::default();
        assert_eq!(pauses.note_read(vec![scope(1), scope(2)], false), [scope(1), scope(2)]);
        assert_eq!(pauses.note_read(vec![scope(3)], true), [scope(1), scope(2), scope(3)]);
        pauses.note_own(&scope(1), false, START);
        assert_eq!(pauses.note_read(Vec::new(), true), [scope(2), scope(3)]);
        assert_eq!(pauses.note_read(vec![scope(2)], false), [scope(2)]);
        assert_eq!(pauses.note_read(Vec::new(), true), [scope(2)]);
    }

    #[test]
    fn the_last_word_of_this_process_on_a_scope_is_remembered_for_five_minutes() {
        let pauses = RecentPauses::default();
        for (number, paused) in [(1, true), (2, true), (1, false)] {
            pauses.note_own(&scope(number), paused, START);
        }
        assert_eq!(pauses.own(START.after(REMEMBERED_FOR)), [(scope(1), false), (scope(2), true)]);
        let later = START.after(REMEMBERED_FOR).after(Duration::from_nanos(1));
        assert!(pauses.own(later).is_empty());
        for number in 0..=PAUSED_SCOPES {
            pauses.note_own(&scope(number), true, later);
        }
        assert_eq!(pauses.own(later).len(), PAUSED_SCOPES);
    }
}
