//! The results of exchanges.

use super::{
    BackoffState, Class, Closed, CredentialState, Effects, Failure, InDoubt, Lost, Notification,
    Retry, Run, Saved, Settled, Start, State, StepContext, Unclassified, external_change, lose,
};
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind, LostReason};
use crate::policy::SHORTEST_LIFE;

pub(super) fn issued(state: &mut State, held: CredentialState, at: &StepContext) {
    match &mut state.running {
        Some(Run::Establish { answer, .. }) => *answer = Some(held),
        // Its backoff and its damping are those of `with_former_token`.
        Some(Run::Refresh { answer }) if held.has_former_token() => *answer = Some(held),
        Some(Run::Refresh { answer }) => {
            let former = state.settled.as_mut().and_then(Settled::held_mut);
            let former = former.as_deref();
            let damping = former.and_then(|former| former.damping_of_next(at.now.boot));
            let backoff = former.and_then(|former| remaining_backoff(former, &held, at));
            *answer = Some(CredentialState { damping, backoff, ..held });
        }
        Some(Run::Challenge { .. } | Run::Close | Run::Forget | Run::Revoke) | None => {}
    }
}

/// The credentials after a refresh that brought a refresh token and no access token that can be
/// used: `issued`, with the access token of `former` and a backoff.
pub(crate) fn with_former_token(
    issued: CredentialState,
    former: CredentialState,
    failure: &Failure,
    at: &StepContext,
) -> CredentialState {
    let ended = issued.is_expired(at.now.boot);
    let (due, expires) =
        if ended { (issued.due, issued.expires) } else { (former.due, former.expires) };
    CredentialState {
        token_generation: former.token_generation,
        token: former.token,
        due,
        expires,
        suspect: former.suspect,
        rejected: former.rejected,
        derived_at: former.derived_at,
        backoff: Some(next_backoff(former.backoff.as_ref(), failure, at)),
        damping: former.damping,
        ..issued
    }
}

/// The backoff that goes on after a success if the new token ends almost at once. Without it the
/// next refresh would follow at once.
fn remaining_backoff(
    former: &CredentialState,
    answer: &CredentialState,
    at: &StepContext,
) -> Option<BackoffState> {
    let now = at.now.boot;
    let short = answer.expires.is_some_and(|end| end <= now.after(SHORTEST_LIFE));
    let backoff = former.backoff.as_ref().filter(|backoff| short && backoff.tries > 0)?;
    let wait = at.policy.backoff.wait(backoff.tries, at.jitter);
    Some(BackoffState { retry_at: now.after(wait), ..backoff.clone() })
}

pub(super) fn challenged(state: &mut State, at: &StepContext) {
    if matches!(state.running, Some(Run::Establish { .. })) {
        state.running = Some(Run::Challenge { until: at.now.boot.after(at.policy.challenge) });
    }
}

/// The store has the credentials of the running exchange, or unsaved credentials of a former one.
/// The latter keep what was learned about them meanwhile.
pub(super) fn saved(
    state: &mut State,
    version: u64,
    (counters, suspect): ((u64, u64), bool),
    at: &StepContext,
    effects: &mut Effects,
) {
    if let Some((held, notification)) = state.take_answer(at) {
        effects.notifications.extend(notification);
        state.settled = Some(Settled::Active(held.counted(counters, suspect)));
    } else if let Some(held) = state.settled.as_mut().and_then(Settled::held_mut)
        && held.is_unsaved()
    {
        *held = held.clone().counted(counters, suspect);
        effects.notifications.push(Notification::Saved);
    }
    external_change::wrote(state, version);
}

pub(super) fn unsaved(state: &mut State, at: &StepContext, effects: &mut Effects) {
    if let Some((held, notification)) = state.take_answer(at) {
        effects.notifications.extend(notification.into_iter().chain([Notification::Unsaved]));
        let held = CredentialState { saved: Saved::Unsaved { attempts: 1 }, ..held };
        state.settled = Some(Settled::Active(held));
    } else if let Some(CredentialState { saved: Saved::Unsaved { attempts }, .. }) =
        state.settled.as_mut().and_then(Settled::held_mut)
    {
        *attempts = attempts.saturating_add(1);
    }
}

impl State {
    /// Takes the answer of the running exchange, and ends the exchange.
    fn take_answer(&mut self, at: &StepContext) -> Option<(CredentialState, Option<Notification>)> {
        let (mut held, notification) = match &mut self.running {
            Some(Run::Establish { answer, .. }) => (answer.take()?, Notification::Established),
            Some(Run::Refresh { answer }) => (answer.take()?, Notification::Refreshed),
            Some(Run::Challenge { .. } | Run::Close | Run::Forget | Run::Revoke) | None => {
                return None;
            }
        };
        self.running = None;
        if !held.has_former_token() {
            return Some((held, Some(notification)));
        }
        if let Some(former) = self.settled.as_ref().and_then(Settled::held) {
            // Noted since the answer arrived.
            held.rejected |= former.rejected;
            held.suspect |= former.suspect;
        }
        let announced =
            matches!(&self.settled, Some(Settled::Active(former)) if former.backoff.is_some());
        let retry_at = held.backoff.as_ref().filter(|_| !announced).map(|backoff| backoff.retry_at);
        let wait = retry_at.map(|retry_at| retry_at.since(at.now.boot));
        Some((held, wait.map(|wait| Notification::BackingOff { wait })))
    }
}

pub(super) fn failed(state: &mut State, failure: Failure, at: &StepContext, effects: &mut Effects) {
    let (renewal, answered) = match &state.running {
        Some(Run::Establish { renewal, answer }) => (Some(*renewal), answer.is_some()),
        Some(Run::Refresh { answer }) => (None, answer.is_some()),
        Some(Run::Challenge { .. } | Run::Close | Run::Forget | Run::Revoke) | None => return,
    };
    if answered {
        // The answer has arrived and only the exchange's task died: new credentials are never
        // thrown away.
        return unsaved(state, at, effects);
    }
    state.running = None;
    let Some(settled) = state.settled.take() else { return };
    state.settled = Some(match renewal {
        Some(false) => grant_failed(settled, &failure),
        Some(true) => renewal_failed(settled, &failure, at),
        None => refresh_failed(settled, &failure, at, effects),
    });
}

/// A grant that failed leaves the former session as it was, but suspect if the grant may have ended
/// it at the server.
fn grant_failed(mut former: Settled, failure: &Failure) -> Settled {
    if matches!(failure.class, Class::Ambiguous(_)) {
        former.suspect();
    }
    former
}

fn renewal_failed(mut former: Settled, failure: &Failure, at: &StepContext) -> Settled {
    if let Some(backoff) = former.backoff_mut() {
        *backoff = Some(next_backoff(backoff.as_ref(), failure, at));
    }
    former
}

fn refresh_failed(
    settled: Settled,
    failure: &Failure,
    at: &StepContext,
    effects: &mut Effects,
) -> Settled {
    let (mut held, in_doubt) = match settled {
        Settled::Active(held) | Settled::Lost(Lost { held: Some(held), .. }) => (held, None),
        Settled::InDoubt(held, in_doubt) => (held, Some(in_doubt)),
        other @ (Settled::Vacant { .. } | Settled::Lost(_) | Settled::Closed(_)) => return other,
    };
    match failure.class {
        Class::Rejected | Class::Refused => {
            let reason =
                if in_doubt.is_some() { LostReason::LostInDoubt } else { LostReason::Rejected };
            lost(held, reason, failure, effects)
        }
        Class::Ambiguous(retry) => {
            if in_doubt.is_none() {
                effects.notifications.push(Notification::InDoubt);
            }
            let in_doubt = next_in_doubt(&held, in_doubt, retry, failure, at);
            // The error that led to `InDoubt`. A retry that fails begins a backoff of its own.
            let (retry_at, error) = (in_doubt.retry_at, failure.error.clone());
            held.backoff = Some(BackoffState { tries: 0, retry_at, error });
            if let Some(unclassified) = &mut held.unclassified {
                unclassified.lost = false;
            }
            Settled::InDoubt(held, in_doubt)
        }
        Class::Unclassified { other_success_at } => {
            let was_lost = held.is_lost_provisionally();
            let unclassified = count_unclassified(&held, other_success_at, at);
            held.unclassified = Some(Box::new(unclassified));
            if unclassified.lost && !was_lost {
                // A refresh by hand need not wait for the last answer's backoff.
                held.backoff = None;
                return lost(held, LostReason::Unclassified, failure, effects);
            }
            back_off(held, in_doubt, failure, at, effects)
        }
        Class::Harmless | Class::HeldBack | Class::Misconfigured => {
            back_off(held, in_doubt, failure, at, effects)
        }
    }
}

fn lost(
    held: CredentialState,
    reason: LostReason,
    failure: &Failure,
    effects: &mut Effects,
) -> Settled {
    let mut settled = Settled::Active(held);
    lose(&mut settled, reason, Some(failure.error.clone()), effects);
    settled
}

/// Counts one more unclassified answer. The session is lost only if another session of the client
/// succeeded meanwhile, or if the answers have lasted for `alone`.
fn count_unclassified(
    held: &CredentialState,
    other_success_at: Option<BootTime>,
    at: &StepContext,
) -> Unclassified {
    let (now, policy) = (at.now.boot, &at.policy.unclassified);
    let first = Unclassified { answers: 0, since: now, lost: false, retry_at: now };
    let former = held.unclassified.as_deref().copied().unwrap_or(first);
    let answers = former.answers.saturating_add(1);
    let lasted = now.since(former.since);
    let alone = other_success_at.is_none_or(|other_success_at| other_success_at <= former.since);
    let enough = answers >= policy.count && lasted >= policy.span && held.is_spent(now);
    let lost = former.lost || enough && (!alone || lasted >= policy.alone);
    // Spread, so that sessions that were lost in one outage do not all retry at one moment.
    let retry_at = now.after(policy.retry.mul_f64(0.8 + 0.2 * at.jitter));
    Unclassified { answers, since: former.since, lost, retry_at }
}

/// The state after a refresh that failed and did not lose the session.
fn back_off(
    mut held: CredentialState,
    in_doubt: Option<InDoubt>,
    failure: &Failure,
    at: &StepContext,
    effects: &mut Effects,
) -> Settled {
    let backoff = next_backoff(held.backoff.as_ref(), failure, at);
    let retry_at = backoff.retry_at;
    if in_doubt.is_none() && announces_backoff(&held, failure) {
        effects.notifications.push(Notification::BackingOff { wait: retry_at.since(at.now.boot) });
    }
    let error = backoff.error.clone();
    held.backoff = Some(backoff);
    match in_doubt {
        // Also the floor: after a 401 the retry must not come before the time that callers got.
        Some(in_doubt) => Settled::InDoubt(held, InDoubt { retry_at, floor: retry_at, ..in_doubt }),
        None if held.is_lost_provisionally() => {
            let mut settled = Settled::Active(held);
            settled.lose(LostReason::Unclassified, Some(error));
            settled
        }
        None => Settled::Active(held),
    }
}

/// Whether to publish `BackingOff`: for the first failure after a success, unless retries are paced
/// or the client is rejected.
fn announces_backoff(held: &CredentialState, failure: &Failure) -> bool {
    let first = held.unclassified.as_ref().is_none_or(|counted| counted.answers == 1);
    let announced = matches!(failure.class, Class::Harmless | Class::Unclassified { .. });
    announced && first && held.backoff.is_none()
}

fn next_backoff(
    former: Option<&BackoffState>,
    failure: &Failure,
    at: &StepContext,
) -> BackoffState {
    let error = match former.filter(|_| failure.class == Class::HeldBack) {
        Some(former) => former.error.clone(),
        None if matches!(failure.class, Class::Unclassified { .. }) => {
            Error::new(ErrorKind::RetryLater).caused_by(Some(&failure.error))
        }
        None => failure.error.clone(),
    };
    let mut backoff = BackoffState::after(former, error, at);
    backoff.retry_at = backoff.retry_at.max(at.now.boot.after(failure.wait));
    backoff
}

/// The new `InDoubt` state. Within a server's grace the retry is at once. Otherwise it waits until
/// a queued first request has had its time, and until the access token nears its end, because the
/// retry may kill that token.
fn next_in_doubt(
    held: &CredentialState,
    former: Option<InDoubt>,
    retry: Retry,
    failure: &Failure,
    at: &StepContext,
) -> InDoubt {
    let now = at.now.boot;
    let tries = former.map_or(0, |former| former.tries).saturating_add(1);
    let pause = failure.wait.max(at.policy.backoff.wait(tries, at.jitter));
    let queued = at.policy.budget * 2;
    let (retry_at, floor) = match (retry, former) {
        (Retry::AtOnce, None) => (now.after(failure.wait), now.after(failure.wait)),
        (Retry::AtOnce, Some(_)) => (now.after(pause), now.after(pause)),
        // The retry may be queued as well as the first request.
        (Retry::Late, Some(_)) => (now.after(pause.max(queued)), now.after(pause.max(queued))),
        (Retry::Late, None) => {
            let floor = now.after(queued.max(failure.wait));
            (held.late(floor, at.policy.budget, now), floor)
        }
    };
    InDoubt { tries, retry_at, floor, retry_early: retry == Retry::AtOnce && former.is_none() }
}

pub(super) fn closed(state: &mut State, version: u64, closed: Closed, effects: &mut Effects) {
    if !matches!(state.running, Some(Run::Close)) {
        return;
    }
    effects.notifications.push(Notification::Revoked);
    let has_outbox = closed.outbox.is_some();
    state.running = has_outbox.then_some(Run::Revoke);
    effects.start = has_outbox.then_some(Start::Revoke);
    state.settled = Some(Settled::Closed(closed));
    external_change::wrote(state, version);
}

/// The close or forget failed: the session goes on as it was. A session that was never loaded is
/// loaded at the next call.
pub(super) fn end_failed(state: &mut State) {
    state.running.take_if(|run| matches!(run, Run::Close | Run::Forget));
}

pub(super) fn forgotten(state: &mut State, effects: &mut Effects) {
    if matches!(state.running, Some(Run::Forget)) {
        effects.notifications.push(Notification::Forgotten);
        let settled = Some(Settled::Vacant { backoff: None });
        *state = State { settled, load: state.load, ..State::default() };
    }
}

pub(super) fn revocation_ended(state: &mut State, backoff: Option<BackoffState>) {
    if !matches!(state.running, Some(Run::Revoke)) {
        return;
    }
    state.running = None;
    if let Some(Settled::Closed(closed)) = &mut state.settled {
        closed.outbox.take_if(|_| backoff.is_none());
        closed.backoff = backoff;
    }
}
