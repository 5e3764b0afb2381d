//! What the handle, the connections and the waiting tests share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::authority::Authority;
use super::browser::FakeLogin;
use super::counts::{Counts, Presented};
use super::dialect::{FakeDialect, Route, Sites};
use super::fault::{Fault, Faults};
use super::registry::Registry;
use super::reply::{ExpiresIn, Reply};
use super::request::Call;
use crate::clock::Clock;

/// The shared cell, and the bells that ring when something in it has changed.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Rings at every change.
    changed: watch::Sender<()>,
    /// Turns true once. Apart from `changed`, for which every connection would wake at every
    /// change.
    stopping: watch::Sender<bool>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) dialect: FakeDialect,
}

/// The whole state of the server.
pub(super) struct State {
    pub(super) authority: Authority,
    /// What the dialects keep beside it.
    pub(super) sites: Sites,
    pub(super) registry: Registry,
    pub(super) login: FakeLogin,
    pub(super) faults: Faults,
    pub(super) presented: Presented,
    pub(super) counts: Counts,
    pub(super) expires_in: ExpiresIn,
    pub(super) url: String,
    pub(super) issuer: String,
    /// Requests that wait for a release.
    pub(super) held: usize,
    /// How often held requests have been released.
    pub(super) releases: u64,
}

impl Shared {
    pub(super) fn new(state: State, clock: Arc<dyn Clock>, dialect: FakeDialect) -> Self {
        let (changed, stopping) = (watch::Sender::new(()), watch::Sender::new(false));
        Self { state: Mutex::new(state), changed, stopping, clock, dialect }
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.lock())
    }

    pub(super) fn update<T>(&self, update: impl FnOnce(&mut State) -> T) -> T {
        let result = update(&mut self.lock());
        // After the lock is released, so that the woken do not run into it.
        self.changed.send_replace(());
        result
    }

    /// Waits for the predicate and not for a change, which may have come before or mean nothing.
    pub(super) async fn wait_until(&self, predicate: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        while !self.read(&predicate) {
            // The sender is a part of `self`, so this never fails.
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Counts the request, and says what shall happen to it.
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

    pub(super) fn process(&self, route: &Route, call: &Call) -> Reply {
        let now = self.clock.now();
        self.update(|state| {
            let reply = (route.handle)(state, call, now);
            match reply.refused() {
                None => state.counts.add(route.endpoint, |tally| tally.granted += 1),
                Some(code) => {
                    state.counts.add(route.endpoint, |tally| tally.refused += 1);
                    *state.counts.errors.entry(code.to_owned()).or_default() += 1;
                }
            }
            reply
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

    /// Sleeps on the server's clock. One who stops the server does not wait for that.
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The counts, with those that are kept elsewhere.
    pub(super) fn counts(&self) -> Counts {
        let totals = self.authority.totals;
        Counts {
            refreshes: totals.refreshes,
            grace_retries: totals.grace_retries,
            reuses_detected: totals.reuses_detected,
            grants_revoked: totals.grants_revoked,
            ..self.counts.clone()
        }
    }
}

/// One request that is held; no longer when it goes, be it because its connection has gone.
struct Held<'a>(&'a Shared);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.update(|state| state.held -= 1);
    }
}
