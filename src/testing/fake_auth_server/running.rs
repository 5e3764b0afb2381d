//! The running server: what the handle, the connections and the waiting tests share.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::counts::{Counts, PresentedTokens};
use super::dialect::{Dialect, RequestContext, Route};
use super::fake_response::FakeResponse;
use super::incoming_request::IncomingRequest;
use super::injected_fault::{Fault, Faults};
use super::server_state::ServerState;
use crate::clock::Clock;

/// The state behind its lock, and the channels that announce its changes.
pub(super) struct RunningServer {
    state: Mutex<RunningState>,
    /// Sends at every change.
    changed: watch::Sender<()>,
    /// Turns true once. Apart from `changed`, for which every connection would wake at every
    /// change.
    stopping: watch::Sender<bool>,
    pub(super) clock: Arc<dyn Clock>,
}

/// The whole state of the server.
pub(super) struct RunningState {
    pub(super) server: ServerState,
    pub(super) dialect: Box<dyn Dialect>,
    pub(super) faults: Faults,
    pub(super) presented: PresentedTokens,
    pub(super) counts: Counts,
    /// Requests that wait for a release.
    pub(super) held: usize,
    /// How often held requests have been released.
    pub(super) releases: u64,
}

impl RunningServer {
    pub(super) fn new(
        server: ServerState,
        dialect: Box<dyn Dialect>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let state = RunningState {
            server,
            dialect,
            faults: Faults::default(),
            presented: PresentedTokens::default(),
            counts: Counts::default(),
            held: 0,
            releases: 0,
        };
        let (changed, stopping) = (watch::Sender::new(()), watch::Sender::new(false));
        Self { state: Mutex::new(state), changed, stopping, clock }
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&RunningState) -> T) -> T {
        read(&self.lock())
    }

    pub(super) fn update<T>(&self, update: impl FnOnce(&mut RunningState) -> T) -> T {
        let result = update(&mut self.lock());
        // After the lock is released, so that the tasks that wake do not wait for it.
        self.changed.send_replace(());
        result
    }

    /// Changes the state of the dialect `D`; `None` if the server speaks another one.
    pub(super) fn update_dialect<D: Dialect, T>(
        &self,
        update: impl FnOnce(&mut D) -> T,
    ) -> Option<T> {
        self.update(|state| {
            let dialect: &mut dyn Any = &mut *state.dialect;
            dialect.downcast_mut().map(update)
        })
    }

    /// Waits for the predicate and not for a change, which may have come before or mean nothing.
    pub(super) async fn wait_until(&self, predicate: impl Fn(&RunningState) -> bool) {
        let mut changed = self.changed.subscribe();
        while !self.read(&predicate) {
            // The sender is a part of `self`, so this never fails.
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Counts the request, and takes the fault that it meets, if any.
    pub(super) fn arrive(&self, route: &Route) -> Option<Fault> {
        self.update(|state| {
            state.counts.add(route.endpoint, |tally| tally.requests += 1);
            if let Some(token) = &route.refresh_token
                && state.presented.add(token) == 2
            {
                state.counts.presented_twice += 1;
            }
            state.faults.next(route.endpoint)
        })
    }

    pub(super) fn process(&self, route: &Route, request: &IncomingRequest) -> FakeResponse {
        let now = self.clock.now();
        self.update(|state| {
            let mut context = RequestContext { server: &mut state.server, request, now };
            let response = route.handle(&mut *state.dialect, &mut context);
            match response.refused() {
                None => state.counts.add(route.endpoint, |tally| tally.granted += 1),
                Some(code) => {
                    state.counts.add(route.endpoint, |tally| tally.refused += 1);
                    *state.counts.errors.entry(code.to_owned()).or_default() += 1;
                }
            }
            response
        })
    }

    /// Waits for the next release.
    pub(super) async fn hold(&self) {
        let releases = self.update(|state| {
            state.held += 1;
            state.releases
        });
        let _held = Held(self);
        tokio::select! {
            () = self.wait_until(|state| state.releases > releases) => {}
            () = self.stopping() => {}
        }
    }

    /// Sleeps on the server's clock, until the server is stopped at the latest.
    pub(super) async fn sleep(&self, duration: Duration) {
        tokio::select! {
            () = self.clock.sleep(duration) => {}
            () = self.stopping() => {}
        }
    }

    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Waits for [`stop`](Self::stop).
    pub(super) async fn stopping(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender is a part of `self`, so this never fails.
        drop(stopping.wait_for(|stopping| *stopping).await);
    }

    fn lock(&self) -> MutexGuard<'_, RunningState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunningState {
    /// The counts, with those of the authority.
    pub(super) fn counts(&self) -> Counts {
        let totals = self.server.authority.totals;
        Counts {
            refreshes: totals.refreshes,
            grace_retries: totals.grace_retries,
            reuses_detected: totals.reuses_detected,
            grants_revoked: totals.grants_revoked,
            ..self.counts.clone()
        }
    }
}

/// One request that is held. It is dropped when the request goes on, and also when its connection
/// is closed.
struct Held<'a>(&'a RunningServer);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.update(|state| state.held -= 1);
    }
}
