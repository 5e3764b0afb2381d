//! Inputs from outside an exchange: loads, changes of other processes, reports of APIs, and new
//! settings.

use std::time::Duration;

use super::{
    BackoffState, CredentialState, Effects, Lost, Notification, Run, Saved, Settled, Start, State,
    StepContext, lose,
};
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind, LostReason};

/// A change of the record by other processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExternalChange {
    /// The version that they wrote; `None` if it is not known.
    pub(crate) version: Option<u64>,
    /// The held token must not be served any more.
    pub(crate) ends: bool,
}

impl ExternalChange {
    /// The content of the change is not known.
    pub(crate) const UNKNOWN: Self = Self { version: None, ends: false };

    fn and(self, other: Self) -> Self {
        let version = self.version.zip(other.version).map(|(one, two)| one.max(two));
        Self { version, ends: self.ends || other.ends }
    }

    /// Whether a record of this version includes the change.
    fn is_in(&self, version: u64) -> bool {
        self.version.is_some_and(|external_change| external_change <= version)
    }
}

impl State {
    /// Whether the record must be loaded before any work begins.
    pub(crate) fn wants_load(&self) -> bool {
        let external_change =
            self.external_change.is_some() || matches!(self.load.running, Some(Some(_)));
        external_change && !self.is_unsaved()
    }

    /// Whether an external change must be loaded as soon as nothing runs and no failed load is in
    /// backoff.
    pub(super) fn has_unloaded_change(&self) -> bool {
        let free = self.load.running.is_none() && !self.is_unsaved();
        free && self.external_change.is_some() && !self.is_unloaded()
    }

    /// Whether the store does not have the held credentials yet. The statement that saves them
    /// finds the changes of other processes, so nothing is loaded before.
    fn is_unsaved(&self) -> bool {
        self.settled.as_ref().is_some_and(Settled::is_unsaved)
    }

    /// Whether another process has ended the held credentials.
    pub(crate) fn is_ended_elsewhere(&self) -> bool {
        let read_for = self.load.running.flatten();
        self.external_change.into_iter().chain(read_for).any(|external_change| external_change.ends)
    }

    /// Discards the running load. The change that it was begun for is noted again.
    pub(super) fn stop_load(&mut self) {
        if let Some(Some(external_change)) = self.load.running.take() {
            self.external_change = Some(
                self.external_change.map_or(external_change, |noted| noted.and(external_change)),
            );
        }
    }

    fn begin_load(&mut self) -> u32 {
        self.stop_load();
        self.load.number = self.load.number.wrapping_add(1);
        self.load.running = Some(self.external_change.take());
        self.load.number
    }
}

/// Begins to load a noted change, if nothing runs.
pub(super) fn load_change(state: &mut State, at: &StepContext, effects: &mut Effects) {
    let now = at.now.boot;
    let cooling = BackoffState::cooling(state.load_backoff.as_ref(), now);
    let free = effects.start.is_none() && !state.is_busy();
    if free && !cooling && state.has_unloaded_change() {
        effects.start = Some(Start::Load(state.begin_load()));
    }
}

/// Begins a load that a caller waits for. Returns its number.
pub(crate) fn begin_load(state: &mut State) -> u32 {
    state.begin_load()
}

/// Gives up a load that no caller waits for any more. The next load then includes the change that
/// this one was begun for.
pub(crate) fn abandon_load(state: &mut State, number: u32) {
    if state.load.number == number {
        state.stop_load();
    }
}

/// Takes the loaded record. If it shows less than this process holds, the store went back, and the
/// credentials are written again first.
pub(super) fn loaded(
    state: &mut State,
    number: u32,
    version: u64,
    settled: Settled,
    effects: &mut Effects,
) {
    if state.load.number != number {
        return;
    }
    let Some(read_for) = state.load.running.take() else { return };
    // Another process deleted the record; the store has not gone back.
    let deleted = read_for.is_some_and(|external_change| external_change.ends)
        && matches!(settled, Settled::Vacant { .. });
    let older = |held: &Settled| version < state.version && held.is_newer_than(&settled);
    if !deleted && !state.load.restored && state.settled.as_ref().is_some_and(older) {
        state.load_backoff = None;
        state.load.restored = true;
        effects.start = Some(Start::Restore);
    } else {
        settle(state, version, settled);
    }
}

pub(super) fn load_failed(state: &mut State, number: u32, error: Error, at: &StepContext) {
    if state.load.number == number && state.load.running.is_some() {
        state.stop_load();
        state.load_backoff = Some(BackoffState::after(state.load_backoff.as_ref(), error, at));
    }
}

/// Notes an external change, also while an exchange runs: a change that was dropped then would
/// never be loaded. Before the first load, and for a version that is known, there is nothing to
/// note.
pub(super) fn note(state: &mut State, external_change: ExternalChange) {
    let known = state.is_unloaded() && state.load.running.is_none();
    if !known && !external_change.is_in(state.version) {
        state.external_change =
            Some(state.external_change.map_or(external_change, |noted| noted.and(external_change)));
    }
}

/// Ends the running work, which found another record than it expected. That record counts, or is
/// loaded anew.
pub(super) fn conflict(state: &mut State, found: Option<(u64, Settled)>) {
    state.running.take_if(|run| !matches!(run, Run::Challenge { .. }));
    state.stop_load();
    match found {
        Some((version, settled)) => settle(state, version, settled),
        None => note(state, ExternalChange::UNKNOWN),
    }
}

/// Takes this record as the session's.
fn settle(state: &mut State, version: u64, settled: Settled) {
    state.load_backoff = None;
    state.load.restored = false;
    state.external_change.take_if(|external_change| external_change.is_in(version));
    state.version = version;
    state.settled = Some(match state.settled.take() {
        Some(held) => settled.remembering(held),
        None => settled,
    });
}

/// Stops serving the held credentials, and takes the record. If an exchange runs, it goes on; its
/// own statement finds the record, which is loaded later.
pub(super) fn tokens_superseded(state: &mut State, found: Option<(u64, Settled)>) {
    if let Some(held) = state.settled.as_mut().and_then(Settled::held_mut) {
        held.saved = Saved::Yes;
    }
    match found.filter(|_| !state.is_busy()) {
        Some((version, settled)) => settle(state, version, settled),
        None => note(state, ExternalChange { version: None, ends: true }),
    }
}

/// Notes a write of this process. If other processes wrote between the known version and this one,
/// their change must still be loaded.
pub(super) fn wrote(state: &mut State, version: u64) {
    state.load.restored = false;
    // A running load may have begun before the write.
    state.stop_load();
    if version > state.version.saturating_add(1) {
        return note(state, ExternalChange { version: Some(version), ends: false });
    }
    state.version = state.version.max(version);
    state.external_change.take_if(|external_change| external_change.is_in(version));
}

pub(super) fn rejected(state: &mut State, generation: u64) {
    if let Some(settled) = &mut state.settled {
        settled.reject(generation);
    }
}

/// Notes that an API accepted the token. A later rejection by another API then says little about
/// the token, so the damping starts again at its shortest span.
pub(super) fn accepted(state: &mut State, generation: u64) {
    if let Some(held) = state.settled.as_mut().and_then(Settled::held_mut) {
        held.accept(generation);
    }
}

/// Whether a rejection of the token of this generation starts no refresh, because the last
/// rejection brought this very token a moment ago, and another refresh would bring no better one.
pub(crate) fn is_damped(state: &State, generation: u64, now: BootTime) -> bool {
    let held = state.settled.as_ref().and_then(Settled::serving);
    held.is_some_and(|held| held.is_of(generation) && held.is_damped(now))
}

/// Lets the next need retry a session that is provisionally lost, unless its last retry is still in
/// backoff.
pub(super) fn refresh_by_hand(state: &mut State, now: BootTime) {
    if state.is_busy() {
        return;
    }
    if let Some(Settled::Lost(Lost { held: Some(held), .. })) = &mut state.settled {
        let cooling = BackoffState::cooling(held.backoff.as_ref(), now);
        if let Some(unclassified) = held.unclassified.as_mut().filter(|_| !cooling) {
            unclassified.retry_at = unclassified.retry_at.min(now);
        }
    }
}

pub(super) fn dead(state: &mut State, generation: u64, reason: LostReason, effects: &mut Effects) {
    let revoking = matches!(state.running, Some(Run::Revoke));
    let Some(settled) = state.settled.as_mut().filter(|_| !revoking) else { return };
    let lost = settled.lost();
    if matches!(state.running, Some(Run::Refresh { .. })) {
        // The running refresh finds out whether the session is dead.
        settled.reject(generation);
    } else if lost.is_some_and(LostReason::is_ours) && !reason.is_ours() {
        // This side ended the session, and no renewal may forget that.
        settled.reject(generation);
    } else if lost != Some(reason) && settled.serving().is_some_and(|held| held.is_of(generation)) {
        lose(settled, reason, None, effects);
        if settled.serving().is_none() {
            // The token must not be served even if a loaded record does not show the loss yet.
            settled.reject(generation);
        }
    }
}

/// Publishes the coming end of the refresh token. Of several processes, only the one that recorded
/// it does.
pub(super) fn announced(state: &mut State, version: u64, left: Duration, effects: &mut Effects) {
    if let Some(held) = state.settled.as_mut().and_then(Settled::held_mut) {
        held.expiring = None;
    }
    effects.notifications.push(Notification::Expiring { left });
    wrote(state, version);
}

pub(super) fn suspected(state: &mut State, version: u64) {
    if let Some(settled) = &mut state.settled {
        settled.suspect();
    }
    wrote(state, version);
}

/// Publishes a loss that this process recorded, also if a load has shown the loss meanwhile: that
/// load found this process's own write.
pub(super) fn loss_recorded(
    state: &mut State,
    version: u64,
    reason: LostReason,
    effects: &mut Effects,
) {
    if let Some(Settled::Lost(lost)) = &mut state.settled {
        lost.recorded = true;
    }
    effects.notifications.push(Notification::Lost(reason));
    wrote(state, version);
}

/// Takes replaced settings: forgets failures that the former settings caused, and marks credentials
/// that the new authority and client did not issue.
pub(super) fn reconfigured(state: &mut State, issuer_mismatch: bool, now: BootTime) {
    let refreshing = matches!(state.running, Some(Run::Refresh { .. }));
    match &mut state.settled {
        None => {}
        Some(Settled::Vacant { backoff }) => forget_misconfigured(backoff),
        Some(Settled::Active(held)) => mark(held, issuer_mismatch),
        Some(Settled::InDoubt(held, in_doubt)) => {
            let refused = held.backoff.as_ref().is_some_and(is_misconfigured);
            mark(held, issuer_mismatch);
            if refused && !refreshing {
                // The server did not judge the refresh token, because it refused the client.
                in_doubt.retry_at = in_doubt.retry_at.min(now);
                in_doubt.floor = in_doubt.floor.min(now);
            }
        }
        Some(Settled::Lost(lost)) => {
            forget_misconfigured(&mut lost.backoff);
            if let Some(held) = &mut lost.held {
                mark(held, issuer_mismatch);
            }
        }
        Some(Settled::Closed(closed)) => {
            forget_misconfigured(&mut closed.backoff);
            forget_misconfigured(&mut closed.unrenewed);
        }
    }
}

fn mark(held: &mut CredentialState, issuer_mismatch: bool) {
    held.issuer_mismatch = issuer_mismatch;
    forget_misconfigured(&mut held.backoff);
}

fn forget_misconfigured(backoff: &mut Option<BackoffState>) {
    backoff.take_if(|backoff| is_misconfigured(backoff));
}

fn is_misconfigured(backoff: &BackoffState) -> bool {
    backoff.error.kind() == ErrorKind::Misconfigured
}
