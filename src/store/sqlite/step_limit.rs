//! A limit on SQLite's steps for one statement: a malicious file could make one run for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

/// How many steps of its virtual machine SQLite takes between two checks of the limit. Defaults to
/// 4,096, some 50 microseconds, beside which a check costs nothing.
const CHECK_INTERVAL: u16 = 4096;

/// Counts the steps of a connection and interrupts a statement that takes too many.
pub(super) struct StepLimit {
    max_steps: u64,
    left: Arc<AtomicU64>,
}

impl StepLimit {
    /// At most `max_steps` from one [`reset`](Self::reset) to the next.
    pub(super) fn install(conn: &mut Connection, max_steps: u64) -> Self {
        let left = Arc::new(AtomicU64::new(max_steps));
        let counted = Arc::clone(&left);
        let too_many = move || {
            let before = counted.load(Ordering::Relaxed);
            counted.store(before.saturating_sub(CHECK_INTERVAL.into()), Ordering::Relaxed);
            before == 0
        };
        // Older versions of rusqlite return nothing, newer ones an error if the connection is
        // closed.
        let _ = conn.progress_handler(CHECK_INTERVAL.into(), Some(too_many));
        Self { max_steps, left }
    }

    pub(super) fn reset(&self) {
        self.left.store(self.max_steps, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
