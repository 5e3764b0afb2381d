//! The supervisors that use the store, on any machine.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_postgres::types::Type;

use super::Shared;
use super::database_clock::DatabaseTime;
use super::postgres_fault::PostgresFault;
use super::row_reader::read_id_after;
use crate::clock::{Clock, SystemClock};
use crate::key::ProviderName;
use crate::log::log_limited;
use crate::store::encoding::{decode_wall_time, encode_duration, encode_limit, encode_wall_time};
use crate::store::session_row::NEWEST_FORM;
use crate::store::{Due, DuePage, Owner, Presence};

/// How often the store notes that its supervisors are running. Defaults to 5 s: the other replicas
/// notice soon that one has started or ended, and one row each 5 s costs almost nothing.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);

/// A supervisor without a heartbeat for this long does not count as running. Defaults to 20 s, four
/// heartbeats. Its claims are still its own: it may have been stopped, and its request may be on its
/// way.
pub(super) const SILENCE: Duration = Duration::from_secs(20);

/// How long a supervisor that renews no more is remembered. Defaults to 1 day, after which none of
/// its claims is left.
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);

impl Shared {
    /// Notes that a supervisor begins, goes on or ends.
    pub(super) async fn note_presence(
        &self,
        owner: Owner,
        presence: Presence,
    ) -> Result<(), PostgresFault> {
        let ended = matches!(presence, Presence::Retire | Presence::Replayed);
        {
            let mut local = self.local_owners.lock();
            if ended || presence == Presence::LeaveJournal {
                local.remove(&owner);
            } else {
                local.insert(owner);
            }
            if local.len() > 1 {
                self.is_shared.store(true, Ordering::Relaxed);
            }
        }
        if presence == Presence::LeaveJournal {
            // Without heartbeats it soon no longer counts as running.
            return Ok(());
        }
        self.write_presence(owner, ended).await
    }

    async fn write_presence(&self, owner: Owner, ended: bool) -> Result<(), PostgresFault> {
        let (owner, form) = (owner.0.cast_signed(), i32::try_from(NEWEST_FORM).unwrap_or(0));
        let parameters =
            [(&owner as _, Type::INT8), (&ended as _, Type::BOOL), (&form as _, Type::INT4)];
        self.connections.query(&self.statements.presence, &parameters).await?;
        Ok(())
    }

    /// A page of due records, and the supervisors that run.
    pub(super) async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, PostgresFault> {
        // So that the sum with any time fits into the column's type.
        let (name, within) = (provider.as_str(), encode_duration(within).min(i64::MAX / 4));
        let at = after.map_or(i64::MIN, |due| encode_wall_time(due.at));
        let (tenant, token_id) =
            after.map_or(("", ""), |due| (due.id.key().tenant().as_str(), due.id.key().token_id()));
        let (limit, silence) = (encode_limit(limit), encode_duration(SILENCE));
        let parameters = [
            (&name as _, Type::TEXT),
            (&within as _, Type::INT8),
            (&at as _, Type::INT8),
            (&tenant as _, Type::TEXT),
            (&token_id as _, Type::TEXT),
            (&limit as _, Type::INT8),
            (&silence as _, Type::INT8),
        ];
        let rows = self.connections.query(&self.statements.due, &parameters).await?;
        let head = rows.first().ok_or(PostgresFault::NotMigrated)?;
        let now = DatabaseTime(head.try_get(0)?);
        self.note_time(now);
        let owners: Option<Vec<i64>> = head.try_get(1)?;
        let holders = owners.unwrap_or_default().into_iter();
        let holders = holders.map(|owner| Owner(owner.cast_unsigned())).collect();
        let due = rows.iter().filter_map(|row| {
            let at = row.try_get::<_, Option<i64>>(2).ok()??;
            // A row without a valid id cannot be loaded either.
            let id = read_id_after(row, provider, 3)?;
            Some(Due { at: decode_wall_time(at), id })
        });
        Ok(DuePage { due: due.collect(), now: now.now(), holders })
    }
}

/// Writes the heartbeats of the supervisors on this store and removes what is old, until the store is
/// dropped.
pub(super) async fn beat(store: Weak<Shared>) {
    loop {
        SystemClock::new().sleep(HEARTBEAT).await;
        let Some(shared) = store.upgrade() else { return };
        let owners: Vec<_> = shared.local_owners.lock().iter().copied().collect();
        for owner in owners {
            if let Err(fault) = shared.write_presence(owner, false).await {
                log_limited!(
                    shared.log_limit,
                    warn,
                    None,
                    "could not note in the database that this process is running",
                    cause = %fault
                );
            }
        }
        if let Err(fault) = shared.purge().await {
            log_limited!(
                shared.log_limit,
                warn,
                None,
                "could not remove old changes from the database",
                cause = %fault
            );
        }
    }
}
