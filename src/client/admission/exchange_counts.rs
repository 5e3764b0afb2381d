//! How many exchanges of one client run, and how many wait for a permit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The counts. A client that replaces another one continues them.
#[derive(Clone, Default)]
pub(super) struct ExchangeCounts {
    running: Arc<AtomicUsize>,
    waiting: Arc<AtomicUsize>,
}

/// One counted exchange. Its drop counts it out.
pub(super) struct CountedExchange(Arc<AtomicUsize>);

impl ExchangeCounts {
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Counts an exchange that has got its permit.
    pub(super) fn begin(&self) -> CountedExchange {
        CountedExchange::new(&self.running)
    }

    /// Counts an exchange that waits for its permit.
    pub(super) fn wait(&self) -> CountedExchange {
        CountedExchange::new(&self.waiting)
    }
}

impl CountedExchange {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for CountedExchange {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
