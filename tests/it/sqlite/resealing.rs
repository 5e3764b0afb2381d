//! The supervisor seals records again that older keys sealed.

use std::sync::Arc;
use std::time::Duration;

use session_warden::Supervisor;
use session_warden::key::SessionId;
use session_warden::policy::{RESEAL_AGAIN, RESEAL_PAGE, RESEAL_PAUSE};
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::sqlite::SqliteStore;
use session_warden::store::{Intent, MemoryStore, Owner, Settle, SettleTo, Statement, Store};
use session_warden::testing::{Faults, FaultyStore, ManualClock, ScriptedProvider, StoreCall};

use super::sealing::{both, row, with_keys};
use super::store_folder::{Folder, access, claim, done, exchange, found, granted, id, ring};
use crate::support::{SECOND, until};

/// A supervisor on a file, with its time in the test's hand.
struct Keeper {
    supervisor: Supervisor,
    clock: ManualClock,
    store: SqliteStore,
    faults: Faults,
}

impl Keeper {
    async fn start(folder: &Folder, keys: KeyRing) -> Self {
        let (clock, store) = (ManualClock::new(), SqliteStore::open(folder.database()).unwrap());
        let faulty = FaultyStore::new(store.clone());
        let faults = faulty.faults();
        let supervisor = Supervisor::builder()
            .clock(clock.clone())
            .key_ring(keys)
            .store(Arc::new(faulty))
            .provider("p", ScriptedProvider::new())
            .start()
            .await
            .unwrap();
        Self { supervisor, clock, store, faults }
    }

    async fn stale(&self) -> Vec<(u32, u64)> {
        let keys = self.store.stale_keys().await.unwrap();
        keys.iter().map(|key| (key.number, key.records)).collect()
    }

    /// Lets what was begun end: its statements are done in real time, for which the clock of the
    /// test does not wait.
    async fn rest(&self) {
        loop {
            let asked = self.faults.count(StoreCall::Reseal);
            self.clock.advance(2 * RESEAL_PAUSE).await;
            // Statements are answered in their order, so those before these are.
            for _ in 0..3 {
                self.stale().await;
                self.clock.advance(Duration::ZERO).await;
            }
            if self.faults.count(StoreCall::Reseal) == asked {
                return;
            }
        }
    }

    /// Lets time go on until these keys, and so many records of each, are left.
    async fn until_left(&self, left: &[(u32, u64)]) {
        for _ in 0..10_000 {
            if self.stale().await == left {
                return;
            }
            self.clock.advance(RESEAL_PAUSE).await;
        }
        panic!("left are {:?}", self.stale().await);
    }
}

/// More than a page of sessions.
async fn many(store: &SqliteStore) -> Vec<SessionId> {
    let ids: Vec<_> = (0..RESEAL_PAGE + 10).map(|n| id(&format!("device-{n}"))).collect();
    let grants = ids.iter().map(|id| exchange(store, id, Intent::Establish, "x"));
    futures_util::future::try_join_all(grants).await.unwrap();
    ids
}

async fn assert_all_open(store: &SqliteStore, ids: &[SessionId]) {
    for id in ids {
        let record = found(store, id).await;
        assert_eq!((access(&record), record.generation), (Some("access-x"), 1), "{id}");
    }
}

#[tokio::test]
async fn after_a_reload_all_is_sealed_anew_without_a_call_and_the_old_key_can_go() {
    let folder = Folder::new();
    let keeper = Keeper::start(&folder, ring(1)).await;
    let ids = many(&keeper.store).await;
    keeper.rest().await;
    keeper.clock.advance(2 * RESEAL_AGAIN).await;
    keeper.rest().await;
    assert_eq!(keeper.faults.count(StoreCall::Reseal), 1, "after the start, and there was nothing");
    // As a rolling change does it: first the new key opens, then it seals, then the old one goes.
    let keys = keeper.supervisor.keys();
    keys.reload(ring(1).with_opening(2, MasterKey::from([2; 32])).unwrap());
    keeper.clock.advance(RESEAL_PAUSE).await;
    assert_eq!(keeper.stale().await, [], "all of them are where they belong");
    keys.reload(both());
    keeper.until_left(&[]).await;
    keys.reload(ring(2));
    assert_all_open(&keeper.store, &ids).await;
}

#[tokio::test]
async fn after_a_start_with_a_new_key_all_is_sealed_anew_in_spite_of_a_store_that_fails() {
    let folder = Folder::new();
    let store = folder.store();
    let ids = many(&store).await;
    store.shutdown().await;
    let keeper = Keeper::start(&folder, both()).await;
    keeper.faults.fail_next(StoreCall::Reseal, 3);
    keeper.until_left(&[]).await;
    assert!(keeper.faults.count(StoreCall::Reseal) >= 5, "three that failed, and two pages");
    assert_all_open(&keeper.store, &ids).await;
}

#[tokio::test]
async fn a_record_whose_key_is_missing_is_passed_over_as_it_is_until_the_key_is_back() {
    let folder = Folder::new();
    for (number, name) in [(1, "missing"), (2, "there")] {
        let store = with_keys(&folder, ring(number));
        exchange(&store, &id(name), Intent::Establish, name).await.unwrap();
        store.shutdown().await;
    }
    let (two, three) = (MasterKey::from([2; 32]), MasterKey::from([3; 32]));
    let keys = KeyRing::new(2, two).with(3, three).unwrap();
    let before = row(&folder, "missing");
    let keeper = Keeper::start(&folder, keys.clone()).await;
    keeper.until_left(&[(1, 1)]).await;
    keeper.clock.advance(2 * RESEAL_AGAIN).await;
    keeper.rest().await;
    assert_eq!((row(&folder, "missing"), row(&folder, "there").0), (before, 3));
    keeper.supervisor.keys().reload(keys.with(1, MasterKey::from([1; 32])).unwrap());
    keeper.until_left(&[]).await;
    assert_eq!(row(&folder, "missing").0, 3);
}

#[tokio::test]
async fn what_was_claimed_is_sealed_anew_when_it_rests_and_then_nothing_is_asked_any_more() {
    let folder = Folder::new();
    let keeper = Keeper::start(&folder, ring(1)).await;
    for name in ["claimed", "resting"] {
        exchange(&keeper.store, &id(name), Intent::Establish, name).await.unwrap();
    }
    let out = claim(Owner(1), Intent::Refresh, Some((1, 1)));
    let (epoch, attempt) = granted(&keeper.store, &id("claimed"), out).await.unwrap();
    keeper.supervisor.keys().reload(both());
    keeper.until_left(&[(1, 1)]).await;
    assert!(found(&keeper.store, &id("claimed")).await.lease.is_some());
    let (to, retry_in, due_in) = (SettleTo::Before, None, None);
    let settle = Settle { epoch, attempt, to, retry_in, due_in, failures: None };
    done(keeper.store.apply(&id("claimed"), Statement::Settle(settle)).await);
    keeper.rest().await;
    keeper.clock.advance(RESEAL_AGAIN).await;
    keeper.until_left(&[]).await;
    // Once more, because it met one; then never again.
    keeper.rest().await;
    keeper.clock.advance(RESEAL_AGAIN).await;
    keeper.rest().await;
    let asked = keeper.faults.count(StoreCall::Reseal);
    keeper.clock.advance(2 * RESEAL_AGAIN).await;
    keeper.rest().await;
    assert_eq!(keeper.faults.count(StoreCall::Reseal), asked);
}

#[tokio::test]
async fn a_shutdown_in_the_midst_of_it_is_clean_and_the_next_process_goes_on() {
    let folder = Folder::new();
    let keeper = Keeper::start(&folder, ring(1)).await;
    let ids = many(&keeper.store).await;
    keeper.clock.advance(SECOND).await;
    let (faults, asked) = (&keeper.faults, keeper.faults.count(StoreCall::Reseal));
    faults.hold(StoreCall::Reseal);
    keeper.supervisor.keys().reload(both());
    until(&keeper.clock, faults.held(StoreCall::Reseal, 1)).await;
    faults.release(StoreCall::Reseal);
    // The first page is done, the second one is not answered.
    faults.hold(StoreCall::Reseal);
    until(&keeper.clock, faults.held(StoreCall::Reseal, 2)).await;
    assert_eq!(keeper.stale().await, [(1, 10)]);
    assert!(keeper.supervisor.shutdown(SECOND).await.is_clean());
    faults.release(StoreCall::Reseal);
    keeper.clock.advance(2 * RESEAL_AGAIN).await;
    assert_eq!((keeper.stale().await, faults.count(StoreCall::Reseal)), (vec![(1, 10)], asked + 2));
    keeper.store.shutdown().await;

    let next = Keeper::start(&folder, both()).await;
    assert_all_open(&next.store, &ids).await;
    next.until_left(&[]).await;
    assert_all_open(&next.store, &ids).await;
}

#[tokio::test]
async fn a_store_that_keeps_nothing_on_a_disk_is_not_asked() {
    let (clock, store) = (ManualClock::new(), FaultyStore::new(MemoryStore::new()));
    let faults = store.faults();
    let builder = Supervisor::builder().clock(clock.clone()).store(store).key_ring(ring(1));
    let supervisor = builder.start().await.unwrap();
    supervisor.keys().reload(both());
    clock.advance(2 * RESEAL_AGAIN).await;
    assert_eq!(faults.count(StoreCall::Reseal), 0);
}
