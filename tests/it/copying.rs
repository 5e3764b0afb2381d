//! Copies of one store in another.

use std::error::Error as _;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use session_warden::error::LostReason;
use session_warden::key::{ProviderName, SessionId};
use session_warden::policy::{COPY_PAGE, COPY_PROBLEMS};
use session_warden::store::sqlite::SqliteStore;
use session_warden::store::{
    Attempt, CopyOptions, CopyProblem, CopyReport, CopySide, Due, DuePage, Failures, Import,
    Intent, Listed, Lose, MemoryStore, NotCopied, Outcome, Owner, Phase, RecordFilter, Settle,
    SettleTo, Statement, Store, StoreContext, StoreError, StoreErrorKind, Stored, Suspect,
    copy_store,
};
use session_warden::testing::{FaultyStore, ManualClock, StoreCall};
use session_warden::token::Credentials;

use crate::sqlite::store_folder::{
    Folder, access, claim, close, credentials, delete, done, exchange, found, granted, id, ring,
};
use crate::support::SECOND;

/// The names of sessions, one in each phase that a record can have without a claim.
const PHASES: [&str; 7] = ["active", "doubt", "ended", "lost", "owed", "provisional", "suspect"];

#[tokio::test]
async fn records_of_every_phase_are_copied_to_other_stores_with_other_keys_and_back() {
    let (source, target) = (Folder::new(), Folder::new());
    let first = source.store();
    in_every_phase(&first).await;
    source.later(5);
    // The clocks of two machines differ, and only what is left of a time counts.
    target.later(7200);
    let (memory, other) = (memory(), target.builder().key_ring(ring(2)).open().unwrap());
    for (from, to) in [(&first as &dyn Store, &memory as &dyn Store), (&memory, &other)] {
        let report = copied(from, to).await;
        assert_eq!((report.copied, report.already_there), (7, 0));
        assert!(report.is_complete() && report.problems.is_empty());
        assert_eq!(report.last, Some(id("suspect")));
        for name in PHASES {
            let (one, two) = (stored(&first, name).await, stored(to, name).await);
            assert_eq!(shown(&one), shown(&two), "{name}");
        }
    }
    // The newest store goes on where the first one stopped, also with its back-off.
    target.later(30);
    exchange(&other, &id("active"), Intent::Refresh, "next").await.unwrap();
    assert_eq!(access(&found(&other, &id("active")).await), Some("access-next"));
    let revocation = claim(Owner(1), Intent::Revoke, Some((1, 2)));
    granted(&other, &id("owed"), revocation).await.unwrap();
    assert_eq!(access(&found(&first, &id("active")).await), Some("access-active"), "as it was");
}

#[tokio::test]
async fn a_store_that_is_copied_twice_is_read_and_not_written() {
    let (from, to) = (memory(), FaultyStore::new(memory()));
    in_every_phase(&from).await;
    assert_eq!(copied(&from, &to).await.copied, 7);
    let again = copied(&from, &to).await;
    assert_eq!((again.copied, again.already_there), (0, 7));
    assert!(again.is_complete());
    assert_eq!(to.faults().count(StoreCall::Import), 7);
}

#[tokio::test]
async fn a_copy_that_stops_at_a_failure_goes_on_where_it_stopped() {
    let (from, to) = (FaultyStore::new(memory()), FaultyStore::new(memory()));
    let count = COPY_PAGE + 10;
    fill(&from, count).await;
    let (from_faults, to_faults) = (from.faults(), to.faults());

    // The first page is copied, and of the second one record, whose acknowledgement is lost.
    let options = CopyOptions { after: None, limit: Some(COPY_PAGE) };
    let first = copy_store(&from, &to, options).await.unwrap();
    assert_eq!((first.copied, first.ended), (COPY_PAGE as u64, false));
    to_faults.fail_after_writing(StoreCall::Import, 1);
    let options = CopyOptions { after: first.last.clone(), limit: None };
    let failed = copy_store(&from, &to, options.clone()).await.unwrap_err();
    assert_eq!((failed.side(), failed.report().copied), (CopySide::Target, 0));
    assert_eq!(failed.report().last, first.last, "the page that failed is not over");
    let words = "the copy stopped because the store that gets the copies failed";
    assert_eq!(failed.to_string(), words);
    let cause = failed.source().unwrap().downcast_ref::<StoreError>().unwrap();
    assert_eq!(cause.kind(), StoreErrorKind::Unavailable);

    let rest = copy_store(&from, &to, options).await.unwrap();
    assert_eq!(rest.copied + rest.already_there, 10);
    assert!(rest.already_there >= 1 && rest.is_complete(), "{rest:?}");
    for call in [StoreCall::List, StoreCall::Load] {
        from_faults.fail_next(call, 1);
        let failed = copy_store(&from, &to, CopyOptions::default()).await.unwrap_err();
        assert_eq!((failed.side(), &failed.report().last), (CopySide::Source, &None), "{call:?}");
    }
    assert_eq!(copied(&from, &to).await.already_there, count as u64);
}

#[tokio::test]
async fn a_copy_that_is_dropped_goes_on_in_the_next_call() {
    let (from, to) = (memory(), FaultyStore::new(memory()));
    fill(&from, 40).await;
    let faults = to.faults();
    faults.hold(StoreCall::Import);
    {
        let mut copy = pin!(copy_store(&from, &to, CopyOptions::default()));
        assert!(is_pending(copy.as_mut()));
        let held = faults.count(StoreCall::Import);
        assert!((1..40).contains(&held), "{held} imports at once");
        faults.release(StoreCall::Import);
        faults.hold(StoreCall::Load);
        assert!(is_pending(copy.as_mut()), "the imports are done and not verified");
    }
    faults.release(StoreCall::Load);
    let report = copied(&from, &to).await;
    assert_eq!((report.copied, report.already_there), (0, 40));
}

#[tokio::test]
async fn a_record_that_is_there_with_other_content_is_never_overwritten() {
    let (from, to) = (memory(), memory());
    fill(&from, 5).await;
    copied(&from, &to).await;
    exchange(&to, &number(1), Intent::Refresh, "newer").await.unwrap();
    exchange(&from, &number(2), Intent::Refresh, "newer").await.unwrap();
    let known = Some((1, 1));
    granted(&to, &number(3), claim(Owner(1), Intent::Refresh, known)).await.unwrap();
    done(to.apply(&number(4), Statement::Suspect(Suspect { epoch: 1, generation: 1 })).await);
    let report = copied(&from, &to).await;
    assert_eq!((report.copied, report.already_there, report.differing), (0, 1, 4));
    assert!(report.ended && !report.is_complete());
    let expected = [1, 2, 3, 4].map(|of| (number(of), NotCopied::Differs));
    assert_eq!(problems(&report), expected);
    assert_eq!(found(&to, &number(1)).await.generation, 2);
    assert_eq!(access(&found(&to, &number(1)).await), Some("access-newer"));
    assert_eq!(found(&to, &number(2)).await.generation, 1);
    assert!(found(&to, &number(3)).await.lease.is_some());
}

#[tokio::test]
async fn a_session_that_was_deleted_in_the_target_stays_deleted() {
    let (from, to) = (memory(), memory());
    fill(&from, 3).await;
    copied(&from, &to).await;
    delete(&to, &number(1)).await;
    let report = copied(&from, &to).await;
    assert_eq!((report.already_there, report.refused), (2, 1));
    assert_eq!(problems(&report), [(number(1), NotCopied::Refused)]);
    assert!(to.load(&number(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_claimed_record_is_named_and_copied_when_its_claim_has_ended() {
    let (from, to) = (memory(), memory());
    fill(&from, 3).await;
    let refresh = claim(Owner(1), Intent::Refresh, Some((1, 1)));
    let (epoch, attempt) = granted(&from, &number(1), refresh).await.unwrap();
    granted(&from, &number(7), claim(Owner(1), Intent::Establish, None)).await.unwrap();
    let report = copied(&from, &to).await;
    assert_eq!((report.copied, report.claimed), (2, 2));
    let expected = [1, 7].map(|of| (number(of), NotCopied::Claimed));
    assert_eq!(problems(&report), expected);
    assert!(to.load(&number(1)).await.unwrap().is_none());
    let settle = settle(epoch, attempt, SettleTo::InDoubt);
    done(from.apply(&number(1), settle).await);
    let report = copied(&from, &to).await;
    assert_eq!((report.copied, report.already_there, report.claimed), (1, 2, 1));
    assert_eq!(found(&to, &number(1)).await.phase, Phase::InDoubt);
}

#[tokio::test]
async fn damaged_records_are_named_and_do_not_stop_the_copy() {
    let (source, target) = (Folder::new(), Folder::new());
    let (from, to) = (source.store(), target.store());
    fill(&from, 4).await;
    sql(&source, "UPDATE session SET sealed = zeroblob(300) WHERE token_id = 'device-0001'");
    sql(&source, "UPDATE session SET tries = 9 WHERE token_id = 'device-0002'");
    let report = copied(&from, &to).await;
    assert_eq!((report.copied, report.unreadable), (2, 2));
    let expected = [1, 2].map(|of| (number(of), NotCopied::Unreadable));
    assert_eq!(problems(&report), expected);
    assert_eq!(to.list(&RecordFilter::default(), None, 9).await.unwrap().len(), 2);
    // A damaged record of the target is not overwritten either.
    sql(&target, "UPDATE session SET tries = 9 WHERE token_id = 'device-0003'");
    let report = copied(&from, &to).await;
    assert_eq!((report.already_there, report.unreadable, report.differing), (1, 2, 1));
}

#[tokio::test]
async fn a_key_that_is_missing_in_the_source_costs_its_records_and_in_the_target_the_copy() {
    let (source, target) = (Folder::new(), Folder::new());
    let from = source.store();
    fill(&from, 2).await;
    from.shutdown().await;
    let from = source.builder().key_ring(ring(3)).open().unwrap();
    let to = memory();
    let report = copied(&from, &to).await;
    assert_eq!((report.copied, report.unreadable, report.ended), (0, 2, true));
    from.shutdown().await;

    // This one was not prepared.
    let from = source.store();
    let to = SqliteStore::open(target.database()).unwrap();
    let failed = copy_store(&from, &to, CopyOptions::default()).await.unwrap_err();
    assert_eq!(failed.side(), CopySide::Target);
    to.prepare(&StoreContext::new(ring(2), Arc::new(target.clock.clone()))).unwrap();
    assert_eq!(copied(&from, &to).await.copied, 2);
}

#[tokio::test]
async fn a_thousand_records_take_few_reads_and_one_write_each() {
    let (from, to) = (FaultyStore::new(memory()), FaultyStore::new(memory()));
    fill(&from, 1000).await;
    let (from_faults, to_faults) = (from.faults(), to.faults());
    let before = from_faults.count(StoreCall::Load);
    assert_eq!(copied(&from, &to).await.copied, 1000);
    let pages = 1000_u64.div_ceil(COPY_PAGE as u64);
    assert_eq!(from_faults.count(StoreCall::List), pages + 1, "and one to find the end");
    assert_eq!(from_faults.count(StoreCall::Load) - before, 1000);
    assert_eq!(to_faults.count(StoreCall::Import), 1000);
    assert_eq!(to_faults.count(StoreCall::Load), 2000, "before and after its import");
    assert_eq!(to_faults.count(StoreCall::List), 0);
    assert_eq!(copied(&from, &to).await.already_there, 1000);
    assert_eq!(to_faults.count(StoreCall::Import), 1000);
    assert_eq!(to_faults.count(StoreCall::Load), 3000);
}

#[tokio::test]
async fn a_report_names_so_many_problems_and_counts_all() {
    let (from, to) = (memory(), memory());
    let count = COPY_PROBLEMS + 5;
    for of in 0..count {
        granted(&from, &number(of), claim(Owner(1), Intent::Establish, None)).await.unwrap();
    }
    let report = copied(&from, &to).await;
    assert_eq!((report.claimed, report.problem_count()), (count as u64, count as u64));
    assert_eq!(report.problems.len(), COPY_PROBLEMS);
    assert_eq!(report.problems.last().unwrap().id, number(COPY_PROBLEMS - 1));
}

#[tokio::test]
async fn a_copy_begins_after_a_session_and_ends_at_its_limit() {
    let (from, to) = (memory(), memory());
    fill(&from, 9).await;
    let part = |after, limit| CopyOptions { after: Some(number(after)), limit: Some(limit) };
    let report = copy_store(&from, &to, part(2, 4)).await.unwrap();
    assert_eq!((report.copied, report.last.clone()), (4, Some(number(6))));
    assert!(!report.ended && !report.is_complete());
    let none = copy_store(&from, &to, part(2, 0)).await.unwrap();
    assert_eq!((none.copied, none.last.clone(), none.ended), (0, Some(number(2)), false));
    let rest = copy_store(&from, &to, part(6, 4)).await.unwrap();
    assert_eq!((rest.copied, rest.last.clone(), rest.ended), (2, Some(number(8)), true));
    assert_eq!(to.len(), 6);
}

/// What the target does to a record before it writes it.
type Alter = fn(&mut Import);

#[tokio::test]
async fn a_copy_that_the_target_altered_is_found() {
    let altered: [(&str, Alter); 16] = [
        ("credentials", |it| it.credentials = Some(credentials("other"))),
        ("client", |it| {
            let tokens = it.credentials.as_ref().unwrap().tokens().clone();
            let other = Credentials::new(tokens, "https://login.example.com", "other");
            it.credentials = Some(Arc::new(other));
        }),
        ("epoch", |it| it.epoch += 1),
        ("generation", |it| it.generation += 1),
        ("version", |it| it.version -= 1),
        ("fence", |it| it.fence -= 1),
        ("phase", |it| it.phase = Phase::InDoubt),
        ("suspect", |it| it.suspect = true),
        ("attempt", |it| it.made_by.as_mut().unwrap().base += 1),
        ("tries", |it| it.tries += 1),
        ("failures", |it| it.failures = Some(Box::default())),
        ("end of the access token", |it| it.ends.access_in = None),
        ("due time", |it| it.ends.due_in = Some(4000 * SECOND)),
        ("announcement", |it| it.ends.announce_in = Some(SECOND)),
        ("back-off", |it| it.ends.retry_in = Some(4000 * SECOND)),
        ("end of the refresh token", |it| it.ends.refresh_in = Some(SECOND)),
    ];
    for (what, alter) in altered {
        let from = memory();
        fill(&from, 3).await;
        let to = AlteringStore { inner: memory(), alter: Some(alter), which: number(1) };
        let report = copied(&from, &to).await;
        assert_eq!((report.copied, report.differing), (2, 1), "{what}");
        assert_eq!(problems(&report), [(number(1), NotCopied::Differs)], "{what}");
    }
    let from = memory();
    fill(&from, 3).await;
    // What it loses is found as well.
    let to = AlteringStore { inner: memory(), alter: None, which: number(1) };
    assert_eq!(problems(&copied(&from, &to).await), [(number(1), NotCopied::Differs)]);
}

/// A store that alters a record, or does not keep it.
struct AlteringStore {
    inner: MemoryStore,
    alter: Option<Alter>,
    which: SessionId,
}

#[async_trait]
impl Store for AlteringStore {
    async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError> {
        let loaded = self.inner.load(id).await?;
        Ok(loaded.filter(|_| self.alter.is_some() || *id != self.which))
    }

    async fn apply(&self, id: &SessionId, mut statement: Statement) -> Result<Outcome, StoreError> {
        if let (Some(alter), Statement::Import(import)) = (self.alter, &mut statement)
            && *id == self.which
        {
            alter(import);
        }
        self.inner.apply(id, statement).await
    }

    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        self.inner.due(provider, within, after, limit).await
    }

    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(filter, after, limit).await
    }
}

/// On a clock that stands still.
fn memory() -> MemoryStore {
    let store = MemoryStore::new();
    store.prepare(&StoreContext::new(ring(1), Arc::new(ManualClock::new()))).unwrap();
    store
}

async fn copied(from: &dyn Store, to: &dyn Store) -> CopyReport {
    copy_store(from, to, CopyOptions::default()).await.unwrap()
}

/// Sessions that are named by their number.
async fn fill(store: &impl Store, count: usize) {
    for of in 0..count {
        exchange(store, &number(of), Intent::Establish, &of.to_string()).await.unwrap();
    }
}

fn number(of: usize) -> SessionId {
    id(&format!("device-{of:04}"))
}

fn problems(report: &CopyReport) -> Vec<(SessionId, NotCopied)> {
    let problems = report.problems.iter();
    problems.map(|CopyProblem { id, why, .. }| (id.clone(), *why)).collect()
}

fn settle(epoch: u64, attempt: Attempt, to: SettleTo) -> Statement {
    let (retry_in, due_in) = (Some(30 * SECOND), Some(40 * SECOND));
    let failures = Failures { unclassified: 2, status: Some(400), ..Failures::default() };
    let failures = Some(Box::new(failures));
    Statement::Settle(Settle { epoch, attempt, to, retry_in, due_in, failures })
}

/// Makes the sessions of [`PHASES`].
async fn in_every_phase(store: &impl Store) {
    for name in PHASES {
        let id = id(name);
        exchange(store, &id, Intent::Establish, name).await.unwrap();
        let refresh = claim(Owner(1), Intent::Refresh, Some((1, 1)));
        let (epoch, generation) = (1, 1);
        let to = match name {
            "active" => SettleTo::Before,
            "doubt" => SettleTo::InDoubt,
            "provisional" => SettleTo::Lost(LostReason::Unclassified),
            "lost" => {
                let lose = Lose { epoch, generation, reason: LostReason::SessionDeleted };
                done(store.apply(&id, Statement::Lose(lose)).await);
                continue;
            }
            "suspect" => {
                let suspect = Statement::Suspect(Suspect { epoch, generation });
                done(store.apply(&id, suspect).await);
                continue;
            }
            "owed" | "ended" => {
                revoke(store, &id, name == "ended").await;
                continue;
            }
            other => panic!("{other}"),
        };
        let (epoch, attempt) = granted(store, &id, refresh).await.unwrap();
        done(store.apply(&id, settle(epoch, attempt, to)).await);
    }
}

async fn revoke(store: &impl Store, id: &SessionId, is_revoked: bool) {
    done(store.apply(id, close(1)).await);
    let record = found(store, id).await;
    let lease = record.lease.unwrap();
    let attempt = Attempt { base: record.generation, fence: record.fence, claim: lease.claim };
    let to = if is_revoked { SettleTo::Revoked } else { SettleTo::Before };
    let (retry_in, due_in) = (None, Some(SECOND).filter(|_| !is_revoked));
    let epoch = record.epoch;
    let settle = Settle { epoch, attempt, to, retry_in, due_in, failures: None };
    done(store.apply(id, Statement::Settle(settle)).await);
}

async fn stored(store: &dyn Store, name: &str) -> Stored {
    store.load(&id(name)).await.unwrap().unwrap()
}

/// A record as text: its times as durations, and its secrets included. A closed record has the
/// refresh token in the outbox.
fn shown(stored: &Stored) -> String {
    let Stored { record, .. } = stored;
    let outbox = record.outbox.as_ref().and_then(|outbox| outbox.tokens().refresh_token());
    let outbox = outbox.map(|token| token.expose_secret());
    let times = [
        stored.access_left(),
        stored.refresh_left(),
        stored.due_in(),
        stored.announce_in(),
        stored.retry_in(),
        stored.failing_for(),
        stored.ended_for(),
    ];
    let counters = (record.version, record.epoch, record.generation, record.fence, record.tries);
    let failures = record.failures.as_ref().map(|of| (of.unclassified, of.status));
    let phase = (record.phase, record.suspect, record.lost, record.made_by, record.lease);
    format!("{counters:?} {phase:?} {times:?} {failures:?} {:?} {outbox:?}", access(record))
}

fn sql(folder: &Folder, sql: &str) {
    rusqlite::Connection::open(folder.database()).unwrap().execute_batch(sql).unwrap();
}

fn is_pending<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
    matches!(future.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
}
