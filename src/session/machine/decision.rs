//! The token decision: what a caller gets in a state.

use super::start::Next;
use super::{BackoffState, CredentialState, Renewable, Run, Settled, State};
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind};
use crate::token::PermissionToken;

/// What a caller gets that wants a token.
#[derive(Clone, Debug)]
pub(crate) enum TokenDecision {
    Token(PermissionToken),
    Fail(Error),
    /// Wait for the running exchange, whose end decides.
    Wait,
    /// Load the record first.
    Load,
    /// Send [`Input::Need`](super::Input::Need): it starts the refresh or the renewal, or finds the
    /// session lost.
    Ask,
}

/// Decides what a caller gets that wants a token above generation `newer_than`.
pub(crate) fn token_decision(
    state: &State,
    newer_than: u64,
    renewable: Renewable,
    now: BootTime,
) -> TokenDecision {
    let serving = serving(state, now).and_then(|held| held.token.as_ref());
    if let Some(token) = serving.filter(|token| token.generation() > newer_than) {
        return TokenDecision::Token(token.clone());
    }
    if state.is_busy() {
        return TokenDecision::Wait;
    }
    let settled = match &state.settled {
        Some(settled) if !state.wants_load() => settled,
        _ => {
            let cooling = state.load_backoff.as_ref().filter(|backoff| now < backoff.retry_at);
            return cooling.map_or(TokenDecision::Load, |backoff| {
                TokenDecision::Fail(backoff.error_now(now))
            });
        }
    };
    if state.running.is_some() && !settled.may_go_on(now) {
        return TokenDecision::Fail(
            Error::new(ErrorKind::NotEstablished).about(
                "the server waits for a second factor; `establish` the session with its code",
            ),
        );
    }
    let renewable = if state.running.is_some() { Renewable::No } else { renewable };
    match settled.next(newer_than, renewable, now) {
        Next::Refresh | Next::Renew | Next::Lose(_) => TokenDecision::Ask,
        Next::Fail(error) => TokenDecision::Fail(error),
    }
}

/// The credentials whose access token is served now, if any. Once this process notices that another
/// process ended the session, it stops serving the token.
pub(crate) fn serving(state: &State, now: BootTime) -> Option<&CredentialState> {
    let ended = matches!(state.running, Some(Run::Revoke)) || state.is_ended_elsewhere();
    let held = state.settled.as_ref().filter(|_| !ended)?.serving()?;
    held.is_usable(now).then_some(held)
}

/// From when a reader asks for a newer token, but not before an exchange may begin.
pub(crate) fn due_at(state: &State, held: &CredentialState) -> Option<BootTime> {
    match state.settled.as_ref().filter(|_| !state.is_busy())? {
        Settled::Active(_) if held.is_unsaved() => None,
        Settled::Active(_) => held.due.map(|due| later(due, held.backoff.as_ref())),
        Settled::InDoubt(_, in_doubt) => Some(in_doubt.retry_at),
        Settled::Vacant { .. } | Settled::Lost(_) | Settled::Closed(_) => None,
    }
}

/// `due`, but not before the backoff ends.
pub(super) fn later(due: BootTime, backoff: Option<&BackoffState>) -> BootTime {
    backoff.map_or(due, |backoff| due.max(backoff.retry_at))
}
