//! Two processes with one session in one file.

use std::time::Duration;

use futures_util::StreamExt;
use session_warden::clock::Clock;
use session_warden::event::EventKind;
use session_warden::provider::Rotation;
use session_warden::store::Phase;
use session_warden::testing::{ManualClock, Reply, StoreCall};
use session_warden::{Error, ErrorKind, Establishment};
use tokio::task::JoinHandle;

use super::store_folder::{Folder, Process, access, found};
use crate::support::{LIFE, SECOND, until};

struct TwoProcesses {
    _folder: Folder,
    clock: ManualClock,
    one: Process,
    other: Process,
}

impl TwoProcesses {
    /// Each process names its tokens, so that a record shows which process got them.
    async fn start() -> Self {
        let (folder, clock) = (Folder::new(), ManualClock::new());
        let one = Process::open(&folder, &clock, Rotation::Strict).await;
        let other = Process::open(&folder, &clock, Rotation::Strict).await;
        Self { _folder: folder, clock, one, other }
    }

    /// The same, with a session whose refresh the one has out.
    async fn refreshing() -> (Self, JoinHandle<Result<session_warden::PermissionToken, Error>>) {
        let two = Self::start().await;
        let _ = two.one.session.establish(()).await.unwrap();
        assert_eq!(two.other.session.permission_token().await.unwrap().generation(), 1);
        two.clock.advance(LIFE + SECOND).await;
        two.one.script.refresh(Reply::Hold);
        let session = two.one.session.clone();
        let refreshing = tokio::spawn(async move { session.refresh().await });
        two.one.script.held(1).await;
        (two, refreshing)
    }

    /// Phase, epoch and access token, as they are in the file.
    async fn record(&self) -> (Phase, u64, Option<String>) {
        let record = found(&self.one.store, self.one.session.id()).await;
        (record.phase, record.epoch, access(&record).map(str::to_owned))
    }
}

/// Establishes with tokens of this name, in its turn; how long that took.
async fn establish(two: &TwoProcesses, process: &Process, token: &str) -> Duration {
    let begun = two.clock.now().boot;
    process.script.establish(Reply::IssueAs(token.to_owned(), Some(LIFE)));
    let Establishment::Active(()) = until(&two.clock, process.session.establish(())).await.unwrap();
    two.clock.now().boot.since(begun)
}

#[tokio::test]
async fn grants_of_two_processes_run_one_after_the_other_and_the_last_one_stands() {
    let two = TwoProcesses::start().await;
    two.one.script.establish(Reply::Hold);
    let first = tokio::spawn({
        let session = two.one.session.clone();
        async move { session.establish(()).await }
    });
    two.one.script.held(1).await;
    let releasing = async {
        two.clock.sleep(3 * SECOND).await;
        assert_eq!(two.other.script.establishes(), 0, "not while the other's is out");
        two.one.script.release();
    };
    let (took, ()) = tokio::join!(establish(&two, &two.other, "the-others"), releasing);
    assert!(took >= 3 * SECOND, "{took:?}");
    let Establishment::Active(()) = first.await.unwrap().unwrap();
    assert_eq!((two.one.script.establishes(), two.other.script.establishes()), (1, 1));
    assert_eq!(two.record().await, (Phase::Active, 2, Some("the-others".to_owned())));
}

#[tokio::test]
async fn a_session_that_one_process_closed_stays_closed_whatever_the_other_gets_for_it() {
    let (two, refreshing) = TwoProcesses::refreshing().await;
    let _ = until(&two.clock, two.other.session.revoke()).await.unwrap();
    assert_eq!(two.record().await, (Phase::Closed, 1, None));
    two.one.script.release();
    let late = until(&two.clock, refreshing).await.unwrap().unwrap_err();
    assert_eq!(late.kind(), ErrorKind::NotEstablished, "{late:?}");
    two.clock.advance(10 * LIFE).await;
    assert_eq!(two.record().await, (Phase::Closed, 1, None), "the late answer is not stored");
    assert_eq!(two.one.script.revocations(), 1, "but the server is told of it");
    for process in [&two.one, &two.other] {
        let closed = until(&two.clock, process.session.permission_token()).await.unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::NotEstablished);
    }
}

#[tokio::test]
async fn a_late_answer_to_a_refresh_of_the_former_grant_is_not_stored_over_the_new_one() {
    let (mut two, refreshing) = TwoProcesses::refreshing().await;
    // The one does not reach the file to renew its claim; when its lease is over, a user signs in
    // at the other.
    two.one.faults.fail_always(StoreCall::Renew, true);
    let took = establish(&two, &two.other, "the-others").await;
    assert!(took >= 20 * SECOND, "not beside the refresh: {took:?}");
    two.one.script.release();
    drop(until(&two.clock, refreshing).await.unwrap());
    // The file answers in real time.
    let events = &mut two.one.events;
    let told = async { while events.next().await.unwrap().kind != EventKind::TokensSuperseded {} };
    tokio::time::timeout(10 * SECOND, told).await.unwrap();
    two.clock.advance(SECOND).await;
    assert_eq!(two.record().await, (Phase::Active, 2, Some("the-others".to_owned())));
    let token = until(&two.clock, two.one.session.permission_token()).await.unwrap();
    assert_eq!((token.epoch(), token.expose_secret()), (2, "the-others"));
    assert_eq!((two.one.script.refreshes(), two.other.script.establishes()), (1, 1));
    assert_eq!(two.one.script.revocations(), 0, "it could end the new grant");
}
