//! What a caller gets in a state.

use super::begin::Next;
use super::{Held, Renewable, Run, Settled, State, Trouble};
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind};
use crate::token::PermissionToken;

/// What a caller who wants a token gets.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Token(PermissionToken),
    Fail(Error),
    /// An exchange runs. Its end decides.
    Wait,
    /// The record must be read first.
    Read,
    /// Nothing is in the way: a need starts the refresh or the renewal, or finds the session lost.
    Ask,
}

/// The answer to "a token above generation `above`".
pub(crate) fn answer(state: &State, above: u64, renewable: Renewable, now: BootTime) -> Answer {
    let serving = serving(state, now).and_then(|held| held.token.as_ref());
    if let Some(token) = serving.filter(|token| token.generation() > above) {
        return Answer::Token(token.clone());
    }
    if state.is_busy() {
        return Answer::Wait;
    }
    let settled = match &state.settled {
        Some(settled) if !state.wants_reading() => settled,
        _ => {
            let cooling = state.unread.as_ref().filter(|trouble| now < trouble.retry_at);
            return cooling.map_or(Answer::Read, |trouble| Answer::Fail(trouble.told(now)));
        }
    };
    if state.running.is_some() && !settled.may_go_on(now) {
        return Answer::Fail(
            Error::new(ErrorKind::NotEstablished).about("a second factor is awaited"),
        );
    }
    let renewable = if state.running.is_some() { Renewable::No } else { renewable };
    match settled.next(above, renewable, now) {
        Next::Refresh | Next::Renew | Next::Lose(_) => Answer::Ask,
        Next::Fail(error) => Answer::Fail(error),
    }
}

/// The credentials whose access token is served now, if any. What another process ended is not
/// served from the moment at which this process hears of it.
pub(crate) fn serving(state: &State, now: BootTime) -> Option<&Held> {
    let ended = matches!(state.running, Some(Run::Revoke)) || state.is_ended_elsewhere();
    let held = state.settled.as_ref().filter(|_| !ended)?.serving()?;
    held.is_usable(now).then_some(held)
}

/// From when a reader should ask for a newer token: not before an exchange may begin.
pub(crate) fn due_at(state: &State, held: &Held) -> Option<BootTime> {
    match state.settled.as_ref().filter(|_| !state.is_busy())? {
        Settled::Active(_) if held.is_owed() => None,
        Settled::Active(_) => held.due.map(|due| later(due, held.trouble.as_ref())),
        Settled::InDoubt(_, doubt) => Some(doubt.retry_at),
        Settled::Vacant { .. } | Settled::Lost(_) | Settled::Closed(_) => None,
    }
}

/// Not before the back-off is over.
pub(super) fn later(due: BootTime, trouble: Option<&Trouble>) -> BootTime {
    trouble.map_or(due, |trouble| due.max(trouble.retry_at))
}
