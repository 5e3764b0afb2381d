//! When the schedule must check a session although no caller asks, and what the check must do.

use std::time::Duration;

use super::decision::later;
use super::{BackoffState, CredentialState, MachinePolicy, Run, Settled, State};
use crate::clock::BootTime;
use crate::error::LostReason;

/// What the schedule has to do for an idle session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Announce that the refresh token ends in `left`, and check again in `next`.
    Announce {
        left: Duration,
        next: Option<Duration>,
    },
    /// Record that the session is lost.
    Lost(LostReason),
    /// Ask the server: for a refresh, or to revoke a closed session.
    Exchange,
    Nothing,
}

/// What is due now.
pub(crate) fn due_now(state: &State, policy: &MachinePolicy, now: BootTime) -> Due {
    if state.is_busy() {
        // Checked again when the exchange has ended.
        return Due::Nothing;
    }
    if let Some(Settled::Lost(lost)) = state.settled.as_ref()
        && !lost.recorded
    {
        return Due::Lost(lost.reason);
    }
    let exchange = |settled: &Settled| exchange_of(settled, policy);
    let held = match &state.settled {
        Some(Settled::Active(held) | Settled::InDoubt(held, _)) if !held.is_unsaved() => Some(held),
        _ => None,
    };
    if let Some(held) = held.filter(|held| held.expiring.is_some_and(|at| now >= at)) {
        let left = |at: BootTime| at.since(now);
        let next = earlier(held.refresh_expires, state.settled.as_ref().and_then(exchange));
        let end = held.refresh_expires.map(left).unwrap_or_default();
        return Due::Announce { left: end, next: next.map(left) };
    }
    // A refresh waits until the record is loaded, and a revocation until the challenge ends.
    let ready = |settled: &&Settled| match settled.closed() {
        Some(_) => state.running.is_none(),
        None => !state.wants_load(),
    };
    if state.settled.as_ref().filter(ready).and_then(exchange).is_some_and(|at| now >= at) {
        Due::Exchange
    } else {
        Due::Nothing
    }
}

/// When the schedule must check the session although no caller asks.
pub(crate) fn next_wake(state: &State, policy: &MachinePolicy) -> Option<BootTime> {
    if state.is_busy() {
        // Checked again when the exchange has ended.
        return None;
    }
    let until = match state.running {
        Some(Run::Challenge { until }) => Some(until),
        _ => None,
    };
    let load_backoff = match &state.load_backoff {
        // The end of the running load is an input of its own.
        _ if state.load.running.is_some() => None,
        Some(backoff) if state.has_unloaded_change() => Some(backoff.retry_at),
        Some(backoff) => Some(backoff.forgotten_at(policy.backoff.cap)),
        // At once, because the caller that began the load has left.
        None => state.has_unloaded_change().then(BootTime::default),
    };
    let settled = match &state.settled {
        // The revocation of a closed session waits for the challenge's end.
        Some(Settled::Closed(_) | Settled::Vacant { .. }) if until.is_some() => None,
        // No refresh begins before the record is loaded, but the refresh token's end is announced
        // in time.
        Some(Settled::Active(held) | Settled::InDoubt(held, _)) if state.wants_load() => {
            end_of(held)
        }
        Some(Settled::Lost(_)) if state.wants_load() => None,
        Some(settled) => earlier(record_wake(settled, policy), forgotten_at(settled, policy)),
        None => None,
    };
    [until, load_backoff, settled].into_iter().flatten().min()
}

/// When the schedule must check a session by its record alone. This is the record's due time.
pub(crate) fn record_wake(settled: &Settled, policy: &MachinePolicy) -> Option<BootTime> {
    match settled {
        Settled::Active(held) | Settled::InDoubt(held, _) => {
            earlier(end_of(held), exchange_of(settled, policy))
        }
        // At once.
        Settled::Lost(lost) if !lost.recorded => Some(BootTime::default()),
        Settled::Lost(_) | Settled::Closed(_) => exchange_of(settled, policy),
        Settled::Vacant { .. } => None,
    }
}

/// Whether the record says when the schedule must check the session again.
pub(crate) fn is_in_record(state: &State) -> bool {
    let idle =
        state.running.is_none() && state.load_backoff.is_none() && state.external_change.is_none();
    idle && match &state.settled {
        Some(Settled::Active(held) | Settled::InDoubt(held, _)) => !held.is_unsaved(),
        Some(Settled::Lost(lost)) => lost.recorded && lost.backoff.is_none(),
        Some(Settled::Closed(closed)) => closed.unrenewed.is_none(),
        Some(Settled::Vacant { .. }) | None => false,
    }
}

/// When an exchange is due although no caller asks.
fn exchange_of(settled: &Settled, policy: &MachinePolicy) -> Option<BootTime> {
    match settled {
        Settled::Active(held) => ahead(held, policy),
        Settled::InDoubt(held, in_doubt) => {
            let scheduled = (in_doubt.retry_early || policy.ahead) && !held.issuer_mismatch;
            scheduled.then_some(in_doubt.retry_at)
        }
        Settled::Closed(closed) => {
            let retry_at = closed.backoff.as_ref().map_or(BootTime::default(), |t| t.retry_at);
            closed.outbox.as_ref().map(|_| retry_at)
        }
        Settled::Lost(lost) => lost.retry_at(),
        Settled::Vacant { .. } => None,
    }
}

/// When a failure that only this process knows is forgotten.
fn forgotten_at(settled: &Settled, policy: &MachinePolicy) -> Option<BootTime> {
    let backoff: &Option<BackoffState> = match settled {
        Settled::Vacant { backoff } | Settled::Closed(super::Closed { unrenewed: backoff, .. }) => {
            backoff
        }
        Settled::Active(_) | Settled::InDoubt(..) | Settled::Lost(_) => &None,
    };
    backoff.as_ref().map(|backoff| backoff.forgotten_at(policy.backoff.cap))
}

fn end_of(held: &CredentialState) -> Option<BootTime> {
    let expiring = held.expiring.filter(|_| !held.is_unsaved());
    earlier(expiring, held.refresh_expires)
}

fn ahead(held: &CredentialState, policy: &MachinePolicy) -> Option<BootTime> {
    let refreshable = held.credentials.tokens.refresh.is_some() && !held.issuer_mismatch;
    let due = held.due.filter(|_| policy.ahead && refreshable && !held.is_unsaved())?;
    Some(later(due, held.backoff.as_ref()))
}

fn earlier(one: Option<BootTime>, other: Option<BootTime>) -> Option<BootTime> {
    one.into_iter().chain(other).min()
}
