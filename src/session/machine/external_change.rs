//! What a session hears from outside: the store, other processes, APIs, and whoever changes
//! settings.

use std::time::Duration;

use super::{
    BackoffState, CredentialState, Effects, Lost, Notification, Run, Saved, Settled, Start, State,
    StepContext, lose,
};
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind, LostReason};

/// What other processes did to the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExternalChange {
    /// The version that they wrote; `None` if it is not known whether they wrote anything.
    pub(crate) version: Option<u64>,
    /// The token in hand must not be served any more.
    pub(crate) ends: bool,
}

impl ExternalChange {
    /// It is not known what was changed.
    pub(crate) const UNKNOWN: Self = Self { version: None, ends: false };

    fn and(self, other: Self) -> Self {
        let version = self.version.zip(other.version).map(|(one, two)| one.max(two));
        Self { version, ends: self.ends || other.ends }
    }

    /// Whether a record of this version includes it.
    fn is_in(&self, version: u64) -> bool {
        self.version.is_some_and(|external_change| external_change <= version)
    }
}

impl State {
    /// Whether the record is to be read before anything is begun.
    pub(crate) fn wants_load(&self) -> bool {
        let external_change =
            self.external_change.is_some() || matches!(self.read.running, Some(Some(_)));
        external_change && !self.is_unsaved()
    }

    /// Whether there is news that must be read as soon as nothing runs and no failed reading is in
    /// back-off.
    pub(super) fn has_unloaded_change(&self) -> bool {
        let free = self.read.running.is_none() && !self.is_unsaved();
        free && self.external_change.is_some() && !self.is_unloaded()
    }

    /// Whether the store does not have the credentials in hand yet. The statement that saves them
    /// finds out what others did, so nothing is read before.
    fn is_unsaved(&self) -> bool {
        self.settled.as_ref().is_some_and(Settled::is_unsaved)
    }

    /// Whether another process has ended what is in hand.
    pub(crate) fn is_ended_elsewhere(&self) -> bool {
        let read_for = self.read.running.flatten();
        self.external_change.into_iter().chain(read_for).any(|external_change| external_change.ends)
    }

    /// Makes the answer of the reading that runs not count. The news that it was begun for is noted
    /// again.
    pub(super) fn stop_load(&mut self) {
        if let Some(Some(external_change)) = self.read.running.take() {
            self.external_change = Some(
                self.external_change.map_or(external_change, |noted| noted.and(external_change)),
            );
        }
    }

    fn begin_load(&mut self) -> u32 {
        self.stop_load();
        self.read.number = self.read.number.wrapping_add(1);
        self.read.running = Some(self.external_change.take());
        self.read.number
    }
}

/// Begins to read what others did, if nothing runs.
pub(super) fn load_change(state: &mut State, at: &StepContext, effects: &mut Effects) {
    let now = at.now.boot;
    let cooling = BackoffState::cooling(state.load_backoff.as_ref(), now);
    let free = effects.start.is_none() && !state.is_busy();
    if free && !cooling && state.has_unloaded_change() {
        effects.start = Some(Start::Load(state.begin_load()));
    }
}

/// Begins a reading that somebody waits for, and gives its number.
pub(crate) fn read(state: &mut State) -> u32 {
    state.begin_load()
}

/// Gives up a reading that nobody waits for any more. Whoever comes next reads the news that it was
/// begun for.
pub(crate) fn abandon_load(state: &mut State, number: u32) {
    if state.read.number == number {
        state.stop_load();
    }
}

/// Takes the record that was read. If it shows less than is held here, the store went back, and the
/// credentials are written again first.
pub(super) fn loaded(
    state: &mut State,
    number: u32,
    version: u64,
    settled: Settled,
    effects: &mut Effects,
) {
    if state.read.number != number {
        return;
    }
    let Some(read_for) = state.read.running.take() else { return };
    // Another process deleted it, and the store has not gone back.
    let deleted = read_for.is_some_and(|external_change| external_change.ends)
        && matches!(settled, Settled::Vacant { .. });
    let older = |held: &Settled| version < state.version && held.is_newer_than(&settled);
    if !deleted && !state.read.restored && state.settled.as_ref().is_some_and(older) {
        state.load_backoff = None;
        state.read.restored = true;
        effects.start = Some(Start::Restore);
    } else {
        settle(state, version, settled);
    }
}

pub(super) fn load_failed(state: &mut State, number: u32, error: Error, at: &StepContext) {
    if state.read.number == number && state.read.running.is_some() {
        state.stop_load();
        state.load_backoff = Some(BackoffState::after(state.load_backoff.as_ref(), error, at));
    }
}

/// Notes what others did, also while an exchange runs: if the news were dropped then, it would
/// never be read. A record that was not read yet needs no note, and a version that is known is no
/// news.
pub(super) fn note(state: &mut State, external_change: ExternalChange) {
    let known = state.is_unloaded() && state.read.running.is_none();
    if !known && !external_change.is_in(state.version) {
        state.external_change =
            Some(state.external_change.map_or(external_change, |noted| noted.and(external_change)));
    }
}

/// What ran ended because the record was another one than it expected. That record counts, or is
/// read anew.
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
    state.read.restored = false;
    state.external_change.take_if(|external_change| external_change.is_in(version));
    state.version = version;
    state.settled = Some(match state.settled.take() {
        Some(held) => settled.remembering(held),
        None => settled,
    });
}

/// Stops serving the credentials in hand, and takes the record. If an exchange runs, it goes on,
/// its own statement finds the record, and that is read later.
pub(super) fn orphaned(state: &mut State, found: Option<(u64, Settled)>) {
    if let Some(held) = state.settled.as_mut().and_then(Settled::held_mut) {
        held.saved = Saved::Yes;
    }
    match found.filter(|_| !state.is_busy()) {
        Some((version, settled)) => settle(state, version, settled),
        None => note(state, ExternalChange { version: None, ends: true }),
    }
}

/// Notes a write of this process. If others wrote between the known version and this one, what they
/// wrote must still be read.
pub(super) fn wrote(state: &mut State, version: u64) {
    state.read.restored = false;
    // A reading that runs may have begun before the write.
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

/// An API accepted the token. A later rejection by another API then says little about the token, so
/// the damping starts again at its shortest span.
pub(super) fn accepted(state: &mut State, generation: u64) {
    if let Some(held) = state.settled.as_mut().and_then(Settled::held_mut) {
        held.accept(generation);
    }
}

/// Whether a rejection of the token of this generation starts no refresh: the last one brought
/// this very token a moment ago, and the next would bring one that is no better.
pub(crate) fn is_damped(state: &State, generation: u64, now: BootTime) -> bool {
    let held = state.settled.as_ref().and_then(Settled::serving);
    held.is_some_and(|held| held.generation == generation && held.is_damped(now))
}

/// Lets the next need try a session that is lost provisionally, unless its last try is still in
/// back-off.
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
        // The refresh that runs finds out whether the session is dead.
        settled.reject(generation);
    } else if lost.is_some_and(LostReason::is_ours) && !reason.is_ours() {
        // We ended it ourselves, and no renewal may forget that.
        settled.reject(generation);
    } else if lost != Some(reason)
        && settled.serving().is_some_and(|held| held.generation == generation)
    {
        lose(settled, reason, None, effects);
        if settled.serving().is_none() {
            // So that the token is not served even if a record is read that does not show the loss
            // yet.
            settled.reject(generation);
        }
    }
}

/// One of several processes announces the end of a refresh token: the one that wrote it down.
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

/// The same of a session that is lost. Published also where a reading has shown it meanwhile: that
/// was this process's own write.
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

/// The settings were replaced. Forgets failures that the former settings caused, and marks the
/// credentials as foreign if the authority and client that are named now did not issue them.
pub(super) fn reconfigured(state: &mut State, issuer_mismatch: bool, now: BootTime) {
    let refreshing = matches!(state.running, Some(Run::Refresh { .. }));
    match &mut state.settled {
        None => {}
        Some(Settled::Vacant { backoff }) => pardon(backoff),
        Some(Settled::Active(held)) => mark(held, issuer_mismatch),
        Some(Settled::InDoubt(held, in_doubt)) => {
            let refused = held.backoff.as_ref().is_some_and(is_misconfigured);
            mark(held, issuer_mismatch);
            if refused && !refreshing {
                // The server did not look at the refresh token, because it refused the client.
                in_doubt.retry_at = in_doubt.retry_at.min(now);
                in_doubt.floor = in_doubt.floor.min(now);
            }
        }
        Some(Settled::Lost(lost)) => {
            pardon(&mut lost.backoff);
            if let Some(held) = &mut lost.held {
                mark(held, issuer_mismatch);
            }
        }
        Some(Settled::Closed(closed)) => {
            pardon(&mut closed.backoff);
            pardon(&mut closed.unrenewed);
        }
    }
}

fn mark(held: &mut CredentialState, issuer_mismatch: bool) {
    held.issuer_mismatch = issuer_mismatch;
    pardon(&mut held.backoff);
}

fn pardon(backoff: &mut Option<BackoffState>) {
    backoff.take_if(|backoff| is_misconfigured(backoff));
}

fn is_misconfigured(backoff: &BackoffState) -> bool {
    backoff.error.kind() == ErrorKind::Misconfigured
}
