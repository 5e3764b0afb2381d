//! Failovers. The database goes back to an earlier state if a standby becomes the primary before it
//! has all commits, or if somebody restores a backup. An authorization server does not go back with
//! it: the refresh token in such an old record may be spent.
//!
//! The statements that read rows or changes return the position in the database's log of writes (the
//! write-ahead log, WAL), and each claim names the position that the log must still have. If the log
//! has another timeline, or has become shorter, the database has gone back. The store then refuses
//! claims for [`FAILOVER_HOLD`]. Meanwhile each replica writes again what it wrote lately. Without
//! the pause, a replica could send the spent token of a record that another one is about to restore.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Shared;
use super::database_clock::DatabaseTime;
use super::pending_write::{Basis, PendingWrite, WriteKind};
use super::postgres_fault::PostgresFault;
use super::read_rows::ReadRows;
use super::recent_writes::{Content, RecentWrite, RecentWrites};
use super::wal_position::WalPosition;
use super::write_lane::MAX_BATCH;
use crate::clock::{BootTime, Clock as _, Now, SystemClock};
use crate::key::SessionId;
use crate::log::{log_limited, log_session};
use crate::store::decide::{Decision, Found, Write, decide, put};
use crate::store::record_cipher::SealedCredentials;
use crate::store::{Change, Failover, Floor, Record, Statement};

/// How long the store refuses claims after the database has gone back. Defaults to 10 s: replicas
/// notice it within a second, and write a thousand rows in less.
pub(super) const FAILOVER_HOLD: Duration = Duration::from_secs(10);

/// The pause after which rows that could not be written again are tried once more. Defaults to 1 s,
/// so that a database that has just started is not kept busy.
const RESTORE_PAUSE: Duration = Duration::from_secs(1);

/// What the store knows of the log of writes, and what it wrote lately.
#[derive(Default)]
pub(super) struct FailoverGuard {
    state: Mutex<State>,
    /// Counts how often the database has gone back.
    begun: watch::Sender<u64>,
    pub(super) recent: RecentWrites,
}

#[derive(Default)]
struct State {
    position: Option<WalPosition>,
    /// How long claims wait because of a failover shortly before the store was opened.
    left_at_start: Option<Duration>,
    /// Claims wait until then, and until the rows are written again.
    hold_until: Option<BootTime>,
    is_restored: bool,
    last: Option<Failover>,
}

impl FailoverGuard {
    /// The last position that is known. Read it before a statement is sent: answers of two
    /// connections may come in another order than the server gave them.
    pub(super) fn position(&self) -> Option<WalPosition> {
        self.state.lock().position
    }

    /// The last time that the database went back, once the rows are written again.
    pub(super) fn last(&self) -> Option<Failover> {
        self.state.lock().last
    }

    /// Notes the position at the start of the store. `since` is how long ago a process first saw
    /// this timeline, if the database has had another one.
    pub(super) fn begin(&self, found: WalPosition, since: Option<Duration>) {
        let mut state = self.state.lock();
        state.position = Some(found);
        state.left_at_start = since.and_then(|since| FAILOVER_HOLD.checked_sub(since));
        // This process has written nothing yet that it could write again.
        state.is_restored = true;
    }

    /// Notes the position that a statement found. `before` is what was known when it was sent.
    fn note(&self, before: Option<WalPosition>, found: WalPosition, now: BootTime) {
        let mut state = self.state.lock();
        let known = *state.position.get_or_insert(found);
        if before.is_none_or(|before| found.continues(before)) {
            if found.continues(known) {
                state.position = Some(found);
            }
        } else if before == Some(known) || found.timeline != known.timeline {
            state.position = Some(found);
            state.hold_until = Some(now.after(FAILOVER_HOLD));
            state.is_restored = false;
            self.begun.send_modify(|begun| *begun += 1);
        }
        // Otherwise another statement, sent at the same time, has already shown it.
    }

    /// The position that claims must name.
    ///
    /// # Errors
    ///
    /// [`PostgresFault::FailedOver`] while claims wait.
    pub(super) fn expected(&self, now: BootTime) -> Result<Option<WalPosition>, PostgresFault> {
        let mut state = self.state.lock();
        // Only now, because the store gets the supervisor's clock after it was opened.
        if let Some(left) = state.left_at_start.take() {
            state.hold_until = Some(now.after(left));
        }
        let waits = state.hold_until.is_some_and(|until| now < until || !state.is_restored);
        if waits {
            return Err(PostgresFault::FailedOver);
        }
        state.hold_until = None;
        Ok(state.position)
    }

    /// Whether records may be older than those that this process or another one has written.
    pub(super) fn is_held(&self, now: BootTime) -> bool {
        self.expected(now).is_err()
    }

    /// Remembers a write that was done. A claim too: its exchange may run, and its record must show
    /// that.
    pub(super) fn note_write(&self, id: &SessionId, write: &WriteKind, at: BootTime) {
        let (version, content) = match write {
            WriteKind::Update { row, .. } | WriteKind::Insert { row, .. } => {
                (row.record.version, Content::Row(Arc::clone(row)))
            }
            WriteKind::Delete { floor, .. } => (floor.version, Content::Deleted(*floor)),
        };
        self.recent.note(id, version, content, at);
    }

    fn ended(&self, number: u64, failover: Failover) {
        let mut state = self.state.lock();
        if *self.begun.borrow() == number {
            state.last = Some(failover);
            // Versions that are lower than those may be newer from now on.
            self.recent.clear();
        }
    }

    /// Ends the wait for the rows of this process. If the database has gone back again meanwhile,
    /// the wait goes on.
    fn restored(&self, number: u64) {
        let mut state = self.state.lock();
        state.is_restored |= *self.begun.borrow() == number;
    }

    /// The number of the last failover, and its changes.
    pub(super) fn begun(&self) -> watch::Receiver<u64> {
        self.begun.subscribe()
    }
}

impl Shared {
    /// Notes the position that a statement found. `before` is what was known when it was sent.
    pub(super) fn note_wal(&self, before: Option<WalPosition>, found: Option<Vec<i64>>) {
        self.failover.note(before, WalPosition::read(found), self.clock().now().boot);
    }

    /// Writes these again where the database has older rows. Returns how many it wrote, and those
    /// that must be tried again, because their rows changed meanwhile.
    async fn restore_page(
        &self,
        page: Vec<(SessionId, RecentWrite)>,
    ) -> Result<(u64, Vec<(SessionId, RecentWrite)>), PostgresFault> {
        let mut connection = self.connections.get(&self.connections.commits).await?;
        let ids: Vec<_> = page.iter().map(|(id, _)| id).collect();
        let mut read = self.read_rows(&mut connection, &ids).await?;
        let mut older = Vec::new();
        for (place, (id, recent)) in page.into_iter().enumerate() {
            if let Some(write) = self.decide_restore(&mut read, place, &id, &recent) {
                older.push((id, recent, write));
            }
        }
        let writes: Vec<_> = older.iter().map(|(id, _, write)| (id, write)).collect();
        let written = self.write_rows(&mut connection, None, &writes).await;
        let (mut restored, mut again) = (0, Vec::new());
        for (place, (id, recent, write)) in older.into_iter().enumerate() {
            if written.of(place)? {
                write.done(&self.known, &id);
                restored += 1;
            } else {
                again.push((id, recent));
            }
        }
        Ok((restored, again))
    }

    fn decide_restore(
        &self,
        read: &mut ReadRows,
        place: usize,
        id: &SessionId,
        recent: &RecentWrite,
    ) -> Option<PendingWrite> {
        let (floor, now) = (read.floor, read.at.now());
        // A row that cannot be read stays: nobody can tell whether it is older.
        let known = read.take(place).transpose().ok()?;
        let found = known.as_ref().map(|known| &known.record);
        let decision = match &recent.content {
            Content::Row(row) => put(restored(found, floor, &row.record)?, now),
            Content::Deleted(floor) => deleted_again(found?, *floor, now)?,
            Content::Foreign(_) => return None,
        };
        let at = DatabaseTime(0);
        PendingWrite::new(self, id, Basis { known, floor, at }, decision).ok()
    }

    /// How many of these writes of other processes the database does not have.
    async fn count_lost(&self, page: &[(SessionId, Change)]) -> Result<u64, PostgresFault> {
        let mut connection = self.connections.get(&self.connections.reads).await?;
        let ids: Vec<_> = page.iter().map(|(id, _)| id).collect();
        let mut read = self.read_rows(&mut connection, &ids).await?;
        let mut lost = 0;
        for (place, (id, change)) in page.iter().enumerate() {
            let Some(Ok(found)) = read.take(place) else { continue };
            if is_before(&found.record, change) {
                lost += 1;
                log_session!(
                    self.log_limit,
                    warn,
                    id,
                    "the database has lost newer credentials of this session, and no replica that \
                     runs has them",
                    generation = change.generation
                );
            }
        }
        Ok(lost)
    }
}

/// Writes again what the database has lost, each time that it has gone back, until the store is
/// dropped.
pub(super) async fn run(store: Weak<Shared>, mut begun: watch::Receiver<u64>) {
    while begun.changed().await.is_ok() {
        let number = *begun.borrow_and_update();
        let Some(shared) = store.upgrade() else { return };
        log_limited!(
            shared.log_limit,
            warn,
            None,
            "the database has gone back to an earlier state, after a failover or from a backup; \
             no refresh starts until its replicas have written again what they wrote lately"
        );
        let (own, foreign) = split(shared.failover.recent.all(shared.clock().now().boot));
        let Some(restored) = restore_all(&shared, own, (&begun, number)).await else { continue };
        shared.failover.restored(number);
        // Until then, the others write theirs.
        SystemClock::new().sleep(FAILOVER_HOLD).await;
        let Some(lost) = count_all_lost(&shared, foreign, (&begun, number)).await else { continue };
        log_limited!(
            shared.log_limit,
            warn,
            None,
            "the sessions that this replica knows are written again after the database had gone back",
            restored,
            lost
        );
        shared.failover.ended(number, Failover { count: number, restored, lost });
    }
}

/// Which number of failover a task works on, and the newest one.
type Current<'r> = (&'r watch::Receiver<u64>, u64);

/// How many rows were written again. `None` if the database has gone back once more meanwhile.
async fn restore_all(
    shared: &Shared,
    mut left: Vec<(SessionId, RecentWrite)>,
    (begun, number): Current<'_>,
) -> Option<u64> {
    let mut restored = 0;
    while !left.is_empty() {
        if *begun.borrow() != number {
            return None;
        }
        let page = left.split_off(left.len().saturating_sub(MAX_BATCH));
        match shared.restore_page(page.clone()).await {
            Ok((done, again)) => {
                restored += done;
                left.extend(again);
            }
            Err(fault) => {
                left.extend(page);
                pause(shared, &fault).await;
            }
        }
    }
    Some(restored)
}

/// How many writes of others the database does not have. `None` if it has gone back once more
/// meanwhile.
async fn count_all_lost(
    shared: &Shared,
    foreign: Vec<(SessionId, Change)>,
    (begun, number): Current<'_>,
) -> Option<u64> {
    let mut lost = 0;
    for page in foreign.chunks(MAX_BATCH) {
        loop {
            if *begun.borrow() != number {
                return None;
            }
            match shared.count_lost(page).await {
                Ok(counted) => break lost += counted,
                Err(fault) => pause(shared, &fault).await,
            }
        }
    }
    Some(lost)
}

async fn pause(shared: &Shared, fault: &PostgresFault) {
    log_limited!(
        shared.log_limit,
        warn,
        None,
        "could not compare the records with those that the database has lost",
        cause = %fault
    );
    SystemClock::new().sleep(RESTORE_PAUSE).await;
}

type OwnAndForeign = (Vec<(SessionId, RecentWrite)>, Vec<(SessionId, Change)>);

fn split(recent: Vec<(SessionId, RecentWrite)>) -> OwnAndForeign {
    let (mut own, mut foreign) = (Vec::new(), Vec::new());
    for (id, write) in recent {
        match write.content {
            Content::Foreign(change) => foreign.push((id, change)),
            Content::Row(_) | Content::Deleted(_) => own.push((id, write)),
        }
    }
    (own, foreign)
}

/// The record to write over the one that was found, if that one is older. A claim on the one that was
/// found does not count: it is from before the failover, or from a process that could not wait for
/// this write and whose request has the older token.
fn restored(
    found: Option<&Record<SealedCredentials>>,
    floor: Floor,
    written: &Record<SealedCredentials>,
) -> Option<Record<SealedCredentials>> {
    let Some(found) = found else {
        // If the session was deleted, the floor's epoch is above the written one.
        return (floor.epoch <= written.epoch).then(|| written.clone());
    };
    let older = found.version < written.version
        && found.epoch <= written.epoch
        && found.generation <= written.generation;
    older.then(|| written.clone())
}

/// The delete of a record that was deleted before, at this floor.
fn deleted_again(
    found: &Record<SealedCredentials>,
    floor: Floor,
    now: Now,
) -> Option<Decision<SealedCredentials>> {
    let older = found.version < floor.version && found.epoch < floor.epoch;
    let found = Found { record: older.then(|| found.clone()), floor };
    let Decision { outcome, write, news } = decide(found, &Statement::Delete, now);
    let Write::Remove(above) = write else { return None };
    Some(Decision { outcome, write: Write::Remove(above.max(floor)), news })
}

/// Whether the record is from before this change.
fn is_before(found: &Record<SealedCredentials>, change: &Change) -> bool {
    found.version < change.version && found.counters() < (change.epoch, change.generation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Phase;

    const START: BootTime = BootTime::new(Duration::from_secs(100));

    fn at(timeline: i64, flushed: i64) -> WalPosition {
        WalPosition { timeline, flushed }
    }

    fn guard() -> FailoverGuard {
        let guard = FailoverGuard::default();
        guard.begin(at(1, 50), None);
        guard
    }

    #[test]
    fn claims_name_the_newest_position() {
        let guard = guard();
        assert_eq!(guard.expected(START), Ok(Some(at(1, 50))));
        guard.note(Some(at(1, 50)), at(1, 60), START);
        // The answer to an earlier statement, which comes late.
        guard.note(Some(at(1, 50)), at(1, 55), START);
        assert_eq!(guard.expected(START), Ok(Some(at(1, 60))));
    }

    #[test]
    fn another_timeline_and_a_shorter_log_stop_claims_until_all_is_written_and_the_hold_is_over() {
        for gone_back in [at(2, 60), at(1, 49), at(0, 0)] {
            let guard = guard();
            guard.note(Some(at(1, 50)), gone_back, START);
            // A statement that was sent before shows the same.
            guard.note(Some(at(1, 50)), gone_back, START);
            assert_eq!(*guard.begun().borrow(), 1, "{gone_back:?}");
            assert_eq!(guard.position(), Some(gone_back));
            let over = START.after(FAILOVER_HOLD);
            assert_eq!(guard.expected(over), Err(PostgresFault::FailedOver));
            guard.restored(1);
            assert_eq!(
                guard.expected(over.before(Duration::from_nanos(1))),
                Err(PostgresFault::FailedOver)
            );
            assert_eq!(guard.expected(over), Ok(Some(gone_back)));
        }
    }

    #[test]
    fn a_failover_during_another_one_begins_the_hold_anew() {
        let guard = guard();
        guard.note(Some(at(1, 50)), at(2, 40), START);
        let later = START.after(Duration::from_secs(5));
        guard.note(Some(at(2, 40)), at(3, 40), later);
        guard.restored(1);
        guard.ended(1, Failover { count: 1, restored: 0, lost: 0 });
        assert_eq!(guard.last(), None);
        assert_eq!(guard.expected(later.after(FAILOVER_HOLD)), Err(PostgresFault::FailedOver));
        guard.restored(2);
        assert_eq!(guard.expected(later.after(FAILOVER_HOLD)), Ok(Some(at(3, 40))));
    }

    #[test]
    fn a_store_that_is_opened_shortly_after_a_failover_waits_for_the_rest_of_the_hold() {
        let guard = FailoverGuard::default();
        guard.begin(at(2, 50), Some(Duration::from_secs(3)));
        assert!(guard.is_held(START) && guard.is_held(START.after(Duration::from_secs(6))));
        assert!(!guard.is_held(START.after(FAILOVER_HOLD)));
        guard.begin(at(2, 50), Some(FAILOVER_HOLD));
        assert_eq!(guard.expected(START), Ok(Some(at(2, 50))));
    }

    fn record(version: u64, epoch: u64, generation: u64) -> Record<SealedCredentials> {
        let phase = Phase::Active;
        Record { phase, ..Record::vacant(Floor { version, epoch, generation }) }
    }

    #[test]
    fn only_an_older_record_is_written_again() {
        let (floor, written) = (Floor::default(), record(9, 2, 5));
        let writes = |found: &_| restored(Some(found), floor, &written);
        for older in [record(8, 2, 5), record(7, 2, 4), record(3, 1, 2)] {
            assert_eq!(writes(&older), Some(written.clone()));
        }
        for newer in [record(9, 2, 5), record(8, 2, 6), record(8, 3, 5), record(12, 2, 6)] {
            assert_eq!(writes(&newer), None);
        }
        assert_eq!(restored(None, floor, &written), Some(written.clone()));
        let above = Floor { version: 9, epoch: 3, generation: 6 };
        assert_eq!(restored(None, above, &written), None, "it was deleted");
    }

    #[test]
    fn a_record_that_was_deleted_is_deleted_again_above_the_same_floor() {
        let floor = Floor { version: 10, epoch: 3, generation: 6 };
        let now = DatabaseTime(0).now();
        let Write::Remove(above) = deleted_again(&record(4, 2, 3), floor, now).unwrap().write
        else {
            panic!("it is deleted")
        };
        assert_eq!(above, floor);
        assert!(deleted_again(&record(11, 4, 7), floor, now).is_none(), "a later session");
    }
}
