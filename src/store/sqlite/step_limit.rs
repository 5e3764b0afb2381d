//! A bound on what SQLite does for a statement: a file that was made to be read for ever is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

/// How many steps SQLite does between two looks at the bound. Defaults to 4,096, some 50
/// microseconds: looking costs nothing beside them.
const CHECK_INTERVAL: u16 = 4096;

/// Counts the steps of a connection, and interrupts what takes too many.
pub(super) struct StepLimit {
    max_steps: u64,
    left: Arc<AtomicU64>,
}

impl StepLimit {
    /// At most so many from one [`begin`](Self::begin) to the next.
    pub(super) fn install(conn: &Connection, max_steps: u64) -> Self {
        let left = Arc::new(AtomicU64::new(max_steps));
        let counted = Arc::clone(&left);
        let too_many = move || {
            let before = counted.load(Ordering::Relaxed);
            counted.store(before.saturating_sub(CHECK_INTERVAL.into()), Ordering::Relaxed);
            before == 0
        };
        // Older versions of rusqlite answer nothing, and newer ones that the connection is open.
        let _ = conn.progress_handler(CHECK_INTERVAL.into(), Some(too_many));
        Self { max_steps, left }
    }

    pub(super) fn reset(&self) {
        self.left.store(self.max_steps, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
