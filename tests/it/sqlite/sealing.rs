//! Sealed data on the disk, and the keys that open it.

use std::error::Error as _;
use std::sync::Arc;

use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::sqlite::SqliteStore;
use session_warden::store::{
    Intent, Owner, Phase, RecordFilter, Resealed, SealFault, Statement, Store, StoreError,
    StoreErrorKind,
};
use session_warden::testing::{FaultyStore, ScriptedProvider};
use session_warden::{Error, ErrorKind, Supervisor};

use super::store_folder::{
    Folder, access, claim, close, delete, done, exchange, found, granted, id, id_of, ring,
};
use crate::secret_scan::{SECRET, find_secret};

/// Sessions in all phases, with the marker in every secret.
async fn fill(store: &SqliteStore) {
    for name in ["active", "claimed", "closed"] {
        exchange(store, &id(name), Intent::Establish, &format!("{SECRET}-old")).await.unwrap();
        exchange(store, &id(name), Intent::Refresh, SECRET).await.unwrap();
    }
    let out = claim(Owner(1), Intent::Refresh, Some((1, 2)));
    granted(store, &id("claimed"), out).await.unwrap();
    done(store.apply(&id("closed"), close(2)).await);
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
    assert_eq!(find_secret(&with_backup(&folder)), None);
    store.shutdown().await;
    assert_eq!(find_secret(&folder.bytes()), None, "after the log was written back");
    // The other parts of a record are found, so the search is in the right place.
    assert!(folder.bytes().windows(6).any(|window| window == b"tenant"));
}

#[tokio::test]
async fn only_a_store_that_was_told_so_writes_tokens_in_clear() {
    let folder = Folder::new();
    let store = SqliteStore::builder(folder.database()).tokens_in_clear().open().unwrap();
    fill(&store).await;
    assert_eq!(find_secret(&with_backup(&folder)), Some(SECRET.to_owned()));
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

pub fn both() -> KeyRing {
    ring(1).with(2, MasterKey::from([2; 32])).unwrap()
}

pub fn with_keys(folder: &Folder, keys: KeyRing) -> SqliteStore {
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
        let record = found(&store, &id(name)).await;
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
            let record = found(store, &id(name)).await;
            assert_eq!(access(&record).unwrap(), format!("access-{name}"));
        }
    }
    let stale = async |store: &SqliteStore| store.stale_keys().await.unwrap()[0].number;
    assert_eq!((stale(&before).await, stale(&after).await), (2, 1));
    // The process that still seals with the old key does not undo the work of the other.
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
    assert!(found(&store, &id("claimed")).await.lease.is_some());
    assert!(found(&store, &id("closed")).await.outbox.is_some());
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
    assert_eq!(access(&found(&store, &id("new")).await), Some("access-new"));
    let listed = store.list(&RecordFilter::default(), None, 10).await.unwrap().into_iter();
    let listed: Vec<_> = listed.map(|it| (it.id, it.stored.record.phase)).collect();
    let expected = [(id("new"), Phase::Active), (id("old"), Phase::Active)];
    assert_eq!(listed, expected, "a list opens nothing");
    // A claim on an unreadable record fails too, and changes nothing.
    let claim = Statement::Claim(claim(Owner(2), Intent::Establish, None));
    let refused = store.apply(&id("old"), claim).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Sealed);
    assert_eq!(store.reseal(10).await.unwrap().done, 0);
    assert_eq!(store.stale_keys().await.unwrap()[0].number, 1);
    store.shutdown().await;

    let store = with_keys(&folder, both());
    let record = found(&store, &id("old")).await;
    assert_eq!((access(&record), record.generation), (Some("access-old"), 1));
    delete(&store, &id("old")).await;
}

#[tokio::test]
async fn a_record_that_is_given_up_for_its_key_can_be_deleted_and_established_anew() {
    let folder = Folder::new();
    let store = folder.store();
    exchange(&store, &id("old"), Intent::Establish, "old").await.unwrap();
    store.shutdown().await;
    let store = with_keys(&folder, ring(2));
    delete(&store, &id("old")).await;
    exchange(&store, &id("old"), Intent::Establish, "again").await.unwrap();
    assert_eq!(access(&found(&store, &id("old")).await), Some("access-again"));
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
        "made_fence = made_fence + 1 WHERE tenant = 'other'",
    ] {
        assert_eq!(file.execute(&format!("UPDATE session SET {swap}"), []).unwrap(), 1);
    }
    for id in &ids[..3] {
        let failed = store.load(id).await.unwrap_err();
        assert_eq!((failed.kind(), fault(&failed)), (StoreErrorKind::Corrupt, SealFault::Altered));
    }
    store.load(&ids[3]).await.unwrap().unwrap();
    assert_eq!(store.list(&RecordFilter::default(), None, 10).await.unwrap().len(), 4);
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
        assert!(
            refused.to_string().contains("KeyRing::from_file"),
            "it says what to do: {refused}"
        );
    }
    start(open(), Some(ring(1))).await.unwrap();
    start(folder.builder().open().unwrap(), None).await.unwrap();
    // The wrapped store is called too.
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
    let claim = Statement::Claim(claim(Owner(1), Intent::Establish, None));
    let refused = store.apply(&id("a"), claim).await.unwrap_err();
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
    // First the records that key 1 still seals, then those that key 2 has sealed since.
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
    // In between, another process seems to have written to these.
    let sql = "UPDATE session SET generation = 2 WHERE token_id = 'refreshed';
        UPDATE session SET version = version + 1, lease_owner = 1, lease_intent = 1, lease_claim = 1,
            lease_from = 0, lease_until = 0, lease_holder = x'00', lease_boot = ''
            WHERE token_id = 'claimed'; COMMIT";
    blocker.execute_batch(sql).unwrap();
    let page = resealing.await.unwrap().unwrap();
    assert_eq!(page, Resealed { done: 1, passed_over: 2, ended: true });
    let keys = ["claimed", "refreshed", "resting"].map(|name| row(&folder, name).0);
    assert_eq!(keys, [1, 1, 2]);
}

/// The data of a session on the disk.
pub fn row(folder: &Folder, name: &str) -> (u32, Vec<u8>) {
    let file = rusqlite::Connection::open(folder.database()).unwrap();
    let sql = "SELECT key_id, sealed FROM session WHERE token_id = ?1";
    file.query_row(sql, [name], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}
