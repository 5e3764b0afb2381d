//! What lies on the disk, and what opens it.

use std::error::Error as _;
use std::sync::Arc;

use base64::Engine;
use session_warden::error::LostReason;
use session_warden::key::SessionId;
use session_warden::policy::{RESEAL_AGAIN, RESEAL_PAGE, RESEAL_PAUSE};
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::sqlite::SqliteStore;
use session_warden::store::{
    Attempt, Close, Filter, Intent, MemoryStore, Owner, Phase, Resealed, SealFault, Settle,
    SettleTo, Store, StoreError, StoreErrorKind,
};
use session_warden::testing::{Faults, FaultyStore, ManualClock, ScriptedProvider, Statement};
use session_warden::{Error, ErrorKind, Supervisor};

use super::bed::{Folder, access, claim, exchange, id, id_of, now, ring};
use crate::support::{SECOND, until};

const CANARY: &str = "canary7f3a91";

/// The first form in which the canary can be read in `bytes`.
fn shown(bytes: &[u8]) -> Option<String> {
    // In base64 the canary looks different at each of three offsets; the ends vary with what
    // stands around it.
    let encoded = (0..3).map(|offset| {
        let padded = format!("{}{CANARY}", "x".repeat(offset));
        let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(padded);
        encoded[4..encoded.len() - 2].to_owned()
    });
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = encoded.chain([hex.to_uppercase(), hex, CANARY.to_owned()]);
    forms.find(|form| bytes.windows(form.len()).any(|window| window == form.as_bytes()))
}

/// Sessions in all phases, with the canary in every secret.
async fn fill(store: &SqliteStore) {
    for name in ["active", "claimed", "closed"] {
        exchange(store, &id(name), Intent::Establish, &format!("{CANARY}-old")).await.unwrap();
        exchange(store, &id(name), Intent::Refresh, CANARY).await.unwrap();
    }
    store.claim(&id("claimed"), claim(Owner(1), Intent::Refresh, (1, 2), now(0))).await.unwrap();
    Store::close(store, &id("closed"), Close { generation: 2, at: now(0) }).await.unwrap();
}

/// The folder's files with a backup among them.
fn with_backup(folder: &Folder) -> Vec<u8> {
    let file = rusqlite::Connection::open(folder.database()).unwrap();
    let backup = folder.path().join("backup.db");
    file.execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
    assert!(folder.path().join("sessions.db-wal").metadata().unwrap().len() > 0, "no log");
    folder.bytes()
}

#[tokio::test]
async fn no_token_lies_on_the_disk_in_the_database_its_log_or_a_backup() {
    let folder = Folder::new();
    let store = folder.store();
    fill(&store).await;
    assert_eq!(shown(&with_backup(&folder)), None);
    store.shutdown().await;
    assert_eq!(shown(&folder.bytes()), None, "after the log was written back");
    // The others of a record are there: it is looked for in the right place.
    assert!(folder.bytes().windows(6).any(|window| window == b"tenant"));
}

#[tokio::test]
async fn only_a_store_that_was_told_so_writes_tokens_in_clear() {
    let folder = Folder::new();
    let store = SqliteStore::builder(folder.database()).tokens_in_clear().open().unwrap();
    fill(&store).await;
    assert_eq!(shown(&with_backup(&folder)), Some(CANARY.to_owned()));
}

#[tokio::test]
async fn sealed_records_of_tokens_that_differ_a_little_in_length_are_equally_long() {
    let folder = Folder::new();
    let store = folder.store();
    for (name, length) in [("short", 10), ("long", 20)] {
        exchange(&store, &id(name), Intent::Establish, &"x".repeat(length)).await.unwrap();
    }
    store.shutdown().await;
    let file = rusqlite::Connection::open(folder.database()).unwrap();
    let lengths = "SELECT count(DISTINCT length(sealed)), max(length(sealed)) FROM session";
    let found: (i64, i64) = file.query_row(lengths, [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    assert_eq!(found, (1, 45 + 256));
}

fn both() -> KeyRing {
    ring(1).with(2, MasterKey::from([2; 32])).unwrap()
}

fn with_keys(folder: &Folder, keys: KeyRing) -> SqliteStore {
    SqliteStore::builder(folder.database()).key_ring(keys).open().unwrap()
}

#[tokio::test]
async fn a_new_key_takes_over_record_by_record_and_then_the_old_one_can_go() {
    let folder = Folder::new();
    let names = ["a", "b", "c", "d", "e"];
    let store = folder.store();
    for name in names {
        exchange(&store, &id(name), Intent::Establish, name).await.unwrap();
    }
    assert_eq!(store.stale_keys().await.unwrap(), []);
    store.shutdown().await;

    let store = with_keys(&folder, both());
    exchange(&store, &id("a"), Intent::Refresh, "a").await.unwrap();
    let stale = async || {
        let keys = store.stale_keys().await.unwrap();
        keys.iter().map(|key| (key.number, key.records)).collect::<Vec<_>>()
    };
    assert_eq!(stale().await, [(1, 4)], "what is written anew has the new key");
    let mut pages = Vec::new();
    for _ in 0..3 {
        let page = store.reseal(3).await.unwrap();
        pages.push((page.done, page.passed_over, page.ended));
    }
    let expected = vec![(3, 0, false), (1, 0, true), (0, 0, true)];
    assert_eq!((pages, stale().await), (expected, vec![]));
    store.shutdown().await;

    let store = with_keys(&folder, ring(2));
    for name in names {
        let record = store.load(&id(name)).await.unwrap().unwrap();
        assert_eq!(access(&record).unwrap(), format!("access-{name}"));
        assert_eq!(record.generation, 1 + u64::from(name == "a"), "sealing anew is no change");
    }
}

/// Between the steps of a rolling change of the key: one process was promoted, the other not yet.
#[tokio::test]
async fn before_and_after_a_new_key_seals_each_process_reads_what_the_other_wrote() {
    let folder = Folder::new();
    let before = with_keys(&folder, ring(1).with_opening(2, MasterKey::from([2; 32])).unwrap());
    let after = with_keys(&folder, both());
    exchange(&before, &id("by-1"), Intent::Establish, "by-1").await.unwrap();
    exchange(&after, &id("by-2"), Intent::Establish, "by-2").await.unwrap();
    for store in [&before, &after] {
        for name in ["by-1", "by-2"] {
            let record = store.load(&id(name)).await.unwrap().unwrap();
            assert_eq!(access(&record).unwrap(), format!("access-{name}"));
        }
    }
    let stale = async |store: &SqliteStore| store.stale_keys().await.unwrap()[0].number;
    assert_eq!((stale(&before).await, stale(&after).await), (2, 1));
    // The one that still seals with the old key does not undo what the other did.
    assert_eq!(before.reseal(10).await.unwrap().done, 0);
    assert_eq!(after.reseal(10).await.unwrap().done, 1);
    assert_eq!(after.stale_keys().await.unwrap(), []);
    exchange(&before, &id("by-2"), Intent::Refresh, "by-1").await.unwrap();
    assert_eq!(stale(&after).await, 1, "what it refreshes meanwhile it seals with its own");
}

#[tokio::test]
async fn what_is_claimed_closed_or_cannot_be_opened_is_not_sealed_anew_and_holds_nothing_up() {
    let folder = Folder::new();
    let store = folder.store();
    fill(&store).await;
    for name in ["x1", "x2"] {
        exchange(&store, &id(name), Intent::Establish, name).await.unwrap();
    }
    store.shutdown().await;
    let file = rusqlite::Connection::open(folder.database()).unwrap();
    file.execute("UPDATE session SET sealed = x'00' WHERE token_id = 'x1'", []).unwrap();
    let store = with_keys(&folder, both());
    for name in ["active", "claimed", "closed", "x1", "x2"] {
        let page = store.reseal(1).await.unwrap();
        let done = usize::from(name == "active" || name == "x2");
        let expected = Resealed { done, passed_over: 1 - done, ended: false };
        assert_eq!(page, expected, "{name}");
    }
    assert!(store.reseal(1).await.unwrap().ended);
    let stale = store.stale_keys().await.unwrap();
    assert_eq!(stale.iter().map(|key| key.records).sum::<u64>(), 3);
    assert!(store.load(&id("claimed")).await.unwrap().unwrap().lease.is_some());
    assert!(store.load(&id("closed")).await.unwrap().unwrap().outbox.is_some());
}

#[tokio::test]
async fn a_missing_key_fails_its_records_alone_and_with_the_key_they_are_as_they_were() {
    let folder = Folder::new();
    let store = folder.store();
    exchange(&store, &id("old"), Intent::Establish, "old").await.unwrap();
    store.shutdown().await;

    let store = with_keys(&folder, ring(2));
    exchange(&store, &id("new"), Intent::Establish, "new").await.unwrap();
    let failed = store.load(&id("old")).await.unwrap_err();
    assert_eq!((failed.kind(), fault(&failed)), (StoreErrorKind::Sealed, SealFault::KeyMissing(1)));
    assert_eq!(access(&store.load(&id("new")).await.unwrap().unwrap()), Some("access-new"));
    let listed = store.list(&Filter::default(), None, 10).await.unwrap();
    let listed: Vec<_> =
        listed.iter().map(|l| (l.id.clone(), l.record.phase, l.record.lost)).collect();
    let missing = Some(LostReason::KeyMissing);
    let expected = [(id("new"), Phase::Active, None), (id("old"), Phase::Lost, missing)];
    assert_eq!(listed, expected);
    // A claim on what is not known fails as well, and changes nothing.
    let claim = claim(Owner(2), Intent::Establish, (0, 0), now(0));
    assert_eq!(store.claim(&id("old"), claim).await.unwrap_err().kind(), StoreErrorKind::Sealed);
    assert_eq!(store.reseal(10).await.unwrap().done, 0);
    assert_eq!(store.stale_keys().await.unwrap()[0].number, 1);
    store.shutdown().await;

    let store = with_keys(&folder, both());
    let record = store.load(&id("old")).await.unwrap().unwrap();
    assert_eq!((access(&record), record.generation), (Some("access-old"), 1));
    assert!(store.delete(&id("old")).await.unwrap());
}

#[tokio::test]
async fn a_record_that_is_given_up_for_its_key_can_be_deleted_and_established_anew() {
    let folder = Folder::new();
    let store = folder.store();
    exchange(&store, &id("old"), Intent::Establish, "old").await.unwrap();
    store.shutdown().await;
    let store = with_keys(&folder, ring(2));
    assert!(store.delete(&id("old")).await.unwrap());
    exchange(&store, &id("old"), Intent::Establish, "again").await.unwrap();
    assert_eq!(access(&store.load(&id("old")).await.unwrap().unwrap()), Some("access-again"));
}

#[tokio::test]
async fn sealed_credentials_open_in_their_own_row_alone() {
    let folder = Folder::new();
    let store = folder.store();
    let ids = [id("a"), id("b"), id_of("other", "a"), id("whole")];
    for id in &ids {
        exchange(&store, id, Intent::Establish, "x").await.unwrap();
    }
    let file = rusqlite::Connection::open(folder.database()).unwrap();
    for swap in [
        // Another session's, another tenant's, of another grant, of another attempt, and flipped.
        "sealed = (SELECT sealed FROM session WHERE token_id = 'b') WHERE token_id = 'a' AND tenant = 'tenant'",
        "sealed = (SELECT sealed FROM session WHERE tenant = 'other') WHERE token_id = 'a' AND tenant = 'tenant'",
        "epoch = epoch + 1 WHERE token_id = 'b'",
        "cred_fence = cred_fence + 1 WHERE tenant = 'other'",
    ] {
        assert_eq!(file.execute(&format!("UPDATE session SET {swap}"), []).unwrap(), 1);
    }
    for id in &ids[..3] {
        let failed = store.load(id).await.unwrap_err();
        assert_eq!((failed.kind(), fault(&failed)), (StoreErrorKind::Corrupt, SealFault::Altered));
    }
    store.load(&ids[3]).await.unwrap().unwrap();
    assert_eq!(store.list(&Filter::default(), None, 10).await.unwrap().len(), 4);
}

fn fault(failed: &StoreError) -> SealFault {
    *failed.source().unwrap().downcast_ref().unwrap()
}

async fn start(store: impl Store, keys: Option<KeyRing>) -> Result<Supervisor, Error> {
    let builder = Supervisor::builder().store(store).provider("p", ScriptedProvider::new());
    match keys {
        Some(keys) => builder.key_ring(keys).start().await,
        None => builder.start().await,
    }
}

#[tokio::test]
async fn a_supervisor_does_not_start_on_a_file_with_keys_that_end_with_it() {
    let folder = Folder::new();
    let open = || SqliteStore::open(folder.database()).unwrap();
    for keys in [None, Some(KeyRing::generate().unwrap())] {
        let refused = start(open(), keys).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Misconfigured);
        let cause = refused.source().unwrap().source().unwrap().to_string();
        assert!(cause.contains("KeyRing::from_file"), "it says what to do: {cause}");
    }
    start(open(), Some(ring(1))).await.unwrap();
    start(folder.builder().open().unwrap(), None).await.unwrap();
    // What is wrapped is asked as well.
    let wrapped: Arc<dyn Store> = Arc::new(FaultyStore::new(open()));
    assert_eq!(start(wrapped, None).await.unwrap_err().kind(), ErrorKind::Misconfigured);
    let clear = Folder::new();
    let in_clear = SqliteStore::builder(clear.database()).tokens_in_clear().open().unwrap();
    start(in_clear, None).await.unwrap();
}

#[tokio::test]
async fn a_store_without_keys_claims_and_writes_nothing() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.database()).unwrap();
    let claim = claim(Owner(1), Intent::Establish, (0, 0), now(0));
    let refused = store.claim(&id("a"), claim).await.unwrap_err();
    assert_eq!((refused.kind(), fault(&refused)), (StoreErrorKind::Sealed, SealFault::NoKeys));
    assert!(store.load(&id("a")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_key_that_is_added_while_records_are_sealed_anew_takes_over_all_of_them() {
    let folder = Folder::new();
    let keys = ring(1);
    let store = with_keys(&folder, keys.clone());
    for name in ["a", "b", "c", "d", "e"] {
        exchange(&store, &id(name), Intent::Establish, name).await.unwrap();
    }
    keys.reload(both());
    assert_eq!(store.reseal(3).await.unwrap().done, 3);
    keys.reload(both().with(3, MasterKey::from([3; 32])).unwrap());
    // First what key 1 still seals, then what key 2 has sealed meanwhile.
    let page = |done, ended| Resealed { done, passed_over: 0, ended };
    assert_eq!(store.reseal(3).await.unwrap(), page(2, false));
    assert_eq!(store.reseal(3).await.unwrap(), page(3, false));
    assert_eq!(store.reseal(3).await.unwrap(), page(0, true));
    assert_eq!(store.stale_keys().await.unwrap(), []);
}

#[tokio::test]
async fn what_changes_while_it_is_sealed_anew_stays_as_it_was_changed() {
    let folder = Folder::new();
    let store = folder.store();
    for name in ["claimed", "refreshed", "resting"] {
        exchange(&store, &id(name), Intent::Establish, name).await.unwrap();
    }
    store.shutdown().await;
    let store = with_keys(&folder, both());
    let blocker = rusqlite::Connection::open(folder.database()).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let resealing = tokio::spawn({
        let store = store.clone();
        async move { store.reseal(10).await }
    });
    for _ in 0..20 {
        // Answered after the page was read, because reads are answered in their order.
        store.load(&id("resting")).await.unwrap();
        tokio::task::yield_now().await;
    }
    let sql = "UPDATE session SET generation = 2 WHERE token_id = 'refreshed';
        UPDATE session SET phase = 2, lease_owner = 1, lease_intent = 1, lease_before = 1,
            lease_from = 0, lease_until = 0, lease_holder = x'00', lease_boot = ''
            WHERE token_id = 'claimed'; COMMIT";
    blocker.execute_batch(sql).unwrap();
    let page = resealing.await.unwrap().unwrap();
    assert_eq!(page, Resealed { done: 1, passed_over: 2, ended: true });
    let keys = ["claimed", "refreshed", "resting"].map(|name| row(&folder, name).0);
    assert_eq!(keys, [1, 1, 2]);
}

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
        let record = store.load(id).await.unwrap().unwrap();
        assert_eq!((access(&record), record.generation), (Some("access-x"), 1), "{id}");
    }
}

#[tokio::test]
async fn after_a_reload_all_is_sealed_anew_without_a_call_and_the_old_key_can_go() {
    let folder = Folder::new();
    let keeper = Keeper::start(&folder, ring(1)).await;
    let ids = many(&keeper.store).await;
    keeper.clock.advance(10 * RESEAL_AGAIN).await;
    assert_eq!(keeper.faults.count(Statement::Reseal), 1, "after the start, and there was nothing");
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
    keeper.faults.fail_next(Statement::Reseal, 3);
    keeper.until_left(&[]).await;
    assert!(keeper.faults.count(Statement::Reseal) >= 5, "three that failed, and two pages");
    assert_all_open(&keeper.store, &ids).await;
}

/// What lies on the disk of a session.
fn row(folder: &Folder, name: &str) -> (u32, Vec<u8>) {
    let file = rusqlite::Connection::open(folder.database()).unwrap();
    let sql = "SELECT key_id, sealed FROM session WHERE token_id = ?1";
    file.query_row(sql, [name], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
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
    keeper.clock.advance(10 * RESEAL_AGAIN).await;
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
    let out = claim(Owner(1), Intent::Refresh, (1, 1), now(0));
    keeper.store.claim(&id("claimed"), out).await.unwrap();
    keeper.supervisor.keys().reload(both());
    keeper.until_left(&[(1, 1)]).await;
    assert!(keeper.store.load(&id("claimed")).await.unwrap().unwrap().lease.is_some());
    let attempt = Attempt { base: 1, fence: 2 };
    let settle = Settle { epoch: 1, attempt, to: SettleTo::Before, retry_at: None };
    keeper.store.settle(&id("claimed"), settle).await.unwrap();
    keeper.clock.advance(RESEAL_AGAIN).await;
    keeper.until_left(&[]).await;
    // Once more, because it met one; then never again.
    keeper.clock.advance(RESEAL_AGAIN + SECOND).await;
    let asked = keeper.faults.count(Statement::Reseal);
    keeper.clock.advance(10 * RESEAL_AGAIN).await;
    assert_eq!(keeper.faults.count(Statement::Reseal), asked);
}

#[tokio::test]
async fn a_shutdown_in_the_midst_of_it_is_clean_and_the_next_process_goes_on() {
    let folder = Folder::new();
    let keeper = Keeper::start(&folder, ring(1)).await;
    let ids = many(&keeper.store).await;
    keeper.clock.advance(SECOND).await;
    let (faults, asked) = (&keeper.faults, keeper.faults.count(Statement::Reseal));
    faults.hold(Statement::Reseal);
    keeper.supervisor.keys().reload(both());
    until(&keeper.clock, faults.held(Statement::Reseal, 1)).await;
    faults.release(Statement::Reseal);
    // The first page is done, the second one is not answered.
    faults.hold(Statement::Reseal);
    until(&keeper.clock, faults.held(Statement::Reseal, 2)).await;
    assert_eq!(keeper.stale().await, [(1, 10)]);
    assert!(keeper.supervisor.shutdown(SECOND).await.is_clean());
    faults.release(Statement::Reseal);
    keeper.clock.advance(10 * RESEAL_AGAIN).await;
    assert_eq!((keeper.stale().await, faults.count(Statement::Reseal)), (vec![(1, 10)], asked + 2));
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
    clock.advance(10 * RESEAL_AGAIN).await;
    assert_eq!(faults.count(Statement::Reseal), 0);
}
