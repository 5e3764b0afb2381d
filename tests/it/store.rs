//! Every store passes the same suite, and wrappers forward every method.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::task::{Context, Waker};
use std::time::Duration;

use async_trait::async_trait;
use session_warden::SessionKey;
use session_warden::clock::{Clock, Now};
use session_warden::error::LostReason;
use session_warden::key::{PauseScope, ProviderName, SessionId, Tenant};
use session_warden::policy::MEMORY_NEWS;
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::{
    Attempt, Changes, Claim, ClaimId, ClientChange, ClientKey, ClientOutcome, ClientPage, Close,
    Commit, Cursor, Done, Due, DuePage, Ended, Ends, Import, Intent, Listed, LoginClaim, LoginId,
    LoginOutcome, Lose, MemoryStore, Outcome, Owner, Pauses, Phase, Presence, RecordFilter,
    RemovedEnded, Renew, Reschedule, Resealed, Restore, Settle, SettleTo, SharedClient, Statement,
    Store, StoreContext, StoreError, StoreErrorKind, Stored, Suspect, TakeOver,
};
use session_warden::testing::{FaultyStore, ManualClock, StoreCall, store_suite};
use session_warden::token::{Credentials, Tokens};

mod memory {
    use super::MemoryStore;

    session_warden::store_suite!(async { MemoryStore::new() });
}

mod shared_memory {
    use super::{Arc, MemoryStore, Store};

    session_warden::store_suite!(async { Arc::new(MemoryStore::new()) as Arc<dyn Store> });
}

mod faulty_without_faults {
    use super::{FaultyStore, MemoryStore};

    session_warden::store_suite!(async { FaultyStore::new(MemoryStore::new()) });
}

#[tokio::test]
async fn the_suite_runs_as_a_whole_under_any_harness() {
    store_suite::run(|| async { MemoryStore::new() }).await;
    assert!(store_suite::NAMES.len() >= 120, "cases are not to be lost");
}

#[tokio::test]
#[should_panic(expected = "there is no case")]
async fn a_case_that_does_not_exist_is_not_passed() {
    store_suite::check("a_case_of_another_version", Arc::new(MemoryStore::new())).await;
}

#[tokio::test]
async fn every_call_arrives_through_every_wrapper() {
    let plain = Recording::default();
    ask_all(&plain, "plain").await;
    let shared = Arc::new(Recording::default());
    ask_all(&Arc::clone(&shared), "shared").await;
    assert_eq!(shared.asked(), StoreCall::ALL);
    let dynamic: Arc<dyn Store> = Arc::<Recording>::clone(&shared);
    ask_all(&dynamic, "dynamic").await;
    assert_eq!(shared.asked(), [StoreCall::ALL, StoreCall::ALL].concat());
    let inner = Arc::new(Recording::default());
    let faulty = FaultyStore::new(Arc::clone(&inner));
    ask_all(&faulty, "faulty").await;
    assert_eq!(inner.asked(), StoreCall::ALL);
    for call in StoreCall::ALL {
        assert_eq!(faulty.faults().count(call), 1, "{call:?}");
    }
}

#[tokio::test]
async fn reading_many_arrives_as_one_call_but_at_a_store_with_faults() {
    let ids = [id(), id(), id()];
    let inner = Arc::new(Recording::default());
    let dynamic: Arc<dyn Store> = Arc::<Recording>::clone(&inner);
    // The recording reads many at once, and says so by failing.
    let read = Arc::new(dynamic).load_many(&ids).await;
    assert!(read.len() == 3 && read.iter().all(Result::is_err), "{read:?}");
    assert!(inner.asked().is_empty());
    // Each record may fail by itself.
    let faulty = FaultyStore::new(Arc::clone(&inner));
    faulty.faults().fail_next(StoreCall::Load, 1);
    let read = faulty.load_many(&ids).await;
    assert_eq!(read.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(inner.asked(), [StoreCall::Load, StoreCall::Load]);
}

#[tokio::test]
async fn a_fault_is_of_its_statement_alone_and_as_often_as_was_said() {
    for failed in StoreCall::ALL {
        let inner = Arc::new(Recording::default());
        let store = FaultyStore::new(Arc::clone(&inner));
        let faults = store.faults();
        faults.fail_next(failed, 2);
        for round in 0..3 {
            for (call, done) in ask(&store).await {
                assert_eq!(done, call != failed || round == 2, "{failed:?} {call:?}");
            }
        }
        faults.fail_always(failed, true);
        assert_eq!(ask(&store).await.iter().filter(|(_, done)| !done).count(), 1);
        faults.fail_always(failed, false);
        assert!(ask(&store).await.iter().all(|(_, done)| *done));
        let undone = inner.asked().iter().filter(|call| **call == failed).count();
        assert_eq!((undone, faults.count(failed)), (2, 5), "{failed:?} is failed undone");
        faults.fail_after_writing(failed, 1);
        assert_eq!(ask(&store).await.iter().filter(|(_, done)| !done).count(), 1);
        let done = inner.asked().iter().filter(|call| **call == failed).count();
        assert_eq!(done, 3, "{failed:?} is done, and its answer lost");
        assert!(ask(&store).await.iter().all(|(_, done)| *done));
    }
}

#[tokio::test]
async fn a_held_call_is_neither_done_nor_answered_before_its_release() {
    let inner = Arc::new(Recording::default());
    let store = FaultyStore::new(Arc::clone(&inner));
    let faults = store.faults();
    faults.hold(StoreCall::Load);
    let id = id();
    let mut load = pin!(store.load(&id));
    assert!(poll(load.as_mut()).is_none());
    faults.held(StoreCall::Load, 1).await;
    assert!(store.apply(&id, Statement::Delete).await.is_ok(), "the others go on");
    assert_eq!((inner.asked(), faults.count(StoreCall::Load)), (vec![StoreCall::Delete], 1));
    faults.release(StoreCall::Load);
    assert!(load.await.unwrap().is_none());
    assert!(store.load(&id).await.unwrap().is_none(), "it holds no more");
    // One that is dropped while it is held is not done.
    faults.hold(StoreCall::Load);
    assert!(poll(pin!(store.load(&id)).as_mut()).is_none());
    faults.release(StoreCall::Load);
    assert_eq!(inner.asked(), [StoreCall::Delete, StoreCall::Load, StoreCall::Load]);
}

#[tokio::test]
async fn a_store_in_memory_says_what_it_forgot_of_the_changes() {
    let store = MemoryStore::new();
    for owner in [1, 2] {
        store.presence(Owner(owner), Presence::Register).await.unwrap();
    }
    grow(&store).await;
    let old = cursor(&store).await;
    for _ in 0..MEMORY_NEWS {
        grow(&store).await;
    }
    let all = store.changes(Some(&old), MEMORY_NEWS * 2).await.unwrap().unwrap();
    assert_eq!((all.news.map(|news| news.len()), all.more), (Some(MEMORY_NEWS), false));
    grow(&store).await;
    let forgotten = store.changes(Some(&old), MEMORY_NEWS * 2).await.unwrap().unwrap();
    assert_eq!((forgotten.news, forgotten.more), (None, false));
    assert_eq!(forgotten.cursor, cursor(&store).await, "it is read on from there");
    // One of another store is not taken for one of this.
    let other = MemoryStore::new();
    let ahead = other.changes(Some(&forgotten.cursor), 10).await.unwrap().unwrap();
    assert!(ahead.news.is_none());
}

#[tokio::test]
async fn a_store_in_memory_answers_when_there_is_something_to_tell_to_another() {
    let store = MemoryStore::new();
    store.presence(Owner(1), Presence::Register).await.unwrap();
    let first = cursor(&store).await;
    let mut waiting = pin!(store.changes(Some(&first), 10));
    grow(&store).await;
    assert!(poll(waiting.as_mut()).is_none(), "nobody else is there to be told");
    store.presence(Owner(2), Presence::Register).await.unwrap();
    let told = grow(&store).await;
    let changes = waiting.await.unwrap().unwrap();
    let news: Vec<_> = changes.news.unwrap().iter().map(|news| news.of.version).collect();
    assert_eq!(news, [told.version]);
}

async fn cursor(store: &MemoryStore) -> Cursor {
    store.changes(None, 1).await.unwrap().unwrap().cursor
}

/// One more grant of the session.
async fn grow(store: &MemoryStore) -> Done {
    let found = store.load(&id()).await.unwrap();
    let epoch = found.map(|found| found.record.epoch);
    let claim = Claim { id: ClaimId(fastrand::u64(..)), epoch, ..claim() };
    let claim = Claim { intent: Intent::Establish, ..claim };
    let claimed = done(store.apply(&id(), Statement::Claim(claim)).await);
    let attempt = Attempt { base: claimed.generation, fence: claimed.fence, claim: claim.id };
    let commit = Commit { intent: claim.intent, epoch: claimed.epoch, attempt, ..commit() };
    done(store.apply(&id(), Statement::Commit(commit)).await)
}

fn done(outcome: Result<Outcome, StoreError>) -> Done {
    match outcome {
        Ok(Outcome::Done(done)) => done,
        other => panic!("it is not done: {other:?}"),
    }
}

fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

/// Calls every method once, and checks that the results are those of [`Recording`].
async fn ask_all(store: &dyn Store, name: &str) {
    for (call, done) in ask(store).await {
        assert!(done, "{name}: {call:?} has another answer");
    }
}

async fn ask(store: &dyn Store) -> Vec<(StoreCall, bool)> {
    let id = id();
    let due = Due { at: now().wall, id: id.clone() };
    let (filter, cursor) = (RecordFilter::default(), Cursor([4].as_slice().into()));
    let mut answers = vec![matches!(store.load(&id).await, Ok(None))];
    for (number, statement) in (0..).zip(statements()) {
        let done = store.apply(&id, statement).await;
        answers.push(matches!(done, Ok(Outcome::Done(Done { version, .. })) if version == number));
    }
    let context = StoreContext::new(ring(), Arc::new(ManualClock::new()));
    answers.extend([
        store
            .due(id.provider(), SECOND, Some(&due), 3)
            .await
            .is_ok_and(|page| page.due == [due.clone()] && page.holders == [Owner(5)]),
        store.list(&filter, Some(&id), 3).await.is_ok_and(|listed| listed.is_empty()),
        store.reseal(3).await.is_ok_and(|page| page.passed_over == 2 && !page.ended),
        store.remove_ended(SECOND, None, 3).await.is_ok_and(|page| page.is_some()),
        matches!(store.changes(Some(&cursor), 3).await, Ok(Some(Changes { more: true, .. }))),
        store.presence(Owner(1), Presence::Renew).await.is_ok(),
        matches!(store.client(&client_key(), change()).await, Ok(Some(outcome)) if !outcome.done),
        matches!(store.clients(Some(&client_key()), 3).await, Ok(Some(page)) if page.holders == 7),
        matches!(store.set_paused(&scope(), true).await, Ok(Some(true))),
        matches!(store.pauses().await, Ok(Some(pauses)) if pauses.scopes == [scope()]),
        matches!(store.claim_login(&login()).await, Ok(Some(LoginOutcome::Held { left: SECOND }))),
        store.prepare(&context).is_ok(),
        store.key_ring().is_some(),
    ]);
    StoreCall::ALL.into_iter().zip(answers).collect()
}

fn login() -> LoginClaim {
    let (login, claim) = (LoginId([9; 16]), ClaimId(3));
    LoginClaim { login, claim, lease: SECOND, interval: SECOND }
}

fn scope() -> PauseScope {
    PauseScope::Tenant(Tenant::new("tenant").unwrap())
}

/// One of each, in the order of [`StoreCall::ALL`].
fn statements() -> [Statement; 13] {
    let (epoch, generation, version) = (1, 1, 2);
    let Commit { attempt, credentials, ends, .. } = commit();
    let (to, retry_in, due_in) = (SettleTo::Before, None, None);
    let settle = Settle { epoch, attempt, to, retry_in, due_in, failures: None };
    let (hold, hold_of_dead) = (SECOND, Duration::ZERO);
    let close = Close { generation, claim: ClaimId(3), owner: Owner(1), lease: SECOND };
    [
        Statement::Claim(claim()),
        Statement::Renew(Renew { claim: ClaimId(3), lease: SECOND }),
        Statement::Commit(commit()),
        Statement::Settle(settle),
        Statement::TakeOver(TakeOver {
            claim: ClaimId(3),
            hold,
            hold_of_dead,
            hold_of_journal: hold,
            hold_back: hold_of_dead,
        }),
        Statement::Close(close),
        Statement::Lose(Lose { epoch, generation, reason: LostReason::Revoked }),
        Statement::Suspect(Suspect { epoch, generation }),
        Statement::Reschedule(Reschedule { version, announced: true, due_in }),
        Statement::Restore(Restore { version, epoch, generation, attempt, credentials, ends }),
        Statement::Import(Box::new(import())),
        Statement::Delete,
        Statement::RemoveEnded { keep: SECOND },
    ]
}

const SECOND: Duration = Duration::from_secs(1);

fn claim() -> Claim {
    let (id, owner, intent) = (ClaimId(3), Owner(1), Intent::Refresh);
    let (replaces, epoch, lease, journal) = (None, Some(1), SECOND, true);
    Claim { id, replaces, owner, intent, epoch, generation: 1, lease, journal }
}

fn commit() -> Commit {
    let attempt = Attempt { base: 1, fence: 2, claim: ClaimId(3) };
    let credentials = Arc::new(Credentials::new(Tokens::new(Arc::from("null")), "a", "c"));
    Commit { intent: Intent::Refresh, epoch: 1, attempt, credentials, ends: Ends::default() }
}

fn import() -> Import {
    let Commit { attempt, credentials, ends, .. } = commit();
    Import {
        version: 2,
        epoch: 1,
        generation: 1,
        fence: 2,
        phase: Phase::Active,
        credentials: Some(credentials),
        outbox: None,
        made_by: Some(attempt),
        ends,
        suspect: false,
        lost: None,
        tries: 0,
        failures: None,
        failing_for: None,
        ended_for: None,
    }
}

fn id() -> SessionId {
    let key = SessionKey::new("tenant", "device").unwrap();
    SessionId::new(ProviderName::new("provider").unwrap(), key)
}

fn now() -> Now {
    ManualClock::new().now()
}

fn client_key() -> ClientKey {
    let provider = id().provider().clone();
    ClientKey { provider, tenant: None, client: "client".into() }
}

fn change() -> ClientChange {
    ClientChange::Throttle { wait: SECOND }
}

fn ring() -> KeyRing {
    KeyRing::new(1, MasterKey::from([1; 32]))
}

/// Records its calls. The arguments must be those of [`ask`].
#[derive(Default)]
struct Recording(Mutex<Vec<StoreCall>>);

impl Recording {
    fn asked(&self) -> Vec<StoreCall> {
        self.0.lock().unwrap().clone()
    }

    fn answer<T>(&self, call: StoreCall, expected: bool, answer: T) -> Result<T, StoreError> {
        self.0.lock().unwrap().push(call);
        if expected { Ok(answer) } else { Err(StoreError::new(StoreErrorKind::Corrupt)) }
    }
}

#[async_trait]
impl Store for Recording {
    fn prepare(&self, context: &StoreContext) -> Result<(), StoreError> {
        self.answer(StoreCall::Prepare, context.clock.now() == now(), ())
    }

    fn key_ring(&self) -> Option<KeyRing> {
        self.answer(StoreCall::KeyRing, true, ring()).ok()
    }

    async fn presence(&self, owner: Owner, presence: Presence) -> Result<(), StoreError> {
        let expected = (owner, presence) == (Owner(1), Presence::Renew);
        self.answer(StoreCall::Presence, expected, ())
    }

    async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        let page = Resealed { done: 1, passed_over: 2, ended: false };
        self.answer(StoreCall::Reseal, limit == 3, page)
    }

    async fn load(&self, asked: &SessionId) -> Result<Option<Stored>, StoreError> {
        self.answer(StoreCall::Load, *asked == id(), None)
    }

    async fn load_many(&self, ids: &[SessionId]) -> Vec<Result<Option<Stored>, StoreError>> {
        ids.iter().map(|_| Err(StoreError::new(StoreErrorKind::Full))).collect()
    }

    /// Each is done, and its version is its number.
    async fn apply(&self, asked: &SessionId, statement: Statement) -> Result<Outcome, StoreError> {
        let same = |(_, one): &(u64, Statement)| format!("{one:?}") == format!("{statement:?}");
        let found = (0..).zip(statements()).find(same);
        let version = found.as_ref().map_or(u64::MAX, |(number, _)| *number);
        let (epoch, generation, fence) = (1, 1, 2);
        let (phase, suspect) = (Phase::Active, false);
        let done = Done { version, epoch, generation, fence, phase, suspect };
        let expected = *asked == id() && found.is_some();
        self.answer(StoreCall::from(&statement), expected, Outcome::Done(done))
    }

    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        let (due, holders) = (after.cloned().into_iter().collect(), vec![Owner(5)]);
        let expected = provider == id().provider() && within == SECOND && limit == 3;
        self.answer(StoreCall::Due, expected, DuePage { due, now: now(), holders })
    }

    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let expected = filter.phase.is_none() && after == Some(&id()) && limit == 3;
        self.answer(StoreCall::List, expected, Vec::new())
    }

    async fn remove_ended(
        &self,
        keep: Duration,
        after: Option<&Ended>,
        limit: usize,
    ) -> Result<Option<RemovedEnded>, StoreError> {
        let expected = (keep, after, limit) == (SECOND, None, 3);
        let page = RemovedEnded { removed: Vec::new(), next: None };
        self.answer(StoreCall::EndedPage, expected, Some(page))
    }

    async fn changes(
        &self,
        since: Option<&Cursor>,
        limit: usize,
    ) -> Result<Option<Changes>, StoreError> {
        let expected = since.is_some_and(|since| *since.0 == [4]) && limit == 3;
        let changes = Changes {
            cursor: Cursor([5].as_slice().into()),
            news: None,
            more: true,
            failover: None,
        };
        self.answer(StoreCall::Changes, expected, Some(changes))
    }

    async fn set_paused(
        &self,
        asked: &PauseScope,
        paused: bool,
    ) -> Result<Option<bool>, StoreError> {
        self.answer(StoreCall::SetPaused, *asked == scope() && paused, Some(true))
    }

    async fn pauses(&self) -> Result<Option<Pauses>, StoreError> {
        let pauses = Pauses { scopes: vec![scope()], next_in: SECOND };
        self.answer(StoreCall::Pauses, true, Some(pauses))
    }

    async fn client(
        &self,
        client: &ClientKey,
        asked: ClientChange,
    ) -> Result<Option<ClientOutcome>, StoreError> {
        let expected = (client, asked) == (&client_key(), change());
        let outcome = ClientOutcome { client: SharedClient::default(), now: now(), done: false };
        self.answer(StoreCall::Client, expected, Some(outcome))
    }

    async fn clients(
        &self,
        after: Option<&ClientKey>,
        limit: usize,
    ) -> Result<Option<ClientPage>, StoreError> {
        let expected = after == Some(&client_key()) && limit == 3;
        let page = ClientPage {
            clients: Vec::new(),
            now: now(),
            holders: 7,
            next_in: Duration::from_secs(60),
        };
        self.answer(StoreCall::Clients, expected, Some(page))
    }

    async fn claim_login(&self, claim: &LoginClaim) -> Result<Option<LoginOutcome>, StoreError> {
        let held = LoginOutcome::Held { left: SECOND };
        self.answer(StoreCall::ClaimLogin, *claim == login(), Some(held))
    }
}
