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

use crate::scene::{Scene, kind};
use crate::support::{LIFE, SECOND, key, session, until};

async fn scene() -> Scene {
    Scene::start(&MemoryStore::new(), &ManualClock::new()).await
}

fn wall(scene: &Scene) -> SystemTime {
    scene.clock.now().wall
}

fn row(name: &str, wall: SystemTime) -> (SessionKey, Tokens) {
    let tokens = Tokens::new(())
        .access(format!("access-of-{name}"), Some(wall + LIFE))
        .refresh(format!("refresh-of-{name}"), Some(wall + 100 * LIFE));
    (key(name), tokens)
}

fn rows(scene: &Scene, many: usize) -> impl Stream<Item = (SessionKey, Tokens)> + Send + 'static {
    let wall = wall(scene);
    stream::iter(0..many).map(move |number| row(&format!("device-{number:04}"), wall))
}

fn one(scene: &Scene) -> impl Stream<Item = (SessionKey, Tokens)> + Send + 'static {
    stream::iter([row("device", wall(scene))])
}

async fn import(
    scene: &Scene,
    rows: impl Stream<Item = (SessionKey, Tokens)> + Send,
) -> Result<ImportReport, Error> {
    let sessions: Sessions<ScriptedProvider> = scene.supervisor.sessions("p").unwrap();
    until(&scene.clock, sessions.import(rows)).await
}

fn importing(
    scene: &Scene,
    rows: impl Stream<Item = (SessionKey, Tokens)> + Send + 'static,
) -> JoinHandle<Result<ImportReport, Error>> {
    let sessions: Sessions<ScriptedProvider> = scene.supervisor.sessions("p").unwrap();
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
    let mut scene = scene().await;
    let report = import(&scene, rows(&scene, 500)).await.unwrap();
    assert_eq!(told(&report), (500, 0, 0, 0));
    scene.clock.advance(SECOND).await;
    assert_eq!((scene.supervisor.snapshot().sessions, scene.store.len()), (0, 500));
    assert_eq!(scene.news(), [], "a report is enough");
    let session = session(&scene.supervisor, "device-0123");
    assert_eq!(access(&session).await, "access-of-device-0123");
    assert_eq!((scene.script.establishes(), scene.script.refreshes()), (0, 0));
    let asked = scene.faults.count(StoreCall::Claim);
    let again = import(&scene, rows(&scene, 500)).await.unwrap();
    assert_eq!(told(&again), (0, 500, 0, 0));
    assert_eq!(scene.faults.count(StoreCall::Claim), asked, "nothing is written for them");
}

#[tokio::test]
async fn an_import_that_runs_again_replaces_and_brings_back_nothing() {
    let scene = scene().await;
    import(&scene, rows(&scene, 4)).await.unwrap();
    let of = |number: usize| session(&scene.supervisor, &format!("device-{number:04}"));
    let (refreshed, revoked, signed_in) = (of(0), of(1), of(2));
    refreshed.refresh().await.unwrap();
    revoked.revoke().await.unwrap();
    let _ = signed_in.establish(()).await.unwrap();
    assert_eq!(told(&import(&scene, rows(&scene, 4)).await.unwrap()), (0, 4, 0, 0));
    assert_eq!(access(&refreshed).await, "access-1");
    assert_eq!(access(&signed_in).await, "access-3", "after the revocation's own number");
    assert_eq!(kind(revoked.permission_token().await), ErrorKind::NotEstablished);
    // Also where nothing is in memory.
    let later = Scene::start(&scene.store, &scene.clock).await;
    assert_eq!(told(&import(&later, rows(&later, 4)).await.unwrap()), (0, 4, 0, 0));
    assert_eq!(access(&session(&later.supervisor, "device-0000")).await, "access-1");
    assert_eq!(later.supervisor.snapshot().sessions, 1);
}

#[tokio::test]
async fn the_end_of_an_imported_refresh_token_is_reported_although_nobody_calls() {
    let mut scene = scene().await;
    let tokens = Tokens::new(()).refresh("refresh-own", Some(wall(&scene) + 10 * LIFE));
    import(&scene, stream::iter([(key("device"), tokens)])).await.unwrap();
    assert!(scene.record().await.due_at.is_some());
    scene.clock.advance(5 * LIFE + SECOND).await;
    assert!(matches!(scene.news()[..], [EventKind::RefreshExpiring { .. }]));
    scene.clock.advance(5 * LIFE).await;
    assert_eq!(scene.news(), [EventKind::Lost(LostReason::RefreshExpired)]);
}

/// 1. A grant is at the server. 2. Its session is to be imported. 3. The answer comes.
#[tokio::test]
async fn an_import_during_a_grant_waits_for_it_and_finds_it() {
    let scene = scene().await;
    scene.script.establish(session_warden::testing::Reply::Hold);
    let granted = scene.session.clone();
    let granting = tokio::spawn(async move { granted.establish(()).await.map(drop) });
    scene.script.held(1).await;
    let importing = importing(&scene, one(&scene));
    scene.clock.advance(SECOND).await;
    assert!(!importing.is_finished());
    scene.script.release();
    granting.await.unwrap().unwrap();
    assert_eq!(told(&importing.await.unwrap().unwrap()), (0, 1, 0, 0));
    assert_eq!(access(&scene.session).await, "access-1");
}

/// 1. A row is about to be claimed. 2. Its user signs in here. 3. The claim is written. The grant
/// comes after it, so it stands.
#[tokio::test]
async fn a_grant_during_an_import_of_its_session_stands() {
    let scene = scene().await;
    scene.faults.hold(StoreCall::Claim);
    let importing = importing(&scene, one(&scene));
    scene.faults.held(StoreCall::Claim, 1).await;
    let granted = scene.session.clone();
    let granting = tokio::spawn(async move { granted.establish(()).await.map(drop) });
    scene.clock.advance(SECOND).await;
    scene.faults.release(StoreCall::Claim);
    granting.await.unwrap().unwrap();
    assert_eq!(told(&importing.await.unwrap().unwrap()), (1, 0, 0, 0));
    let token = scene.token().await.unwrap();
    assert_eq!((token.expose_secret(), token.epoch()), ("access-1", 2));
}

/// 1. A row is read as vacant. 2. Another process establishes its session. 3. The row is claimed.
#[tokio::test]
async fn an_import_yields_to_what_another_process_established_meanwhile() {
    let scene = scene().await;
    let other = Scene::start(&scene.store, &scene.clock).await;
    scene.faults.hold(StoreCall::Claim);
    let importing = importing(&scene, one(&scene));
    scene.faults.held(StoreCall::Claim, 1).await;
    let _ = other.session.establish(()).await.unwrap();
    scene.faults.release(StoreCall::Claim);
    assert_eq!(told(&importing.await.unwrap().unwrap()), (0, 1, 0, 0));
    assert_eq!(access(&scene.session).await, "access-1");
    // Nor does it take what another process is about to establish.
    other.script.establish(session_warden::testing::Reply::Hold);
    let (name, granted) = ("another", session(&other.supervisor, "another"));
    let granting = tokio::spawn(async move { granted.establish(()).await.map(drop) });
    other.script.held(1).await;
    let report = import(&scene, stream::iter([row(name, wall(&scene))])).await.unwrap();
    let [(refused, error)] = &report.refused[..] else { panic!("{report:?}") };
    assert_eq!((refused, error.kind()), (&key(name), ErrorKind::RetryLater));
    other.script.release();
    granting.await.unwrap().unwrap();
}

#[tokio::test]
async fn whoever_believed_the_session_vacant_finds_the_imported_one() {
    let scene = scene().await;
    assert_eq!(kind(scene.token().await), ErrorKind::NotEstablished);
    // Its slot stays, because somebody waits in it.
    scene.faults.hold(StoreCall::Claim);
    let importing = importing(&scene, one(&scene));
    scene.faults.held(StoreCall::Claim, 1).await;
    let session = scene.session.clone();
    let waiting = tokio::spawn(async move { session.permission_token().await });
    scene.clock.advance(SECOND).await;
    scene.faults.release(StoreCall::Claim);
    assert_eq!(waiting.await.unwrap().unwrap().expose_secret(), "access-of-device");
    assert_eq!(told(&importing.await.unwrap().unwrap()), (1, 0, 0, 0));
}

#[tokio::test]
async fn a_row_that_the_store_refuses_is_named_and_can_be_imported_again() {
    let scene = scene().await;
    for (failing, after) in [
        (StoreCall::Load, false),
        (StoreCall::Claim, false),
        (StoreCall::Commit, false),
        (StoreCall::Claim, true),
    ] {
        match after {
            false => scene.faults.fail_next(failing, 1),
            true => scene.faults.fail_after_writing(failing, 1),
        }
        let report = import(&scene, one(&scene)).await.unwrap();
        let [(refused, error)] = &report.refused[..] else { panic!("{failing:?}: {report:?}") };
        assert_eq!((refused, error.kind()), (&key("device"), ErrorKind::Store), "{failing:?}");
        assert!(error.is_transient());
        scene.clock.advance(SECOND).await;
        assert_eq!(scene.supervisor.snapshot().unsaved, 0, "it is not owed");
    }
    assert_eq!(told(&import(&scene, one(&scene)).await.unwrap()), (1, 0, 0, 0));
    assert_eq!(scene.stored().await, (1, "refresh-of-device".to_owned()));
}

#[tokio::test]
async fn a_row_that_was_written_and_not_acknowledged_is_found_by_everybody() {
    let scene = scene().await;
    scene.faults.fail_after_writing(StoreCall::Commit, 1);
    let report = import(&scene, one(&scene)).await.unwrap();
    assert_eq!(told(&report), (0, 0, 1, 0));
    assert_eq!(access(&scene.session).await, "access-of-device");
    assert_eq!(told(&import(&scene, one(&scene)).await.unwrap()), (0, 1, 0, 0));
}

#[tokio::test]
async fn a_row_without_tokens_is_refused_and_the_others_are_not() {
    let scene = scene().await;
    let empty = (key("empty"), Tokens::new(()));
    let good = row("device", wall(&scene));
    let report = import(&scene, stream::iter([empty, good])).await.unwrap();
    assert_eq!(told(&report), (1, 0, 1, 0));
    let (refused, error) = &report.refused[0];
    assert_eq!((refused, error.kind()), (&key("empty"), ErrorKind::InvalidInput));
    let many = (0..NAMED_REFUSALS + 7).map(|n| (key(&format!("empty-{n}")), Tokens::new(())));
    let report = import(&scene, stream::iter(many)).await.unwrap();
    assert_eq!(told(&report), (0, 0, NAMED_REFUSALS, 7));
}

#[tokio::test]
async fn one_row_twice_is_one_session() {
    let scene = scene().await;
    let twice = [row("device", wall(&scene)), row("device", wall(&scene))];
    assert_eq!(told(&import(&scene, stream::iter(twice)).await.unwrap()), (1, 1, 0, 0));
    assert_eq!(scene.record().await.generation, 1);
}

#[tokio::test]
async fn an_import_into_a_store_that_is_down_stops_early() {
    let scene = scene().await;
    scene.faults.fail_always(StoreCall::Load, true);
    let failed = import(&scene, rows(&scene, 10_000)).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Store);
    let most = u64::from(IMPORT_FAILURES) + ROWS_AT_ONCE as u64;
    assert!(scene.faults.count(StoreCall::Load) <= most);
    scene.faults.fail_always(StoreCall::Load, false);
    scene.faults.fail_next(StoreCall::Load, IMPORT_FAILURES - 1);
    let report = import(&scene, rows(&scene, 500)).await.unwrap();
    let failed = IMPORT_FAILURES as usize - 1;
    assert_eq!(told(&report), (500 - failed as u64, 0, failed, 0), "a short failure");
}

#[tokio::test]
async fn an_import_that_is_dropped_leaves_what_was_imported_and_ends_what_was_begun() {
    let scene = scene().await;
    let importing = importing(&scene, rows(&scene, 100).chain(stream::pending()));
    scene.clock.advance(SECOND).await;
    assert_eq!(scene.store.len(), 100);
    importing.abort();
    scene.faults.hold(StoreCall::Claim);
    let wall = wall(&scene);
    let more = stream::iter(0..100).map(move |number| row(&format!("more-{number}"), wall));
    let importing = self::importing(&scene, more);
    scene.faults.held(StoreCall::Claim, ROWS_AT_ONCE as u64).await;
    importing.abort();
    assert!(Chaos::of(&scene.supervisor).kill_supervisor());
    scene.clock.advance(SECOND).await;
    scene.faults.release(StoreCall::Claim);
    scene.clock.advance(SECOND).await;
    assert_eq!(scene.store.len(), 100 + ROWS_AT_ONCE);
    let session = session(&scene.supervisor, "more-0");
    assert_eq!(access(&session).await, "access-of-more-0");
}

#[tokio::test]
async fn an_import_after_a_shutdown_is_told_so() {
    let scene = scene().await;
    assert!(scene.supervisor.shutdown(SECOND).await.is_clean());
    let failed = import(&scene, rows(&scene, 10)).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::ShuttingDown);
    assert!(scene.store.is_empty());
}

#[tokio::test]
async fn an_import_that_was_cut_off_by_a_crash_is_made_good_after_the_lease() {
    let scene = scene().await;
    scene.faults.hold(StoreCall::Commit);
    let importing = importing(&scene, one(&scene));
    scene.faults.held(StoreCall::Commit, 1).await;
    assert!(scene.record().await.lease.is_some());
    let later = Scene::start(&scene.store, &scene.clock).await;
    let report = import(&later, one(&later)).await.unwrap();
    assert_eq!(report.refused[0].1.kind(), ErrorKind::RetryLater);
    later.clock.advance(21 * SECOND).await;
    assert_eq!(told(&import(&later, one(&later)).await.unwrap()), (1, 0, 0, 0));
    assert_eq!(access(&later.session).await, "access-of-device");
    drop(importing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn imports_that_race_grants_leave_every_grant_standing() {
    let scene = scene().await;
    let sessions: Sessions<ScriptedProvider> = scene.supervisor.sessions("p").unwrap();
    let granting: Vec<_> = (0..200)
        .map(|number| {
            let session = sessions.session(key(&format!("device-{number:04}")));
            tokio::spawn(async move { session.establish(()).await.map(drop) })
        })
        .collect();
    let report = sessions.import(rows(&scene, 200)).await.unwrap();
    assert_eq!((report.adopted + report.already_there, report.refused.len()), (200, 0));
    for granted in granting {
        granted.await.unwrap().unwrap();
    }
    for number in 0..200 {
        let session = session(&scene.supervisor, &format!("device-{number:04}"));
        let token = session.permission_token().await.unwrap();
        assert!(!token.expose_secret().starts_with("access-of"), "{number} was replaced");
    }
    assert_eq!(scene.script.establishes(), 200);
}
