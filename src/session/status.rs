//! What can be seen of a session from outside.

use std::time::SystemTime;

use serde::Serialize;

use super::machine::{self, Rest};
use super::slot::Slot;
use crate::clock::{BootTime, Now};
use crate::error::LostReason;
use crate::key::SessionId;
use crate::store::{Intent, Listed, Phase, Record};

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
    slot.look(|state| {
        let rest = state.rest()?;
        let (epoch, generation) = rest.counters();
        let credentials = rest.credentials().map(|credentials| credentials.tokens());
        let wall = |at: BootTime| now.wall_at(at);
        Some(SessionStatus {
            id: slot.id().clone(),
            state: seen(state, &rest),
            epoch,
            generation,
            access_expires_at: credentials.and_then(|tokens| tokens.access_expires_at()),
            refresh_expires_at: credentials.and_then(|tokens| tokens.refresh_expires_at()),
            saved: !rest.serving().is_some_and(machine::Held::is_owed),
            lost: rest.lost(),
            retry_at: rest.retry_at().filter(|at| *at > now.boot).map(wall),
        })
    })
}

/// A session that is not in memory, as its record says; none of one that a first grant has claimed
/// and not made.
pub(crate) fn of_record(listed: Listed, now: Now) -> Option<SessionStatus> {
    let Listed { id, record } = listed;
    let tokens = record.credentials.as_ref().map(|credentials| credentials.tokens());
    let refresh_expires_at = tokens.and_then(|tokens| tokens.refresh_expires_at());
    let mut lost = record.lost;
    let mut state = stored(&record, now)?;
    if matches!(state, State::Active | State::InDoubt)
        && refresh_expires_at.is_some_and(|end| end <= now.wall)
    {
        // What whoever reads it next will find.
        (state, lost) = (State::Lost, Some(LostReason::RefreshExpired));
    }
    Some(SessionStatus {
        state,
        epoch: record.epoch,
        generation: record.generation,
        access_expires_at: tokens.and_then(|tokens| tokens.access_expires_at()),
        refresh_expires_at,
        saved: true,
        lost,
        retry_at: record.retry_at.filter(|at| *at > now.wall),
        id,
    })
}

fn stored(record: &Record, now: Now) -> Option<State> {
    let phase = match record.lease {
        Some(lease) if now.boot < lease.until => {
            return Some(match lease.intent {
                Intent::Establish => State::Establishing,
                Intent::Refresh => State::Refreshing,
            });
        }
        // Its holder fell silent.
        Some(lease) if lease.intent == Intent::Refresh => Phase::InDoubt,
        Some(lease) => lease.before,
        None => record.phase,
    };
    match phase {
        Phase::Vacant | Phase::Claimed => None,
        Phase::Active => Some(State::Active),
        Phase::InDoubt => Some(State::InDoubt),
        Phase::Lost => Some(State::Lost),
        Phase::Closed => Some(State::Closed),
    }
}

fn seen(state: &machine::State, rest: &Rest) -> State {
    match state {
        machine::State::Challenged { .. } => State::Challenged,
        machine::State::Establishing { .. } => State::Establishing,
        machine::State::Refreshing { overdue: true, .. } => State::InDoubt,
        machine::State::Refreshing { .. } => State::Refreshing,
        machine::State::Revoking { .. } => State::Closed,
        machine::State::Unloaded { .. }
        | machine::State::Rest(_)
        | machine::State::Closing { .. } => match rest {
            Rest::Vacant { .. } => State::Vacant,
            Rest::Active(_) => State::Active,
            Rest::InDoubt(..) => State::InDoubt,
            Rest::Lost(_) => State::Lost,
            Rest::Closed(_) => State::Closed,
        },
    }
}
