//! What can be seen of a session from outside.

use std::time::SystemTime;

use serde::Serialize;

use super::from_record;
use super::machine::{self, Run, Settled};
use super::slot::Slot;
use crate::clock::{BootTime, Now};
use crate::error::LostReason;
use crate::key::SessionId;
use crate::store::{Intent, Listed, Phase, Stored};

/// A session as it was when it was looked at. Holds no secret.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SessionStatus {
    /// Which session.
    pub id: SessionId,
    /// Where it stands.
    pub state: State,
    /// How many grants made it.
    pub epoch: u64,
    /// How many times its credentials were stored.
    pub generation: u64,
    /// When its access token ends, if known.
    pub access_expires_at: Option<SystemTime>,
    /// When its refresh token ends, if known.
    pub refresh_expires_at: Option<SystemTime>,
    /// Whether the store has all that memory has.
    pub saved: bool,
    /// Why it is lost, if it is.
    pub lost: Option<LostReason>,
    /// Not tried again before, if the last attempt failed.
    pub retry_at: Option<SystemTime>,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum State {
    /// Never established.
    Vacant,
    /// A grant is being exchanged.
    Establishing,
    /// A second factor is awaited.
    Challenged,
    /// It has credentials.
    Active,
    /// It has credentials, and newer ones are being fetched.
    Refreshing,
    /// The answer to a refresh was lost.
    InDoubt,
    /// Only a new grant helps.
    Lost,
    /// Revoked by us.
    Closed,
}

/// None before the session was loaded.
pub(crate) fn status(slot: &Slot, now: Now) -> Option<SessionStatus> {
    slot.with_state(|state| {
        let settled = state.settled.as_ref()?;
        let (epoch, generation) = settled.counters();
        let credentials = settled.credentials().map(|credentials| credentials.tokens());
        let wall = |at: BootTime| now.wall_at(at);
        Some(SessionStatus {
            id: slot.id().clone(),
            state: seen(state.running.as_ref(), settled),
            epoch,
            generation,
            access_expires_at: credentials.and_then(|tokens| tokens.access_expires_at()),
            refresh_expires_at: credentials.and_then(|tokens| tokens.refresh_expires_at()),
            saved: !settled.serving().is_some_and(machine::CredentialState::is_unsaved),
            lost: settled.lost(),
            retry_at: settled.retry_at().filter(|at| *at > now.boot).map(wall),
        })
    })
}

/// A session that is not in memory, as its record says; none of one that a first grant has claimed
/// and not made.
pub(crate) fn of_record(listed: Listed, now: Now) -> Option<SessionStatus> {
    let Listed { id, stored } = listed;
    let record = &stored.record;
    let mut lost = record.lost;
    let mut state = stored_state(&stored)?;
    let ended = stored.refresh_left().is_some_and(|left| left.is_zero());
    if matches!(state, State::Active | State::InDoubt) && ended {
        // What whoever reads it next will find.
        (state, lost) = (State::Lost, Some(LostReason::RefreshExpired));
    }
    Some(SessionStatus {
        state,
        epoch: record.epoch,
        generation: record.generation,
        access_expires_at: record.access_expires_at,
        refresh_expires_at: record.refresh_expires_at,
        saved: true,
        lost,
        retry_at: stored.retry_in().and_then(|left| now.wall.checked_add(left)),
        id,
    })
}

fn stored_state(stored: &Stored<()>) -> Option<State> {
    let record = &stored.record;
    let silent = from_record::lease_left(stored).is_zero();
    match (record.lease.map(|lease| lease.intent), record.phase) {
        (Some(Intent::Establish), _) if !silent => Some(State::Establishing),
        (Some(Intent::Refresh), _) if !silent => Some(State::Refreshing),
        // Its holder fell silent.
        (Some(Intent::Refresh), _) => Some(State::InDoubt),
        (_, Phase::Vacant) => None,
        (_, Phase::Active) => Some(State::Active),
        (_, Phase::InDoubt) => Some(State::InDoubt),
        (_, Phase::Lost) => Some(State::Lost),
        (_, Phase::Closed) => Some(State::Closed),
    }
}

fn seen(running: Option<&Run>, settled: &Settled) -> State {
    match (running, settled) {
        (Some(Run::Challenge { .. }), _) => State::Challenged,
        (Some(Run::Establish { .. }), _) => State::Establishing,
        (Some(Run::Refresh { .. }), _) => State::Refreshing,
        (Some(Run::Revoke), _) | (_, Settled::Closed(_)) => State::Closed,
        (_, Settled::Vacant { .. }) => State::Vacant,
        (_, Settled::Active(_)) => State::Active,
        (_, Settled::InDoubt(..)) => State::InDoubt,
        (_, Settled::Lost(_)) => State::Lost,
    }
}
