//! `kill -9` of processes that keep a journal.

use std::time::Duration;

use session_warden::testing::{CrashPoint, Fate};

use super::database::{Database, StoreKind};
use super::orders::{LEASE, Operation, Outcome, Rotates};
use super::process_fixture::{KEY, ProcessFixture, is_generation, is_lost, now};
use super::replica::Replica;
use super::server::{Seen, Server, seen};
use crate::postgres_cluster::PostgresCluster;

on_each_store! {
    killed_with_an_entry_at_a_strict_server_its_successor_saves_it_and_the_others_wait_for_that,
    killed_with_an_entry_and_without_a_successor_at_a_strict_server_it_is_lost_after_the_hold,
    killed_with_an_entry_at_a_server_with_grace_nobody_waits_for_it,
    killed_without_an_entry_at_a_strict_server_its_successor_retries_once_and_it_is_lost,
}

/// The volume of the process that is killed.
const VOLUME: &str = "volume";

/// The size of a file in which the head of the journal fits, and no entry does.
const HEAD_ONLY: u64 = 4096;

/// A process with a journal and one without, both of which have the first token.
async fn both(fixture: &ProcessFixture) -> (Replica, Replica) {
    let first = fixture.process_on(VOLUME).await;
    assert_eq!(first.token(Operation::Establish, KEY).await.generation, 1);
    let other = fixture.process().await;
    assert_eq!(other.token(Operation::Use, KEY).await.generation, 1);
    (first, other)
}

/// Kills a process at this step of its refresh.
async fn kill_at(process: &mut Replica, point: CrashPoint) {
    process.arm(point, Fate::Kill).await;
    let refresh = process.order(Operation::Refresh, KEY);
    process.died().await;
    assert!(refresh.ended().await.is_none());
}

fn is_told_to_retry(outcome: &Outcome) -> bool {
    outcome.failure() == Some("RetryLater")
}

async fn killed_with_an_entry_at_a_strict_server_its_successor_saves_it_and_the_others_wait_for_that(
    store: StoreKind,
) {
    let fixture = ProcessFixture::new((store, Server::strict().await)).await;
    let (mut first, other) = both(&fixture).await;
    kill_at(&mut first, CrashPoint::Journaled).await;
    assert_eq!(fixture.seen().await, seen(1, 0));
    let held_back = other.ask(Operation::Invalidate, KEY).await;
    assert!(is_told_to_retry(&held_back), "{held_back:?}");
    assert_eq!(fixture.record().await.generation, 1);
    let successor = fixture.process_on(VOLUME).await;
    let record = fixture.record().await;
    assert_eq!((record.generation, record.lease), (2, None), "it was saved at the start");
    let found = other.insist(Operation::Invalidate, KEY).await;
    assert!(is_generation(&found, 2), "{found:?}");
    assert_eq!(fixture.seen().await, seen(1, 0));
    fixture.is_good_at(&successor, 2).await;
}

async fn killed_with_an_entry_and_without_a_successor_at_a_strict_server_it_is_lost_after_the_hold(
    store: StoreKind,
) {
    let hold = Duration::from_secs(5);
    let fixture = ProcessFixture::new((store, Server::strict().await)).await;
    let (mut first, _) = both(&fixture).await;
    let other = fixture.process_with(|setup| setup.journal_hold = hold).await;
    assert_eq!(other.token(Operation::Use, KEY).await.generation, 1);
    let claimed = now();
    kill_at(&mut first, CrashPoint::Journaled).await;
    let found = other.insist(Operation::Invalidate, KEY).await;
    let since = claimed.elapsed();
    assert!(is_lost(&found) && since >= LEASE + hold, "{since:?}: {found:?}");
    assert_eq!(fixture.seen().await, Seen { asked: 2, again: 1, grants_revoked: 1 });
    fixture.is_lost_in_doubt(&other).await;
}

async fn killed_with_an_entry_at_a_server_with_grace_nobody_waits_for_it(store: StoreKind) {
    let fixture = ProcessFixture::new((store, Server::ours(Rotates::Idempotent).await)).await;
    let (mut first, other) = both(&fixture).await;
    kill_at(&mut first, CrashPoint::Journaled).await;
    let found = other.insist(Operation::Invalidate, KEY).await;
    assert!(is_generation(&found, 2), "{found:?}");
    assert_eq!(fixture.seen().await, seen(2, 1));
    let successor = fixture.process_on(VOLUME).await;
    fixture.is_good_at(&successor, 2).await;
}

/// The window that stays: the answer is read, and not on the disk. The journal shows that its
/// process has ended, so nobody waits for the lease.
async fn killed_without_an_entry_at_a_strict_server_its_successor_retries_once_and_it_is_lost(
    store: StoreKind,
) {
    let fixture = ProcessFixture::new((store, Server::strict().await)).await;
    let (mut first, other) = both(&fixture).await;
    kill_at(&mut first, CrashPoint::Received).await;
    assert_eq!(fixture.record().await.generation, 1);
    let _successor = fixture.process_on(VOLUME).await;
    let found = other.insist(Operation::Invalidate, KEY).await;
    assert!(is_lost(&found), "{found:?}");
    assert_eq!(fixture.seen().await, Seen { asked: 2, again: 1, grants_revoked: 1 });
}

/// 1. The database ends between the answer and the commit. 2. The token is served. 3. The process is
/// killed. 4. The database starts, and then the next process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_served_while_the_database_was_away_survives_a_kill() {
    let cluster = PostgresCluster::start().await;
    let database = Database::Postgres(cluster.new_database().await);
    let at = (StoreKind::Postgres, Server::strict().await);
    let fixture = ProcessFixture::on(database, at, tempfile::tempdir().unwrap());
    let mut first = fixture.process_on(VOLUME).await;
    assert_eq!(first.token(Operation::Establish, KEY).await.generation, 1);
    first.arm(CrashPoint::Received, Fate::Stop).await;
    let refresh = first.order(Operation::Refresh, KEY);
    first.stopped().await;
    cluster.stop_immediately().await;
    first.go_on();
    let served = refresh.answer().await.outcome;
    assert!(is_generation(&served, 2), "{served:?}");
    first.kill().await;
    cluster.start_again().await;
    assert_eq!(fixture.record().await.generation, 1, "only the journal has it");
    let successor = fixture.process_on(VOLUME).await;
    assert_eq!(fixture.seen().await, seen(1, 0));
    let token = fixture.is_good_at(&successor, 2).await;
    assert!(
        is_generation(&served, 2) && matches!(served, Outcome::Token(of) if of.hash == token.hash)
    );
}

/// The file of the journal cannot grow, as on a full disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_nothing_is_sent_and_valid_tokens_are_served_until_there_is_space() {
    let at = (StoreKind::Postgres, Server::ours(Rotates::Strict).await);
    let fixture = ProcessFixture::new(at).await;
    let _established = fixture.established().await;
    let volume = fixture.folder().join(VOLUME);
    let limited = |setup: &mut super::orders::Setup| {
        setup.journal = Some(volume);
        setup.most_file_bytes = Some(HEAD_ONLY);
    };
    let process = fixture.process_with(limited).await;
    for _ in 0..2 {
        let refused = process.ask(Operation::Refresh, KEY).await;
        assert!(is_told_to_retry(&refused), "{refused:?}");
        let served = process.token(Operation::Use, KEY).await;
        assert_eq!((served.generation, served.works), (1, Some(true)));
    }
    assert_eq!(fixture.seen().await, seen(0, 0));
    assert_eq!(fixture.record().await.lease, None, "nothing was claimed");
    process.limit_files(None);
    let refreshed = process.insist(Operation::Refresh, KEY).await;
    assert!(is_generation(&refreshed, 2), "{refreshed:?}");
    assert_eq!(fixture.seen().await, seen(1, 0));
    fixture.is_good_at(&process, 2).await;
}

/// The room was there before the request was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_fails_after_the_claim_the_token_is_saved_without_the_journal() {
    let at = (StoreKind::Postgres, Server::ours(Rotates::Strict).await);
    let fixture = ProcessFixture::new(at).await;
    let process = fixture.process_on(VOLUME).await;
    assert_eq!(process.token(Operation::Establish, KEY).await.generation, 1);
    process.limit_files(Some(HEAD_ONLY));
    assert_eq!(process.token(Operation::Refresh, KEY).await.generation, 2);
    assert_eq!(fixture.record().await.generation, 2);
    // The next exchange finds the disk as it is.
    let refused = process.ask(Operation::Refresh, KEY).await;
    assert!(is_told_to_retry(&refused), "{refused:?}");
    assert_eq!(fixture.seen().await, seen(1, 0));
    process.limit_files(None);
    let refreshed = process.insist(Operation::Refresh, KEY).await;
    assert!(is_generation(&refreshed, 3), "{refreshed:?}");
    fixture.is_good_at(&process, 3).await;
}
