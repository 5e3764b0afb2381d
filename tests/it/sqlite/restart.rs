//! A supervisor on a file, and the next one on the same file.

use std::time::Duration;

use session_warden::ErrorKind;
use session_warden::event::{EventKind, Events};
use session_warden::provider::Rotation;
use session_warden::session::State;
use session_warden::store::Phase;
use session_warden::testing::{ManualClock, Reply, StoreCall};

use super::store_folder::{Folder, Process};
use crate::support::{LIFE, SECOND, key};

#[tokio::test]
async fn a_session_goes_on_after_a_restart_without_a_sign_in() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let first = Process::open(&folder, &clock, Rotation::Strict).await;
    let _ = first.session.establish(()).await.unwrap();
    clock.advance(LIFE).await;
    let token = first.session.refresh().await.unwrap();
    assert!(first.supervisor.shutdown(SECOND).await.is_clean());
    first.die().await;

    let second = Process::open(&folder, &clock, Rotation::Strict).await;
    let found = second.session.permission_token().await.unwrap();
    assert_eq!(found.expose_secret(), token.expose_secret());
    assert_eq!((found.epoch(), found.generation()), (1, 2));
    assert_eq!((second.script.establishes(), second.script.refreshes()), (0, 0));
    assert_eq!(second.session.refresh().await.unwrap().generation(), 3);
    second.session.revoke().await.unwrap();
    second.die().await;

    let third = Process::open(&folder, &clock, Rotation::Strict).await;
    let closed = third.session.permission_token().await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::NotEstablished);
}

/// A process that is killed while its refresh is at the server, and the next process.
async fn killed_mid_refresh(rotation: Rotation) -> (Folder, ManualClock, Process) {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let first = Process::open(&folder, &clock, rotation).await;
    let _ = first.session.establish(()).await.unwrap();
    clock.advance(LIFE).await;
    first.script.refresh(Reply::Hang);
    let session = first.session.clone();
    let refreshing = tokio::spawn(async move { session.refresh().await });
    first.script.held(1).await;
    assert!(first.record().await.lease.is_some(), "the intent is on the disk before the request");
    refreshing.abort();
    first.die().await;
    let second = Process::open(&folder, &clock, rotation).await;
    (folder, clock, second)
}

#[tokio::test]
async fn a_refresh_that_a_killed_process_left_out_is_tried_at_once_where_that_is_harmless() {
    let rotation = Rotation::Idempotent(30 * SECOND);
    let (_folder, _clock, second) = killed_mid_refresh(rotation).await;
    let token = second.session.permission_token().await.unwrap();
    assert_eq!((token.epoch(), token.generation()), (1, 2));
    assert_eq!((second.script.establishes(), second.script.refreshes()), (0, 1));
    assert_eq!(second.faults.count(StoreCall::TakeOver), 1);
    assert_eq!(second.record().await.phase, Phase::Active);
}

#[tokio::test]
async fn a_refresh_that_a_killed_process_left_out_is_held_back_at_a_strict_server() {
    let (_folder, clock, second) = killed_mid_refresh(Rotation::Strict).await;
    let waits = second.session.permission_token().await.unwrap_err();
    assert_eq!(waits.kind(), ErrorKind::RetryLater);
    assert_eq!(waits.retry_after(), Some(20 * SECOND), "two budgets: its holder is dead");
    assert_eq!(second.session.status().await.unwrap().state, State::InDoubt);
    assert_eq!(second.script.refreshes(), 0);
    clock.advance(20 * SECOND).await;
    let token = second.session.permission_token().await.unwrap();
    assert_eq!((token.generation(), second.script.refreshes()), (2, 1));
}

#[tokio::test]
async fn a_file_that_fails_before_a_refresh_stops_it_and_live_tokens_are_served() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let process = Process::open(&folder, &clock, Rotation::Strict).await;
    let _ = process.session.establish(()).await.unwrap();
    process.store.shutdown().await;
    assert_eq!(process.session.permission_token().await.unwrap().generation(), 1);
    assert_eq!(process.session.refresh().await.unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(process.script.refreshes(), 0, "nothing was sent");
}

#[tokio::test]
async fn what_the_file_does_not_take_is_served_owed_and_saved_later() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let mut process = Process::open(&folder, &clock, Rotation::Strict).await;
    let _ = process.session.establish(()).await.unwrap();
    process.faults.fail_next(StoreCall::Commit, 1);
    assert_eq!(process.session.refresh().await.unwrap().generation(), 2);
    let seen = async |events: &mut Events, kind: fn(&EventKind) -> bool| {
        use tokio_stream::StreamExt;
        while !kind(&events.next().await.unwrap().kind) {}
    };
    seen(&mut process.events, |kind| matches!(kind, EventKind::Unsaved)).await;
    assert!(process.supervisor.shutdown(60 * SECOND).await.is_clean(), "it waits for that");
    process.die().await;
    let second = Process::open(&folder, &clock, Rotation::Strict).await;
    assert_eq!(second.session.permission_token().await.unwrap().generation(), 2);
}

#[tokio::test]
async fn a_logout_whose_server_was_away_is_told_after_the_restart() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let first = Process::open(&folder, &clock, Rotation::Strict).await;
    let _ = first.session.establish(()).await.unwrap();
    first.script.revoke(Reply::Hang);
    let session = first.session.clone();
    let revoking = tokio::spawn(async move { session.revoke().await });
    first.script.held(1).await;
    revoking.abort();
    first.die().await;
    let second = Process::open(&folder, &clock, Rotation::Strict).await;
    // The due scan finds the tombstone.
    for _ in 0..10_000 {
        if second.script.revocations() > 0 {
            break;
        }
        clock.advance(Duration::from_millis(100)).await;
    }
    assert_eq!(second.script.revocations(), 1);
    assert_eq!(
        second.session.permission_token().await.unwrap_err().kind(),
        ErrorKind::NotEstablished
    );
    let _ = key("device");
}
