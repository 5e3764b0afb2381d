//! How an exchange ends.

use super::{
    Class, Closed, Doubt, Effects, Failure, Held, Lost, Moment, Notice, Rest, Retry, Saved, Start,
    State, Trouble,
};
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind, LostReason};

/// How often a request that the server called invalid is tried again: Ory Hydra says so to the
/// loser of a race.
const INVALID_TRIES: u32 = 2;

pub(super) fn issued(mut state: State, held: Held) -> State {
    match &mut state {
        State::Establishing { answer, .. } | State::Refreshing { answer, .. } => {
            *answer = Some(held);
        }
        State::Unloaded { .. }
        | State::Rest(_)
        | State::Challenged { .. }
        | State::Closing { .. }
        | State::Revoking { .. } => {}
    }
    state
}

pub(super) fn challenged(state: State, at: &Moment) -> State {
    match state {
        State::Establishing { former, .. } => {
            State::Challenged { former, until: at.now.boot.after(at.rules.challenge) }
        }
        State::Unloaded { .. }
        | State::Rest(_)
        | State::Challenged { .. }
        | State::Refreshing { .. }
        | State::Closing { .. }
        | State::Revoking { .. } => state,
    }
}

pub(super) fn overdue(mut state: State) -> State {
    match &mut state {
        State::Establishing { overdue, .. } | State::Refreshing { overdue, .. } => *overdue = true,
        State::Unloaded { .. }
        | State::Rest(_)
        | State::Challenged { .. }
        | State::Closing { .. }
        | State::Revoking { .. } => {}
    }
    state
}

pub(super) fn saved(
    state: State,
    counters: (u64, u64),
    suspect: bool,
    effects: &mut Effects,
) -> State {
    let mut paid = |rest| paid(rest, counters, suspect, effects);
    match state {
        State::Rest(rest) => State::Rest(paid(rest)),
        State::Challenged { former, until } => State::Challenged { former: paid(former), until },
        State::Establishing { former, renewal, answer: None, overdue } => {
            State::Establishing { former: paid(former), renewal, answer: None, overdue }
        }
        State::Closing { former } => State::Closing { former: paid(former) },
        State::Establishing { answer: Some(mut held), .. } => {
            held.stored(counters, suspect);
            effects.notices.push(Notice::Established);
            State::Rest(Rest::Active(held))
        }
        State::Refreshing { answer: Some(mut held), .. } => {
            held.stored(counters, suspect);
            effects.notices.push(Notice::Refreshed);
            State::Rest(Rest::Active(held))
        }
        State::Unloaded { .. } | State::Refreshing { .. } | State::Revoking { .. } => state,
    }
}

/// What was owed is saved. Later states of the same credentials keep what they learned.
fn paid(mut rest: Rest, counters: (u64, u64), suspect: bool, effects: &mut Effects) -> Rest {
    if let Some(held) = rest.refreshable_mut().filter(|held| held.is_owed()) {
        held.stored(counters, suspect);
        effects.notices.push(Notice::Saved);
    }
    rest
}

pub(super) fn owed(state: State, effects: &mut Effects) -> State {
    match state {
        State::Establishing { answer: Some(held), .. } => {
            effects.notices.extend([Notice::Established, Notice::SaveOwed]);
            State::Rest(Rest::Active(Held { saved: Saved::Owed { attempts: 1 }, ..held }))
        }
        State::Refreshing { answer: Some(held), .. } => {
            effects.notices.extend([Notice::Refreshed, Notice::SaveOwed]);
            State::Rest(Rest::Active(Held { saved: Saved::Owed { attempts: 1 }, ..held }))
        }
        State::Rest(mut rest) => {
            count(&mut rest);
            State::Rest(rest)
        }
        State::Challenged { mut former, until } => {
            count(&mut former);
            State::Challenged { former, until }
        }
        State::Establishing { mut former, renewal, answer, overdue } => {
            count(&mut former);
            State::Establishing { former, renewal, answer, overdue }
        }
        State::Closing { mut former } => {
            count(&mut former);
            State::Closing { former }
        }
        State::Unloaded { .. } | State::Refreshing { .. } | State::Revoking { .. } => state,
    }
}

fn count(rest: &mut Rest) {
    if let Some(Held { saved: Saved::Owed { attempts }, .. }) = rest.refreshable_mut() {
        *attempts = attempts.saturating_add(1);
    }
}

pub(super) fn failed(state: State, failure: Failure, at: &Moment, effects: &mut Effects) -> State {
    match state {
        // The answer is here and only its keeper died: a successful exchange is never thrown
        // away.
        State::Establishing { answer: Some(_), .. } | State::Refreshing { answer: Some(_), .. } => {
            owed(state, effects)
        }
        State::Establishing { former, renewal: false, .. } => {
            State::Rest(refused(former, &failure))
        }
        State::Establishing { former, .. } => State::Rest(unrenewed(former, &failure, at)),
        State::Refreshing { held, doubt, .. } => {
            State::Rest(unrefreshed(held, doubt, &failure, at, effects))
        }
        State::Unloaded { .. }
        | State::Rest(_)
        | State::Challenged { .. }
        | State::Closing { .. }
        | State::Revoking { .. } => state,
    }
}

/// A grant that failed leaves the former session as it was, suspect if it may have ended it.
fn refused(mut former: Rest, failure: &Failure) -> Rest {
    match failure.class {
        Class::Ambiguous(_) => former.suspect(),
        Class::Harmless
        | Class::Invalid
        | Class::Misconfigured
        | Class::Rejected
        | Class::Refused => {}
    }
    former
}

fn unrenewed(mut former: Rest, failure: &Failure, at: &Moment) -> Rest {
    if let Some(trouble) = former.trouble_mut() {
        *trouble = Some(troubled(trouble.as_ref(), failure, at));
    }
    former
}

fn unrefreshed(
    mut held: Held,
    doubt: Option<Doubt>,
    failure: &Failure,
    at: &Moment,
    effects: &mut Effects,
) -> Rest {
    match (failure.class, doubt) {
        (Class::Rejected | Class::Refused, doubt) => {
            let reason =
                if doubt.is_some() { LostReason::LostInDoubt } else { LostReason::Rejected };
            effects.notices.push(Notice::Lost(reason));
            Rest::Lost(Lost::new(Rest::Active(held), reason))
        }
        (Class::Ambiguous(retry), doubt) => {
            if doubt.is_none() {
                effects.notices.push(Notice::InDoubt);
            }
            let doubt = doubted(&held, doubt, retry, failure, at);
            Rest::InDoubt(held, doubt)
        }
        (Class::Harmless | Class::Invalid | Class::Misconfigured, None) => {
            held.trouble = Some(troubled(held.trouble.as_ref(), failure, at));
            Rest::Active(held)
        }
        (Class::Harmless | Class::Invalid | Class::Misconfigured, Some(doubt)) => {
            let trouble = troubled(held.trouble.as_ref(), failure, at);
            let doubt = Doubt { retry_at: trouble.retry_at, ..doubt };
            held.trouble = Some(trouble);
            Rest::InDoubt(held, doubt)
        }
    }
}

fn troubled(former: Option<&Trouble>, failure: &Failure, at: &Moment) -> Trouble {
    let tries = former.map_or(0, |former| former.tries);
    let error = match failure.class {
        // Perhaps a lost race at the server: not yet a wrong configuration.
        Class::Invalid if tries < INVALID_TRIES => {
            Error::new(ErrorKind::RetryLater).with_source(failure.error.clone())
        }
        Class::Harmless
        | Class::Invalid
        | Class::Misconfigured
        | Class::Ambiguous(_)
        | Class::Rejected
        | Class::Refused => failure.error.clone(),
    };
    let mut trouble = Trouble::after(former, error, at);
    trouble.retry_at = trouble.retry_at.max(at.now.boot.after(failure.wait));
    trouble
}

/// Inside a server's grace: at once. Otherwise not before a queued first request can have been
/// processed, and not before the access token nears its end, because the retry may kill it.
fn doubted(
    held: &Held,
    former: Option<Doubt>,
    retry: Retry,
    failure: &Failure,
    at: &Moment,
) -> Doubt {
    let now = at.now.boot;
    let tries = former.map_or(0, |former| former.tries).saturating_add(1);
    let pause = failure.wait.max(at.rules.backoff.wait(tries, at.dice));
    let (retry_at, floor) = match (retry, former) {
        (Retry::AtOnce, None) => (now.after(failure.wait), now),
        (Retry::AtOnce | Retry::Late, Some(_)) => (now.after(pause), now.after(pause)),
        (Retry::Late, None) => {
            let floor = now.after((at.rules.budget * 2).max(failure.wait));
            (late(held, floor, at), floor)
        }
    };
    Doubt { tries, retry_at, floor, hurry: retry == Retry::AtOnce && former.is_none() }
}

fn late(held: &Held, floor: BootTime, at: &Moment) -> BootTime {
    match held.expires {
        Some(end) if held.is_usable(at.now.boot) => floor.max(end.before(at.rules.budget)),
        Some(_) | None => floor,
    }
}

pub(super) fn closed(state: State, closed: Closed, effects: &mut Effects) -> State {
    match state {
        State::Closing { .. } => {
            effects.notices.push(Notice::Revoked);
            if closed.outbox.is_some() {
                effects.start = Some(Start::Revoke);
                State::Revoking { closed }
            } else {
                State::Rest(Rest::Closed(closed))
            }
        }
        State::Unloaded { .. }
        | State::Rest(_)
        | State::Challenged { .. }
        | State::Establishing { .. }
        | State::Refreshing { .. }
        | State::Revoking { .. } => state,
    }
}

pub(super) fn close_failed(state: State) -> State {
    match state {
        State::Closing { former } => State::Rest(former),
        State::Unloaded { .. }
        | State::Rest(_)
        | State::Challenged { .. }
        | State::Establishing { .. }
        | State::Refreshing { .. }
        | State::Revoking { .. } => state,
    }
}

pub(super) fn told(state: State, trouble: Option<Trouble>) -> State {
    match state {
        State::Revoking { closed } => {
            let outbox = if trouble.is_some() { closed.outbox } else { None };
            State::Rest(Rest::Closed(Closed { outbox, trouble, ..closed }))
        }
        State::Unloaded { .. }
        | State::Rest(_)
        | State::Challenged { .. }
        | State::Establishing { .. }
        | State::Refreshing { .. }
        | State::Closing { .. } => state,
    }
}
