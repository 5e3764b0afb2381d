//! The permit of one exchange, which is given back early if its request is slow.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::OwnedSemaphorePermit;

use super::exchange_counts::CountedExchange;
use super::permit_lanes::Held;
use crate::clock::Clock;
use crate::policy::SLOW_AFTER;

/// The permit of one exchange.
pub(crate) struct Permit {
    /// `None` once its request is slow.
    exchange: Option<Held>,
    _scheduled: Option<OwnedSemaphorePermit>,
    slow: SlowRequests,
    /// Until the end of the exchange, also if it is slow.
    _counted: CountedExchange,
}

/// How many requests of one client are slow.
#[derive(Clone, Default)]
pub(super) struct SlowRequests(Arc<AtomicUsize>);

impl SlowRequests {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Permit {
    pub(super) fn new(
        exchange: Held,
        scheduled: Option<OwnedSemaphorePermit>,
        slow: &SlowRequests,
        counted: CountedExchange,
    ) -> Self {
        let (exchange, slow) = (Some(exchange), slow.clone());
        Self { exchange, _scheduled: scheduled, slow, _counted: counted }
    }

    /// Awaits a request. If the request is open for longer than [`SLOW_AFTER`], gives the permit to
    /// another exchange and counts as slow until it is dropped.
    pub(crate) async fn while_open<T>(
        &mut self,
        clock: &dyn Clock,
        request: impl Future<Output = T>,
    ) -> T {
        let mut request = pin!(request);
        tokio::select! {
            biased;
            done = &mut request => return done,
            () = clock.sleep(SLOW_AFTER) => self.become_slow(),
        }
        request.await
    }

    fn become_slow(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            // Counted before the permit is given back, so that the next exchange sees the count.
            self.slow.0.fetch_add(1, Ordering::Relaxed);
            drop(exchange);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.exchange.is_none() {
            self.slow.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
