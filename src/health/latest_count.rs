//! The latest count of the store's sessions, which one task writes and all readers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::session_counts::{CountedProvider, CountedSessions, SessionCounts};
use crate::clock::Now;
use crate::error::{Error, Result};

/// The latest count. Nobody counts before the first reader wants it, or metrics want it.
#[derive(Default)]
pub(crate) struct LatestCount {
    state: watch::Sender<CountState>,
    started: AtomicBool,
}

/// The latest count, and whether a later one failed.
#[derive(Clone, Default)]
pub(crate) struct CountState {
    pub(crate) count: Option<Arc<StoreCount>>,
    /// Why the last try failed; `None` if it succeeded.
    pub(crate) error: Option<Error>,
}

/// A complete count.
pub(crate) struct StoreCount {
    pub(crate) at: Now,
    pub(crate) sessions: SessionCounts,
    pub(crate) providers: Vec<CountedProvider>,
}

impl LatestCount {
    /// True for the first call, whose caller must start to count.
    pub(crate) fn start(&self) -> bool {
        !self.started.swap(true, Ordering::Relaxed)
    }

    /// The state now and its changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<CountState> {
        self.state.subscribe()
    }

    /// Notes the end of a try. After a failure, the former count stays.
    pub(crate) fn note(&self, counted: Result<StoreCount>) {
        self.state.send_modify(|state| match counted {
            Ok(count) => *state = CountState { count: Some(Arc::new(count)), error: None },
            Err(error) => state.error = Some(error),
        });
    }
}

impl CountState {
    /// Whether there was a try.
    pub(crate) fn is_tried(&self) -> bool {
        self.count.is_some() || self.error.is_some()
    }
}

impl StoreCount {
    /// The count as it is shown at `now`.
    pub(crate) fn shown(&self, now: Now) -> CountedSessions {
        CountedSessions {
            at: self.at.wall,
            age_seconds: now.boot.since(self.at.boot).as_secs(),
            sessions: self.sessions,
            providers: self.providers.clone(),
        }
    }
}
