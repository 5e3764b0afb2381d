//! What a caller gets in a state.

use super::start::Next;
use super::{BackoffState, CredentialState, Renewable, Run, Settled, State};
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind};
use crate::token::PermissionToken;

/// What a caller who wants a token gets.
#[derive(Clone, Debug)]
pub(crate) enum TokenDecision {
    Token(PermissionToken),
    Fail(Error),
    /// An exchange runs. Its end decides.
    Wait,
    /// The record must be read first.
    Load,
    /// Nothing is in the way: a need starts the refresh or the renewal, or finds the session lost.
    Ask,
}

/// The answer to "a token above generation `newer_than`".
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
            return cooling
                .map_or(TokenDecision::Load, |backoff| TokenDecision::Fail(backoff.told(now)));
        }
    };
    if state.running.is_some() && !settled.may_go_on(now) {
        return TokenDecision::Fail(
            Error::new(ErrorKind::NotEstablished).about("a second factor is awaited"),
        );
    }
    let renewable = if state.running.is_some() { Renewable::No } else { renewable };
    match settled.next(newer_than, renewable, now) {
        Next::Refresh | Next::Renew | Next::Lose(_) => TokenDecision::Ask,
        Next::Fail(error) => TokenDecision::Fail(error),
    }
}

/// The credentials whose access token is served now, if any. What another process ended is not
/// served from the moment at which this process hears of it.
pub(crate) fn serving(state: &State, now: BootTime) -> Option<&CredentialState> {
    let ended = matches!(state.running, Some(Run::Revoke)) || state.is_ended_elsewhere();
    let held = state.settled.as_ref().filter(|_| !ended)?.serving()?;
    held.is_usable(now).then_some(held)
}

/// From when a reader should ask for a newer token: not before an exchange may begin.
pub(crate) fn due_at(state: &State, held: &CredentialState) -> Option<BootTime> {
    match state.settled.as_ref().filter(|_| !state.is_busy())? {
        Settled::Active(_) if held.is_unsaved() => None,
        Settled::Active(_) => held.due.map(|due| later(due, held.backoff.as_ref())),
        Settled::InDoubt(_, in_doubt) => Some(in_doubt.retry_at),
        Settled::Vacant { .. } | Settled::Lost(_) | Settled::Closed(_) => None,
    }
}

/// Not before the back-off is over.
pub(super) fn later(due: BootTime, backoff: Option<&BackoffState>) -> BootTime {
    backoff.map_or(due, |backoff| due.max(backoff.retry_at))
}
