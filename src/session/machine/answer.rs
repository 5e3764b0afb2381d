//! What a caller gets in a state, and when the schedule must look at the state again.

use super::begin::Next;
use super::{Held, Renewable, Rules, Run, Settled, State, Trouble};
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

/// When the schedule must look at the state although nobody calls.
pub(crate) fn next_wake(state: &State, rules: &Rules) -> Option<BootTime> {
    if state.is_busy() {
        // Looked at again when the exchange has ended.
        return None;
    }
    let until = match state.running {
        Some(Run::Challenge { until }) => Some(until),
        _ => None,
    };
    let unread = match &state.unread {
        // The end of the reading that runs is an input of its own.
        _ if state.read.running.is_some() => None,
        Some(trouble) if state.has_unread_news() => Some(trouble.retry_at),
        Some(trouble) => Some(trouble.forgotten_at(rules.backoff.cap)),
        // The caller who read it has left: at once.
        None => state.has_unread_news().then(BootTime::default),
    };
    let settled = match &state.settled {
        // The revocation of a closed session waits for the challenge's end.
        Some(Settled::Closed(_) | Settled::Vacant { .. }) if until.is_some() => None,
        // No refresh begins before the record is read, but a refresh token's end is told in time.
        Some(Settled::Active(held) | Settled::InDoubt(held, _)) if state.wants_reading() => {
            end_of(held)
        }
        Some(Settled::Lost(_)) if state.wants_reading() => None,
        Some(settled) => wake_of(settled, rules),
        None => None,
    };
    [until, unread, settled].into_iter().flatten().min()
}

fn wake_of(settled: &Settled, rules: &Rules) -> Option<BootTime> {
    match settled {
        Settled::Active(held) => earlier(end_of(held), ahead(held, rules)),
        Settled::InDoubt(held, doubt) => {
            let retried = (doubt.hurry || rules.ahead) && !held.foreign;
            let retry = retried.then_some(doubt.retry_at);
            earlier(end_of(held), retry)
        }
        Settled::Closed(closed) => {
            let told = closed.trouble.as_ref().map_or(BootTime::default(), |t| t.retry_at);
            earlier(closed.outbox.as_ref().map(|_| told), forgotten(&closed.unrenewed, rules))
        }
        Settled::Lost(lost) => lost.tried_at(),
        Settled::Vacant { trouble } => forgotten(trouble, rules),
    }
}

fn forgotten(trouble: &Option<Trouble>, rules: &Rules) -> Option<BootTime> {
    trouble.as_ref().map(|trouble| trouble.forgotten_at(rules.backoff.cap))
}

fn end_of(held: &Held) -> Option<BootTime> {
    earlier(held.expiring, held.refresh_expires)
}

fn ahead(held: &Held, rules: &Rules) -> Option<BootTime> {
    let refreshable = held.credentials.tokens.refresh.is_some() && !held.foreign;
    let due = held.due.filter(|_| rules.ahead && refreshable && !held.is_owed())?;
    Some(later(due, held.trouble.as_ref()))
}

fn later(due: BootTime, trouble: Option<&Trouble>) -> BootTime {
    trouble.map_or(due, |trouble| due.max(trouble.retry_at))
}

fn earlier(one: Option<BootTime>, other: Option<BootTime>) -> Option<BootTime> {
    one.into_iter().chain(other).min()
}
