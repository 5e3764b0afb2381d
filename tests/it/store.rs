//! Every store passes the same suite, and wrappers pass everything on.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use session_warden::SessionKey;
use session_warden::clock::{BootTime, Clock};
use session_warden::key::{ProviderName, SessionId};
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::{
    Attempt, Changes, Claim, Claimed, Close, Closed, Commit, Committed, Due, Filter, Intent,
    Listed, MemoryStore, Owner, Record, Resealed, Settle, SettleTo, Settled, Store, StoreError,
    StoreErrorKind, TakeOver,
};
use session_warden::testing::{FaultyStore, ManualClock, Statement, store_suite};
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
    assert!(store_suite::NAMES.len() >= 59, "cases are not to be lost");
}

#[tokio::test]
#[should_panic(expected = "there is no case")]
async fn a_case_that_does_not_exist_is_not_passed() {
    store_suite::check("a_case_of_another_version", Arc::new(MemoryStore::new())).await;
}

#[tokio::test]
async fn every_statement_arrives_through_every_wrapper() {
    let plain = Recording::default();
    ask_all(&plain, "plain").await;
    let shared = Arc::new(Recording::default());
    ask_all(&Arc::clone(&shared), "shared").await;
    assert_eq!(shared.asked(), Statement::ALL);
    let dynamic: Arc<dyn Store> = Arc::<Recording>::clone(&shared);
    ask_all(&dynamic, "dynamic").await;
    assert_eq!(shared.asked(), [Statement::ALL, Statement::ALL].concat());
    let inner = Arc::new(Recording::default());
    let faulty = FaultyStore::new(Arc::clone(&inner));
    ask_all(&faulty, "faulty").await;
    assert_eq!(inner.asked(), Statement::ALL);
    for statement in Statement::ALL {
        assert_eq!(faulty.faults().count(statement), 1, "{statement:?}");
    }
}

#[tokio::test]
async fn a_fault_is_of_its_statement_alone_and_as_often_as_was_said() {
    for failed in Statement::ALL {
        let inner = Arc::new(Recording::default());
        let store = FaultyStore::new(Arc::clone(&inner));
        let faults = store.faults();
        faults.fail_next(failed, 2);
        for round in 0..3 {
            for (statement, done) in ask(&store).await {
                assert_eq!(done, statement != failed || round == 2, "{failed:?} {statement:?}");
            }
        }
        faults.fail_always(failed, true);
        assert_eq!(ask(&store).await.iter().filter(|(_, done)| !done).count(), 1);
        faults.fail_always(failed, false);
        assert!(ask(&store).await.iter().all(|(_, done)| *done));
        let undone = inner.asked().iter().filter(|statement| **statement == failed).count();
        assert_eq!((undone, faults.count(failed)), (2, 5), "{failed:?} is failed undone");
        faults.fail_after_writing(failed, 1);
        assert_eq!(ask(&store).await.iter().filter(|(_, done)| !done).count(), 1);
        let done = inner.asked().iter().filter(|statement| **statement == failed).count();
        assert_eq!(done, 3, "{failed:?} is done, and its answer lost");
        assert!(ask(&store).await.iter().all(|(_, done)| *done));
    }
}

#[tokio::test]
async fn a_held_statement_is_neither_done_nor_answered_before_its_release() {
    let inner = Arc::new(Recording::default());
    let store = FaultyStore::new(Arc::clone(&inner));
    let faults = store.faults();
    faults.hold(Statement::Load);
    let id = id();
    let mut load = pin!(store.load(&id));
    assert!(poll(load.as_mut()).is_none());
    faults.held(Statement::Load, 1).await;
    assert!(store.delete(&id).await.unwrap(), "the others go on");
    assert_eq!((inner.asked(), faults.count(Statement::Load)), (vec![Statement::Delete], 1));
    faults.release(Statement::Load);
    assert!(load.await.unwrap().is_none());
    assert!(store.load(&id).await.unwrap().is_none(), "it holds no more");
    // One that is dropped while it is held is not done.
    faults.hold(Statement::Load);
    assert!(poll(pin!(store.load(&id)).as_mut()).is_none());
    faults.release(Statement::Load);
    assert_eq!(inner.asked(), [Statement::Delete, Statement::Load, Statement::Load]);
}

fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(done) => Some(done),
        std::task::Poll::Pending => None,
    }
}

/// Asks everything once, and looks whether the answers are those of [`Recording`].
async fn ask_all(store: &dyn Store, name: &str) {
    for (statement, done) in ask(store).await {
        assert!(done, "{name}: {statement:?} has another answer");
    }
}

async fn ask(store: &dyn Store) -> Vec<(Statement, bool)> {
    let (id, at) = (id(), ManualClock::new().now());
    let attempt = Attempt { base: 1, fence: 2 };
    let (owner, intent) = (Owner(1), Intent::Refresh);
    let claim = Claim { owner, intent, epoch: 1, generation: 1, at, lease: Duration::ZERO };
    let tokens = Tokens::new(Arc::from("null"));
    let credentials = Arc::new(Credentials::new(tokens, "a", "c"));
    let commit = Commit { intent, epoch: 1, attempt, credentials, due_at: None };
    let settle = Settle { epoch: 1, attempt, to: SettleTo::Before, retry_at: None };
    let take = TakeOver { fence: 2, at, retry_at: None };
    let close = Close { generation: 1, at };
    let due = Due { at: SystemTime::UNIX_EPOCH, id: id.clone() };
    let filter = Filter::default();
    let answers = [
        matches!(store.load(&id).await, Ok(None)),
        matches!(store.claim(&id, claim).await, Ok(Claimed::Granted { fence: 77 })),
        matches!(store.commit(&id, commit).await, Ok(Committed::Busy)),
        matches!(store.settle(&id, settle).await, Ok(Settled::Moved)),
        matches!(store.take_over(&id, take).await, Ok(true)),
        matches!(store.close(&id, close).await, Ok(Closed::Done { generation: 78 })),
        matches!(store.outbox(&id, 1).await, Ok(())),
        store.due(Some(&due), 3).await.is_ok_and(|found| found == [due.clone()]),
        store.list(&filter, Some(&id), 3).await.is_ok_and(|listed| listed.is_empty()),
        matches!(store.delete(&id).await, Ok(true)),
        store.reseal(3).await.is_ok_and(|page| page.passed_over == 2 && !page.ended),
        matches!(store.changes(Some(4), 3).await, Ok(Some(Changes { mark: 79, of: None }))),
        store.seal_with(&KeyRing::new(1, MasterKey::from([1; 32]))).is_ok(),
        store.sealed_with().is_some(),
    ];
    Statement::ALL.into_iter().zip(answers).collect()
}

fn id() -> SessionId {
    let key = SessionKey::new("tenant", "device").unwrap();
    SessionId::new(ProviderName::new("provider").unwrap(), key)
}

/// Writes down what it is asked. What it is asked with must be what [`ask`] asks with.
#[derive(Default)]
struct Recording(Mutex<Vec<Statement>>);

impl Recording {
    fn asked(&self) -> Vec<Statement> {
        self.0.lock().unwrap().clone()
    }

    fn answer<T>(&self, statement: Statement, expected: bool, answer: T) -> Result<T, StoreError> {
        self.0.lock().unwrap().push(statement);
        if expected { Ok(answer) } else { Err(StoreError::new(StoreErrorKind::Corrupt)) }
    }
}

#[async_trait]
impl Store for Recording {
    fn seal_with(&self, _: &KeyRing) -> Result<(), StoreError> {
        self.answer(Statement::SealWith, true, ())
    }

    fn sealed_with(&self) -> Option<KeyRing> {
        let ring = KeyRing::new(1, MasterKey::from([1; 32]));
        self.answer(Statement::SealedWith, true, ring).ok()
    }

    async fn load(&self, asked: &SessionId) -> Result<Option<Record>, StoreError> {
        self.answer(Statement::Load, *asked == id(), None)
    }

    async fn claim(&self, asked: &SessionId, claim: Claim) -> Result<Claimed, StoreError> {
        let expected = *asked == id() && claim.owner == Owner(1);
        self.answer(Statement::Claim, expected, Claimed::Granted { fence: 77 })
    }

    async fn commit(&self, asked: &SessionId, commit: Commit) -> Result<Committed, StoreError> {
        let expected = *asked == id() && commit.attempt.fence == 2;
        self.answer(Statement::Commit, expected, Committed::Busy)
    }

    async fn settle(&self, asked: &SessionId, settle: Settle) -> Result<Settled, StoreError> {
        let expected = *asked == id() && settle.to == SettleTo::Before;
        self.answer(Statement::Settle, expected, Settled::Moved)
    }

    async fn take_over(&self, asked: &SessionId, take: TakeOver) -> Result<bool, StoreError> {
        let expected = *asked == id() && take.at.boot == BootTime::new(ManualClock::START_BOOT);
        self.answer(Statement::TakeOver, expected, true)
    }

    async fn close(&self, asked: &SessionId, close: Close) -> Result<Closed, StoreError> {
        let expected = *asked == id() && close.generation == 1;
        self.answer(Statement::Close, expected, Closed::Done { generation: 78 })
    }

    async fn outbox(&self, asked: &SessionId, generation: u64) -> Result<(), StoreError> {
        self.answer(Statement::Outbox, *asked == id() && generation == 1, ())
    }

    async fn due(&self, after: Option<&Due>, limit: usize) -> Result<Vec<Due>, StoreError> {
        self.answer(Statement::Due, limit == 3, after.cloned().into_iter().collect())
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let expected = filter.phase.is_none() && after == Some(&id()) && limit == 3;
        self.answer(Statement::List, expected, Vec::new())
    }

    async fn delete(&self, asked: &SessionId) -> Result<bool, StoreError> {
        self.answer(Statement::Delete, *asked == id(), true)
    }

    async fn changes(
        &self,
        since: Option<u64>,
        limit: usize,
    ) -> Result<Option<Changes>, StoreError> {
        let changes = Changes { mark: 79, of: None };
        self.answer(Statement::Changes, since == Some(4) && limit == 3, Some(changes))
    }

    async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        let page = Resealed { done: 1, passed_over: 2, ended: false };
        self.answer(Statement::Reseal, limit == 3, page)
    }
}
