//! Processes that are stopped at a step of a refresh for longer than their lease, and then resumed.

use std::time::Instant;

use session_warden::testing::{CrashPoint, Fate};

use super::database::StoreKind;
use super::orders::{HOLD, LEASE, Operation, Outcome, Rotates};
use super::process_fixture::{KEY, ProcessFixture, is_generation, is_lost, now};
use super::replica::{Ordered, Replica, pause};
use super::server::{At, Seen, Server, seen};

on_each_store! {
    stopped_before_its_claim_a_process_uses_what_the_other_got,
    stopped_after_its_claim_at_a_strict_server_a_process_does_not_send_any_more,
    stopped_after_its_claim_at_a_server_with_grace_a_process_does_not_send_any_more,
    stopped_with_the_answer_a_process_that_comes_back_within_the_hold_saves_it_for_all,
    stopped_with_the_answer_beyond_the_hold_at_a_strict_server_no_dead_token_is_handed_out,
    stopped_with_the_answer_at_a_server_with_grace_a_process_uses_what_the_other_got,
    stopped_after_the_save_a_process_holds_nobody_up,
    of_ten_processes_that_refresh_at_once_one_asks_and_all_get_the_same,
}

/// Two processes that hold the first token, one of which has stopped at a step of its refresh.
struct Paused {
    fixture: ProcessFixture,
    stopped: Replica,
    /// What it was asked.
    refresh: Option<Ordered>,
    other: Replica,
    /// Moments before the claim and after it.
    claimed: (Instant, Instant),
}

impl Paused {
    async fn at(point: CrashPoint, at: At) -> Self {
        let fixture = ProcessFixture::new(at).await;
        let (stopped, other) = (fixture.established().await, fixture.process().await);
        let token = other.token(Operation::Use, KEY).await;
        assert_eq!((token.generation, token.works), (1, Some(true)));
        stopped.arm(point, Fate::Stop).await;
        let before = now();
        let refresh = Some(stopped.order(Operation::Refresh, KEY));
        stopped.stopped().await;
        Self { fixture, stopped, refresh, other, claimed: (before, now()) }
    }

    /// The token that the other process gets in the end. Its first token is rejected before.
    async fn other_gets(&self) -> Outcome {
        self.other.insist(Operation::Invalidate, KEY).await
    }

    /// Waits until the lease has ended, but not the grace after it.
    async fn lease_ends(&self) {
        while self.claimed.1.elapsed() <= LEASE {
            pause(50).await;
        }
    }

    /// Resumes the stopped process; returns the result of its refresh.
    async fn goes_on(&mut self) -> Outcome {
        let mut refresh = self.refresh.take().expect("it goes on once");
        assert!(refresh.is_open(), "it has stopped");
        self.stopped.go_on();
        refresh.answer().await.outcome
    }

    async fn seen(&self) -> Seen {
        self.fixture.seen().await
    }

    /// Both have the second generation, and it is valid.
    async fn ends_well(&self) {
        let (one, other) = (
            self.stopped.token(Operation::Use, KEY).await,
            self.other.token(Operation::Use, KEY).await,
        );
        assert_eq!((one.generation, one), (2, other));
        self.fixture.is_good_at(&self.stopped, 2).await;
    }
}

async fn each_with_grace(store: StoreKind, row: impl AsyncFn(At)) {
    let of = async |rotates| row((store, Server::ours(rotates).await)).await;
    let of_other = async || row((store, Server::grace().await)).await;
    tokio::join!(of(Rotates::Idempotent), of(Rotates::Fork), of_other());
}

/// The other process refreshes in its place. The stopped one must not send the same token
/// afterwards.
async fn unsent(point: CrashPoint, at: At) {
    let mut paused = Paused::at(point, at).await;
    let other = paused.other_gets().await;
    assert!(is_generation(&other, 2), "{other:?}");
    paused.lease_ends().await;
    let own = paused.goes_on().await;
    assert!(is_generation(&own, 2), "{own:?}");
    assert_eq!(paused.seen().await, seen(1, 0));
    paused.ends_well().await;
}

async fn stopped_before_its_claim_a_process_uses_what_the_other_got(store: StoreKind) {
    let strict = async || unsent(CrashPoint::BeforeClaim, (store, Server::strict().await)).await;
    tokio::join!(strict(), each_with_grace(store, |at| unsent(CrashPoint::BeforeClaim, at)));
}

async fn stopped_after_its_claim_at_a_strict_server_a_process_does_not_send_any_more(
    store: StoreKind,
) {
    unsent(CrashPoint::Claimed, (store, Server::strict().await)).await;
}

async fn stopped_after_its_claim_at_a_server_with_grace_a_process_does_not_send_any_more(
    store: StoreKind,
) {
    each_with_grace(store, |at| unsent(CrashPoint::Claimed, at)).await;
}

/// It has the only copy of the new token, and comes back with it in time.
async fn stopped_with_the_answer_a_process_that_comes_back_within_the_hold_saves_it_for_all(
    store: StoreKind,
) {
    let mut paused = Paused::at(CrashPoint::Received, (store, Server::strict().await)).await;
    let waits = paused.other.order(Operation::Invalidate, KEY);
    paused.lease_ends().await;
    let own = paused.goes_on().await;
    assert!(is_generation(&own, 2), "{own:?}");
    let waited = waits.answer().await.outcome;
    // It gets that token, or learned before it that the lease was over.
    let waited_long_enough = matches!(waited, Outcome::Token(_));
    let other = if waited_long_enough { waited } else { paused.other_gets().await };
    assert!(is_generation(&other, 2), "{other:?}");
    assert_eq!(paused.seen().await, seen(1, 0));
    paused.ends_well().await;
}

/// The retry of the other process ended the grant, and with it the tokens of the stopped one. They
/// are refreshed before they are handed out.
async fn stopped_with_the_answer_beyond_the_hold_at_a_strict_server_no_dead_token_is_handed_out(
    store: StoreKind,
) {
    let mut paused = Paused::at(CrashPoint::Received, (store, Server::strict().await)).await;
    let other = paused.other_gets().await;
    assert!(is_lost(&other), "{other:?}");
    let since = paused.claimed.0.elapsed();
    assert!(since >= LEASE + HOLD, "retried {since:?} after the claim");
    assert_eq!(paused.seen().await, Seen { asked: 2, again: 1, grants_revoked: 1 });
    let own = paused.goes_on().await;
    assert!(is_rejected(&own), "{own:?}");
    let tried = Seen { asked: 3, again: 1, grants_revoked: 1 };
    assert_eq!(paused.seen().await, tried);
    for process in [&paused.stopped, &paused.other, &paused.fixture.process().await] {
        for operation in [Operation::Use, Operation::Refresh] {
            let ended = process.ask(operation, KEY).await;
            assert!(is_lost(&ended) || is_rejected(&ended), "{ended:?}");
        }
    }
    assert_eq!(paused.seen().await, tried, "nobody tries again");
    paused.fixture.history().check();
}

async fn stopped_with_the_answer_at_a_server_with_grace_a_process_uses_what_the_other_got(
    store: StoreKind,
) {
    each_with_grace(store, async |at| {
        let mut paused = Paused::at(CrashPoint::Received, at).await;
        let other = paused.other_gets().await;
        assert!(is_generation(&other, 2), "{other:?}");
        assert_eq!(paused.seen().await, seen(2, 1));
        let own = paused.goes_on().await;
        assert!(is_generation(&own, 2), "{own:?}");
        assert_eq!(paused.seen().await, seen(2, 1));
        paused.ends_well().await;
    })
    .await;
}

/// No process need wait for it: its tokens are saved.
async fn saved(at: At) {
    let mut paused = Paused::at(CrashPoint::Committed, at).await;
    let other = paused.other_gets().await;
    assert!(is_generation(&other, 2), "{other:?}");
    paused.lease_ends().await;
    let own = paused.goes_on().await;
    assert!(is_generation(&own, 2), "{own:?}");
    assert_eq!(paused.seen().await, seen(1, 0));
    paused.ends_well().await;
}

async fn stopped_after_the_save_a_process_holds_nobody_up(store: StoreKind) {
    let strict = async || saved((store, Server::strict().await)).await;
    tokio::join!(strict(), each_with_grace(store, saved));
}

async fn of_ten_processes_that_refresh_at_once_one_asks_and_all_get_the_same(store: StoreKind) {
    for server in [Server::strict().await, Server::ours(Rotates::Idempotent).await] {
        let fixture = ProcessFixture::new((store, server)).await;
        let mut processes = vec![fixture.established().await];
        for _ in 1..10 {
            processes.push(fixture.process().await);
        }
        for process in &processes {
            assert_eq!(process.token(Operation::Use, KEY).await.generation, 1);
        }
        let orders: Vec<_> =
            processes.iter().map(|process| process.order(Operation::Invalidate, KEY)).collect();
        for (process, order) in processes.iter().zip(orders) {
            let ended = order.answer().await.outcome;
            assert!(is_generation(&ended, 2), "{ended:?}");
            assert_eq!(process.token(Operation::Use, KEY).await.works, Some(true));
        }
        assert_eq!(fixture.seen().await, seen(1, 0));
        fixture.history().check();
    }
}

fn is_rejected(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed { kind, .. } if kind == "SignInAgain(Rejected)")
}
