//! `kill -9` at each step of a refresh.

use std::time::Instant;

use session_warden::testing::{CrashPoint, Fate};

use super::database::StoreKind;
use super::orders::{BUDGET, HOLD, LEASE, Operation, Outcome, Rotates};
use super::process_fixture::{KEY, ProcessFixture, is_generation, is_lost, now};
use super::replica::Replica;
use super::server::{At, Seen, Server, seen};

on_each_store! {
    killed_before_the_claim_at_a_strict_server_the_next_process_refreshes,
    killed_before_the_claim_at_a_server_with_grace_the_next_process_refreshes,
    killed_after_the_claim_at_a_strict_server_the_next_process_refreshes_after_a_while,
    killed_after_the_claim_at_a_server_with_grace_the_next_process_refreshes,
    killed_before_the_answer_is_read_at_a_strict_server_it_is_retried_once_and_lost,
    killed_before_the_answer_is_saved_at_a_strict_server_it_is_retried_once_and_lost,
    killed_before_the_answer_is_read_at_a_server_with_grace_it_is_retried,
    killed_before_the_answer_is_saved_at_a_server_with_grace_it_is_retried,
    killed_after_the_save_at_a_strict_server_the_next_process_has_it,
    killed_after_the_save_at_a_server_with_grace_the_next_process_has_it,
    killed_when_all_are_told_at_a_strict_server_the_next_process_has_it,
    killed_when_all_are_told_at_a_server_with_grace_the_next_process_has_it,
    what_a_process_handed_out_before_it_was_killed_its_successor_hands_out_too,
}

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

async fn killed(at: At, point: CrashPoint, second: Second) -> Left {
    let fixture = ProcessFixture::new(at).await;
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
        let asked = self.seen().await.asked > 0;
        if asked && self.fixture.server().ends_access_tokens() {
            assert_eq!(self.process.token(Operation::Token, KEY).await.generation, 1);
        } else {
            let first = self.process.token(Operation::Use, KEY).await;
            assert_eq!((first.generation, first.works), (1, Some(true)), "it serves meanwhile");
        }
        self.process.insist(Operation::Invalidate, KEY).await
    }

    /// A refresh may be out, and its retry may kill the grant. Only a file shows that the process
    /// has died: it cannot come back, but its request may be queued.
    fn was_held_back(&self) {
        let held_back = match self.fixture.store() {
            StoreKind::File => 2 * BUDGET,
            StoreKind::Postgres => LEASE + HOLD,
        };
        let since = self.claimed.elapsed();
        assert!(since >= held_back, "retried {since:?} after the claim");
    }

    async fn seen(&self) -> Seen {
        self.fixture.seen().await
    }
}

async fn each_with_grace(store: StoreKind, row: impl AsyncFn(At, Second)) {
    let each = async |second| {
        for rotates in [Rotates::Idempotent, Rotates::Fork] {
            row((store, Server::ours(rotates).await), second).await;
        }
        row((store, Server::grace().await), second).await;
    };
    tokio::join!(each(Second::After), each(Second::Beside));
}

async fn each_strict(store: StoreKind, row: impl AsyncFn(At, Second)) {
    let each = async |second| row((store, Server::strict().await), second).await;
    tokio::join!(each(Second::After), each(Second::Beside));
}

/// Nothing was sent, so the refresh token is good: only the claim is in the way.
async fn unsent(point: CrashPoint, at: At, second: Second) -> Left {
    let left = killed(at, point, second).await;
    assert_eq!(left.seen().await, seen(0, 0));
    let better = left.better().await;
    assert!(is_generation(&better, 2), "{second:?}: {better:?}");
    assert_eq!(left.seen().await, seen(1, 0), "{second:?}");
    left.fixture.is_good_at(&left.process, 2).await;
    left
}

async fn killed_before_the_claim_at_a_strict_server_the_next_process_refreshes(store: StoreKind) {
    each_strict(store, async |at, second| {
        unsent(CrashPoint::BeforeClaim, at, second).await;
    })
    .await;
}

async fn killed_before_the_claim_at_a_server_with_grace_the_next_process_refreshes(
    store: StoreKind,
) {
    each_with_grace(store, async |at, second| {
        unsent(CrashPoint::BeforeClaim, at, second).await;
    })
    .await;
}

async fn killed_after_the_claim_at_a_strict_server_the_next_process_refreshes_after_a_while(
    store: StoreKind,
) {
    each_strict(store, async |at, second| {
        unsent(CrashPoint::Claimed, at, second).await.was_held_back();
    })
    .await;
}

async fn killed_after_the_claim_at_a_server_with_grace_the_next_process_refreshes(
    store: StoreKind,
) {
    each_with_grace(store, async |at, second| {
        unsent(CrashPoint::Claimed, at, second).await;
    })
    .await;
}

/// The one loss that cannot be avoided: only the killed process had the new refresh token. The one
/// retry shows it.
async fn spent_at_a_strict_server(point: CrashPoint, at: At, second: Second) {
    let left = killed(at, point, second).await;
    assert_eq!(left.seen().await, seen(1, 0));
    let better = left.better().await;
    left.was_held_back();
    assert!(is_lost(&better), "{second:?}: {better:?}");
    assert_eq!(left.seen().await, Seen { asked: 2, again: 1, grants_revoked: 1 }, "{second:?}");
    left.fixture.is_lost_in_doubt(&left.process).await;
}

async fn killed_before_the_answer_is_read_at_a_strict_server_it_is_retried_once_and_lost(
    store: StoreKind,
) {
    each_strict(store, |at, second| spent_at_a_strict_server(CrashPoint::Sent, at, second)).await;
}

async fn killed_before_the_answer_is_saved_at_a_strict_server_it_is_retried_once_and_lost(
    store: StoreKind,
) {
    let point = CrashPoint::Received;
    each_strict(store, |at, second| spent_at_a_strict_server(point, at, second)).await;
}

/// The retry comes within the grace.
async fn spent_within_the_grace(point: CrashPoint, at: At, second: Second) {
    let left = killed(at, point, second).await;
    assert_eq!(left.seen().await, seen(1, 0));
    let better = left.better().await;
    assert!(is_generation(&better, 2), "{second:?}: {better:?}");
    assert_eq!(left.seen().await, seen(2, 1), "{second:?}");
    left.fixture.is_good_at(&left.process, 2).await;
}

async fn killed_before_the_answer_is_read_at_a_server_with_grace_it_is_retried(store: StoreKind) {
    each_with_grace(store, |at, second| spent_within_the_grace(CrashPoint::Sent, at, second)).await;
}

async fn killed_before_the_answer_is_saved_at_a_server_with_grace_it_is_retried(store: StoreKind) {
    let point = CrashPoint::Received;
    each_with_grace(store, |at, second| spent_within_the_grace(point, at, second)).await;
}

/// The saved token is in the store, and the server gets no request. A process that ran before and
/// has the first token finds the saved one when an API rejects the first.
async fn saved(point: CrashPoint, at: At, second: Second) {
    let left = killed(at, point, second).await;
    if second == Second::Beside {
        let found = left.process.insist(Operation::Invalidate, KEY).await;
        assert!(is_generation(&found, 2), "{found:?}");
    }
    assert_eq!(left.seen().await, seen(1, 0), "{second:?}");
    left.fixture.is_good_at(&left.process, 2).await;
}

async fn killed_after_the_save_at_a_strict_server_the_next_process_has_it(store: StoreKind) {
    each_strict(store, |at, second| saved(CrashPoint::Committed, at, second)).await;
}

async fn killed_after_the_save_at_a_server_with_grace_the_next_process_has_it(store: StoreKind) {
    each_with_grace(store, |at, second| saved(CrashPoint::Committed, at, second)).await;
}

async fn killed_when_all_are_told_at_a_strict_server_the_next_process_has_it(store: StoreKind) {
    each_strict(store, |at, second| saved(CrashPoint::Replied, at, second)).await;
}

async fn killed_when_all_are_told_at_a_server_with_grace_the_next_process_has_it(store: StoreKind) {
    each_with_grace(store, |at, second| saved(CrashPoint::Replied, at, second)).await;
}

/// Killed as soon as it has reported its token, time after time: every reported token is on the
/// disk.
async fn what_a_process_handed_out_before_it_was_killed_its_successor_hands_out_too(
    store: StoreKind,
) {
    let fixture = ProcessFixture::new((store, Server::strict().await)).await;
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
