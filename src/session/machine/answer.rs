//! What a caller gets in a state, and when the state wants to be looked at again.

use super::{Held, Renewable, Rest, Rules, State, Trouble};
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind};
use crate::token::PermissionToken;

/// What a caller who wants a token gets.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Token(PermissionToken),
    Fail(Error),
    /// An exchange runs whose end decides.
    Wait,
    /// Nothing is known against it: ask the actor.
    Ask,
}

/// The answer to "a token above generation `above`".
pub(crate) fn answer(state: &State, above: u64, renewable: Renewable, now: BootTime) -> Answer {
    let serving = serving(state, now).and_then(|held| held.token.as_ref());
    if let Some(token) = serving.filter(|token| token.generation() > above) {
        return Answer::Token(token.clone());
    }
    match state {
        State::Unloaded { trouble } => fail_or_ask(trouble.as_ref(), now),
        State::Rest(rest) => resting(rest, renewable, now),
        // A caller could only wait for the user, because a renewal does not replace a challenge.
        State::Challenged { former, .. } if !former.may_go_on(now) => {
            Answer::Fail(Error::new(ErrorKind::NotEstablished).about("a second factor is awaited"))
        }
        State::Challenged { former, .. } => resting(former, Renewable::No, now),
        State::Establishing { overdue: true, .. } | State::Refreshing { overdue: true, .. } => {
            Answer::Fail(Error::new(ErrorKind::RetryLater).about("the provider does not answer"))
        }
        State::Establishing { .. }
        | State::Refreshing { .. }
        | State::Closing { .. }
        | State::Revoking { .. } => Answer::Wait,
    }
}

/// The credentials whose access token is served now, if one is.
pub(crate) fn serving(state: &State, now: BootTime) -> Option<&Held> {
    let held = match state {
        State::Rest(rest)
        | State::Challenged { former: rest, .. }
        | State::Establishing { former: rest, .. }
        | State::Closing { former: rest } => rest.serving()?,
        State::Refreshing { held, .. } => held,
        State::Unloaded { .. } | State::Revoking { .. } => return None,
    };
    held.is_usable(now).then_some(held)
}

fn resting(rest: &Rest, renewable: Renewable, now: BootTime) -> Answer {
    match rest {
        Rest::Vacant { trouble } if renewable > Renewable::No => fail_or_ask(trouble.as_ref(), now),
        Rest::Closed(closed) if renewable == Renewable::Vouched => {
            fail_or_ask(closed.unrenewed.as_ref(), now)
        }
        Rest::Vacant { .. } | Rest::Closed(_) => {
            Answer::Fail(Error::new(ErrorKind::NotEstablished))
        }
        Rest::Lost(lost) if lost.to_be_tried(now).is_some() => Answer::Ask,
        Rest::Lost(lost) if renewable.brings_back(lost.reason) => {
            fail_or_ask(lost.trouble.as_ref(), now)
        }
        Rest::Lost(lost) => {
            let error = Error::new(ErrorKind::SignInAgain(lost.reason));
            Answer::Fail(error.caused_by(lost.cause.as_ref()))
        }
        Rest::InDoubt(held, _) | Rest::Active(held) if held.foreign => Answer::Fail(
            Error::new(ErrorKind::Misconfigured)
                .about("the session was issued by another authority or to another client"),
        ),
        Rest::InDoubt(held, doubt) if now < doubt.retry_at => Answer::Fail(
            Error::new(ErrorKind::RetryLater)
                .about("the server may have used up the refresh token")
                .caused_by(held.trouble.as_ref().map(|trouble| &trouble.error))
                .with_retry_after(doubt.retry_at.since(now)),
        ),
        Rest::InDoubt(..) => Answer::Ask,
        // Also for who wants a newer one: no exchange begins before it is saved.
        Rest::Active(held) if held.is_owed() => Answer::Fail(
            Error::new(ErrorKind::RetryLater).about("the last refresh is not saved yet"),
        ),
        Rest::Active(held) => fail_or_ask(held.trouble.as_ref(), now),
    }
}

fn fail_or_ask(trouble: Option<&Trouble>, now: BootTime) -> Answer {
    match trouble.filter(|_| Trouble::cooling(trouble, now)) {
        Some(trouble) => Answer::Fail(trouble.told(now)),
        None => Answer::Ask,
    }
}

/// When a reader who sees that the token is due should say so: not before an exchange may begin.
pub(crate) fn due_at(state: &State, held: &Held) -> Option<BootTime> {
    match state {
        State::Rest(rest) | State::Challenged { former: rest, .. } => match rest {
            Rest::Active(_) if held.is_owed() => None,
            Rest::Active(_) => held
                .due
                .map(|due| held.trouble.as_ref().map_or(due, |trouble| due.max(trouble.retry_at))),
            Rest::InDoubt(_, doubt) => Some(doubt.retry_at),
            Rest::Vacant { .. } | Rest::Lost(_) | Rest::Closed(_) => None,
        },
        State::Unloaded { .. }
        | State::Establishing { .. }
        | State::Refreshing { .. }
        | State::Closing { .. }
        | State::Revoking { .. } => None,
    }
}

/// When the state is to be looked at although nobody calls.
pub(crate) fn next_wake(state: &State, rules: &Rules) -> Option<BootTime> {
    match state {
        State::Unloaded { trouble } => forgotten(trouble, rules),
        // What the server must be told of a closed session waits for the challenge's end.
        State::Challenged { former: Rest::Closed(_), until } => Some(*until),
        State::Challenged { former, until } => earlier(Some(*until), wake_of(former, rules)),
        State::Rest(Rest::Vacant { trouble }) => forgotten(trouble, rules),
        State::Rest(rest) => wake_of(rest, rules),
        // Looked at again when the exchange has ended.
        State::Establishing { .. }
        | State::Refreshing { .. }
        | State::Closing { .. }
        | State::Revoking { .. } => None,
    }
}

fn wake_of(rest: &Rest, rules: &Rules) -> Option<BootTime> {
    match rest {
        Rest::Active(held) => earlier(end_of(held), ahead(held, rules)),
        Rest::InDoubt(held, doubt) => {
            let retried = (doubt.hurry || rules.ahead) && !held.foreign;
            let retry = retried.then_some(doubt.retry_at);
            earlier(end_of(held), retry)
        }
        Rest::Closed(closed) => {
            let told = closed.trouble.as_ref().map_or(BootTime::default(), |t| t.retry_at);
            earlier(closed.outbox.as_ref().map(|_| told), forgotten(&closed.unrenewed, rules))
        }
        Rest::Lost(lost) => lost.tried_at(),
        Rest::Vacant { .. } => None,
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
    Some(held.trouble.as_ref().map_or(due, |trouble| due.max(trouble.retry_at)))
}

fn earlier(one: Option<BootTime>, other: Option<BootTime>) -> Option<BootTime> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
