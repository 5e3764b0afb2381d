//! Retries while another process has the file's lock.

use std::time::Duration;

use super::sqlite_fault::{SqliteFault, fault, is_busy};
use super::statement_error::{Result, StatementError};
use crate::clock::{Clock, SystemClock};
use crate::store::StoreError;
use crate::task;

/// The pause between two tries for the file's lock. Defaults to 0.2 to 1 ms: SQLite's own pauses
/// grow to 100 ms, in which other processes get the lock again and again.
const LOCK_PAUSE: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(1));

/// Repeats `step` while another process is in the way, for no longer than `timeout`. If SQLite's
/// lock is in the way for longer, the fault is `busy`.
pub(super) fn retry_while_busy<T>(
    (timeout, busy): (Duration, SqliteFault),
    mut step: impl FnMut() -> Result<T>,
) -> Result<T, StoreError> {
    let clock = SystemClock::new();
    let begun = clock.now().monotonic;
    loop {
        let late = match step() {
            Ok(done) => return Ok(done),
            Err(StatementError::Rejected(error)) => return Err(error),
            Err(StatementError::Sql(error)) if !is_busy(&error) => return Err(fault(&error).into()),
            Err(StatementError::Sql(_)) => busy.clone(),
            Err(StatementError::TryAgain(fault)) => fault,
        };
        // After the try: a timeout of zero still tries once.
        if clock.now().monotonic.saturating_sub(begun) >= timeout {
            return Err(late.into());
        }
        task::pause(lock_pause());
    }
}

/// A random pause, so that two processes do not try in step.
pub(super) fn lock_pause() -> Duration {
    let (least, most) = LOCK_PAUSE;
    least + (most - least).mul_f64(fastrand::f64())
}
