//! What to write where the database has gone back behind a write.
//!
//! The counters tell which of two records is older. The versions alone do not: they went back too,
//! and each write since then has raised them again.

use super::recent_writes::Content;
use crate::clock::Now;
use crate::store::decide::{Decision, Found, Write, decide, put};
use crate::store::record_cipher::SealedCredentials;
use crate::store::{Change, Floor, Phase, Record, Statement};

type SealedRecord = Record<SealedCredentials>;

/// What to do about one write that may be lost.
pub(super) enum Restoration {
    /// The database has it, or something newer.
    Nothing,
    Write(Box<Decision<SealedCredentials>>),
    /// The database does not have it, and this process does not know what it wrote.
    Lost,
}

impl Restoration {
    /// Compares what the database has with what was written. `is_deleted` says whether the database
    /// knows that the session was deleted later.
    pub(super) fn of(
        found: Option<&SealedRecord>,
        written: &Content,
        is_deleted: bool,
        now: Now,
    ) -> Self {
        let decision = match (written, found) {
            (Content::Row(row), Some(found)) => {
                restored(found, &row.record, now).map(|record| put(record, now))
            }
            (Content::Row(row), None) => (!is_deleted).then(|| put(row.record.clone(), now)),
            (Content::Deleted(floor), found) => {
                found.and_then(|found| deleted_again(found, *floor, now))
            }
            (Content::Foreign(change), Some(found)) => return Self::of_foreign(found, change, now),
            (Content::Foreign(change), None) => {
                let was_there = change.phase.is_some_and(is_session);
                return if was_there && !is_deleted { Self::Lost } else { Self::Nothing };
            }
        };
        decision.map_or(Self::Nothing, |decision| Self::Write(Box::new(decision)))
    }

    /// Of a change by another process, only the counters are known. That is enough to delete or to
    /// close the session again.
    fn of_foreign(found: &SealedRecord, change: &Change, now: Now) -> Self {
        let Change { version, epoch, generation, phase } = *change;
        let decision = match phase {
            None => {
                let floor = Floor {
                    version,
                    epoch: epoch.saturating_add(1),
                    generation: generation.saturating_add(1),
                };
                deleted_again(found, floor, now)
            }
            Some(Phase::Closed) if found.epoch <= epoch && is_session(found.phase) => {
                Some(put(closed(found, (version, generation), now), now))
            }
            Some(_) if found.counters() < (epoch, generation) => return Self::Lost,
            Some(_) => None,
        };
        decision.map_or(Self::Nothing, |decision| Self::Write(Box::new(decision)))
    }
}

/// The record to write over the one that was found, if that one is older. A claim on the one that was
/// found does not count: it is from before the failover, or from a process that could not wait for
/// this write and whose request has the older token.
fn restored(found: &SealedRecord, written: &SealedRecord, now: Now) -> Option<SealedRecord> {
    let version = written.version.max(found.version + 1);
    let is_closed = |record: &SealedRecord| record.phase == Phase::Closed;
    if found.epoch == written.epoch && is_closed(found) != is_closed(written) {
        // Whichever came first: a user who has signed out stays signed out, and the newest
        // credentials must be revoked.
        let (open, closed_at) = if is_closed(found) {
            (written, found.generation)
        } else {
            (found, written.generation)
        };
        if open.generation >= closed_at {
            return Some(closed(open, (version, closed_at), now));
        }
    }
    let same = found.counters() == written.counters()
        && found.made_by == written.made_by
        && found.version < written.version;
    let older = found.counters() < written.counters() || same;
    older.then(|| Record { version, ..written.clone() })
}

/// The record after a close that nobody owns. The first process that finds it due revokes its
/// credentials.
fn closed(open: &SealedRecord, (version, generation): (u64, u64), now: Now) -> SealedRecord {
    let outbox = open.credentials.clone();
    Record {
        version: version.max(open.version + 1),
        epoch: open.epoch,
        generation: generation.max(open.generation),
        fence: open.fence,
        phase: Phase::Closed,
        made_by: open.made_by,
        due_at: outbox.is_some().then_some(now.wall),
        outbox,
        ..Record::vacant(Floor::default())
    }
}

/// The delete of a record that was deleted before, at this floor.
fn deleted_again(
    found: &SealedRecord,
    floor: Floor,
    now: Now,
) -> Option<Decision<SealedCredentials>> {
    // A session that began after the delete has the floor's epoch or a higher one.
    let older = found.epoch < floor.epoch;
    let found = Found { record: older.then(|| found.clone()), floor };
    let Decision { outcome, write, news } = decide(found, &Statement::Delete, now);
    let Write::Remove(above) = write else { return None };
    Some(Decision { outcome, write: Write::Remove(above.max(floor)), news })
}

fn is_session(phase: Phase) -> bool {
    matches!(phase, Phase::Active | Phase::InDoubt | Phase::Lost)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::postgres::database_clock::DatabaseTime;
    use crate::store::postgres::row_reader::KnownRow;
    use crate::store::record_cipher::SealedColumn;
    use crate::store::{Attempt, ClaimId};

    fn now() -> Now {
        DatabaseTime(0).now()
    }

    fn record(version: u64, epoch: u64, generation: u64) -> SealedRecord {
        let phase = Phase::Active;
        Record { phase, ..Record::vacant(Floor { version, epoch, generation }) }
    }

    fn with_token(token: u8, record: SealedRecord) -> SealedRecord {
        let (column, bytes) = (SealedColumn::Credentials, Arc::from([token]));
        let made_by = Some(Attempt { base: 1, fence: 1, claim: ClaimId(token.into()) });
        let credentials = Some(SealedCredentials { column, bytes });
        Record { credentials, made_by, ..record }
    }

    fn owed(record: &SealedRecord) -> Option<u8> {
        record.outbox.as_ref().map(|sealed| sealed.bytes[0])
    }

    #[test]
    fn only_an_older_record_is_written_again() {
        let written = record(9, 2, 5);
        for older in [record(8, 2, 5), record(7, 2, 4), record(3, 1, 2), record(3, 1, 7)] {
            assert_eq!(restored(&older, &written, now()), Some(written.clone()));
        }
        for newer in [record(9, 2, 5), record(8, 2, 6), record(8, 3, 5), record(12, 2, 6)] {
            assert_eq!(restored(&newer, &written, now()), None);
        }
    }

    #[test]
    fn a_record_with_older_credentials_is_replaced_even_if_its_version_was_raised_since() {
        let again = restored(&record(11, 2, 4), &record(9, 2, 5), now()).unwrap();
        assert_eq!((again.version, again.counters()), (12, (2, 5)));
    }

    #[test]
    fn credentials_of_another_attempt_with_the_same_counters_stay() {
        let found = with_token(1, record(8, 2, 5));
        assert_eq!(restored(&found, &with_token(2, record(9, 2, 5)), now()), None);
    }

    #[test]
    fn a_session_that_was_closed_after_a_failover_stays_closed_and_the_newest_tokens_are_owed() {
        let found = Record { phase: Phase::Closed, ..record(10, 2, 6) };
        let again = restored(&found, &with_token(7, record(11, 2, 6)), now()).unwrap();
        assert_eq!((again.version, again.generation, again.phase), (12, 6, Phase::Closed));
        assert_eq!((owed(&again), again.due_at), (Some(7), Some(now().wall)));
        // Tokens from before the close are in its outbox.
        assert_eq!(restored(&found, &with_token(6, record(12, 2, 5)), now()), None);
    }

    #[test]
    fn a_session_that_was_refreshed_after_the_failover_is_closed_again() {
        let written = Record { phase: Phase::Closed, ..record(9, 2, 6) };
        for generation in [6, 8] {
            let found = with_token(3, record(20, 2, generation));
            let again = restored(&found, &written, now()).unwrap();
            assert_eq!((again.version, again.generation), (21, generation));
            assert_eq!((again.phase, owed(&again)), (Phase::Closed, Some(3)));
        }
        assert_eq!(restored(&record(20, 2, 5), &written, now()).unwrap().phase, Phase::Closed);
        assert_eq!(restored(&record(20, 3, 7), &written, now()), None, "a later sign-in");
    }

    fn of_foreign(
        found: Option<&SealedRecord>,
        of: (u64, u64),
        phase: Option<Phase>,
    ) -> Restoration {
        let (epoch, generation) = of;
        let change = Change { version: 10, epoch, generation, phase };
        Restoration::of(found, &Content::Foreign(change), false, now())
    }

    #[test]
    fn what_another_process_closed_or_deleted_is_closed_or_deleted_again() {
        let found = with_token(1, record(8, 2, 5));
        let closed = of_foreign(Some(&found), (2, 6), Some(Phase::Closed));
        let Restoration::Write(decision) = closed else { panic!("it is closed") };
        let Write::Put(closed) = decision.write else { panic!("it is written") };
        assert_eq!((closed.phase, closed.generation, owed(&closed)), (Phase::Closed, 6, Some(1)));
        let deleted = of_foreign(Some(&found), (2, 5), None);
        let Restoration::Write(decision) = deleted else { panic!("it is deleted") };
        let Write::Remove(floor) = decision.write else { panic!("it is removed") };
        assert_eq!((floor.epoch, floor.generation), (3, 6));
        let later = record(30, 3, 7);
        for phase in [None, Some(Phase::Closed)] {
            assert!(matches!(of_foreign(Some(&later), (2, 6), phase), Restoration::Nothing));
        }
    }

    #[test]
    fn credentials_that_only_another_process_had_are_lost() {
        let active = Some(Phase::Active);
        for found in [record(8, 2, 4), record(30, 2, 4)] {
            assert!(matches!(of_foreign(Some(&found), (2, 5), active), Restoration::Lost));
        }
        assert!(matches!(of_foreign(None, (1, 1), active), Restoration::Lost));
        assert!(matches!(of_foreign(Some(&record(9, 2, 5)), (2, 5), active), Restoration::Nothing));
        assert!(matches!(of_foreign(None, (1, 1), None), Restoration::Nothing));
    }

    #[test]
    fn a_missing_row_is_written_again_unless_it_was_deleted_since() {
        let row = Content::Row(Arc::new(KnownRow::of_nothing()));
        assert!(matches!(Restoration::of(None, &row, false, now()), Restoration::Write(_)));
        assert!(matches!(Restoration::of(None, &row, true, now()), Restoration::Nothing));
    }

    #[test]
    fn a_record_that_was_deleted_is_deleted_again_above_the_same_floor() {
        let floor = Floor { version: 10, epoch: 3, generation: 6 };
        let Write::Remove(above) = deleted_again(&record(4, 2, 3), floor, now()).unwrap().write
        else {
            panic!("it is deleted")
        };
        assert_eq!(above, floor);
        assert!(deleted_again(&record(11, 4, 7), floor, now()).is_none(), "a later session");
    }
}
