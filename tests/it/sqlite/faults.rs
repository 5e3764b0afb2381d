//! Files that another program made, that are full, read-only or busy, or that have claims of a
//! process that has ended.

use std::error::Error as _;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures_util::future::join;
use session_warden::clock::Clock;
use session_warden::store::sqlite::{SqliteFault, SqliteStore};
use session_warden::store::{
    Claim, Commit, Ends, Holder, Intent, Outcome, Owner, Phase, Presence, Statement, Store,
    StoreError, StoreErrorKind,
};
use session_warden::testing::ManualClock;
use session_warden::token::{Credentials, Tokens};

use super::store_folder::{
    Folder, access, claim, commit, credentials, delete, done, exchange, found, granted, id,
    take_over,
};

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
    assert_eq!(fault(&refused), SqliteFault::Newer { found: 99, known: 2 });
    assert!(std::fs::read(folder.database()).unwrap() == before, "it was touched");
    sql(&folder, "PRAGMA user_version = 2");
    let store = folder.store();
    assert!(store.load(&id("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn another_programs_file_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    sql(&folder, "CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)");
    let before = std::fs::read(folder.database()).unwrap();
    let refused = folder.builder().open().unwrap_err();
    assert_eq!(fault(&refused), SqliteFault::Foreign);
    assert!(std::fs::read(folder.database()).unwrap() == before, "it was touched");
    std::fs::write(folder.database(), "this is no database, but long enough for one").unwrap();
    let refused = folder.builder().open().unwrap_err();
    let expected = (StoreErrorKind::Unavailable, SqliteFault::NotADatabase);
    assert_eq!((refused.kind(), fault(&refused)), expected);
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
    let out = claim(Owner(1), Intent::Refresh, Some((1, 1)));
    let out = granted(&small, &id("first"), out).await.unwrap();
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
    // There is space for the response of the running refresh, and stored tokens are handed out.
    let stored = done(small.apply(&id("first"), commit(Intent::Refresh, out, "late")).await);
    assert_eq!((stored.epoch, stored.generation, stored.suspect), (1, 2, false));
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
        let claim = claim(Owner(1), Intent::Establish, None);
        granted(&store, &id(name), claim).await.unwrap()
    };
    let (big, small) = (grant("big").await, grant("small").await);
    let commit = |(epoch, attempt), credentials| {
        let (intent, ends) = (Intent::Establish, Ends::default());
        Statement::Commit(Commit { intent, epoch, attempt, credentials, ends })
    };
    let length = usize::try_from(7 * MIB).unwrap();
    let tokens = Tokens::new(Arc::from("{}")).with_access_token("x".repeat(length), None);
    let huge = Arc::new(Credentials::new(tokens, "a", "c"));
    let (one, two) = (id("big"), id("small"));
    let both = join(
        store.apply(&one, commit(big, huge)),
        store.apply(&two, commit(small, credentials("small"))),
    );
    let (failed, stored) = both.await;
    assert_eq!(failed.unwrap_err().kind(), StoreErrorKind::Full);
    done(stored);
    done(store.apply(&one, commit(big, credentials("big"))).await);
}

/// Root may write any file, so a thread that is not root tries this.
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
    let out = claim(Owner(1), Intent::Refresh, Some((1, 1)));
    let out = granted(&store, &id("a"), out).await.unwrap();
    let other = rusqlite::Connection::open(folder.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let of = id("a");
    let mut committing = pin!(store.apply(&of, commit(Intent::Refresh, out, "b")));
    assert!(poll(committing.as_mut()).is_none());
    for _ in 0..20 {
        assert_eq!(found(&store, &of).await.generation, 1);
    }
    assert!(poll(committing.as_mut()).is_none(), "it must wait");
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(done(committing.await).generation, 2);
}

#[tokio::test]
async fn a_commit_is_done_whoever_drops_it() {
    let folder = Folder::new();
    let store = folder.store();
    exchange(&store, &id("a"), Intent::Establish, "a").await.unwrap();
    let out = claim(Owner(1), Intent::Refresh, Some((1, 1)));
    let out = granted(&store, &id("a"), out).await.unwrap();
    let commit = commit(Intent::Refresh, out, "b");
    let other = rusqlite::Connection::open(folder.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(poll(pin!(store.apply(&id("a"), commit)).as_mut()).is_none(), "the lock is not free");
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(access(&found(&store, &id("a")).await), Some("access-b"));
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

/// A session whose refresh another store has claimed, 5 s after time began.
async fn claimed(folder: &Folder) -> (SqliteStore, Claim) {
    let holder = folder.store();
    exchange(&holder, &id("a"), Intent::Establish, "a").await.unwrap();
    folder.later(5);
    let out = claim(Owner(7), Intent::Refresh, Some((1, 1)));
    granted(&holder, &id("a"), out).await.unwrap();
    (holder, out)
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
        assert_eq!(second.join().unwrap(), SqliteFault::InUse);
        assert_eq!(late.join().unwrap(), SqliteFault::InUse);
    });
    drop((alone, shared));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_is_claimed_in_a_file_that_is_opened_for_oneself_is_a_dead_ones() {
    use rustix::fs::{FlockOperation, flock};
    let folder = Folder::new();
    let (holder, out) = claimed(&folder).await;
    holder.shutdown().await;
    // A lock of its name is left, as if it lived.
    let conn = rusqlite::Connection::open(folder.database()).unwrap();
    let name: String = conn
        .query_row("SELECT lower(hex(lease_holder)) FROM session", [], |row| row.get(0))
        .unwrap();
    drop(conn);
    let lock = folder.path().join(format!("sessions.db.holder-{name}"));
    let lock = std::fs::File::create(lock).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let holder = async |store: &SqliteStore| found(store, &id("a")).await.lease.unwrap().holder;
    let shared = folder.store();
    assert_eq!(holder(&shared).await, Holder::Alive);
    shared.shutdown().await;
    let alone = folder.builder().exclusive().open().unwrap();
    assert_eq!(holder(&alone).await, Holder::Dead);
    let mine = Statement::Claim(claim(Owner(8), Intent::Refresh, Some((1, 1))));
    assert!(matches!(alone.apply(&id("a"), mine).await, Ok(Outcome::Leased(_))));
    done(alone.apply(&id("a"), take_over(out.id)).await);
    exchange(&alone, &id("a"), Intent::Refresh, "b").await.unwrap();
}

#[tokio::test]
async fn a_living_holders_claim_is_not_taken_over_before_its_lease_ends() {
    let folder = Folder::new();
    let (_holder, out) = claimed(&folder).await;
    let other = folder.store();
    let found = other.load(&id("a")).await.unwrap().unwrap();
    assert_eq!(found.lease_left(), Some(Duration::from_secs(20)));
    folder.later(19);
    let early = other.apply(&id("a"), take_over(out.id)).await.unwrap();
    let Outcome::Wait { left, .. } = early else { panic!("{early:?}") };
    assert_eq!(left, Duration::from_secs(1));
    folder.later(1);
    done(other.apply(&id("a"), take_over(out.id)).await);
}

#[cfg(unix)]
#[tokio::test]
async fn a_living_holder_lives_also_for_those_who_come_by_another_path() {
    let (folder, links) = (Folder::new(), Folder::new());
    let _holder = claimed(&folder).await;
    std::os::unix::fs::symlink(folder.database(), links.database()).unwrap();
    let lease = found(&links.store(), &id("a")).await.lease.unwrap();
    assert_eq!(lease.holder, Holder::Alive);
    assert_eq!(lease.until, ManualClock::new().now().boot.after(Duration::from_secs(25)));
}

#[tokio::test]
async fn a_dead_holders_claim_is_taken_over_at_once_and_tells_when_it_was_made() {
    let folder = Folder::new();
    let (holder, out) = claimed(&folder).await;
    holder.shutdown().await;
    let other = folder.store();
    folder.later(1);
    let mine = Statement::Claim(claim(Owner(8), Intent::Refresh, Some((1, 1))));
    let Ok(Outcome::Leased(leased)) = other.apply(&id("a"), mine).await else {
        panic!("it is not free before it was taken over: its request may be out");
    };
    let lease = leased.record.lease.unwrap();
    assert_eq!(lease.holder, Holder::Dead);
    assert_eq!(leased.now.boot.since(lease.from), Duration::from_secs(1), "when it was claimed");
    done(other.apply(&id("a"), take_over(out.id)).await);
    assert_eq!(found(&other, &id("a")).await.phase, Phase::InDoubt);
}

/// In clear, because in a sealed file a changed row is damaged.
#[tokio::test]
async fn a_claim_from_before_the_machine_was_started_is_a_dead_ones() {
    let folder = Folder::new();
    let builder = SqliteStore::builder(folder.database()).tokens_in_clear();
    let holder = builder.clock(folder.clock.clone()).open().unwrap();
    exchange(&holder, &id("a"), Intent::Establish, "a").await.unwrap();
    let out = claim(Owner(7), Intent::Refresh, Some((1, 1)));
    granted(&holder, &id("a"), out).await.unwrap();
    sql(&folder, "UPDATE session SET lease_boot = 'another'");
    let lease = found(&holder, &id("a")).await.lease.unwrap();
    let times = (lease.from.since_boot(), lease.until.since_boot());
    assert_eq!((times, lease.holder), ((Duration::ZERO, Duration::ZERO), Holder::Dead));
}

#[tokio::test]
async fn what_a_supervisor_claimed_that_said_that_it_ended_is_a_dead_ones_for_all() {
    let folder = Folder::new();
    let (holder, _) = claimed(&folder).await;
    let other = folder.store();
    let lives = async |life| {
        for store in [&holder, &other] {
            assert_eq!(found(store, &id("a")).await.lease.unwrap().holder, life);
        }
    };
    for owner in [Owner(7), Owner(8)] {
        holder.presence(owner, Presence::Register).await.unwrap();
        holder.presence(owner, Presence::Renew).await.unwrap();
    }
    holder.presence(Owner(8), Presence::Retire).await.unwrap();
    lives(Holder::Alive).await;
    holder.presence(Owner(7), Presence::Retire).await.unwrap();
    lives(Holder::Dead).await;
}

#[tokio::test]
async fn a_row_that_cannot_be_read_fails_alone() {
    let folder = Folder::new();
    let store = SqliteStore::builder(folder.database()).tokens_in_clear().open().unwrap();
    for name in ["a", "b"] {
        exchange(&store, &id(name), Intent::Establish, name).await.unwrap();
    }
    sql(&folder, "UPDATE session SET phase = 77 WHERE token_id = 'a'");
    let failed = store.load(&id("a")).await.unwrap_err();
    let expected = (StoreErrorKind::Corrupt, SqliteFault::Malformed);
    assert_eq!((failed.kind(), fault(&failed)), expected);
    exchange(&store, &id("b"), Intent::Refresh, "b").await.unwrap();
    let gone = delete(&store, &id("a")).await;
    assert_eq!((gone.epoch, gone.generation), (1, 1), "which is the way to be rid of it");
    let again = exchange(&store, &id("a"), Intent::Establish, "a").await.unwrap();
    assert_eq!((again.epoch, again.generation), (3, 3), "above what was deleted");
}

#[tokio::test]
async fn of_many_records_each_is_read_or_fails_by_itself() {
    let folder = Folder::new();
    let store = folder.store();
    for name in ["a", "b", "c"] {
        exchange(&store, &id(name), Intent::Establish, name).await.unwrap();
    }
    sql(&folder, "UPDATE session SET phase = 4, lost = 1 WHERE token_id = 'b'");
    // More than are read in one turn.
    let names = ["a", "none", "b", "c"].iter().cycle().take(1_000);
    let ids: Vec<_> = names.map(|name| id(name)).collect();
    let read = store.load_many(&ids).await;
    assert_eq!(read.len(), ids.len());
    for (id, read) in ids.iter().zip(read) {
        match (id.key().token_id(), read) {
            ("b", Err(failed)) => assert_eq!(failed.kind(), StoreErrorKind::Corrupt),
            ("none", Ok(None)) => {}
            (name, Ok(Some(found))) => {
                assert_eq!(access(&found.record), Some(&*format!("access-{name}")));
            }
            (name, read) => panic!("{name}: {read:?}"),
        }
    }
    store.shutdown().await;
    let closed = store.load_many(&ids).await;
    assert!(closed.len() == ids.len() && closed.iter().all(Result::is_err));
}
