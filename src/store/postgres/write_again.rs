//! Writes again what the database has lost, each time that it has gone back.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::types::Type;

use super::Shared;
use super::batch::Batch;
use super::connections::Connection;
use super::database_clock::DatabaseTime;
use super::failover::FAILOVER_HOLD;
use super::pending_write::{Basis, PendingWrite};
use super::postgres_fault::PostgresFault;
use super::read_rows::ReadRows;
use super::recent_writes::RecentWrite;
use super::restored_record::Restoration;
use super::write_lane::MAX_BATCH;
use crate::clock::{Clock as _, SystemClock};
use crate::key::SessionId;
use crate::log::{log_limited, log_session};
use crate::store::encoding::decode_counter;
use crate::store::row_fault::RowFault;
use crate::store::{Failover, Floor};

/// The pause after which rows that could not be written again are tried once more. Defaults to 1 s,
/// so that a database that has just started is not kept busy.
const RESTORE_PAUSE: Duration = Duration::from_secs(1);

/// Writes again what this process wrote lately, each time that the database has gone back, until the
/// store is dropped.
pub(super) async fn run(store: Weak<Shared>, mut begun: watch::Receiver<u64>) {
    while begun.changed().await.is_ok() {
        let number = *begun.borrow_and_update();
        let pass = Pass { store: &store, begun: &begun, number };
        if pass.run().await.is_none() && store.strong_count() == 0 {
            return;
        }
    }
}

/// The work after one failover. Each of its methods returns `None` when the store was dropped, or
/// when the database has gone back again meanwhile.
struct Pass<'r> {
    store: &'r Weak<Shared>,
    begun: &'r watch::Receiver<u64>,
    number: u64,
}

type Writes = Vec<(SessionId, RecentWrite)>;

/// What became of some writes.
#[derive(Default)]
struct Done {
    restored: u64,
    lost: u64,
    /// Their rows have changed meanwhile.
    again: Writes,
}

impl Pass<'_> {
    async fn run(&self) -> Option<()> {
        let shared = self.shared()?;
        log_limited!(
            shared.log_limit,
            warn,
            None,
            "the database has gone back to an earlier state, after a failover or from a backup; \
             no refresh starts until its replicas have written again what they wrote lately"
        );
        shared.known.forget_all();
        shared.connections.close_idle();
        drop(shared);
        self.write_pauses().await?;
        let of_own = self.restore(false).await?;
        self.shared()?.failover.restored(self.number);
        // Until then, the others write theirs.
        SystemClock::new().sleep(FAILOVER_HOLD).await;
        // Once more, with what was confirmed just before and noted after the first time.
        let of_all = self.restore(true).await?;
        let (restored, lost) = (of_own.restored + of_all.restored, of_all.lost);
        let shared = self.shared()?;
        log_limited!(
            shared.log_limit,
            warn,
            None,
            "the sessions that this replica knows are written again after the database had gone back",
            restored,
            lost
        );
        shared.failover.ended(Failover { count: self.number, restored, lost });
        Some(())
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        self.store.upgrade().filter(|_| *self.begun.borrow() == self.number)
    }

    /// Notes the timeline for replicas that start, and pauses again what this process paused.
    async fn write_pauses(&self) -> Option<()> {
        loop {
            let shared = self.shared()?;
            let done = async {
                let unchanged = None::<bool>;
                let open = &shared.statements.open;
                shared.connections.query(open, &[(&unchanged as _, Type::BOOL)]).await?;
                shared.write_pauses_again().await
            };
            match done.await {
                Ok(()) => return Some(()),
                Err(fault) => pause(shared, &fault).await,
            }
        }
    }

    /// Compares the database with the recent writes of this process, or with those of others too,
    /// and writes again what is older there.
    async fn restore(&self, foreign_too: bool) -> Option<Done> {
        let shared = self.shared()?;
        let mut left = shared.failover.recent.all(shared.clock().now().boot);
        drop(shared);
        left.retain(|(_, write)| foreign_too || !write.content.is_foreign());
        let (mut all, mut size) = (Done::default(), MAX_BATCH);
        while !left.is_empty() {
            let shared = self.shared()?;
            let page = left.split_off(left.len().saturating_sub(size));
            match shared.restore_page(&page).await {
                Ok(done) => {
                    all.restored += done.restored;
                    all.lost += done.lost;
                    left.extend(done.again);
                    size = MAX_BATCH.min(size * 2);
                }
                Err(fault) if page.len() == 1 && fault.is_about_a_value() => {
                    shared.report_lost(&page);
                    all.lost += 1;
                }
                // A smaller page may fit in the time of a statement, and shows the row that fails.
                Err(fault) => {
                    size = page.len().div_ceil(2);
                    left.extend(page);
                    pause(shared, &fault).await;
                }
            }
        }
        Some(all)
    }
}

impl Shared {
    async fn restore_page(&self, page: &[(SessionId, RecentWrite)]) -> Result<Done, PostgresFault> {
        let mut connection = self.connections.get(&self.connections.commits).await?;
        let ids: Vec<_> = page.iter().map(|(id, _)| id).collect();
        let mut read = self.read_rows(&mut connection, &ids).await?;
        let deleted = self.deletions(&mut connection, page, &read).await?;
        let (mut older, mut lost) = (Vec::new(), Vec::new());
        for (place, (id, recent)) in page.iter().enumerate() {
            match self.compare(&mut read, place, (id, recent), &deleted) {
                Compared::Same => {}
                Compared::Older(write) => older.push((id, recent, *write)),
                Compared::Lost => lost.push((id.clone(), recent.clone())),
            }
        }
        let writes: Vec<_> = older.iter().map(|(id, _, write)| (*id, write)).collect();
        let written = self.write_rows(&mut connection, None, &writes).await;
        drop(connection);
        let mut done = Done::default();
        for (place, (id, recent, write)) in older.into_iter().enumerate() {
            if written.of(place)? {
                self.failover.note_write(id, &write.kind, self.clock().now().boot);
                write.done(&self.known, id);
                done.restored += 1;
            } else {
                done.again.push((id.clone(), recent.clone()));
            }
        }
        self.report_lost(&lost);
        done.lost = u64::try_from(lost.len()).unwrap_or(u64::MAX);
        Ok(done)
    }

    fn compare(
        &self,
        read: &mut ReadRows,
        place: usize,
        (id, recent): (&SessionId, &RecentWrite),
        deleted: &[Option<u64>],
    ) -> Compared {
        let (floor, now) = (read.floor, read.at.now());
        // A row that cannot be read stays: nobody can tell whether it is older.
        let Ok(known) = read.take(place).transpose() else { return Compared::Same };
        let found = known.as_ref().map(|known| &known.record);
        let deleted = deleted.get(place).copied().flatten();
        let is_deleted = deleted.is_some_and(|epoch| epoch >= recent.content.epoch());
        match Restoration::of(found, &recent.content, is_deleted, now) {
            Restoration::Nothing => Compared::Same,
            Restoration::Lost => Compared::Lost,
            Restoration::Write(decision) => {
                let basis = Basis { known, floor, at: DatabaseTime(0) };
                let write = PendingWrite::new(self, id, basis, *decision);
                write.map_or(Compared::Lost, |write| Compared::Older(Box::new(write)))
            }
        }
    }

    /// For each of these sessions, the epoch at which the changes say that it was last deleted. Asks
    /// only if one of them is missing and the floor says that something was deleted.
    async fn deletions(
        &self,
        connection: &mut Connection,
        page: &[(SessionId, RecentWrite)],
        read: &ReadRows,
    ) -> Result<Vec<Option<u64>>, PostgresFault> {
        let Floor { epoch: floor, .. } = read.floor;
        let mut deleted = vec![None; page.len()];
        let asked = page.iter().enumerate();
        let is_unclear =
            |place, recent: &RecentWrite| !read.has(place) && floor > recent.content.epoch();
        if !asked.clone().any(|(place, (_, recent))| is_unclear(place, recent)) {
            return Ok(deleted);
        }
        let batch = Batch::of_names(page.iter().map(|(id, _)| id));
        let found = connection.query(&self.statements.deletions, &batch.parameters(&[])).await?;
        for row in found {
            let place = usize::try_from(row.try_get::<_, i32>(0)? - 1).ok();
            let epoch = decode_counter(row.try_get(1).map_err(|_| RowFault::Malformed)?);
            if let (Some(place), Ok(epoch)) = (place.and_then(|at| deleted.get_mut(at)), epoch) {
                *place = Some(epoch);
            }
        }
        Ok(deleted)
    }

    /// Reports them once: after another failover, they do not count again.
    fn report_lost(&self, lost: &[(SessionId, RecentWrite)]) {
        for (id, write) in lost {
            self.failover.recent.forget(id, write.number);
            log_session!(
                self.log_limit,
                warn,
                id,
                "the database has lost newer credentials of this session, and no replica that \
                 runs has them"
            );
        }
    }
}

/// What the database has of a write.
enum Compared {
    Same,
    Older(Box<PendingWrite>),
    Lost,
}

async fn pause(shared: Arc<Shared>, fault: &PostgresFault) {
    log_limited!(
        shared.log_limit,
        warn,
        None,
        "could not compare the records with those that the database has lost",
        cause = %fault
    );
    // The store may be dropped meanwhile.
    drop(shared);
    SystemClock::new().sleep(RESTORE_PAUSE).await;
}
