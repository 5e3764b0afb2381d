//! Rules that hold over every sequence of statements, whoever sends them.

mod simulation;

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use self::simulation::{histories, run};
use super::*;
use crate::clock::BootTime;
use crate::error::LostReason;
use crate::store::record::{ClaimId, Owner};

/// What a statement did to a session.
#[derive(Clone, Debug)]
struct Deed {
    statement: Statement<Label>,
    now: Now,
    before: Found<Label>,
    after: Found<Label>,
    outcome: Outcome<Label>,
    write: Write<Label>,
    news: Option<Change>,
}

/// Stands for credentials: each attempt brings its own.
type Label = u64;

impl Deed {
    fn done(&self) -> Option<Done> {
        if let Outcome::Done(done) = self.outcome { Some(done) } else { None }
    }

    fn is_written(&self) -> bool {
        !matches!(self.write, Write::Nothing)
    }

    /// The record before and after, where there is one both times.
    fn both(&self) -> Option<(&Record<Label>, &Record<Label>)> {
        Some((self.before.record.as_ref()?, self.after.record.as_ref()?))
    }

    fn is_grant(&self) -> bool {
        matches!(&self.statement, Statement::Commit(commit) if commit.intent == Intent::Establish)
    }
}

proptest! {
    #![proptest_config(simulation::config())]

    #[test]
    fn every_write_raises_the_version_above_all_that_were_given(steps in histories()) {
        let mut highest = 0;
        for deed in run(&steps) {
            if !deed.is_written() {
                let (before, after) = (&deed.before.record, &deed.after.record);
                prop_assert_eq!(before, after, "{:?}", deed);
                continue;
            }
            let reported = match (&deed.after.record, deed.done()) {
                (Some(record), _) => record.version,
                (None, done) => done.expect("a record goes because it was asked").version,
            };
            prop_assert!(reported > highest, "{} after {}: {:?}", reported, highest, deed);
            highest = reported;
        }
    }

    #[test]
    fn a_claim_is_above_all_that_were_granted_before(steps in histories()) {
        let mut highest = 0;
        for deed in run(&steps) {
            let claimed = matches!(deed.statement, Statement::Claim(_) | Statement::Close(_));
            let Some(record) = deed.after.record.as_ref().filter(|_| claimed && deed.is_written())
            else { continue };
            if record.lease.is_some() {
                prop_assert!(record.fence > highest, "{:?}", deed);
                let made_by = record.made_by.map_or(0, |made| made.fence);
                prop_assert!(record.fence > made_by, "what it brings is older: {:?}", deed);
                highest = record.fence;
            }
        }
    }

    #[test]
    fn a_claim_ends_by_its_own_settle_or_what_may_end_it_alone(steps in histories()) {
        for deed in run(&steps) {
            let Some(lease) = deed.before.record.as_ref().and_then(|record| record.lease) else {
                continue;
            };
            let left = deed.after.record.as_ref().and_then(|record| record.lease);
            if left.is_some_and(|left| left.claim == lease.claim) {
                continue;
            }
            let may = match &deed.statement {
                Statement::Claim(claim) => {
                    claim.owner == lease.owner && claim.replaces == Some(lease.claim)
                }
                Statement::Settle(settle) => settle.attempt.claim == lease.claim,
                Statement::TakeOver(take_over) => {
                    let free = match lease.holder {
                        Holder::Alive => lease.until.after(take_over.hold),
                        Holder::Dead => lease.from.after(take_over.hold_of_dead),
                    };
                    let replayed_by = lease.until.after(take_over.hold_of_journal);
                    let free = if lease.journal { free.max(replayed_by) } else { free };
                    take_over.claim == lease.claim && deed.now.boot >= free
                }
                Statement::Commit(_)
                | Statement::Close(_)
                | Statement::Restore(_)
                | Statement::RemoveEnded { .. }
                | Statement::Delete => true,
                Statement::Renew(_)
                | Statement::Lose(_)
                | Statement::Suspect(_)
                | Statement::Reschedule(_)
                | Statement::Import(_) => false,
            };
            prop_assert!(may, "{:?}", deed);
        }
    }

    #[test]
    fn a_lease_is_never_shortened_and_never_extended_by_another(steps in histories()) {
        for deed in run(&steps) {
            let Some((before, after)) = deed.both() else { continue };
            let (Some(old), Some(new)) = (before.lease, after.lease) else { continue };
            if old.claim != new.claim {
                continue;
            }
            prop_assert!(new.until >= old.until, "{:?}", deed);
            let own = matches!(
                &deed.statement, Statement::Renew(renew) if renew.claim == old.claim
            );
            prop_assert!(own || old == new, "{:?}", deed);
        }
    }

    #[test]
    fn a_claim_is_granted_on_what_it_can_be_for_and_not_too_early(steps in histories()) {
        for deed in run(&steps) {
            let Statement::Claim(claim) = &deed.statement else { continue };
            if deed.done().is_none() || !deed.is_written() {
                continue;
            }
            let Some(found) = &deed.before.record else {
                prop_assert!(claim.intent == Intent::Establish && claim.epoch.is_none());
                continue;
            };
            let fits = match claim.intent {
                Intent::Establish => true,
                Intent::Refresh => matches!(found.phase, Phase::Active | Phase::InDoubt)
                    || found.lost == Some(LostReason::Unclassified),
                Intent::Revoke => found.phase == Phase::Closed && found.outbox.is_some(),
            };
            let unknown = found.phase == Phase::Vacant;
            let known = claim.epoch.map_or(unknown, |epoch| epoch == found.epoch);
            let newest = claim.intent == Intent::Establish || claim.generation == found.generation;
            let held_back = claim.intent != Intent::Establish && found.phase != Phase::Lost;
            let early = held_back && found.retry_at.is_some_and(|at| at > deed.now.wall);
            prop_assert!(fits && known && newest && !early, "{:?}", deed);
        }
    }

    #[test]
    fn credentials_are_never_replaced_by_those_of_an_older_attempt(steps in histories()) {
        for deed in run(&steps) {
            let Some((before, after)) = deed.both() else { continue };
            if before.credentials == after.credentials || after.credentials.is_none() {
                continue;
            }
            let fence = |record: &Record<Label>| record.made_by.map_or(0, |made| made.fence);
            if deed.is_grant() {
                prop_assert_eq!(after.epoch, before.epoch + 1);
            } else if matches!(deed.statement, Statement::Restore(_)) {
                prop_assert!(after.version > before.version, "{:?}", deed);
                prop_assert!(after.generation > before.generation, "{:?}", deed);
                prop_assert!(after.epoch >= before.epoch, "{:?}", deed);
            } else {
                prop_assert!(matches!(deed.statement, Statement::Commit(_)), "{:?}", deed);
                prop_assert!(fence(after) > fence(before), "{:?}", deed);
            }
        }
    }

    #[test]
    fn rotated_credentials_of_the_newest_generation_are_never_thrown_away(steps in histories()) {
        for deed in run(&steps) {
            let Statement::Commit(commit) = &deed.statement else { continue };
            let Some(found) = deed.before.record.as_ref() else { continue };
            let of_session = found.epoch == commit.epoch;
            let wanted = match commit.intent {
                Intent::Establish => of_session,
                Intent::Refresh => {
                    let newest = found.generation == commit.attempt.base;
                    of_session && newest && found.phase != Phase::Closed
                }
                Intent::Revoke => false,
            };
            if wanted {
                prop_assert!(deed.done().is_some(), "{:?}", deed);
                let stored = deed.after.record.as_ref().and_then(|record| record.credentials);
                prop_assert_eq!(stored, Some(commit.credentials));
            }
        }
    }

    #[test]
    fn what_was_closed_is_opened_by_a_grant_alone(steps in histories()) {
        for deed in run(&steps) {
            let Some((before, after)) = deed.both() else { continue };
            if before.phase == Phase::Closed && after.phase != Phase::Closed {
                prop_assert!(deed.is_grant() && after.phase == Phase::Active, "{:?}", deed);
            }
        }
    }

    #[test]
    fn what_was_lost_for_good_is_found_by_new_credentials_alone(steps in histories()) {
        for deed in run(&steps) {
            let Some((before, after)) = deed.both() else { continue };
            let lost = before.lost.is_some_and(|lost| lost != LostReason::Unclassified);
            if lost && after.phase != Phase::Lost {
                let found = matches!(
                    deed.statement,
                    Statement::Commit(_) | Statement::Restore(_) | Statement::Close(_)
                );
                prop_assert!(found, "{:?}", deed);
            }
            if let (true, Statement::Commit(commit)) = (lost, &deed.statement) {
                let refreshed = commit.intent == Intent::Refresh && after.phase == Phase::Active;
                prop_assert!(!refreshed || after.suspect, "it was found dead: {:?}", deed);
            }
        }
    }

    #[test]
    fn a_suspicion_is_dispelled_by_new_credentials_alone(steps in histories()) {
        for deed in run(&steps) {
            let Some((before, after)) = deed.both() else { continue };
            if before.suspect && !after.suspect {
                prop_assert!(before.credentials != after.credentials, "{:?}", deed);
            }
        }
    }

    #[test]
    fn epoch_and_generation_never_go_down_also_across_deletes(steps in histories()) {
        let mut highest = (0, 0);
        for deed in run(&steps) {
            let Some(record) = &deed.after.record else { continue };
            prop_assert!(record.epoch >= highest.0, "{:?} after {:?}", deed, highest);
            prop_assert!(record.generation >= highest.1, "{:?} after {:?}", deed, highest);
            highest = record.counters();
            if let Some((before, after)) = deed.both() {
                let raised = (after.epoch - before.epoch, after.generation - before.generation);
                let counts = matches!(deed.statement, Statement::Commit(_) | Statement::Close(_));
                let may = match () {
                    () if deed.is_grant() => raised == (1, 1),
                    () if counts => raised == (0, 1),
                    () => matches!(deed.statement, Statement::Restore(_)) || raised == (0, 0),
                };
                let may = may || (!deed.is_written() && raised == (0, 0));
                prop_assert!(may, "{:?}", deed);
            }
        }
    }

    #[test]
    fn what_begins_after_a_delete_is_above_what_was_deleted(steps in histories()) {
        let mut deleted = None;
        for deed in run(&steps) {
            let removed = matches!(deed.write, Write::Remove(_)).then_some(&deed.before.record);
            let removed = removed.and_then(Option::as_ref).filter(|it| it.was_established());
            if let Some(record) = removed {
                deleted = Some(record.counters());
            }
            if let (Some(deleted), Some(record)) = (deleted, &deed.after.record) {
                let (epoch, generation) = record.counters();
                prop_assert!(epoch > deleted.0 && generation > deleted.1, "{:?}", deed);
            }
        }
    }

    #[test]
    fn a_statement_that_is_sent_again_writes_nothing(steps in histories()) {
        for deed in run(&steps) {
            let again = decide(deed.after.clone(), &deed.statement, deed.now);
            prop_assert!(matches!(again.write, Write::Nothing), "{:?} again {:?}", deed, again);
            prop_assert!(again.news.is_none());
            let Some(done) = deed.done() else { continue };
            match (&deed.statement, again.outcome) {
                (_, Outcome::Done(again)) => prop_assert_eq!(again, done),
                // Nothing in the record tells who did it.
                (
                    Statement::Settle(_)
                    | Statement::TakeOver(_)
                    | Statement::Lose(_)
                    | Statement::Reschedule(_)
                    | Statement::RemoveEnded { .. }
                    | Statement::Delete,
                    Outcome::Conflict(found),
                ) => prop_assert_eq!(found.map(|found| found.record), deed.after.record),
                (_, other) => prop_assert!(false, "{:?} again {:?}", deed, other),
            }
        }
    }

    #[test]
    fn what_is_told_is_what_is_written_and_what_is_refused_writes_nothing(steps in histories()) {
        for deed in run(&steps) {
            let reported = |record: &Record<Label>| Change {
                version: record.version,
                epoch: record.epoch,
                generation: record.generation,
                phase: Some(record.phase),
            };
            let claims = matches!(deed.statement, Statement::Claim(_) | Statement::Renew(_));
            prop_assert!(!claims || deed.news.is_none(), "{:?}", deed);
            match &deed.write {
                Write::Nothing => prop_assert!(deed.news.is_none(), "{:?}", deed),
                Write::Put(record) => {
                    prop_assert_eq!(deed.news, Some(reported(record)));
                    if let Some(done) = deed.done() {
                        prop_assert_eq!(done, Done::from(record));
                    }
                }
                Write::PutLease(record) => {
                    prop_assert_eq!(deed.done(), Some(Done::from(record)));
                    prop_assert!(deed.news.is_none(), "{:?}", deed);
                    prop_assert!(is_but_a_lease(&deed, record), "{:?}", deed);
                }
                Write::Remove(_) => {
                    let record = deed.before.record.as_ref().unwrap();
                    let gone = deed.news.map(|news| (news.version, news.phase));
                    let done = deed.done().unwrap();
                    let vacant = record.phase == Phase::Vacant && deed.news.is_none();
                    prop_assert!(vacant || gone == Some((done.version, None)), "{:?}", deed);
                }
            }
            if let Outcome::Leased(found) | Outcome::Wait { found, .. } = &deed.outcome {
                prop_assert!(!deed.is_written(), "{:?}", deed);
                prop_assert_eq!(Some(&found.record), deed.before.record.as_ref());
            }
            if let Outcome::Conflict(found) = &deed.outcome {
                let found = found.as_ref().map(|found| &found.record);
                prop_assert_eq!(found, deed.after.record.as_ref(), "as it is now");
            }
        }
    }

    #[test]
    fn a_wait_is_as_long_as_it_takes(steps in histories()) {
        for deed in run(&steps) {
            let Outcome::Wait { left, .. } = deed.outcome else { continue };
            let at = |passed: Duration| {
                let Now { wall, boot, monotonic, .. } = deed.now;
                Now::new(wall + passed, boot.after(passed), monotonic + passed)
            };
            let decided = |passed| decide(deed.after.clone(), &deed.statement, at(passed)).outcome;
            let early = decided(left - Duration::from_nanos(1));
            prop_assert!(matches!(early, Outcome::Wait { .. }), "{:?}: {:?}", deed, early);
            let then = decided(left);
            prop_assert!(matches!(then, Outcome::Done(_)), "{:?}: {:?}", deed, then);
        }
    }

    #[test]
    fn the_parts_of_a_record_agree(steps in histories()) {
        for deed in run(&steps) {
            let Some(record) = &deed.after.record else { continue };
            let lives = matches!(record.phase, Phase::Active | Phase::InDoubt | Phase::Lost);
            prop_assert_eq!(record.credentials.is_some(), lives, "{:?}", deed);
            prop_assert_eq!(record.lost.is_some(), record.phase == Phase::Lost, "{:?}", deed);
            let has_outbox = record.outbox.is_some();
            prop_assert!(!has_outbox || record.phase == Phase::Closed, "{:?}", deed);
            prop_assert_eq!(record.made_by.is_some(), lives || has_outbox, "{:?}", deed);
            prop_assert!(!record.suspect || lives, "{:?}", deed);
            prop_assert!(record.fence <= record.version, "{:?}", deed);
            let made = record.made_by.map_or(0, |made| made.fence);
            prop_assert!(made <= record.fence, "{:?}", deed);
            // Somebody looks at what is owed, and at nothing that only a grant helps.
            let closed = record.phase == Phase::Closed;
            prop_assert!(!closed || record.due_at.is_some() == has_outbox, "{:?}", deed);
            let dead = record.lost.is_some_and(|lost| lost != LostReason::Unclassified);
            prop_assert!(!dead || record.due_at.is_none(), "{:?}", deed);
            let Some(lease) = record.lease else { continue };
            prop_assert!(lease.intent != Intent::Revoke || has_outbox, "{:?}", deed);
            prop_assert!(lease.intent != Intent::Refresh || lives, "{:?}", deed);
        }
    }

    #[test]
    fn a_doubt_comes_from_a_lost_answer_or_a_silent_refresh_alone(steps in histories()) {
        for deed in run(&steps) {
            let Some((before, after)) = deed.both() else { continue };
            if before.phase != Phase::InDoubt && after.phase == Phase::InDoubt {
                let settled = matches!(
                    &deed.statement, Statement::Settle(settle) if settle.to == SettleTo::InDoubt
                );
                let silent = matches!(deed.statement, Statement::TakeOver(_))
                    && before.lease.is_some_and(|lease| lease.intent == Intent::Refresh);
                prop_assert!(settled || silent, "{:?}", deed);
            }
        }
    }
}

/// Whether a record differs from what was there before in what a claim changes alone.
fn is_but_a_lease(deed: &Deed, record: &Record<Label>) -> bool {
    let before = deed.before.record.clone();
    let before = before.unwrap_or_else(|| Record::vacant(deed.before.floor));
    let Record { version, fence, lease, tries, .. } = *record;
    Record { version, fence, lease, tries, ..before } == *record
}

/// The rules above say nothing of what never happens.
#[test]
fn random_histories_come_to_every_outcome_of_every_statement() {
    let seen = Mutex::new(BTreeSet::new());
    // The same histories each time: what is rare must not come and go.
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(simulation::config(), random);
    let all = runner.run(&histories(), |steps| {
        seen.lock().extend(run(&steps).iter().map(kind));
        Ok(())
    });
    all.unwrap();
    let expected = [
        "Claim Conflict",
        "Claim Done written",
        "Claim Leased",
        "Claim Wait",
        "Close Conflict",
        "Close Done",
        "Close Done written",
        "Commit Conflict",
        "Commit Done",
        "Commit Done written",
        "Commit Leased",
        "Delete Conflict",
        "Delete Done written",
        "Import Conflict",
        "Import Done",
        "Import Done written",
        "Lose Conflict",
        "Lose Done written",
        "RemoveEnded Conflict",
        "RemoveEnded Done written",
        "Renew Conflict",
        "Renew Done",
        "Renew Done written",
        "Reschedule Conflict",
        "Reschedule Done written",
        "Restore Conflict",
        "Restore Done written",
        "Settle Conflict",
        "Settle Conflict written",
        "Settle Done written",
        "Suspect Conflict",
        "Suspect Done",
        "Suspect Done written",
        "TakeOver Conflict",
        "TakeOver Done written",
        "TakeOver Wait",
    ];
    let seen: Vec<_> = seen.into_inner().into_iter().collect();
    assert_eq!(seen, expected);
}

/// A statement, its outcome, and whether it wrote.
fn kind(deed: &Deed) -> String {
    let name = |shown: String| shown.split([' ', '(']).next().unwrap_or_default().to_owned();
    let (statement, outcome) =
        (name(format!("{:?}", deed.statement)), name(format!("{:?}", deed.outcome)));
    let written = if deed.is_written() { " written" } else { "" };
    format!("{statement} {outcome}{written}")
}

#[test]
fn claims_are_above_what_a_claim_brought_from_before_the_store_went_back() {
    let now = Now::new(SystemTime::UNIX_EPOCH, BootTime::default(), Duration::ZERO);
    let put = |found: Record<Label>, statement: Statement<Label>| {
        let found = Found { record: Some(found), floor: Floor::default() };
        match decide(found, &statement, now).write {
            Write::Put(record) | Write::PutLease(record) => record,
            Write::Nothing | Write::Remove(_) => panic!("{statement:?} puts nothing"),
        }
    };
    // The backup is of version 3; the grant was claimed when the store was at version 9.
    let backup = Record { version: 3, ..Record::vacant(Floor::default()) };
    let attempt = Attempt { base: 0, fence: 9, claim: ClaimId(1) };
    let (intent, epoch, ends) = (Intent::Establish, 0, Ends::default());
    let commit = Commit { intent, epoch, attempt, credentials: 1, ends };
    let record = put(backup, Statement::Commit(commit));
    let claim = Claim {
        id: ClaimId(2),
        replaces: None,
        owner: Owner(1),
        intent: Intent::Refresh,
        epoch: Some(1),
        generation: 1,
        lease: Duration::ZERO,
        journal: false,
    };
    let record = put(record, Statement::Claim(claim));
    assert!(record.fence > 9, "{record:?}");
    let attempt = Attempt { base: 1, fence: record.fence, claim: claim.id };
    let commit = Commit { intent: Intent::Refresh, epoch: 1, attempt, credentials: 2, ends };
    assert_eq!(put(record, Statement::Commit(commit)).credentials, Some(2));
}
