//! How an exchange ends.

use super::{
    Class, Closed, Doubt, Effects, Failure, Held, Lost, Moment, Notice, Rest, Retry, Saved, Start,
    State, Trouble, Unclassified, lose,
};
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind, LostReason};

pub(super) fn issued(mut state: State, held: Held, now: BootTime) -> State {
    match &mut state {
        State::Establishing { answer, .. } => *answer = Some(held),
        State::Refreshing { held: former, answer, .. } => {
            *answer = Some(Held { damping: former.damping_of_next(now), ..held });
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
        State::Establishing { answer: Some(held), .. } => {
            effects.notices.push(Notice::Established);
            State::Rest(Rest::Active(held.counted(counters, suspect)))
        }
        State::Refreshing { answer: Some(held), .. } => {
            effects.notices.push(Notice::Refreshed);
            State::Rest(Rest::Active(held.counted(counters, suspect)))
        }
        State::Rest(rest) => State::Rest(paid(rest)),
        State::Challenged { former, until } => State::Challenged { former: paid(former), until },
        State::Establishing { former, renewal, answer, overdue } => {
            State::Establishing { former: paid(former), renewal, answer, overdue }
        }
        State::Closing { former } => State::Closing { former: paid(former) },
        State::Unloaded { .. } | State::Refreshing { .. } | State::Revoking { .. } => state,
    }
}

/// What was owed is saved. Later states of the same credentials keep what they learned.
fn paid(mut rest: Rest, counters: (u64, u64), suspect: bool, effects: &mut Effects) -> Rest {
    if let Some(held) = rest.held_mut().filter(|held| held.is_owed()) {
        *held = held.clone().counted(counters, suspect);
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
    if let Some(Held { saved: Saved::Owed { attempts }, .. }) = rest.held_mut() {
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
        | Class::HeldBack
        | Class::Unclassified { .. }
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
    match failure.class {
        Class::Rejected | Class::Refused => {
            let reason =
                if doubt.is_some() { LostReason::LostInDoubt } else { LostReason::Rejected };
            lose(Rest::Active(held), reason, Some(failure.error.clone()), effects)
        }
        Class::Ambiguous(retry) => {
            if doubt.is_none() {
                effects.notices.push(Notice::InDoubt);
            }
            let doubt = doubted(&held, doubt, retry, failure, at);
            // What led to the doubt. A retry that fails begins a back-off of its own.
            let (retry_at, error) = (doubt.retry_at, failure.error.clone());
            held.trouble = Some(Trouble { tries: 0, retry_at, error });
            if let Some(unclassified) = &mut held.unclassified {
                unclassified.lost = false;
            }
            Rest::InDoubt(held, doubt)
        }
        Class::Unclassified { healthy_at } => {
            let was_lost = held.is_lost_provisionally();
            let unclassified = count_unclassified(&held, healthy_at, at);
            held.unclassified = Some(Box::new(unclassified));
            if unclassified.lost && !was_lost {
                // A refresh by hand need not wait for the last answer's back-off.
                held.trouble = None;
                let cause = Some(failure.error.clone());
                return lose(Rest::Active(held), LostReason::Unclassified, cause, effects);
            }
            back_off(held, doubt, failure, at, effects)
        }
        Class::Harmless | Class::HeldBack | Class::Misconfigured => {
            back_off(held, doubt, failure, at, effects)
        }
    }
}

/// Counts one more unclassified answer. The session is lost only if another session of the client
/// succeeded meanwhile, or if the answers have lasted for `alone`.
fn count_unclassified(held: &Held, healthy_at: Option<BootTime>, at: &Moment) -> Unclassified {
    let (now, rules) = (at.now.boot, &at.rules.unclassified);
    let first = Unclassified { answers: 0, since: now, lost: false, retry_at: now };
    let former = held.unclassified.as_deref().copied().unwrap_or(first);
    let answers = former.answers.saturating_add(1);
    let lasted = now.since(former.since);
    let alone = healthy_at.is_none_or(|healthy_at| healthy_at <= former.since);
    let enough = answers >= rules.count && lasted >= rules.span && held.is_spent(now);
    let lost = former.lost || enough && (!alone || lasted >= rules.alone);
    // Spread, so that sessions that were lost in one outage do not come back in one moment.
    let retry_at = now.after(rules.retry.mul_f64(0.8 + 0.2 * at.dice));
    Unclassified { answers, since: former.since, lost, retry_at }
}

/// The state after a refresh that failed and did not lose the session.
fn back_off(
    mut held: Held,
    doubt: Option<Doubt>,
    failure: &Failure,
    at: &Moment,
    effects: &mut Effects,
) -> Rest {
    let trouble = troubled(held.trouble.as_ref(), failure, at);
    let retry_at = trouble.retry_at;
    if doubt.is_none() && tells_of_back_off(&held, failure) {
        effects.notices.push(Notice::BackingOff { wait: retry_at.since(at.now.boot) });
    }
    let error = trouble.error.clone();
    held.trouble = Some(trouble);
    match doubt {
        // Also the floor: a 401 must not make it hurry past what everybody was told.
        Some(doubt) => Rest::InDoubt(held, Doubt { retry_at, floor: retry_at, ..doubt }),
        None if held.is_lost_provisionally() => {
            let lost = Lost::new(Rest::Active(held), LostReason::Unclassified);
            Rest::Lost(Lost { cause: Some(error), ..lost })
        }
        None => Rest::Active(held),
    }
}

/// Whether to publish `BackingOff`: for the first failure after a success, unless retries are paced
/// or the client is rejected.
fn tells_of_back_off(held: &Held, failure: &Failure) -> bool {
    match failure.class {
        Class::Harmless | Class::Unclassified { .. } => {
            let first = held.unclassified.as_ref().is_none_or(|counted| counted.answers == 1);
            first && held.trouble.is_none()
        }
        Class::HeldBack
        | Class::Misconfigured
        | Class::Ambiguous(_)
        | Class::Rejected
        | Class::Refused => false,
    }
}

fn troubled(former: Option<&Trouble>, failure: &Failure, at: &Moment) -> Trouble {
    let error = match (failure.class, former) {
        (Class::HeldBack, Some(former)) => former.error.clone(),
        (Class::Unclassified { .. }, _) => {
            Error::new(ErrorKind::RetryLater).caused_by(Some(&failure.error))
        }
        (
            Class::Harmless
            | Class::HeldBack
            | Class::Misconfigured
            | Class::Ambiguous(_)
            | Class::Rejected
            | Class::Refused,
            _,
        ) => failure.error.clone(),
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
    let queued = at.rules.budget * 2;
    let (retry_at, floor) = match (retry, former) {
        (Retry::AtOnce, None) => (now.after(failure.wait), now.after(failure.wait)),
        (Retry::AtOnce, Some(_)) => (now.after(pause), now.after(pause)),
        // The retry may be queued as well as the first request.
        (Retry::Late, Some(_)) => (now.after(pause.max(queued)), now.after(pause.max(queued))),
        (Retry::Late, None) => {
            let floor = now.after(queued.max(failure.wait));
            (held.late(floor, at.rules.budget, now), floor)
        }
    };
    Doubt { tries, retry_at, floor, hurry: retry == Retry::AtOnce && former.is_none() }
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
