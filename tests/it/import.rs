//! An import makes sessions of rows, can be run again, and replaces nothing that is newer.

use std::time::SystemTime;

use futures_util::{Stream, StreamExt, stream};
use session_warden::clock::Clock;
use session_warden::error::LostReason;
use session_warden::event::EventKind;
use session_warden::policy::{IMPORT_FAILURES, NAMED_REFUSALS, ROWS_AT_ONCE};
use session_warden::store::MemoryStore;
use session_warden::supervisor::ImportReport;
use session_warden::testing::{Chaos, ManualClock, ScriptedProvider, StoreCall};
use session_warden::token::Tokens;
use session_warden::{Error, ErrorKind, Session, SessionKey, Sessions};
use tokio::task::JoinHandle;

use crate::fixtures::{ScriptedFixture, kind};
use crate::support::{LIFE, SECOND, key, session, until};

async fn fixture() -> ScriptedFixture {
    ScriptedFixture::start(&MemoryStore::new(), &ManualClock::new()).await
}

fn wall(fixture: &ScriptedFixture) -> SystemTime {
    fixture.clock.now().wall
}

fn row(name: &str, wall: SystemTime) -> (SessionKey, Tokens) {
    let tokens = Tokens::new(())
        .with_access_token(format!("access-of-{name}"), Some(wall + LIFE))
        .with_refresh_token(format!("refresh-of-{name}"), Some(wall + 100 * LIFE));
    (key(name), tokens)
}

fn rows(
    fixture: &ScriptedFixture,
    many: usize,
) -> impl Stream<Item = (SessionKey, Tokens)> + Send + 'static {
    let wall = wall(fixture);
    stream::iter(0..many).map(move |number| row(&format!("device-{number:04}"), wall))
}

fn one(fixture: &ScriptedFixture) -> impl Stream<Item = (SessionKey, Tokens)> + Send + 'static {
    stream::iter([row("device", wall(fixture))])
}

async fn import(
    fixture: &ScriptedFixture,
    rows: impl Stream<Item = (SessionKey, Tokens)> + Send,
) -> Result<ImportReport, Error> {
    let sessions: Sessions<ScriptedProvider> = fixture.supervisor.sessions("p").unwrap();
    until(&fixture.clock, sessions.import(rows)).await
}

fn importing(
    fixture: &ScriptedFixture,
    rows: impl Stream<Item = (SessionKey, Tokens)> + Send + 'static,
) -> JoinHandle<Result<ImportReport, Error>> {
    let sessions: Sessions<ScriptedProvider> = fixture.supervisor.sessions("p").unwrap();
    tokio::spawn(async move { sessions.import(rows).await })
}

fn told(report: &ImportReport) -> (u64, u64, usize, u64) {
    let ImportReport { adopted, already_there, refused, refused_beyond, .. } = report;
    (*adopted, *already_there, refused.len(), *refused_beyond)
}

async fn access(session: &Session<ScriptedProvider>) -> String {
    session.permission_token().await.unwrap().expose_secret().to_owned()
}

#[tokio::test]
async fn imported_rows_are_sessions_that_do_not_stay_in_memory() {
    let mut fixture = fixture().await;
    let report = import(&fixture, rows(&fixture, 500)).await.unwrap();
    assert_eq!(told(&report), (500, 0, 0, 0));
    fixture.clock.advance(SECOND).await;
    assert_eq!((fixture.supervisor.snapshot().sessions, fixture.store.len()), (0, 500));
    assert_eq!(fixture.news(), [], "a report is enough");
    let session = session(&fixture.supervisor, "device-0123");
    assert_eq!(access(&session).await, "access-of-device-0123");
    assert_eq!((fixture.script.establishes(), fixture.script.refreshes()), (0, 0));
    let asked = fixture.faults.count(StoreCall::Claim);
    let again = import(&fixture, rows(&fixture, 500)).await.unwrap();
    assert_eq!(told(&again), (0, 500, 0, 0));
    assert_eq!(fixture.faults.count(StoreCall::Claim), asked, "nothing is written for them");
}

#[tokio::test]
async fn an_import_that_runs_again_replaces_and_brings_back_nothing() {
    let fixture = fixture().await;
    import(&fixture, rows(&fixture, 4)).await.unwrap();
    let of = |number: usize| session(&fixture.supervisor, &format!("device-{number:04}"));
    let (refreshed, revoked, signed_in) = (of(0), of(1), of(2));
    refreshed.refresh().await.unwrap();
    revoked.revoke().await.unwrap();
    let _ = signed_in.establish(()).await.unwrap();
    assert_eq!(told(&import(&fixture, rows(&fixture, 4)).await.unwrap()), (0, 4, 0, 0));
    assert_eq!(access(&refreshed).await, "access-1");
    assert_eq!(access(&signed_in).await, "access-3", "after the revocation's own number");
    assert_eq!(kind(revoked.permission_token().await), ErrorKind::NotEstablished);
    // Also where nothing is in memory.
    let later = ScriptedFixture::start(&fixture.store, &fixture.clock).await;
    assert_eq!(told(&import(&later, rows(&later, 4)).await.unwrap()), (0, 4, 0, 0));
    assert_eq!(access(&session(&later.supervisor, "device-0000")).await, "access-1");
    assert_eq!(later.supervisor.snapshot().sessions, 1);
}

#[tokio::test]
async fn the_end_of_an_imported_refresh_token_is_reported_although_nobody_calls() {
    let mut fixture = fixture().await;
    let tokens =
        Tokens::new(()).with_refresh_token("refresh-own", Some(wall(&fixture) + 10 * LIFE));
    import(&fixture, stream::iter([(key("device"), tokens)])).await.unwrap();
    assert!(fixture.record().await.due_at.is_some());
    fixture.clock.advance(5 * LIFE + SECOND).await;
    assert!(matches!(fixture.news()[..], [EventKind::RefreshExpiring { .. }]));
    fixture.clock.advance(5 * LIFE).await;
    assert_eq!(fixture.news(), [EventKind::Lost(LostReason::RefreshExpired)]);
}

/// 1. A grant is at the server. 2. Its session is to be imported. 3. The answer comes.
#[tokio::test]
async fn an_import_during_a_grant_waits_for_it_and_finds_it() {
    let fixture = fixture().await;
    fixture.script.establish(session_warden::testing::Reply::Hold);
    let granted = fixture.session.clone();
    let granting = tokio::spawn(async move { granted.establish(()).await.map(drop) });
    fixture.script.held(1).await;
    let importing = importing(&fixture, one(&fixture));
    fixture.clock.advance(SECOND).await;
    assert!(!importing.is_finished());
    fixture.script.release();
    granting.await.unwrap().unwrap();
    assert_eq!(told(&importing.await.unwrap().unwrap()), (0, 1, 0, 0));
    assert_eq!(access(&fixture.session).await, "access-1");
}

/// 1. A row is about to be claimed. 2. Its user signs in here. 3. The claim is written. The grant
/// comes after it, so it stands.
#[tokio::test]
async fn a_grant_during_an_import_of_its_session_stands() {
    let fixture = fixture().await;
    fixture.faults.hold(StoreCall::Claim);
    let importing = importing(&fixture, one(&fixture));
    fixture.faults.held(StoreCall::Claim, 1).await;
    let granted = fixture.session.clone();
    let granting = tokio::spawn(async move { granted.establish(()).await.map(drop) });
    fixture.clock.advance(SECOND).await;
    fixture.faults.release(StoreCall::Claim);
    granting.await.unwrap().unwrap();
    assert_eq!(told(&importing.await.unwrap().unwrap()), (1, 0, 0, 0));
    let token = fixture.token().await.unwrap();
    assert_eq!((token.expose_secret(), token.epoch()), ("access-1", 2));
}

/// 1. A row is read as vacant. 2. Another process establishes its session. 3. The row is claimed.
#[tokio::test]
async fn an_import_yields_to_what_another_process_established_meanwhile() {
    let fixture = fixture().await;
    let other = ScriptedFixture::start(&fixture.store, &fixture.clock).await;
    fixture.faults.hold(StoreCall::Claim);
    let importing = importing(&fixture, one(&fixture));
    fixture.faults.held(StoreCall::Claim, 1).await;
    let _ = other.session.establish(()).await.unwrap();
    fixture.faults.release(StoreCall::Claim);
    assert_eq!(told(&importing.await.unwrap().unwrap()), (0, 1, 0, 0));
    assert_eq!(access(&fixture.session).await, "access-1");
    // It does not replace a session that another process is establishing either.
    other.script.establish(session_warden::testing::Reply::Hold);
    let (name, granted) = ("another", session(&other.supervisor, "another"));
    let granting = tokio::spawn(async move { granted.establish(()).await.map(drop) });
    other.script.held(1).await;
    let report = import(&fixture, stream::iter([row(name, wall(&fixture))])).await.unwrap();
    let [(refused, error)] = &report.refused[..] else { panic!("{report:?}") };
    assert_eq!((refused, error.kind()), (&key(name), ErrorKind::RetryLater));
    other.script.release();
    granting.await.unwrap().unwrap();
}

#[tokio::test]
async fn whoever_believed_the_session_vacant_finds_the_imported_one() {
    let fixture = fixture().await;
    assert_eq!(kind(fixture.token().await), ErrorKind::NotEstablished);
    // Its slot stays, because a caller waits in it.
    fixture.faults.hold(StoreCall::Claim);
    let importing = importing(&fixture, one(&fixture));
    fixture.faults.held(StoreCall::Claim, 1).await;
    let session = fixture.session.clone();
    let waiting = tokio::spawn(async move { session.permission_token().await });
    fixture.clock.advance(SECOND).await;
    fixture.faults.release(StoreCall::Claim);
    assert_eq!(waiting.await.unwrap().unwrap().expose_secret(), "access-of-device");
    assert_eq!(told(&importing.await.unwrap().unwrap()), (1, 0, 0, 0));
}

#[tokio::test]
async fn a_row_that_the_store_refuses_is_named_and_can_be_imported_again() {
    let fixture = fixture().await;
    for (failing, after) in [
        (StoreCall::Load, false),
        (StoreCall::Claim, false),
        (StoreCall::Commit, false),
        (StoreCall::Claim, true),
    ] {
        match after {
            false => fixture.faults.fail_next(failing, 1),
            true => fixture.faults.fail_after_writing(failing, 1),
        }
        let report = import(&fixture, one(&fixture)).await.unwrap();
        let [(refused, error)] = &report.refused[..] else { panic!("{failing:?}: {report:?}") };
        assert_eq!((refused, error.kind()), (&key("device"), ErrorKind::Store), "{failing:?}");
        assert!(error.is_transient());
        fixture.clock.advance(SECOND).await;
        assert_eq!(fixture.supervisor.snapshot().unsaved, 0, "it is not owed");
    }
    assert_eq!(told(&import(&fixture, one(&fixture)).await.unwrap()), (1, 0, 0, 0));
    assert_eq!(fixture.stored().await, (1, "refresh-of-device".to_owned()));
}

#[tokio::test]
async fn a_row_that_was_written_and_not_acknowledged_is_found_by_everybody() {
    let fixture = fixture().await;
    fixture.faults.fail_after_writing(StoreCall::Commit, 1);
    let report = import(&fixture, one(&fixture)).await.unwrap();
    assert_eq!(told(&report), (0, 0, 1, 0));
    assert_eq!(access(&fixture.session).await, "access-of-device");
    assert_eq!(told(&import(&fixture, one(&fixture)).await.unwrap()), (0, 1, 0, 0));
}

#[tokio::test]
async fn a_row_without_tokens_is_refused_and_the_others_are_not() {
    let fixture = fixture().await;
    let empty = (key("empty"), Tokens::new(()));
    let good = row("device", wall(&fixture));
    let report = import(&fixture, stream::iter([empty, good])).await.unwrap();
    assert_eq!(told(&report), (1, 0, 1, 0));
    let (refused, error) = &report.refused[0];
    assert_eq!((refused, error.kind()), (&key("empty"), ErrorKind::InvalidInput));
    let many = (0..NAMED_REFUSALS + 7).map(|n| (key(&format!("empty-{n}")), Tokens::new(())));
    let report = import(&fixture, stream::iter(many)).await.unwrap();
    assert_eq!(told(&report), (0, 0, NAMED_REFUSALS, 7));
}

#[tokio::test]
async fn one_row_twice_is_one_session() {
    let fixture = fixture().await;
    let twice = [row("device", wall(&fixture)), row("device", wall(&fixture))];
    assert_eq!(told(&import(&fixture, stream::iter(twice)).await.unwrap()), (1, 1, 0, 0));
    assert_eq!(fixture.record().await.generation, 1);
}

#[tokio::test]
async fn an_import_into_a_store_that_is_down_stops_early() {
    let fixture = fixture().await;
    fixture.faults.fail_always(StoreCall::Load, true);
    let failed = import(&fixture, rows(&fixture, 10_000)).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Store);
    let most = u64::from(IMPORT_FAILURES) + ROWS_AT_ONCE as u64;
    assert!(fixture.faults.count(StoreCall::Load) <= most);
    fixture.faults.fail_always(StoreCall::Load, false);
    fixture.faults.fail_next(StoreCall::Load, IMPORT_FAILURES - 1);
    let report = import(&fixture, rows(&fixture, 500)).await.unwrap();
    let failed = IMPORT_FAILURES as usize - 1;
    assert_eq!(told(&report), (500 - failed as u64, 0, failed, 0), "a short failure");
}

#[tokio::test]
async fn an_import_that_is_dropped_leaves_what_was_imported_and_ends_what_was_begun() {
    let fixture = fixture().await;
    let importing = importing(&fixture, rows(&fixture, 100).chain(stream::pending()));
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.store.len(), 100);
    importing.abort();
    fixture.faults.hold(StoreCall::Claim);
    let wall = wall(&fixture);
    let more = stream::iter(0..100).map(move |number| row(&format!("more-{number}"), wall));
    let importing = self::importing(&fixture, more);
    fixture.faults.held(StoreCall::Claim, ROWS_AT_ONCE as u64).await;
    importing.abort();
    assert!(Chaos::of(&fixture.supervisor).kill_supervisor());
    fixture.clock.advance(SECOND).await;
    fixture.faults.release(StoreCall::Claim);
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.store.len(), 100 + ROWS_AT_ONCE);
    let session = session(&fixture.supervisor, "more-0");
    assert_eq!(access(&session).await, "access-of-more-0");
}

#[tokio::test]
async fn an_import_after_a_shutdown_is_told_so() {
    let fixture = fixture().await;
    assert!(fixture.supervisor.shutdown(SECOND).await.is_clean());
    let failed = import(&fixture, rows(&fixture, 10)).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::ShuttingDown);
    assert!(fixture.store.is_empty());
}

#[tokio::test]
async fn an_import_that_was_cut_off_by_a_crash_is_made_good_after_the_lease() {
    let fixture = fixture().await;
    fixture.faults.hold(StoreCall::Commit);
    let importing = importing(&fixture, one(&fixture));
    fixture.faults.held(StoreCall::Commit, 1).await;
    assert!(fixture.record().await.lease.is_some());
    let later = ScriptedFixture::start(&fixture.store, &fixture.clock).await;
    let report = import(&later, one(&later)).await.unwrap();
    assert_eq!(report.refused[0].1.kind(), ErrorKind::RetryLater);
    later.clock.advance(21 * SECOND).await;
    assert_eq!(told(&import(&later, one(&later)).await.unwrap()), (1, 0, 0, 0));
    assert_eq!(access(&later.session).await, "access-of-device");
    drop(importing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn imports_that_race_grants_leave_every_grant_standing() {
    let fixture = fixture().await;
    let sessions: Sessions<ScriptedProvider> = fixture.supervisor.sessions("p").unwrap();
    let granting: Vec<_> = (0..200)
        .map(|number| {
            let session = sessions.session(key(&format!("device-{number:04}")));
            tokio::spawn(async move { session.establish(()).await.map(drop) })
        })
        .collect();
    let report = sessions.import(rows(&fixture, 200)).await.unwrap();
    assert_eq!((report.adopted + report.already_there, report.refused.len()), (200, 0));
    for granted in granting {
        granted.await.unwrap().unwrap();
    }
    for number in 0..200 {
        let session = session(&fixture.supervisor, &format!("device-{number:04}"));
        let token = session.permission_token().await.unwrap();
        assert!(!token.expose_secret().starts_with("access-of"), "{number} was replaced");
    }
    assert_eq!(fixture.script.establishes(), 200);
}
