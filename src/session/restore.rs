//! From credentials and records to what the machine holds.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::core::Core;
use super::machine::{Closed, Doubt, Held, Lost, Rest, Saved, Trouble, Unclassified};
use crate::clock::{BootTime, Now};
use crate::error::{Error, ErrorKind, LostReason};
use crate::policy::When;
use crate::provider::Rotation;
use crate::provider::client::Client;
use crate::store::{Holder, Intent, Lease, Phase, Record};
use crate::token::{Credentials, PermissionToken};

/// Credentials that were asked for at `sent`, as the machine holds them.
pub(crate) fn held(
    client: &Client,
    credentials: Arc<Credentials>,
    counters: (u64, u64),
    sent: Now,
) -> Held {
    let tokens = &credentials.tokens;
    let life =
        |end: Option<SystemTime>| end.map(|end| end.duration_since(sent.wall).unwrap_or_default());
    let access = life(tokens.access_expires_at());
    let refresh = life(tokens.refresh_expires_at());
    let place = client.provider.placement();
    let token =
        tokens.access.as_ref().map(|access| PermissionToken::new(access, place.as_ref(), counters));
    let after = |wait| sent.boot.after(wait);
    Held {
        epoch: counters.0,
        generation: counters.1,
        token,
        due: access.map(|life| after(client.refresh.due_after(life, fastrand::f64()))),
        expires: access.map(after),
        refresh_expires: refresh.map(after),
        expiring: refresh.map(|life| after(client.refresh.expiring_after(life))),
        saved: Saved::Yes,
        suspect: false,
        rejected: false,
        foreign: !client.issued(&credentials),
        trouble: None,
        unclassified: None,
        damping: None,
        credentials,
    }
}

/// What a store's record says, as the machine rests on it.
pub(crate) fn rest(core: &Core, client: &Client, record: Record) -> Rest {
    let now = core.now();
    let (phase, lease) = match record.lease {
        // One's own claim is over: its exchange ended, or this would not be read.
        Some(lease) if lease.owner != core.owner => (lease.before, Some(lease)),
        Some(lease) => (lease.before, None),
        None => (record.phase, None),
    };
    let counters = (record.epoch, record.generation);
    // Counted from now, the end of a refresh token would be told later with each reading.
    let ahead = client.refresh.when == When::Ahead;
    let noted = record.due_at.filter(|_| !ahead).map(|at| now.boot_at(at));
    let held = record.credentials.clone().map(|credentials| {
        let held = held(client, credentials, counters, now);
        let expiring = held.expiring.map(|at| noted.map_or(at, |noted| noted.min(at)));
        Held { suspect: record.suspect, expiring, ..held }
    });
    let boot = |at: Option<SystemTime>| at.map_or(now.boot, |at| now.boot_at(at));
    let provisional = record.lost.is_some_and(LostReason::is_provisional);
    let answers = client.refresh.unclassified.count;
    let retry_at = boot(record.retry_at);
    let tried = Unclassified { answers, since: now.boot, lost: true, retry_at };
    match (phase, held) {
        (Phase::Closed, _) => {
            let (epoch, generation) = counters;
            Rest::Closed(Closed {
                epoch,
                generation,
                outbox: record.outbox,
                trouble: None,
                unrenewed: None,
            })
        }
        // Another process tries what was lost provisionally, or fell silent when it did.
        (Phase::Lost, Some(held)) if provisional && lease.is_some() => {
            with_credentials(core, client, (Phase::Active, lease), held, boot(record.retry_at))
        }
        (Phase::Lost, held) => {
            let reason = record.lost.unwrap_or(LostReason::Rejected);
            let (epoch, generation) = counters;
            let unclassified = provisional.then(|| Box::new(tried));
            let held = held.map(|held| Held { unclassified, ..held });
            Rest::Lost(Lost { epoch, generation, reason, held, trouble: None, cause: None })
        }
        (Phase::Active | Phase::InDoubt | Phase::Claimed, Some(held)) => {
            with_credentials(core, client, (phase, lease), held, boot(record.retry_at))
        }
        (Phase::Vacant | Phase::Active | Phase::InDoubt | Phase::Claimed, _) => {
            Rest::Vacant { trouble: lease.map(|lease| elsewhere(&lease)) }
        }
    }
}

fn with_credentials(
    core: &Core,
    client: &Client,
    (phase, lease): (Phase, Option<Lease>),
    held: Held,
    retry_at: BootTime,
) -> Rest {
    let (rotation, now) = (client.provider.rotation(), core.now().boot);
    let hurry = rotation != Rotation::Strict;
    let doubt = |at| Doubt { tries: 1, retry_at: at, floor: at, hurry };
    match lease {
        // Somebody works on it. Whoever needs a newer token claims it too, and waits for them.
        Some(lease) if now < lease.until => Rest::Active(held),
        Some(lease) if lease.intent == Intent::Refresh => {
            Rest::InDoubt(held, doubt(held_back(core, rotation, &lease)))
        }
        // Whether their grant ended this one is not known.
        Some(_) => Rest::Active(Held { suspect: true, ..held }),
        None if phase == Phase::InDoubt && hurry => Rest::InDoubt(held, doubt(retry_at)),
        None if phase == Phase::InDoubt => {
            let doubt = strict_doubt(&held, retry_at, core.policy.exchange_budget, now);
            Rest::InDoubt(held, doubt)
        }
        None => Rest::Active(held),
    }
}

/// Until when a refresh is held back that a silent process may have sent. On a strict server its
/// holder gets time to come back with the answer, or, where it is dead, what it sent the time to
/// get through; elsewhere the server's grace would pass meanwhile.
pub(super) fn held_back(core: &Core, rotation: Rotation, lease: &Lease) -> BootTime {
    match (rotation, lease.holder) {
        (Rotation::Strict, Holder::Alive) => lease.until.after(core.policy.hold),
        (Rotation::Strict, Holder::Dead) => lease.until.after(core.policy.exchange_budget * 2),
        (_, Holder::Alive | Holder::Dead) => lease.until,
    }
}

/// A doubt of a server on which a retry may kill what lives. When its request was sent is not
/// known any more, so it may still be queued somewhere.
fn strict_doubt(held: &Held, retry_at: BootTime, budget: Duration, now: BootTime) -> Doubt {
    let floor = retry_at.max(now.after(budget * 2));
    Doubt { tries: 1, retry_at: held.late(floor, budget, now), floor, hurry: false }
}

fn elsewhere(lease: &Lease) -> Trouble {
    let error = Error::new(ErrorKind::RetryLater).about("another process has claimed the session");
    Trouble { tries: 1, retry_at: lease.until, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Access, PermissionToken, Tokens};

    fn held(expires: Option<u64>) -> Held {
        let access = Access { secret: "access".to_owned().into(), expires_at: None };
        let token = PermissionToken::new(&access, None, (1, 1));
        let refresh = Some(access.clone());
        let tokens =
            Tokens { access: Some(access), refresh, token_secret: None, attributes: "null".into() };
        let credentials = Credentials { tokens, authority: "a".into(), client: "c".into() };
        Held {
            epoch: 1,
            generation: 1,
            credentials: Arc::new(credentials),
            token: Some(token),
            due: None,
            expires: expires.map(at),
            refresh_expires: None,
            expiring: None,
            saved: Saved::Yes,
            suspect: false,
            rejected: false,
            foreign: false,
            trouble: None,
            unclassified: None,
            damping: None,
        }
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    #[test]
    fn a_doubt_of_a_strict_server_that_is_read_again_is_not_hurried() {
        let budget = Duration::from_secs(10);
        for (expires, recorded, retry) in [
            (Some(4600), 1000, 4590),
            (Some(1000), 1000, 1020),
            (Some(1015), 1000, 1020),
            (None, 1000, 1020),
            (Some(1000), 1300, 1300),
        ] {
            let doubt = strict_doubt(&held(expires), at(recorded), budget, at(1000));
            assert_eq!((doubt.retry_at, doubt.hurry), (at(retry), false), "{expires:?}");
            assert_eq!(doubt.floor, at(recorded.max(1020)));
        }
    }
}
