//! `kill -9` at each step of a refresh.

use std::time::Instant;

use session_warden::testing::{CrashPoint, Fate};

use super::orders::{BUDGET, Operation, Outcome, Rotates};
use super::process_fixture::{KEY, ProcessFixture, is_generation, is_lost, now};
use super::replica::Replica;
use super::server::{Seen, Server, seen};

/// When the process begins that goes on with the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    /// After the first has died.
    After,
    /// Before, and it has the session in memory.
    Beside,
}

/// What is left when the first of two processes has died at a step of its refresh.
struct Left {
    fixture: ProcessFixture,
    /// The second.
    process: Replica,
    /// A moment before the first process's claim.
    claimed: Instant,
}

async fn killed(server: Server, point: CrashPoint, second: Second) -> Left {
    let fixture = ProcessFixture::new(server);
    let mut first = fixture.established().await;
    let beside = match second {
        Second::Beside => Some(fixture.process().await),
        Second::After => None,
    };
    if let Some(beside) = &beside {
        assert_eq!(beside.token(Operation::Use, KEY).await.generation, 1);
    }
    first.arm(point, Fate::Kill).await;
    let claimed = now();
    let refresh = first.order(Operation::Refresh, KEY);
    first.died().await;
    let answer = refresh.ended().await;
    assert!(answer.is_none() || point == CrashPoint::Replied, "{answer:?}");
    let process = match beside {
        Some(beside) => beside,
        None => fixture.process().await,
    };
    Left { fixture, process, claimed }
}

impl Left {
    /// What a process that holds the first token gets when an API has rejected that.
    async fn better(&self) -> Outcome {
        let first = self.process.token(Operation::Use, KEY).await;
        assert_eq!((first.generation, first.works), (1, Some(true)), "it serves meanwhile");
        self.process.insist(Operation::Invalidate, KEY).await
    }

    /// A refresh may be out, and its retry may kill the grant. A process that died cannot come
    /// back, but its request may be queued.
    fn was_held_back(&self) {
        let since = self.claimed.elapsed();
        assert!(since >= 2 * BUDGET, "retried {since:?} after the claim");
    }

    async fn seen(&self) -> Seen {
        self.fixture.seen().await
    }
}

async fn each_with_grace(row: impl AsyncFn(Server, Second)) {
    for second in [Second::After, Second::Beside] {
        for rotates in [Rotates::Idempotent, Rotates::Fork] {
            row(Server::ours(rotates).await, second).await;
        }
    }
}

async fn each_strict(row: impl AsyncFn(Server, Second)) {
    let each = async |second| row(Server::strict().await, second).await;
    tokio::join!(each(Second::After), each(Second::Beside));
}

/// Nothing was sent, so the refresh token is good: only the claim is in the way.
async fn unsent(point: CrashPoint, server: Server, second: Second) -> Left {
    let left = killed(server, point, second).await;
    assert_eq!(left.seen().await, seen(0, 0));
    let better = left.better().await;
    assert!(is_generation(&better, 2), "{second:?}: {better:?}");
    assert_eq!(left.seen().await, seen(1, 0), "{second:?}");
    left.fixture.is_good_at(&left.process, 2).await;
    left
}

#[tokio::test]
async fn killed_before_the_claim_at_a_strict_server_the_next_process_refreshes() {
    each_strict(async |server, second| {
        unsent(CrashPoint::BeforeClaim, server, second).await;
    })
    .await;
}

#[tokio::test]
async fn killed_before_the_claim_at_a_server_with_grace_the_next_process_refreshes() {
    each_with_grace(async |server, second| {
        unsent(CrashPoint::BeforeClaim, server, second).await;
    })
    .await;
}

#[tokio::test]
async fn killed_after_the_claim_at_a_strict_server_the_next_process_refreshes_after_a_while() {
    each_strict(async |server, second| {
        unsent(CrashPoint::Claimed, server, second).await.was_held_back();
    })
    .await;
}

#[tokio::test]
async fn killed_after_the_claim_at_a_server_with_grace_the_next_process_refreshes() {
    each_with_grace(async |server, second| {
        unsent(CrashPoint::Claimed, server, second).await;
    })
    .await;
}

/// The one loss that cannot be avoided: only the killed process had the new refresh token. The one
/// retry shows it.
async fn spent_at_a_strict_server(point: CrashPoint, server: Server, second: Second) {
    let left = killed(server, point, second).await;
    assert_eq!(left.seen().await, seen(1, 0));
    let better = left.better().await;
    left.was_held_back();
    assert!(is_lost(&better), "{second:?}: {better:?}");
    assert_eq!(left.seen().await, Seen { asked: 2, again: 1, grants_revoked: 1 }, "{second:?}");
    left.fixture.is_lost_in_doubt(&left.process).await;
}

#[tokio::test]
async fn killed_before_the_answer_is_read_at_a_strict_server_it_is_retried_once_and_lost() {
    each_strict(|server, second| spent_at_a_strict_server(CrashPoint::Sent, server, second)).await;
}

#[tokio::test]
async fn killed_before_the_answer_is_saved_at_a_strict_server_it_is_retried_once_and_lost() {
    let point = CrashPoint::Received;
    each_strict(|server, second| spent_at_a_strict_server(point, server, second)).await;
}

/// The retry comes within the grace.
async fn spent_within_the_grace(point: CrashPoint, server: Server, second: Second) {
    let left = killed(server, point, second).await;
    assert_eq!(left.seen().await, seen(1, 0));
    let better = left.better().await;
    assert!(is_generation(&better, 2), "{second:?}: {better:?}");
    assert_eq!(left.seen().await, seen(2, 1), "{second:?}");
    left.fixture.is_good_at(&left.process, 2).await;
}

#[tokio::test]
async fn killed_before_the_answer_is_read_at_a_server_with_grace_it_is_retried() {
    each_with_grace(|server, second| spent_within_the_grace(CrashPoint::Sent, server, second))
        .await;
}

#[tokio::test]
async fn killed_before_the_answer_is_saved_at_a_server_with_grace_it_is_retried() {
    let point = CrashPoint::Received;
    each_with_grace(|server, second| spent_within_the_grace(point, server, second)).await;
}

/// The saved token is in the file, and the server gets no request. A process that ran before and
/// has the first token finds the saved one when an API rejects the first.
async fn saved(point: CrashPoint, server: Server, second: Second) {
    let left = killed(server, point, second).await;
    if second == Second::Beside {
        let found = left.process.insist(Operation::Invalidate, KEY).await;
        assert!(is_generation(&found, 2), "{found:?}");
    }
    assert_eq!(left.seen().await, seen(1, 0), "{second:?}");
    left.fixture.is_good_at(&left.process, 2).await;
}

#[tokio::test]
async fn killed_after_the_save_at_a_strict_server_the_next_process_has_it() {
    each_strict(|server, second| saved(CrashPoint::Committed, server, second)).await;
}

#[tokio::test]
async fn killed_after_the_save_at_a_server_with_grace_the_next_process_has_it() {
    each_with_grace(|server, second| saved(CrashPoint::Committed, server, second)).await;
}

#[tokio::test]
async fn killed_when_all_are_told_at_a_strict_server_the_next_process_has_it() {
    each_strict(|server, second| saved(CrashPoint::Replied, server, second)).await;
}

#[tokio::test]
async fn killed_when_all_are_told_at_a_server_with_grace_the_next_process_has_it() {
    each_with_grace(|server, second| saved(CrashPoint::Replied, server, second)).await;
}

/// Killed as soon as it has reported its token, time after time: every reported token is on the
/// disk.
#[tokio::test]
async fn what_a_process_handed_out_before_it_was_killed_its_successor_hands_out_too() {
    let fixture = ProcessFixture::new(Server::strict().await);
    let mut process = fixture.established().await;
    for generation in 2..6 {
        let told = process.token(Operation::Refresh, KEY).await;
        process.kill().await;
        process = fixture.process().await;
        let found = process.token(Operation::Use, KEY).await;
        assert_eq!((found.generation, &found.hash), (generation, &told.hash));
        assert_eq!(fixture.seen().await, seen(generation - 1, 0));
    }
    fixture.is_good_at(&process, 5).await;
}
