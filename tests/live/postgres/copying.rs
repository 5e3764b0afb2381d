//! Copies of a store from a file to PostgreSQL and back.

use session_warden::error::LostReason;
use session_warden::key::SessionId;
use session_warden::store::postgres::PostgresStore;
use session_warden::store::sqlite::SqliteStore;
use session_warden::store::{
    Attempt, CopyOptions, CopySide, Failures, Intent, Lose, Owner, Settle, SettleTo, Statement,
    Store, Stored, Suspect, copy_store,
};
use session_warden::testing::ManualClock;
use tempfile::TempDir;

use crate::postgres_cluster::{PostgresCluster, StoppableProxy};
use crate::store_statements::{access, claim, close, done, exchange, found, granted, id, ring};

const SESSIONS: usize = 200;

/// The phases that a record can have without a claim.
const PHASES: usize = 7;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_every_phase_go_to_postgres_and_back_although_connections_are_cut() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::new());
    let (first, back) = (file(&folder, "first", &clock), file(&folder, "back", &clock));
    for of in 0..SESSIONS {
        make(&first, of).await;
    }
    let cluster = PostgresCluster::shared().await;
    let database = cluster.new_database().await;
    let proxy = StoppableProxy::start(cluster.address()).await;
    let builder = PostgresStore::builder(&proxy.url(&database)).key_ring(ring(2));
    let middle = builder.open().await.unwrap();

    copy_with_cuts(&first, &middle, (&proxy, CopySide::Target)).await;
    for of in 0..SESSIONS {
        assert_eq!(shown(&middle, of).await, shown(&first, of).await, "session {of}");
    }
    copy_with_cuts(&middle, &back, (&proxy, CopySide::Source)).await;
    for of in 0..SESSIONS {
        assert_eq!(shown(&back, of).await, shown(&first, of).await, "session {of}");
    }
}

/// Copies in parts. While a part is copied for the first time, all connections are cut again and
/// again. The same part is then copied once more.
async fn copy_with_cuts(
    from: &dyn Store,
    to: &dyn Store,
    (proxy, side): (&StoppableProxy, CopySide),
) {
    let (mut after, mut failures, mut copied) = (None, 0, 0);
    loop {
        let options = CopyOptions { after: after.clone(), limit: Some(50) };
        let failed = tokio::select! {
            failed = copy_store(from, to, options.clone()) => failed,
            () = cut_often(proxy) => panic!("the cuts never end"),
        };
        if let Err(failed) = &failed {
            assert_eq!(failed.side(), side);
            failures += 1;
        }
        proxy.cut_all();
        let report = loop {
            // Idle connections that were cut are found by the next statements.
            match copy_store(from, to, options.clone()).await {
                Ok(report) => break report,
                Err(failed) => assert_eq!(failed.side(), side),
            }
        };
        assert_eq!(report.problem_count(), 0, "{report:?}");
        copied += report.copied + report.already_there;
        after = report.last.clone();
        if report.ended {
            break;
        }
    }
    assert_eq!(copied, SESSIONS as u64);
    assert!(failures > 0, "no part was interrupted");
}

/// Cuts all connections again and again.
async fn cut_often(proxy: &StoppableProxy) {
    loop {
        proxy.cut_all();
        tokio::task::yield_now().await;
    }
}

fn file(folder: &TempDir, name: &str, clock: &ManualClock) -> SqliteStore {
    let builder = SqliteStore::builder(folder.path().join(name));
    builder.key_ring(ring(1)).clock(clock.clone()).open().unwrap()
}

fn name(of: usize) -> SessionId {
    id(&format!("device-{of:04}"))
}

/// Makes a session, whose number says in which phase it is.
async fn make(store: &SqliteStore, of: usize) {
    let id = name(of);
    exchange(store, &id, Intent::Establish, &of.to_string()).await.unwrap();
    let (epoch, generation) = (1, 1);
    let to = match of % PHASES {
        0 => SettleTo::Before,
        1 => SettleTo::InDoubt,
        2 => SettleTo::Lost(LostReason::Unclassified),
        3 => {
            let lose = Lose { epoch, generation, reason: LostReason::SessionDeleted };
            done(store.apply(&id, Statement::Lose(lose)).await);
            return;
        }
        4 => {
            let suspect = Suspect { epoch, generation };
            done(store.apply(&id, Statement::Suspect(suspect)).await);
            return;
        }
        is_revoked => return end(store, &id, is_revoked == 5).await,
    };
    let refresh = claim(Owner(1), Intent::Refresh, Some((epoch, generation)));
    let attempt = granted(store, &id, refresh).await.unwrap();
    done(store.apply(&id, settle(attempt, to)).await);
}

/// Closes a session, whose tokens are revoked or still to be revoked.
async fn end(store: &SqliteStore, id: &SessionId, is_revoked: bool) {
    done(store.apply(id, close(1)).await);
    let record = found(store, id).await;
    let claim = record.lease.unwrap().claim;
    let attempt = Attempt { base: record.generation, fence: record.fence, claim };
    let to = if is_revoked { SettleTo::Revoked } else { SettleTo::Before };
    done(store.apply(id, settle((record.epoch, attempt), to)).await);
}

fn settle((epoch, attempt): (u64, Attempt), to: SettleTo) -> Statement {
    let failures = Failures { unclassified: 2, status: Some(400), ..Failures::default() };
    let failures = Some(Box::new(failures));
    let settle = Settle { epoch, attempt, to, retry_in: None, due_in: None, failures };
    Statement::Settle(settle)
}

/// A record as text, with its secrets and without its times, which go on.
async fn shown(store: &dyn Store, of: usize) -> String {
    let Stored { record, .. } = store.load(&name(of)).await.unwrap().unwrap();
    let outbox = record.outbox.as_ref().and_then(|outbox| outbox.tokens().refresh_token());
    let outbox = outbox.map(|token| token.expose_secret());
    let counters = (record.version, record.epoch, record.generation, record.fence, record.tries);
    let failures = record.failures.as_ref().map(|of| (of.unclassified, of.status));
    let phase = (record.phase, record.suspect, record.lost, record.made_by, record.lease);
    format!("{counters:?} {phase:?} {failures:?} {:?} {outbox:?}", access(&record))
}
