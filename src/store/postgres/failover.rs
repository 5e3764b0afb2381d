//! Failovers. The database goes back to an earlier state if a standby becomes the primary before it
//! has all commits, or if somebody restores a backup. An authorization server does not go back with
//! it: the refresh token in such an old record may be spent.
//!
//! The statements that read rows or changes return the position in the database's log of writes (the
//! write-ahead log, WAL), and each claim names the position that the log must still have. If the log
//! has another timeline, or has become shorter, the database has gone back. The store then refuses
//! claims for [`FAILOVER_HOLD`]. Meanwhile each replica writes again what it wrote lately. Without
//! the pause, a replica could send the spent token of a record that another one is about to restore.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Shared;
use super::pending_write::WriteKind;
use super::postgres_fault::PostgresFault;
use super::recent_writes::{Content, RecentWrites};
use super::wal_position::WalPosition;
use crate::clock::BootTime;
use crate::key::SessionId;
use crate::log::log_limited;
use crate::store::{Change, Failover};

/// How long the store refuses claims after the database has gone back. Defaults to 10 s: each replica
/// reads changes four times a second, and writes a thousand rows in less than a second. If a server
/// vanishes without a word, a replica notices that its statement has no answer after 5 s.
pub(super) const FAILOVER_HOLD: Duration = Duration::from_secs(10);

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
        self.note_recent(id, version, content, at);
    }

    /// Remembers what another process wrote, to count what is lost if the database goes back.
    pub(super) fn note_foreign(&self, id: &SessionId, change: Change, at: BootTime) {
        self.note_recent(id, change.version, Content::Foreign(change), at);
    }

    fn note_recent(&self, id: &SessionId, version: u64, content: Content, at: BootTime) {
        let begun = *self.begun.borrow();
        self.recent.note(id, (begun, version), content, at);
    }

    /// Notes what was done after the database had gone back, unless it has again meanwhile.
    pub(super) fn ended(&self, failover: Failover) {
        let mut state = self.state.lock();
        if *self.begun.borrow() == failover.count {
            state.last = Some(failover);
        }
    }

    /// Ends the wait for the rows of this process. If the database has gone back again meanwhile,
    /// the wait goes on.
    pub(super) fn restored(&self, number: u64) {
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

    /// Warns at the start if the server does not tell the position.
    pub(super) fn report_unknown_wal(&self) {
        if self.failover.position() == Some(WalPosition::default()) {
            log_limited!(
                self.log_limit,
                warn,
                None,
                "the database server does not tell the position in its log of writes, so a failover \
                 that loses writes will not be noticed"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        guard.ended(Failover { count: 1, restored: 0, lost: 0 });
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
}
