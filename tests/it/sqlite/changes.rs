//! What one process stores while another has the session in memory.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use session_warden::ErrorKind;
use session_warden::PermissionToken;
use session_warden::policy::CHANGES_PAGE;
use session_warden::provider::Rotation;
use session_warden::session::State;
use session_warden::store::sqlite::SqliteStore;
use session_warden::store::{Changed, ChangedTo, Changes, Close, Intent, Store};
use session_warden::testing::{ManualClock, Statement};

use super::bed::{Folder, Process, exchange, id, now};
use crate::support::until;

/// Two processes with the session's first token in memory.
async fn two() -> (Folder, ManualClock, Process, Process) {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let here = Process::start(&folder, &clock, Rotation::Strict).await;
    let there = Process::start(&folder, &clock, Rotation::Strict).await;
    let _ = here.session.establish(()).await.unwrap();
    for process in [&here, &there] {
        assert_eq!(process.session.permission_token().await.unwrap().generation(), 1);
    }
    (folder, clock, here, there)
}

/// Waits until what is served without asking anybody is so.
async fn served(
    clock: &ManualClock,
    process: &Process,
    so: impl Fn(Option<PermissionToken>) -> bool,
) {
    let session = &process.session;
    let seen = poll_fn(|_| match so(session.try_permission_token()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    until(clock, seen).await;
}

#[tokio::test]
async fn a_token_that_another_process_replaced_is_replaced_here_without_a_request() {
    let (_folder, clock, here, there) = two().await;
    there.session.refresh().await.unwrap();
    served(&clock, &here, |token| token.is_some_and(|token| token.generation() == 2)).await;
    assert_eq!((here.script.refreshes(), there.script.refreshes()), (0, 1));
    assert_eq!(here.faults.count(Statement::Claim), 1, "that of its establish");
}

#[tokio::test]
async fn a_session_that_another_process_revoked_is_not_served_here() {
    let (_folder, clock, here, there) = two().await;
    there.session.revoke().await.unwrap();
    served(&clock, &here, |token| token.is_none()).await;
    let failed = here.session.permission_token().await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::NotEstablished);
}

#[tokio::test]
async fn a_session_that_another_process_forgot_and_began_again_is_the_new_one_here() {
    let (_folder, clock, here, there) = two().await;
    here.session.refresh().await.unwrap();
    assert_eq!(here.session.try_permission_token().unwrap().generation(), 2);
    there.session.forget().await.unwrap();
    served(&clock, &here, |token| token.is_none()).await;
    let _ = there.session.establish(()).await.unwrap();
    served(&clock, &here, |token| token.is_some_and(|token| token.generation() == 1)).await;
    assert_eq!((here.script.refreshes(), there.script.establishes()), (1, 1));
}

#[tokio::test]
async fn a_session_that_another_process_established_is_there_for_those_who_had_none() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let here = Process::start(&folder, &clock, Rotation::Strict).await;
    let there = Process::start(&folder, &clock, Rotation::Strict).await;
    let none = here.session.permission_token().await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotEstablished);
    let _ = there.session.establish(()).await.unwrap();
    until(&clock, async { while here.session.permission_token().await.is_err() {} }).await;
    assert_eq!(here.session.status().await.unwrap().state, State::Active);
}

/// 1. A refresh here is not saved. 2. Another process's claim on it makes it newer there.
#[tokio::test]
async fn credentials_that_are_owed_are_not_given_up_for_what_another_process_stored() {
    let (_folder, clock, here, there) = two().await;
    here.faults.fail_always(Statement::Commit, true);
    until(&clock, here.session.refresh()).await.unwrap();
    let revoked = until(&clock, there.session.revoke()).await;
    assert!(revoked.is_ok(), "{revoked:?}");
    clock.advance(Duration::from_secs(2)).await;
    let generation = here.session.try_permission_token().map(|token| token.generation());
    assert_eq!(generation, Some(2), "it is the only copy");
    here.faults.fail_always(Statement::Commit, false);
    served(&clock, &here, |token| token.is_none()).await;
}

async fn changes(store: &SqliteStore, since: u64) -> Changes {
    store.changes(Some(since), CHANGES_PAGE).await.unwrap().unwrap()
}

fn stored(name: &str, epoch: u64, generation: u64) -> Changed {
    Changed { id: id(name), to: ChangedTo::Stored { epoch, generation } }
}

#[tokio::test]
async fn what_others_stored_closed_and_deleted_is_told_in_its_order_and_ones_own_is_not() {
    let folder = Folder::new();
    let (here, there) = (folder.store(), folder.store());
    let begin = here.changes(None, 8).await.unwrap().unwrap();
    assert_eq!(begin.of, Some(vec![]));
    exchange(&here, &id("own"), Intent::Establish, "own").await.unwrap();
    for (name, intent) in
        [("a", Intent::Establish), ("a", Intent::Refresh), ("b", Intent::Establish)]
    {
        exchange(&there, &id(name), intent, name).await.unwrap();
    }
    there.close(&id("a"), Close { generation: 2, at: now(0) }).await.unwrap();
    assert!(there.delete(&id("b")).await.unwrap());
    let told = changes(&here, begin.mark).await;
    let deleted = Changed { id: id("b"), to: ChangedTo::Deleted };
    let expected =
        vec![stored("a", 1, 1), stored("a", 1, 2), stored("b", 1, 1), stored("a", 1, 3), deleted];
    assert_eq!(told, Changes { mark: begin.mark + 6, of: Some(expected.clone()) });
    assert_eq!(changes(&here, told.mark).await, Changes { of: Some(vec![]), ..told });
    // In pages, too.
    let mut paged = Vec::new();
    let mut mark = begin.mark;
    for _ in 0..6 {
        let page = here.changes(Some(mark), 1).await.unwrap().unwrap();
        assert_eq!(page.mark, mark + 1);
        (mark, _) = (page.mark, paged.extend(page.of.unwrap()));
    }
    assert_eq!(paged, expected);
}

#[tokio::test]
async fn nothing_is_written_for_others_where_there_are_none() {
    let folder = Folder::new();
    let there = folder.store();
    let alone = there.changes(None, 8).await.unwrap().unwrap().mark;
    exchange(&there, &id("a"), Intent::Establish, "a").await.unwrap();
    assert_eq!(there.changes(None, 8).await.unwrap().unwrap().mark, alone);
    // From the first write after another one came.
    let here = folder.store();
    exchange(&there, &id("a"), Intent::Refresh, "a").await.unwrap();
    assert_eq!(changes(&here, alone).await.of, Some(vec![stored("a", 1, 2)]));
}

#[tokio::test]
async fn whoever_did_not_look_for_long_is_told_that_anything_may_have_changed() {
    let folder = Folder::new();
    let (here, there) = (folder.store(), folder.store());
    exchange(&there, &id("a"), Intent::Establish, "a").await.unwrap();
    let looked = changes(&here, 0).await.mark;
    exchange(&there, &id("a"), Intent::Refresh, "a").await.unwrap();
    assert!(there.delete(&id("a")).await.unwrap());
    // As if that were 10 s ago; the first who looks has it removed, names and all.
    let conn = rusqlite::Connection::open(folder.database()).unwrap();
    conn.execute_batch("UPDATE change SET made_at = made_at - 10000000000").unwrap();
    changes(&there, looked).await;
    let left: i64 = conn.query_row("SELECT count(*) FROM change", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
    let told = changes(&here, looked).await;
    assert_eq!(told, Changes { mark: looked + 2, of: None });
    assert_eq!(changes(&here, told.mark).await.of, Some(vec![]));
}

#[tokio::test]
async fn a_process_that_was_stopped_for_long_reads_all_it_has_again() {
    let (folder, clock, here, there) = two().await;
    there.session.refresh().await.unwrap();
    // Before it looks, what it would be told is gone.
    rusqlite::Connection::open(folder.database())
        .unwrap()
        .execute_batch("DELETE FROM change")
        .unwrap();
    served(&clock, &here, |token| token.is_some_and(|token| token.generation() == 2)).await;
    assert_eq!(here.script.refreshes(), 0);
}
