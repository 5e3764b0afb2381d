//! The status of a session.

use std::time::SystemTime;

use serde::Serialize;

use super::from_record;
use super::machine::{self, Run, Settled};
use super::slot::Slot;
use crate::clock::{BootTime, Now};
use crate::error::LostReason;
use crate::key::SessionId;
use crate::store::{Intent, Listed, Phase, Stored};

/// The status of a session at one moment. It holds no secret.
///
/// ```
/// use session_warden::session::{SessionStatus, State};
/// # use session_warden::{SessionKey, Supervisor, testing::ScriptedProvider};
///
/// /// The text about a connected account on a user's page.
/// fn shown(status: &SessionStatus) -> String {
///     match (status.state, status.lost) {
///         (State::Active | State::Refreshing | State::InDoubt, _) => "connected".to_owned(),
///         (State::Lost, Some(reason)) => format!("sign in again: {reason}"),
///         (State::Establishing | State::Challenged, _) => "signing in".to_owned(),
///         _ => "not connected".to_owned(),
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// # let fake = ScriptedProvider::new();
/// # let supervisor = Supervisor::builder().provider("fake", fake).start().await?;
/// # let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
/// # let session = sessions.session(SessionKey::single("device-17")?);
///
/// assert_eq!(shown(&session.status().await?), "not connected");
/// let _ = session.establish(()).await?;
/// assert_eq!(shown(&session.status().await?), "connected");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SessionStatus {
    /// The id of the session.
    pub id: SessionId,
    /// The state of the session.
    pub state: State,
    /// The number of grants that have established the session.
    pub epoch: u64,
    /// The number of times that credentials of the session were stored.
    pub generation: u64,
    /// When the access token expires, by the wall clock. `None` if this is not known.
    pub access_expires_at: Option<SystemTime>,
    /// When the refresh token expires, by the wall clock. `None` if this is not known.
    pub refresh_expires_at: Option<SystemTime>,
    /// Whether the store has the credentials that are in memory.
    pub saved: bool,
    /// Why the session is lost. `None` if it is not lost.
    pub lost: Option<LostReason>,
    /// The earliest time of the next try, by the wall clock. `None` if the last try did not fail,
    /// or if the next one may begin now.
    pub retry_at: Option<SystemTime>,
}

/// The state of a session. See the example of [`SessionStatus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum State {
    /// The session was never established.
    Vacant,
    /// A grant is being exchanged.
    Establishing,
    /// The server asks for a second factor.
    Challenged,
    /// The session has credentials.
    Active,
    /// The session has credentials, and a refresh runs.
    Refreshing,
    /// The response to a refresh was lost, so the refresh token may be spent.
    InDoubt,
    /// The session needs a new grant.
    Lost,
    /// The session was revoked with this crate.
    Closed,
}

/// The status in memory; `None` before the session was loaded.
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

/// The status of a record; `None` if a first grant has claimed the session and not established it.
pub(crate) fn of_record(listed: Listed, now: Now) -> Option<SessionStatus> {
    let Listed { id, stored } = listed;
    let record = &stored.record;
    let mut lost = record.lost;
    let mut state = stored_state(&stored)?;
    let ended = stored.refresh_left().is_some_and(|left| left.is_zero());
    if matches!(state, State::Active | State::InDoubt) && ended {
        // The state that the next load of this record gives.
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
        // The lease is over, and the holder's refresh may have been sent.
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
