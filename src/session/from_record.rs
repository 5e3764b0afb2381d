//! Turns credentials and records into the machine's state.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::context::Context;
use super::machine::{
    BackoffState, Closed, CredentialState, InDoubt, Lost, Saved, Settled, Unclassified,
};
use super::slot::offset;
use crate::client::Client;
use crate::clock::{BootTime, Now};
use crate::error::{Error, ErrorKind, LostReason, ProviderCode};
use crate::policy::{DRIFT, SHORTEST_LIFE, When};
use crate::provider::Rotation;
use crate::store::{Ends, Failures, Holder, Intent, Lease, Phase, Record, Stored};
use crate::token::{Credentials, PermissionToken};

/// The credentials of a response that arrived at `now`, and the time from which their lifetimes
/// count. An access token gets at least [`SHORTEST_LIFE`] from now, also if its response took longer
/// than its life, so that it is used at least once.
pub(super) fn arrived(mut credentials: Credentials, sent: Now, now: Now) -> (Credentials, Now) {
    let expires_at = credentials.tokens.access.as_mut().and_then(|a| a.expires_at.as_mut());
    let Some(expires_at) = expires_at else { return (credentials, sent) };
    let life = expires_at.duration_since(sent.wall).unwrap_or_default();
    if sent.boot.after(life) >= now.boot.after(SHORTEST_LIFE) {
        return (credentials, sent);
    }
    *expires_at = now.wall + SHORTEST_LIFE;
    (credentials, now)
}

/// The machine's state for credentials whose lifetimes count from `from`.
pub(crate) fn held(
    client: &Client,
    credentials: Arc<Credentials>,
    counters: (u64, u64),
    from: Now,
) -> CredentialState {
    let tokens = &credentials.tokens;
    let life =
        |end: Option<SystemTime>| end.map(|end| end.duration_since(from.wall).unwrap_or_default());
    let access = life(tokens.access_expires_at());
    let refresh = life(tokens.refresh_expires_at());
    let place = client.provider.placement();
    let token =
        tokens.access.as_ref().map(|access| PermissionToken::new(access, place.as_ref(), counters));
    let after = |wait| from.boot.after(wait);
    CredentialState {
        epoch: counters.0,
        generation: counters.1,
        token_generation: counters.1,
        token,
        due: access.map(|life| after(client.refresh.due_after(life, fastrand::f64()))),
        expires: access.map(after),
        refresh_expires: refresh.map(after),
        expiring: refresh.map(|life| after(client.refresh.expiring_after(life))),
        saved: Saved::Yes,
        suspect: false,
        rejected: false,
        issuer_mismatch: !client.issued(&credentials),
        derived_at: None,
        backoff: None,
        unclassified: None,
        damping: None,
        credentials,
    }
}

/// The machine's state for a record.
pub(crate) fn settled(context: &Context, client: &Client, stored: Stored) -> Settled {
    let now = context.now();
    let (record, retry_in) = (&stored.record, stored.retry_in());
    // A claim of this process is over: a record is loaded only while no exchange runs.
    let lease = record.lease.filter(|lease| lease.owner != context.owner);
    let counters = record.counters();
    let expiring = stored.announce_in().map(|left| now.boot.after(left));
    let unclassified = unclassified(&stored, now).map(Box::new);
    // A proactive refresh keeps the due time of the record: if it counted from now, each load would
    // move it further away.
    let soonest = [stored.announce_in(), stored.refresh_left()].into_iter().flatten().min();
    let ahead = stored.due_in().filter(|_| client.refresh.when == When::Proactive);
    let ahead = ahead.filter(|due| soonest.is_none_or(|soonest| *due < soonest));
    let ahead = ahead.map(|left| now.boot.after(left));
    let held = record.credentials.as_ref().map(|credentials| {
        let held = held(client, ending(credentials, &stored, now), counters, now);
        let derived_at = Some(offset(now));
        let due = held.due.map(|due| ahead.map_or(due, |ahead| ahead.min(due)));
        CredentialState { suspect: record.suspect, due, expiring, unclassified, derived_at, ..held }
    });
    let retry_at = now.boot.after(retry_in.unwrap_or_default());
    let provisional = record.lost.is_some_and(LostReason::is_provisional);
    let answers = client.refresh.unclassified.count;
    let tried = Unclassified { answers, since: now.boot, lost: true, retry_at };
    match (record.phase, held) {
        (Phase::Closed, _) => Settled::Closed(closed(&stored, lease, now)),
        // Another process retries a provisional loss, or has stopped while it did.
        (Phase::Lost, Some(held)) if provisional && lease.is_some() => {
            with_credentials(context, client, &stored, held)
        }
        (Phase::Lost, held) => {
            let reason = record.lost.unwrap_or(LostReason::Rejected);
            let (epoch, generation) = counters;
            let unclassified = provisional.then(|| Box::new(tried));
            let held = held.map(|held| CredentialState { unclassified, ..held });
            let failed = record.retry_at.filter(|_| !provisional);
            let backoff = failed.map(|_| earlier(&stored, now));
            let (cause, recorded) = (None, true);
            Settled::Lost(Lost { epoch, generation, reason, held, backoff, cause, recorded })
        }
        (Phase::Active | Phase::InDoubt, Some(held)) => {
            with_credentials(context, client, &stored, held)
        }
        (Phase::Vacant | Phase::Active | Phase::InDoubt, _) => {
            Settled::Vacant { backoff: lease.map(|_| claimed(lease_left(&stored), now)) }
        }
    }
}

/// The machine's state for a record or for none, with the version of the record.
pub(super) fn found(context: &Context, client: &Client, stored: Option<Stored>) -> (u64, Settled) {
    let version = stored.as_ref().map_or(0, |stored| stored.record.version);
    let vacant = Settled::Vacant { backoff: None };
    (version, stored.map_or(vacant, |stored| settled(context, client, stored)))
}

/// The times of these credentials for the record: when they expire, and when a check is due.
pub(super) fn ends(held: &CredentialState, now: BootTime, ahead: bool) -> Ends {
    let retry_at = held.backoff.as_ref().map(|backoff| backoff.retry_at);
    let refresh = held.due.filter(|_| ahead).map(|due| Some(due).max(retry_at).unwrap_or(due));
    let due = [held.expiring, held.refresh_expires, refresh].into_iter().flatten().min();
    let left = |at: Option<BootTime>| at.map(|at| at.since(now));
    let (access_in, refresh_in) = (left(held.expires), left(held.refresh_expires));
    let (due_in, announce_in, retry_in) = (left(due), left(held.expiring), left(retry_at));
    Ends { access_in, refresh_in, due_in, announce_in, retry_in }
}

/// The failures that the record keeps for the next process that loads it.
pub(super) fn failures(settled: &Settled) -> Option<Box<Failures>> {
    let held = settled.held();
    let backoff = match settled {
        Settled::Lost(lost) => lost.backoff.as_ref(),
        Settled::Active(_) | Settled::InDoubt(..) | Settled::Vacant { .. } | Settled::Closed(_) => {
            held.and_then(|held| held.backoff.as_ref())
        }
    };
    let unclassified = held.and_then(|held| held.unclassified.as_ref()).map_or(0, |it| it.answers);
    let (status, code) = backoff.map_or((None, None), |backoff| {
        (backoff.error.status(), backoff.error.provider_code().map(str::to_owned))
    });
    let says = unclassified > 0 || status.is_some() || code.is_some();
    says.then(|| Box::new(Failures { unclassified, since: None, status, code }))
}

/// The rest of a claim's lease; zero if its holder is dead.
pub(super) fn lease_left<C>(stored: &Stored<C>) -> Duration {
    match stored.record.lease {
        Some(Lease { holder: Holder::Alive, .. }) => stored.lease_left().unwrap_or_default(),
        Some(Lease { holder: Holder::Dead, .. }) | None => Duration::ZERO,
    }
}

/// The credentials with expiry times of this process's clock, because the record's lifetimes are
/// those of the store's clock. Keeps a time that differs by no more than [`DRIFT`].
fn ending(credentials: &Arc<Credentials>, stored: &Stored, now: Now) -> Arc<Credentials> {
    let mut credentials = Arc::clone(credentials);
    let ends = [stored.access_left(), stored.refresh_left()];
    let known = [credentials.tokens.access_expires_at(), credentials.tokens.refresh_expires_at()];
    let moved = known.into_iter().zip(ends).any(|(known, left)| match (known, left) {
        (Some(known), Some(left)) => {
            let end = now.wall.checked_add(left).unwrap_or(known);
            let apart = known.duration_since(end).or_else(|_| end.duration_since(known));
            apart.unwrap_or_default() > DRIFT && !(left.is_zero() && known <= now.wall)
        }
        (None, _) | (_, None) => false,
    });
    if moved {
        Arc::make_mut(&mut credentials).end_in(now.wall, ends);
    }
    credentials
}

fn closed(stored: &Stored, lease: Option<Lease>, now: Now) -> Closed {
    let Record { epoch, generation, ref outbox, .. } = stored.record;
    let claimed_elsewhere = lease.map(|_| claimed(lease_left(stored), now));
    let backoff =
        claimed_elsewhere.or_else(|| stored.record.retry_at.map(|_| earlier(stored, now)));
    Closed { epoch, generation, outbox: outbox.clone(), backoff, unrenewed: None }
}

fn with_credentials(
    context: &Context,
    client: &Client,
    stored: &Stored,
    held: CredentialState,
) -> Settled {
    let (rotation, now) = (client.provider.rotation(), context.now());
    let retry_early = rotation != Rotation::Strict;
    let in_doubt = |floor: BootTime| {
        let budget = context.policy.attempt_budget;
        let retry_at = if retry_early { floor } else { held.late(floor, budget, now.boot) };
        InDoubt { tries: stored.record.tries.max(1), retry_at, floor, retry_early }
    };
    let lease = stored.record.lease.filter(|lease| lease.owner != context.owner);
    match lease {
        // Another process has claimed the session. An exchange of this process that needs a newer
        // token requests a claim and waits for that process.
        Some(_) if !lease_left(stored).is_zero() => Settled::Active(held),
        Some(lease) if lease.intent == Intent::Refresh => {
            let in_doubt = in_doubt(now.boot.after(held_back(context, rotation, stored, &lease)));
            Settled::InDoubt(held, in_doubt)
        }
        // The other process's grant may have ended these tokens at the server.
        Some(_) => Settled::Active(CredentialState { suspect: true, ..held }),
        None if stored.record.phase == Phase::InDoubt => {
            let in_doubt = in_doubt(now.boot.after(stored.retry_in().unwrap_or_default()));
            Settled::InDoubt(held, in_doubt)
        }
        None => {
            // Also if the back-off is over: the next failure counts on from its tries.
            let backoff = stored.record.retry_at.map(|_| earlier(stored, now));
            Settled::Active(CredentialState { backoff, ..held })
        }
    }
}

/// How much longer a refresh must wait because a process whose lease is over may have sent one.
pub(super) fn held_back<C>(
    context: &Context,
    rotation: Rotation,
    stored: &Stored<C>,
    lease: &Lease,
) -> Duration {
    let holds = holds(context, rotation);
    let silent_for = stored.silent_for().unwrap_or_default();
    let left = match lease.holder {
        Holder::Alive => holds.alive.saturating_sub(silent_for),
        Holder::Dead => holds.dead.saturating_sub(stored.now.boot.since(lease.from)),
    };
    if lease.journal { left.max(holds.journal.saturating_sub(silent_for)) } else { left }
}

/// How long a process waits for another holder's refresh.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Holds {
    /// After the end of the lease, if the holder may be alive.
    pub(super) alive: Duration,
    /// After the start of the claim, if the holder is dead.
    pub(super) dead: Duration,
    /// After the end of the lease, if the answer may be in the holder's journal.
    pub(super) journal: Duration,
}

/// How long to wait for the refresh of another holder. With strict rotation, the holder gets time to
/// return with the response, or its successor to replay the journal; if it is dead, the server gets
/// time to process its request. With any other rotation there is no wait, because the server's grace
/// would pass meanwhile.
pub(super) fn holds(context: &Context, rotation: Rotation) -> Holds {
    let policy = &context.policy;
    match rotation {
        Rotation::Strict => Holds {
            alive: policy.takeover_grace,
            dead: policy.attempt_budget * 2,
            journal: policy.journal_hold,
        },
        Rotation::Static
        | Rotation::Idempotent(_)
        | Rotation::Fork(_)
        | Rotation::NewestOnly(_) => Holds::default(),
    }
}

fn claimed(left: Duration, now: Now) -> BackoffState {
    let error = Error::new(ErrorKind::RetryLater)
        .about("another process is refreshing or establishing the session");
    BackoffState { tries: 1, retry_at: now.boot.after(left), error }
}

/// The back-off after a failure that only the record knows.
fn earlier(stored: &Stored, now: Now) -> BackoffState {
    let failures = stored.record.failures.as_deref();
    let code = failures.and_then(|failures| ProviderCode::new(failures.code.as_deref()?));
    let error = Error::new(ErrorKind::RetryLater)
        .about("an earlier attempt failed, before this process started or in another process")
        .with_status(failures.and_then(|failures| failures.status))
        .with_code(code);
    let retry_at = now.boot.after(stored.retry_in().unwrap_or_default());
    BackoffState { tries: stored.record.tries.max(1), retry_at, error }
}

/// The unclassified responses that the record has counted.
fn unclassified(stored: &Stored, now: Now) -> Option<Unclassified> {
    let failures = stored.record.failures.as_deref()?;
    let lasted = stored.now.wall.duration_since(failures.since?).unwrap_or_default();
    let since = now.boot.before(lasted);
    Some(Unclassified { answers: failures.unclassified, since, lost: false, retry_at: now.boot })
}

#[cfg(test)]
mod tests;
