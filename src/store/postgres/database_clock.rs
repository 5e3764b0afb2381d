//! The time of the database.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{BootTime, Clock, Now};
use crate::store::encoding::decode_wall_time;

/// For so long after a reading the time of the database is estimated. Defaults to 10 s, in which the
/// clocks of two machines drift apart by a millisecond at most.
const ESTIMATED_FOR: Duration = Duration::from_secs(10);

/// A time of the database, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DatabaseTime(pub(super) i64);

impl DatabaseTime {
    /// The time as a reading of the store's clock. Its boot time is the time since 1970, which all
    /// machines have in common.
    pub(super) fn now(self) -> Now {
        let since = Duration::from_nanos(u64::try_from(self.0).unwrap_or(0));
        Now::new(decode_wall_time(self.0), BootTime::new(since), since)
    }
}

/// The last reading of the database's clock, and when it arrived here.
#[derive(Default)]
pub(super) struct DatabaseClock(Mutex<Option<(DatabaseTime, BootTime)>>);

impl DatabaseClock {
    /// Notes the time that the database has just answered.
    pub(super) fn note(&self, time: DatabaseTime, clock: &dyn Clock) {
        *self.0.lock() = Some((time, clock.now().boot));
    }

    /// The time of the database now, or somewhat earlier: the reading was made before it arrived.
    /// `None` if the last reading is too old.
    pub(super) fn estimate(&self, clock: &dyn Clock) -> Option<DatabaseTime> {
        let (time, read_at) = (*self.0.lock())?;
        let passed = clock.now().boot.since(read_at);
        let passed = (passed <= ESTIMATED_FOR).then_some(passed)?;
        time.0.checked_add(i64::try_from(passed.as_nanos()).ok()?).map(DatabaseTime)
    }
}
