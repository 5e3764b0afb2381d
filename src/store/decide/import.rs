//! Writes a record of another store.

use std::time::{Duration, SystemTime};

use super::{Decision, conflict, done, put, time_in};
use crate::clock::Now;
use crate::store::record::{Failures, Floor, Phase, Record};
use crate::store::statement::Import;

/// Writes only if there is no record: the credentials that are there may be newer. Keeps epoch and
/// generation, because the credentials are bound to them.
pub(super) fn import_record<C: Clone>(
    found: Option<Record<C>>,
    floor: Floor,
    import: &Import<C>,
    now: Now,
) -> Decision<C> {
    if let Some(record) = found {
        let again = is_there(&record, import);
        return if again { done(&record) } else { conflict(Some(record), now) };
    }
    // The session may have been deleted here since the other store had it.
    let may_be_deleted = import.epoch < floor.epoch || import.generation < floor.generation;
    if may_be_deleted || !is_consistent(import) {
        return conflict(None, now);
    }
    let ends = import.ends;
    let record = Record {
        // A refused first grant raises only the floor's version. No version is given twice.
        version: import.version.max(floor.version.saturating_add(1)),
        epoch: import.epoch,
        generation: import.generation,
        fence: import.fence,
        phase: import.phase,
        lease: None,
        credentials: import.credentials.clone(),
        made_by: import.made_by,
        access_expires_at: ends.access_in.map(|left| time_in(now, left)),
        refresh_expires_at: ends.refresh_in.map(|left| time_in(now, left)),
        suspect: import.suspect,
        lost: import.lost,
        outbox: import.outbox.clone(),
        retry_at: ends.retry_in.map(|left| time_in(now, left)),
        tries: import.tries,
        due_at: ends.due_in.map(|left| time_in(now, left)),
        announce_at: ends.announce_in.map(|left| time_in(now, left)),
        ended_at: import.ended_for.map(|ago| time_ago(now, ago)),
        failures: failures(import, now),
    };
    put(record, now)
}

/// Whether this import was done before, and no exchange has begun since.
fn is_there<C>(record: &Record<C>, import: &Import<C>) -> bool {
    record.counters() == (import.epoch, import.generation)
        && (record.fence, record.made_by) == (import.fence, import.made_by)
        && record.phase == import.phase
        && record.lease.is_none()
}

/// Whether a store could read the record again.
fn is_consistent<C>(import: &Import<C>) -> bool {
    // The first grant raises both to 1. At 0, a late first grant from before the import would fit.
    let is_established = import.epoch > 0 && import.generation > 0;
    let (held, outbox) = (import.credentials.is_some(), import.outbox.is_some());
    let fits = match import.phase {
        // A record in this phase is nothing but a claim.
        Phase::Vacant => false,
        Phase::Active | Phase::InDoubt => held && !outbox,
        Phase::Lost => !outbox,
        Phase::Closed => !held,
    };
    let made = import.made_by.map_or((0, 0), |made| (made.base, made.fence));
    let counters = [import.version, import.epoch, import.generation, made.0, made.1];
    is_established
        && fits
        && (import.made_by.is_some() || (!held && !outbox))
        && (import.phase == Phase::Lost) == import.lost.is_some()
        && import.fence <= import.version
        && counters.into_iter().all(is_counter)
}

/// Whether a store can have reached this number and can count further.
fn is_counter(number: u64) -> bool {
    number <= u64::MAX / 4
}

fn failures<C>(import: &Import<C>, now: Now) -> Option<Box<Failures>> {
    let mut failures = import.failures.clone()?;
    failures.since = import.failing_for.map(|ago| time_ago(now, ago));
    Some(failures)
}

fn time_ago(now: Now, ago: Duration) -> SystemTime {
    now.wall.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::BootTime;
    use crate::error::LostReason;
    use crate::store::decide::{Found, Write, decide};
    use crate::store::record::{Attempt, ClaimId, Stored};
    use crate::store::statement::{Ends, Outcome, Statement};

    const FIRST: Duration = Duration::from_secs(1000);

    fn now(seconds: u64) -> Now {
        let since = FIRST + Duration::from_secs(seconds);
        Now::new(SystemTime::UNIX_EPOCH + since, BootTime::new(since), since)
    }

    fn attempt() -> Attempt {
        Attempt { base: 6, fence: 40, claim: ClaimId(7) }
    }

    fn active() -> Import<&'static str> {
        Import {
            version: 50,
            epoch: 3,
            generation: 7,
            fence: 48,
            phase: Phase::Active,
            credentials: Some("tokens"),
            outbox: None,
            made_by: Some(attempt()),
            ends: Ends { access_in: Some(Duration::from_secs(9)), ..Ends::default() },
            suspect: true,
            lost: None,
            tries: 2,
            failures: Some(Box::new(Failures { unclassified: 1, ..Failures::default() })),
            failing_for: Some(Duration::from_secs(30)),
            ended_for: None,
        }
    }

    /// The record that an import writes into a store with this floor.
    fn written(import: Import<&'static str>, floor: Floor) -> Option<Record<&'static str>> {
        let statement = Statement::Import(Box::new(import));
        let decision = decide(Found { record: None, floor }, &statement, now(100));
        match (decision.write, decision.outcome) {
            (Write::Put(record), Outcome::Done(_)) => Some(record),
            (Write::Nothing, Outcome::Conflict(None)) => None,
            (write, outcome) => panic!("{write:?} {outcome:?}"),
        }
    }

    #[test]
    fn an_import_of_a_record_is_the_record_at_another_time() {
        let record = written(active(), Floor::default()).unwrap();
        assert_eq!((record.version, record.fence, record.tries), (50, 48, 2));
        assert_eq!(
            (record.counters(), record.phase, record.suspect),
            ((3, 7), Phase::Active, true)
        );
        assert_eq!(record.access_expires_at, Some(now(109).wall));
        assert_eq!(record.failures.as_ref().unwrap().since, Some(now(70).wall));
        let stored = Stored { record, now: now(104) };
        let again = Import::from(&stored);
        assert_eq!(again.ends.access_in, Some(Duration::from_secs(5)));
        assert_eq!(again.failing_for, Some(Duration::from_secs(34)));
        assert_eq!((again.credentials, again.made_by), (Some("tokens"), Some(attempt())));
    }

    #[test]
    fn a_floor_that_a_delete_raised_refuses_an_import_and_one_of_a_refused_grant_does_not() {
        let floor = |version, epoch, generation| Floor { version, epoch, generation };
        for refused in [floor(0, 4, 0), floor(0, 0, 8)] {
            assert!(written(active(), refused).is_none(), "{refused:?}");
        }
        for (floor, version) in
            [(floor(49, 3, 7), 50), (floor(50, 0, 0), 51), (floor(90, 0, 0), 91)]
        {
            let record = written(active(), floor).unwrap();
            assert_eq!((record.version, record.counters()), (version, (3, 7)), "{floor:?}");
        }
    }

    #[test]
    fn nothing_is_imported_that_a_store_could_not_read_again() {
        let lost = Some(LostReason::Rejected);
        let broken = [
            Import { phase: Phase::Vacant, credentials: None, made_by: None, ..active() },
            Import { phase: Phase::Lost, ..active() },
            Import { lost, ..active() },
            Import { phase: Phase::Closed, ..active() },
            Import { outbox: Some("tokens"), ..active() },
            Import { credentials: None, ..active() },
            Import { made_by: None, ..active() },
            Import { version: 47, ..active() },
            Import { epoch: 0, ..active() },
            Import { generation: 0, ..active() },
            Import { version: u64::MAX, ..active() },
            Import { generation: u64::MAX, ..active() },
            Import { made_by: Some(Attempt { base: u64::MAX, ..attempt() }), ..active() },
        ];
        for import in broken {
            let shown = format!("{import:?}");
            assert!(written(import, Floor::default()).is_none(), "{shown}");
        }
        let closed = Import { phase: Phase::Closed, credentials: None, ..active() };
        let sound = [
            Import { phase: Phase::InDoubt, ..active() },
            Import { phase: Phase::Lost, lost, ..active() },
            Import { outbox: Some("tokens"), ..closed.clone() },
            Import { made_by: None, ..closed },
        ];
        for import in sound {
            let shown = format!("{import:?}");
            assert!(written(import, Floor::default()).is_some(), "{shown}");
        }
    }

    #[test]
    fn credentials_and_outbox_are_replaced_with_the_attempt_and_the_epoch_of_the_import() {
        let both = Import { outbox: Some("outbox"), ..active() };
        let mut seen = Vec::new();
        let mapped = Statement::Import(Box::new(both)).try_map(|made, epoch, credentials| {
            seen.push((made, epoch, credentials));
            Ok::<_, ()>(credentials.len())
        });
        assert_eq!(seen, [(attempt(), 3, "tokens"), (attempt(), 3, "outbox")]);
        let Ok(Statement::Import(import)) = mapped else { panic!("{mapped:?}") };
        assert_eq!((import.credentials, import.outbox), (Some(6), Some(6)));
        let failed =
            Statement::Import(Box::new(active())).try_map(|_, _, _| Err::<(), _>("no key"));
        assert_eq!(failed.unwrap_err(), "no key");
    }
}
