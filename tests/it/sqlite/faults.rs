//! Files that are not ours, full, read-only, busy, or whose claims are a dead process's.

use std::error::Error as _;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures_util::future::join;
use session_warden::store::sqlite::{SqliteFault, SqliteStore};
use session_warden::store::{
    Attempt, Claimed, Commit, Committed, Holder, Intent, Owner, Phase, Store, StoreError,
    StoreErrorKind, TakeOver,
};
use session_warden::token::{Credentials, Tokens};

use super::bed::{Folder, access, claim, credentials, exchange, id, now, ring};

const MIB: u64 = 1024 * 1024;

pub fn fault(failed: &StoreError) -> SqliteFault {
    failed.source().unwrap().downcast_ref::<SqliteFault>().unwrap().clone()
}

pub fn sql(folder: &Folder, sql: &str) {
    rusqlite::Connection::open(folder.database()).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_newer_version_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    let store = folder.store();
    exchange(&store, &id("a"), Intent::Establish, "a").await.unwrap();
    store.shutdown().await;
    sql(&folder, "PRAGMA user_version = 99");
    let before = std::fs::read(folder.database()).unwrap();
    let refused = folder.builder().open().unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
    assert_eq!(fault(&refused), SqliteFault::Newer { found: 99, known: 1 });
    assert!(std::fs::read(folder.database()).unwrap() == before, "it was touched");
    sql(&folder, "PRAGMA user_version = 1");
    let store = folder.store();
    assert!(store.load(&id("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn another_programmes_file_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    sql(&folder, "CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)");
    let before = std::fs::read(folder.database()).unwrap();
    let refused = folder.builder().open().unwrap_err();
    assert_eq!(fault(&refused), SqliteFault::Foreign);
    assert!(std::fs::read(folder.database()).unwrap() == before, "it was touched");
    std::fs::write(folder.database(), "this is no database, but long enough for one").unwrap();
    assert_eq!(folder.builder().open().unwrap_err().kind(), StoreErrorKind::Corrupt);
}

#[tokio::test]
async fn a_file_keeps_to_sealed_records_or_to_records_in_clear() {
    let (sealed, clear) = (Folder::new(), Folder::new());
    let in_clear =
        |folder: &Folder| SqliteStore::builder(folder.database()).tokens_in_clear().open();
    sealed.store().shutdown().await;
    in_clear(&clear).unwrap().shutdown().await;
    assert_eq!(fault(&in_clear(&sealed).unwrap_err()), SqliteFault::Sealed);
    assert_eq!(fault(&clear.builder().open().unwrap_err()), SqliteFault::InClear);
}

/// Ten files, because the instant in which one process sees another's half-made file is short.
#[test]
fn processes_that_open_a_new_file_at_once_all_get_it() {
    for folder in std::iter::repeat_with(Folder::new).take(10) {
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| folder.store())).collect();
            all.into_iter().for_each(|opened| drop(opened.join().unwrap()));
        });
    }
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let store = folder.store();
    exchange(&store, &id("a"), Intent::Establish, "a").await.unwrap();
    for name in ["sessions.db", "sessions.db-wal"] {
        let mode = folder.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
}

#[tokio::test]
async fn without_room_nothing_is_claimed_and_what_was_claimed_is_still_stored() {
    let folder = Folder::new();
    let small = folder.builder().max_bytes(4 * MIB + 128 * 1024).open().unwrap();
    exchange(&small, &id("first"), Intent::Establish, "first").await.unwrap();
    let out = claim(Owner(1), Intent::Refresh, (1, 1), now(0));
    let Claimed::Granted { fence } = small.claim(&id("first"), out).await.unwrap() else {
        panic!("the first claim has room");
    };
    let mut count = 0;
    let full = loop {
        let name = format!("more-{count}");
        match exchange(&small, &id(&name), Intent::Establish, &name).await {
            Ok(_) => count += 1,
            Err(full) => break full,
        }
        assert!(count < 1000, "it is never full");
    };
    assert_eq!((full.kind(), fault(&full)), (StoreErrorKind::Full, SqliteFault::NoRoom));
    assert!(count > 10, "it was full at once");
    // The answer of the refresh that was out has its place, and what is there is served.
    let attempt = Attempt { base: 1, fence };
    let (intent, credentials) = (Intent::Refresh, credentials("late"));
    let commit = Commit { intent, epoch: 1, attempt, credentials, due_at: None };
    let stored = small.commit(&id("first"), commit).await.unwrap();
    assert_eq!(stored, Committed::Stored { epoch: 1, generation: 2, suspect: false });
    assert!(small.load(&id("more-0")).await.unwrap().is_some());
    small.shutdown().await;
    let larger = folder.builder().max_bytes(64 * MIB).open().unwrap();
    exchange(&larger, &id("first"), Intent::Refresh, "again").await.unwrap();
}

#[tokio::test]
async fn a_statement_that_has_no_room_fails_alone_and_can_be_asked_again() {
    let folder = Folder::new();
    let store = folder.builder().max_bytes(6 * MIB).open().unwrap();
    let grant = async |name: &str| {
        let claim = claim(Owner(1), Intent::Establish, (0, 0), now(0));
        let Claimed::Granted { fence } = store.claim(&id(name), claim).await.unwrap() else {
            panic!("not granted");
        };
        Attempt { base: 0, fence }
    };
    let (big, small) = (grant("big").await, grant("small").await);
    let commit = |attempt, credentials| Commit {
        intent: Intent::Establish,
        epoch: 0,
        attempt,
        credentials,
        due_at: None,
    };
    let length = usize::try_from(7 * MIB).unwrap();
    let tokens = Tokens::new(Arc::from("{}")).access("x".repeat(length), None);
    let huge = Arc::new(Credentials::new(tokens, "a", "c"));
    let (one, two) = (id("big"), id("small"));
    let both = join(
        store.commit(&one, commit(big, huge)),
        store.commit(&two, commit(small, credentials("small"))),
    );
    let (failed, stored) = both.await;
    assert_eq!(failed.unwrap_err().kind(), StoreErrorKind::Full);
    assert!(matches!(stored, Ok(Committed::Stored { .. })), "{stored:?}");
    let again = store.commit(&one, commit(big, credentials("big"))).await;
    assert!(matches!(again, Ok(Committed::Stored { .. })), "{again:?}");
}

/// Root may write whatever it likes, so this is asked by a thread that is not root.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_cannot_be_written_is_refused_before_anything_is_claimed() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let store = folder.store();
    exchange(&store, &id("a"), Intent::Establish, "a").await.unwrap();
    store.shutdown().await;
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(folder.path(), 0o777);
    mode(&folder.database(), 0o444);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(folder.database(), Some(65_534), None).unwrap();
    }
    let builder = folder.builder();
    let open = move || {
        if rustix::process::geteuid().is_root() {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65_534)).unwrap();
        }
        builder.open()
    };
    let refused = std::thread::spawn(open).join().unwrap().unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable, "{:?}", refused.source());
    mode(&folder.database(), 0o600);
    if rustix::process::geteuid().is_root() {
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            std::os::unix::fs::chown(entry.unwrap().path(), Some(0), None).unwrap();
        }
    }
    assert!(folder.store().load(&id("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn while_another_process_writes_reads_are_answered_and_a_commit_waits() {
    let folder = Folder::new();
    let store = folder.store();
    exchange(&store, &id("a"), Intent::Establish, "a").await.unwrap();
    let out = claim(Owner(1), Intent::Refresh, (1, 1), now(0));
    store.claim(&id("a"), out).await.unwrap();
    let other = rusqlite::Connection::open(folder.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let attempt = Attempt { base: 1, fence: 2 };
    let (intent, credentials) = (Intent::Refresh, credentials("b"));
    let commit = Commit { intent, epoch: 1, attempt, credentials, due_at: None };
    let of = id("a");
    let mut committing = pin!(store.commit(&of, commit));
    assert!(poll(committing.as_mut()).is_none());
    for _ in 0..20 {
        assert_eq!(store.load(&of).await.unwrap().unwrap().generation, 1);
    }
    assert!(poll(committing.as_mut()).is_none(), "it must wait");
    other.execute_batch("COMMIT").unwrap();
    assert!(matches!(committing.await, Ok(Committed::Stored { generation: 2, .. })));
}

#[tokio::test]
async fn a_commit_is_done_whoever_drops_it() {
    let folder = Folder::new();
    let store = folder.store();
    exchange(&store, &id("a"), Intent::Establish, "a").await.unwrap();
    store.claim(&id("a"), claim(Owner(1), Intent::Refresh, (1, 1), now(0))).await.unwrap();
    let attempt = Attempt { base: 1, fence: 2 };
    let (intent, credentials) = (Intent::Refresh, credentials("b"));
    let commit = Commit { intent, epoch: 1, attempt, credentials, due_at: None };
    let other = rusqlite::Connection::open(folder.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(poll(pin!(store.commit(&id("a"), commit)).as_mut()).is_none(), "the lock is not free");
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(access(&store.load(&id("a")).await.unwrap().unwrap()), Some("access-b"));
}

fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(done) => Some(done),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_store_that_was_shut_down_says_so() {
    let folder = Folder::new();
    let store = folder.store();
    store.shutdown().await;
    let failed = store.load(&id("a")).await.unwrap_err();
    assert_eq!((failed.kind(), fault(&failed)), (StoreErrorKind::Unavailable, SqliteFault::Closed));
    store.shutdown().await;
}

/// A session whose refresh another store has claimed.
async fn claimed(folder: &Folder) -> SqliteStore {
    let holder = folder.store();
    exchange(&holder, &id("a"), Intent::Establish, "a").await.unwrap();
    let out = claim(Owner(7), Intent::Refresh, (1, 1), now(5));
    assert!(matches!(holder.claim(&id("a"), out).await, Ok(Claimed::Granted { fence: 2 })));
    holder
}

/// Two ways round, at once because each waits for as long as the other process might take to end.
#[test]
fn a_file_that_one_process_has_for_itself_is_nobody_elses() {
    let (mine, ours) = (Folder::new(), Folder::new());
    let alone = mine.builder().exclusive().open().unwrap();
    let shared = ours.store();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| fault(&mine.builder().open().unwrap_err()));
        let late = scope.spawn(|| fault(&ours.builder().exclusive().open().unwrap_err()));
        assert_eq!(second.join().unwrap(), SqliteFault::Locked);
        assert_eq!(late.join().unwrap(), SqliteFault::Locked);
    });
    drop((alone, shared));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_is_claimed_in_a_file_that_is_opened_for_oneself_is_a_dead_ones() {
    use rustix::fs::{FlockOperation, flock};
    let folder = Folder::new();
    claimed(&folder).await.shutdown().await;
    // A lock of its name is left, as if it lived.
    let conn = rusqlite::Connection::open(folder.database()).unwrap();
    let name: String = conn
        .query_row("SELECT lower(hex(lease_holder)) FROM session", [], |row| row.get(0))
        .unwrap();
    drop(conn);
    let lock = folder.path().join(format!("sessions.db.owner-{name}"));
    let lock = std::fs::File::create(lock).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let holder = async |store: &SqliteStore| {
        store.load(&id("a")).await.unwrap().unwrap().lease.unwrap().holder
    };
    let shared = folder.store();
    assert_eq!(holder(&shared).await, Holder::Alive);
    shared.shutdown().await;
    let alone = folder.builder().exclusive().open().unwrap();
    assert_eq!(holder(&alone).await, Holder::Dead);
    let mine = claim(Owner(8), Intent::Refresh, (1, 1), now(6));
    assert!(matches!(alone.claim(&id("a"), mine).await, Ok(Claimed::Leased(_))));
    assert!(alone.take_over(&id("a"), take(6)).await.unwrap());
    exchange(&alone, &id("a"), Intent::Refresh, "b").await.unwrap();
}

fn take(seconds: u64) -> TakeOver {
    TakeOver { fence: 2, at: now(seconds), retry_at: None }
}

#[tokio::test]
async fn a_living_holders_claim_is_not_taken_over_before_its_lease_ends() {
    let folder = Folder::new();
    let _holder = claimed(&folder).await;
    let other = folder.store();
    let record = other.load(&id("a")).await.unwrap().unwrap();
    assert_eq!(record.lease.unwrap().until, now(25).boot);
    assert!(!other.take_over(&id("a"), take(24)).await.unwrap());
    assert!(other.take_over(&id("a"), take(25)).await.unwrap());
}

#[cfg(unix)]
#[tokio::test]
async fn a_living_holder_lives_also_for_those_who_come_by_another_path() {
    let (folder, links) = (Folder::new(), Folder::new());
    let _holder = claimed(&folder).await;
    std::os::unix::fs::symlink(folder.database(), links.database()).unwrap();
    let record = links.store().load(&id("a")).await.unwrap().unwrap();
    assert_eq!(record.lease.unwrap().until, now(25).boot);
}

#[tokio::test]
async fn a_dead_holders_claim_is_taken_over_at_once_and_tells_when_it_was_made() {
    let folder = Folder::new();
    claimed(&folder).await.shutdown().await;
    let other = folder.store();
    let mine = claim(Owner(8), Intent::Refresh, (1, 1), now(6));
    let Ok(Claimed::Leased(record)) = other.claim(&id("a"), mine).await else {
        panic!("it is not free before it was taken over: its request may be out");
    };
    assert_eq!(record.lease.unwrap().until, now(5).boot, "when it was claimed");
    assert!(other.take_over(&id("a"), take(6)).await.unwrap());
    assert_eq!(other.load(&id("a")).await.unwrap().unwrap().phase, Phase::InDoubt);
}

#[tokio::test]
async fn a_claim_from_before_the_machine_was_started_is_a_dead_ones() {
    let folder = Folder::new();
    let holder = claimed(&folder).await;
    sql(&folder, "UPDATE session SET lease_boot = 'another'");
    let record = holder.load(&id("a")).await.unwrap().unwrap();
    assert_eq!(record.lease.unwrap().until.since_boot(), Duration::ZERO);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_fails_alone() {
    let folder = Folder::new();
    let store = SqliteStore::builder(folder.database()).key_ring(ring(1)).open().unwrap();
    for name in ["a", "b"] {
        exchange(&store, &id(name), Intent::Establish, name).await.unwrap();
    }
    sql(&folder, "UPDATE session SET phase = 77 WHERE token_id = 'a'");
    let failed = store.load(&id("a")).await.unwrap_err();
    let expected = (StoreErrorKind::Corrupt, SqliteFault::Malformed);
    assert_eq!((failed.kind(), fault(&failed)), expected);
    exchange(&store, &id("b"), Intent::Refresh, "b").await.unwrap();
    assert!(store.delete(&id("a")).await.unwrap(), "which is the way to be rid of it");
    exchange(&store, &id("a"), Intent::Establish, "a").await.unwrap();
}
