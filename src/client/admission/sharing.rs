//! What the processes on one store share about a client. The state of this process is a copy of
//! what the store knows, so that no exchange waits for the store unless it would be the probe.

use std::time::Duration;

use tokio::sync::MutexGuard;

use super::{Admission, Entrant, State};
use crate::clock::BootTime;
use crate::store::{ClaimId, ClientChange, ClientOutcome, Owner};

/// A change that the store does not know yet.
pub(crate) struct UnwrittenChange {
    pub(crate) change: ClientChange,
    /// The number of the server's answer that led to it.
    number: u64,
    /// When the durations in the change begin.
    at: BootTime,
}

impl Admission {
    /// Uses this supervisor's part of the limits, and the store's claims for probes if the store
    /// shares clients. Called whenever the number of supervisors may have changed.
    pub(crate) fn share(&self) {
        self.lanes.resize(self.replicas.part_of(self.limits.exchanges));
        self.state.lock().stop.share(self.replicas.share_clients());
        self.changed.notify_waiters();
    }

    /// Whether the store must be told what the server answered.
    pub(crate) fn has_unwritten(&self, now: BootTime) -> bool {
        self.replicas.share_clients() && self.state.lock().unwritten(now).is_some()
    }

    /// As [`has_unwritten`](Self::has_unwritten). False if this returned true since
    /// [`leave_queue`](Self::leave_queue).
    pub(crate) fn join_queue(&self, now: BootTime) -> bool {
        if !self.replicas.share_clients() {
            return false;
        }
        let mut state = self.state.lock();
        let joins = !state.queued && state.unwritten(now).is_some();
        state.queued |= joins;
        joins
    }

    /// Notes that the changes that came so far are about to be written.
    pub(crate) fn leave_queue(&self) {
        self.state.lock().queued = false;
    }

    /// Waits until no other task of this process changes the client in the store.
    pub(crate) async fn begin_writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().await
    }

    /// The next change to write.
    pub(crate) fn unwritten(&self, now: BootTime) -> Option<UnwrittenChange> {
        self.state.lock().unwritten(now)
    }

    /// Notes the store's answer to a change.
    pub(crate) fn written(
        &self,
        written: &UnwrittenChange,
        outcome: &ClientOutcome,
        now: BootTime,
    ) {
        let mut state = self.state.lock();
        match &written.change {
            ClientChange::Throttle { wait } => {
                state.shared_throttle = state.shared_throttle.max(written.at.after(*wait));
            }
            change @ (ClientChange::Read
            | ClientChange::Reject { .. }
            | ClientChange::Accept { .. }
            | ClientChange::ClaimProbe { .. }) => {
                let is_read = *change == ClientChange::Read;
                state.stop.sent(written.number, is_read, &outcome.client);
            }
        }
        state.answered_at = Some(now);
        self.adopt(state, outcome, now);
    }

    /// Takes over what the store said when it was asked at `asked_at` for all clients, unless it
    /// answered a change of this client since: then the list may be older than that change.
    pub(crate) fn adopt_listed(&self, outcome: &ClientOutcome, asked_at: BootTime, now: BootTime) {
        let state = self.state.lock();
        if state.answered_at.is_none_or(|answered_at| answered_at < asked_at) {
            self.adopt(state, outcome, now);
        }
    }

    /// The claim of the probe, if a probe is due that the store has not granted to this process.
    pub(crate) fn probe_claim(&self, owner: Owner, now: BootTime) -> Option<ClientChange> {
        let (claim, interval) = (ClaimId(fastrand::u64(..)), self.limits.probe);
        let lacks_grant = self.state.lock().stop.lacks_grant(now);
        lacks_grant.then_some(ClientChange::ClaimProbe { claim, owner, interval })
    }

    /// Notes the store's answer to a claim of the probe. If the store is away, this process probes
    /// as if it were alone.
    pub(crate) fn claimed(&self, outcome: Option<&ClientOutcome>, now: BootTime) {
        let mut state = self.state.lock();
        if outcome.is_none_or(|outcome| outcome.done) {
            // Before the adoption, which leaves the probe to a process that has the grant.
            state.stop.grant_probe(now.after(self.limits.probe));
        }
        if let Some(outcome) = outcome {
            state.answered_at = Some(now);
            self.adopt(state, outcome, now);
        }
    }

    pub(super) fn wants_claim(&self, entrant: Entrant<'_>, now: BootTime) -> bool {
        self.state.lock().stop.wants_claim(entrant, now)
    }

    fn adopt(
        &self,
        mut state: parking_lot::MutexGuard<'_, State>,
        outcome: &ClientOutcome,
        now: BootTime,
    ) {
        let until = outcome.client.throttled_until.unwrap_or_default();
        let left = until.since(outcome.now.boot).min(self.limits.longest_retry_after);
        let mut changed = false;
        if left > Duration::ZERO {
            let until = now.after(left);
            changed = until > state.throttled_until;
            state.throttled_until = state.throttled_until.max(until);
            state.shared_throttle = state.shared_throttle.max(until);
        }
        changed |= state.stop.adopt(outcome, now, self.limits.probe);
        drop(state);
        if changed {
            self.changed.notify_waiters();
        }
    }
}

impl State {
    fn unwritten(&self, now: BootTime) -> Option<UnwrittenChange> {
        if self.throttled_until > self.shared_throttle.max(now) {
            let change = ClientChange::Throttle { wait: self.throttled_until.since(now) };
            return Some(UnwrittenChange { change, number: 0, at: now });
        }
        let (change, number) = self.stop.unsent(now)?;
        Some(UnwrittenChange { change, number, at: now })
    }
}
