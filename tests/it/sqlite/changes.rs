//! One process writes a session that another has in memory.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use session_warden::ErrorKind;
use session_warden::PermissionToken;
use session_warden::policy::CHANGES_PAGE;
use session_warden::provider::Rotation;
use session_warden::session::State;
use session_warden::store::sqlite::SqliteStore;
use session_warden::store::{
    Attempt, Change, Changes, Cursor, Intent, News, Owner, Phase, Settle, SettleTo, Statement,
    Store,
};
use session_warden::testing::{ManualClock, StoreCall};

use super::store_folder::{
    Folder, Process, claim, close, delete, done, exchange, found, granted, id, take_over,
};
use crate::support::until;

/// Two processes with the session's first token in memory.
async fn two() -> (Folder, ManualClock, Process, Process) {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let here = Process::open(&folder, &clock, Rotation::Strict).await;
    let there = Process::open(&folder, &clock, Rotation::Strict).await;
    let _ = here.session.establish(()).await.unwrap();
    for process in [&here, &there] {
        assert_eq!(process.session.permission_token().await.unwrap().generation(), 1);
    }
    (folder, clock, here, there)
}

/// Waits until the token that is handed out without a load is the expected one.
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
    assert_eq!(here.faults.count(StoreCall::Claim), 1, "that of its establish");
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
    served(&clock, &here, |token| token.is_some_and(|token| token.epoch() == 3)).await;
    assert_eq!((here.script.refreshes(), there.script.establishes()), (1, 1));
}

#[tokio::test]
async fn a_session_that_another_process_established_is_there_for_those_who_had_none() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let here = Process::open(&folder, &clock, Rotation::Strict).await;
    let there = Process::open(&folder, &clock, Rotation::Strict).await;
    let none = here.session.permission_token().await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotEstablished);
    let _ = there.session.establish(()).await.unwrap();
    until(&clock, async { while here.session.permission_token().await.is_err() {} }).await;
    assert_eq!(here.session.status().await.unwrap().state, State::Active);
}

/// 1. A refresh here is not saved. 2. Another process closes the session, of which it knows only
/// what was saved. 3. The credentials here are dead for callers, and the server still has to be
/// told of them.
#[tokio::test]
async fn credentials_that_are_owed_are_not_given_up_for_what_another_process_stored() {
    let (_folder, clock, here, there) = two().await;
    here.faults.fail_always(StoreCall::Commit, true);
    until(&clock, here.session.refresh()).await.unwrap();
    assert_eq!(here.session.try_permission_token().unwrap().generation(), 2);
    let revoked = until(&clock, there.session.revoke()).await;
    assert!(revoked.is_ok(), "{revoked:?}");
    served(&clock, &here, |token| token.is_none()).await;
    assert_eq!((here.script.revocations(), there.script.revocations()), (0, 1));
    let saves = here.faults.count(StoreCall::Commit);
    clock.advance(Duration::from_secs(20)).await;
    assert!(here.faults.count(StoreCall::Commit) > saves, "it is the only copy");
    here.faults.fail_always(StoreCall::Commit, false);
    until(&clock, async {
        while here.script.revocations() == 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
}

async fn changes(store: &SqliteStore, since: &Cursor) -> Changes {
    store.changes(Some(since), CHANGES_PAGE).await.unwrap().unwrap()
}

/// Where the feed ends now.
async fn end(store: &SqliteStore) -> Cursor {
    let now = store.changes(None, 8).await.unwrap().unwrap();
    assert_eq!((now.news, now.more), (Some(vec![]), false));
    now.cursor
}

fn active(name: &str, (version, epoch, generation): (u64, u64, u64)) -> News {
    told(name, (version, epoch, generation), Some(Phase::Active))
}

fn told(name: &str, (version, epoch, generation): (u64, u64, u64), phase: Option<Phase>) -> News {
    News { id: id(name), of: Change { version, epoch, generation, phase } }
}

#[tokio::test]
async fn what_others_stored_closed_and_deleted_is_told_in_its_order_and_ones_own_is_not() {
    let folder = Folder::new();
    let (here, there) = (folder.store(), folder.store());
    let begin = end(&here).await;
    exchange(&here, &id("own"), Intent::Establish, "own").await.unwrap();
    for (name, intent) in
        [("a", Intent::Establish), ("a", Intent::Refresh), ("b", Intent::Establish)]
    {
        exchange(&there, &id(name), intent, name).await.unwrap();
    }
    done(there.apply(&id("a"), close(2)).await);
    delete(&there, &id("b")).await;
    let heard = changes(&here, &begin).await;
    let expected = vec![
        active("a", (2, 1, 1)),
        active("a", (4, 1, 2)),
        active("b", (2, 1, 1)),
        told("a", (5, 1, 3), Some(Phase::Closed)),
        told("b", (3, 1, 1), None),
    ];
    assert_eq!((heard.news, heard.more), (Some(expected.clone()), false));
    assert_eq!(changes(&here, &heard.cursor).await.news, Some(vec![]));
    // In pages, too.
    let (mut paged, mut cursor) = (Vec::new(), begin);
    for page in 1..=6 {
        let read = here.changes(Some(&cursor), 1).await.unwrap().unwrap();
        assert_eq!(read.more, page < 6, "page {page}");
        cursor = read.cursor;
        paged.extend(read.news.unwrap());
    }
    assert_eq!((paged, cursor), (expected, heard.cursor));
}

#[tokio::test]
async fn settles_take_overs_and_told_servers_are_news_and_claims_and_renewals_are_not() {
    let folder = Folder::new();
    let (here, there) = (folder.store(), folder.store());
    exchange(&there, &id("a"), Intent::Establish, "a").await.unwrap();
    let mut cursor = end(&here).await;
    let known = Some((1, 1));
    let mut news = async || {
        let heard = changes(&here, &cursor).await;
        cursor = heard.cursor;
        let news = heard.news.unwrap().into_iter();
        news.map(|news| (news.of.version, news.of.phase)).collect::<Vec<_>>()
    };
    let settle = |epoch, attempt: Attempt, to| {
        Statement::Settle(Settle {
            epoch,
            attempt,
            to,
            retry_in: None,
            due_in: None,
            failures: None,
        })
    };
    let refresh = claim(Owner(1), Intent::Refresh, known);
    let (epoch, attempt) = granted(&there, &id("a"), refresh).await.unwrap();
    let lease = super::store_folder::LEASE * 2;
    let renew = session_warden::store::Renew { claim: refresh.id, lease };
    assert_eq!(done(there.apply(&id("a"), Statement::Renew(renew)).await).version, 4);
    let none: Vec<(u64, Option<Phase>)> = Vec::new();
    assert_eq!(news().await, none);
    done(there.apply(&id("a"), settle(epoch, attempt, SettleTo::Before)).await);
    assert_eq!(news().await, [(5, Some(Phase::Active))]);
    let refresh = claim(Owner(1), Intent::Refresh, known);
    granted(&there, &id("a"), refresh).await.unwrap();
    folder.later(21);
    done(there.apply(&id("a"), take_over(refresh.id)).await);
    assert_eq!(news().await, [(7, Some(Phase::InDoubt))]);
    done(there.apply(&id("a"), close(1)).await);
    let tombstone = found(&there, &id("a")).await;
    let attempt = Attempt {
        base: tombstone.generation,
        fence: tombstone.fence,
        claim: tombstone.lease.unwrap().claim,
    };
    done(there.apply(&id("a"), settle(1, attempt, SettleTo::Revoked)).await);
    assert_eq!(news().await, [(8, Some(Phase::Closed)), (9, Some(Phase::Closed))]);
}

#[tokio::test]
async fn nothing_is_written_for_others_where_there_are_none() {
    let folder = Folder::new();
    let there = folder.store();
    let alone = end(&there).await;
    exchange(&there, &id("a"), Intent::Establish, "a").await.unwrap();
    assert_eq!(end(&there).await, alone);
    // From the first write after another one came.
    let here = folder.store();
    exchange(&there, &id("a"), Intent::Refresh, "a").await.unwrap();
    assert_eq!(changes(&here, &alone).await.news, Some(vec![active("a", (4, 1, 2))]));
}

#[tokio::test]
async fn whoever_did_not_look_for_long_is_told_that_anything_may_have_changed() {
    let folder = Folder::new();
    let (here, there) = (folder.store(), folder.store());
    exchange(&there, &id("a"), Intent::Establish, "a").await.unwrap();
    let looked = end(&here).await;
    exchange(&there, &id("a"), Intent::Refresh, "a").await.unwrap();
    delete(&there, &id("a")).await;
    // As if that were 10 s ago; the next process that checks removes it with its names.
    let conn = rusqlite::Connection::open(folder.database()).unwrap();
    conn.execute_batch("UPDATE change SET made_at = made_at - 10000000000").unwrap();
    changes(&there, &looked).await;
    let left: i64 = conn.query_row("SELECT count(*) FROM change", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
    let told = changes(&here, &looked).await;
    assert_eq!((told.news, told.more), (None, false));
    assert_eq!(changes(&here, &told.cursor).await.news, Some(vec![]));
}

#[tokio::test]
async fn a_cursor_of_another_file_or_of_what_was_lost_is_no_cursor() {
    let (folder, other) = (Folder::new(), Folder::new());
    let (here, there) = (folder.store(), folder.store());
    let begin = end(&here).await;
    exchange(&there, &id("a"), Intent::Establish, "a").await.unwrap();
    let foreign = end(&other.store()).await;
    let mut ahead = end(&here).await.0.to_vec();
    *ahead.last_mut().unwrap() += 1;
    for cursor in [foreign, Cursor(ahead.into()), Cursor([].into()), Cursor([0; 40].into())] {
        let told = changes(&here, &cursor).await;
        assert_eq!((told.news, told.more), (None, false));
        assert_eq!(changes(&here, &told.cursor).await.news, Some(vec![]));
    }
    assert_eq!(changes(&here, &begin).await.news.unwrap().len(), 1);
}

#[tokio::test]
async fn a_process_that_was_stopped_for_long_reads_all_it_has_again() {
    let (folder, clock, here, there) = two().await;
    there.session.refresh().await.unwrap();
    // The change is deleted before the process asks for it.
    rusqlite::Connection::open(folder.database())
        .unwrap()
        .execute_batch("DELETE FROM change")
        .unwrap();
    served(&clock, &here, |token| token.is_some_and(|token| token.generation() == 2)).await;
    assert_eq!(here.script.refreshes(), 0);
}
