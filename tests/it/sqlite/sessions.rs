//! Sessions on a file that fails (locked, full, damaged, without its key), and on a good file while
//! callers, actors or the key are lost.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use session_warden::provider::Rotation;
use session_warden::seal::MasterKey;
use session_warden::session::State;
use session_warden::store::sqlite::SqliteStore;
use session_warden::store::{Intent, Phase, RecordFilter, SealFault, Store};
use session_warden::testing::{Chaos, ManualClock, Reply, ScriptedProvider};
use session_warden::{Error, ErrorKind, Session};

use super::store_folder::{Folder, Process, delete, exchange, found, id, ring};
use crate::support::{LIFE, SECOND, callers, session, until};

const MIB: u64 = 1024 * 1024;

async fn established(folder: &Folder, clock: &ManualClock) -> Process {
    let process = Process::open(folder, clock, Rotation::Strict).await;
    let _ = process.session.establish(()).await.unwrap();
    process
}

/// Asks for a token until there is one, while time goes on.
async fn token_in_time(clock: &ManualClock, session: &Session<ScriptedProvider>) -> u64 {
    for _ in 0..1_000 {
        match until(clock, session.permission_token()).await {
            Ok(token) => return token.generation(),
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
        clock.advance(SECOND).await;
    }
    panic!("there is no token");
}

/// Why a record cannot be opened.
fn seal_fault(error: &Error) -> Option<SealFault> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(fault) = cause.downcast_ref() {
            return Some(*fault);
        }
        next = cause.source();
    }
    None
}

#[tokio::test]
async fn while_the_file_is_locked_nothing_is_sent_and_live_tokens_are_served() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let process = established(&folder, &clock).await;
    let other = rusqlite::Connection::open(folder.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    clock.advance(LIFE / 2).await;
    let refused = until(&clock, process.session.refresh()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Store);
    assert_eq!(process.session.permission_token().await.unwrap().generation(), 1);
    clock.advance(LIFE / 2).await;
    let ended = until(&clock, process.session.permission_token()).await.unwrap_err();
    assert!(matches!(ended.kind(), ErrorKind::Store | ErrorKind::RetryLater), "{ended:?}");
    assert_eq!(process.script.refreshes(), 0, "nothing was sent");
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(token_in_time(&clock, &process.session).await, 2);
    assert_eq!(process.script.refreshes(), 1);
}

#[tokio::test]
async fn without_room_no_refresh_is_sent_until_there_is_room_again() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let builder = SqliteStore::builder(folder.database()).max_bytes(4 * MIB + 128 * 1024);
    let store = builder.open().unwrap();
    let process = Process::on(store.clone(), ring(1), &clock, Rotation::Strict).await;
    let _ = process.session.establish(()).await.unwrap();
    let mut others = 0;
    while exchange(&store, &id(&format!("other-{others}")), Intent::Establish, "x").await.is_ok() {
        others += 1;
        assert!(others < 1000, "it is never full");
    }
    for _ in 0..3 {
        let refused = until(&clock, process.session.refresh()).await.unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::Store | ErrorKind::RetryLater), "{refused:?}");
        assert_eq!(process.session.permission_token().await.unwrap().generation(), 1);
        clock.advance(SECOND).await;
    }
    assert_eq!(process.script.refreshes(), 0, "nothing was sent");
    for other in 0..others {
        delete(&store, &id(&format!("other-{other}"))).await;
    }
    clock.advance(LIFE).await;
    assert_eq!(token_in_time(&clock, &process.session).await, 2);
}

/// How large a file may grow by what this process writes; any other write is an error of the disk.
#[cfg(target_os = "linux")]
fn limit(bytes: Option<u64>) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, rustix::process::Rlimit { current: bytes, ..limit }).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fails_stops_refreshes_and_not_the_serving_until_it_works_again() {
    const VARIABLE: &str = "SESSION_WARDEN_TEST_OF_THE_DISK";
    const NAME: &str = concat!(
        "sqlite::sessions::",
        "a_disk_that_fails_stops_refreshes_and_not_the_serving_until_it_works_again"
    );
    if std::env::var_os(VARIABLE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        return runtime.block_on(on_a_disk_that_fails());
    }
    // The limit is for the whole process, and kills it unless it ignores the signal.
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME])
        .env(VARIABLE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[cfg(target_os = "linux")]
async fn on_a_disk_that_fails() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let process = established(&folder, &clock).await;
    limit(Some(0));
    let refused = until(&clock, process.session.refresh()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Store);
    assert_eq!(process.session.permission_token().await.unwrap().generation(), 1);
    assert_eq!(process.script.refreshes(), 0, "nothing was sent");
    limit(None);
    clock.advance(LIFE).await;
    assert_eq!(token_in_time(&clock, &process.session).await, 2);

    // And between the claim and the response: the new tokens are handed out while unsaved, and
    // saved later.
    process.script.refresh(Reply::Hold);
    let refreshing = tokio::spawn({
        let session = process.session.clone();
        async move { session.refresh().await }
    });
    process.script.held(1).await;
    limit(Some(0));
    process.script.release();
    assert_eq!(until(&clock, refreshing).await.unwrap().unwrap().generation(), 3);
    assert!(!process.session.status().await.unwrap().saved);
    limit(None);
    assert!(until(&clock, process.supervisor.shutdown(60 * SECOND)).await.is_clean());
    process.die().await;
    let next = Process::open(&folder, &clock, Rotation::Strict).await;
    assert_eq!(next.session.permission_token().await.unwrap().generation(), 3);
}

/// All that lies in a session's row, as text.
fn row(folder: &Folder, tenant: &str, name: &str) -> String {
    let file = rusqlite::Connection::open(folder.database()).unwrap();
    let sql =
        "SELECT epoch || ' ' || generation || ' ' || phase || ' ' || key_id || ' ' || hex(sealed)
        FROM session WHERE tenant = ?1 AND token_id = ?2";
    file.query_row(sql, [tenant, name], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_record_that_is_torn_swapped_or_anothers_fails_its_session_alone_and_stays() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let first = Process::open(&folder, &clock, Rotation::Strict).await;
    let names = ["torn", "flipped", "swapped", "moved", "rekeyed", "whole"];
    for name in names {
        let _ = session(&first.supervisor, name).establish(()).await.unwrap();
    }
    let stranger = session_warden::SessionKey::new("stranger", "device").unwrap();
    let sessions = first.supervisor.sessions::<ScriptedProvider>("p").unwrap();
    let _ = sessions.session(stranger).establish(()).await.unwrap();
    first.die().await;
    let file = rusqlite::Connection::open(folder.database()).unwrap();
    let of = |whose: &str| format!("(SELECT sealed FROM session WHERE {whose})");
    for (sealed, name) in [
        ("substr(sealed, 1, 100)".to_owned(), "torn"),
        (
            "CAST(substr(sealed, 1, 60) || x'00' || substr(sealed, 62) AS BLOB)".to_owned(),
            "flipped",
        ),
        (of("token_id = 'whole'"), "swapped"),
        (of("tenant = 'stranger'"), "moved"),
        ("CAST(x'0100000009' || substr(sealed, 6) AS BLOB)".to_owned(), "rekeyed"),
    ] {
        let sql = format!("UPDATE session SET sealed = {sealed} WHERE token_id = ?1");
        assert_eq!(file.execute(&sql, [name]).unwrap(), 1);
    }
    drop(file);

    let second = Process::open(&folder, &clock, Rotation::Strict).await;
    for name in &names[..5] {
        let (before, session) = (row(&folder, "tenant", name), session(&second.supervisor, name));
        let expected = match *name {
            "rekeyed" => SealFault::KeyMissing(9),
            _ => SealFault::Altered,
        };
        for _ in 0..3 {
            let failed = session.permission_token().await.unwrap_err();
            assert_eq!((failed.kind(), seal_fault(&failed)), (ErrorKind::Store, Some(expected)));
            assert_eq!(session.refresh().await.unwrap_err().kind(), ErrorKind::Store, "{name}");
            assert_eq!(session.establish(()).await.unwrap_err().kind(), ErrorKind::Store, "{name}");
            clock.advance(LIFE).await;
        }
        assert_eq!(row(&folder, "tenant", name), before);
    }
    assert_eq!((second.script.establishes(), second.script.refreshes()), (0, 0));
    assert_eq!(session(&second.supervisor, "whole").refresh().await.unwrap().generation(), 2);
    // The way out, where the record is given up.
    let torn = session(&second.supervisor, "torn");
    torn.forget().await.unwrap();
    let _ = torn.establish(()).await.unwrap();
}

#[tokio::test]
async fn sessions_whose_key_went_too_early_fail_and_heal_when_it_is_back() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    established(&folder, &clock).await.die().await;
    let before = row(&folder, "tenant", "device");
    let store = SqliteStore::open(folder.database()).unwrap();
    let second = Process::on(store, ring(2), &clock, Rotation::Strict).await;
    for _ in 0..3 {
        let failed = second.session.permission_token().await.unwrap_err();
        let expected = (ErrorKind::Store, Some(SealFault::KeyMissing(1)));
        assert_eq!((failed.kind(), seal_fault(&failed)), expected);
        assert_eq!(second.session.refresh().await.unwrap_err().kind(), ErrorKind::Store);
        clock.advance(SECOND).await;
    }
    let other = session(&second.supervisor, "other");
    let _ = other.establish(()).await.unwrap();
    assert_eq!(other.refresh().await.unwrap().generation(), 2, "the others go on");
    let listed = second.store.list(&RecordFilter::default(), None, 3).await.unwrap();
    let phases: Vec<_> = listed.iter().map(|listed| listed.stored.record.phase).collect();
    assert_eq!(phases, [Phase::Active; 2], "a list opens nothing");
    assert_eq!(row(&folder, "tenant", "device"), before, "no row is deleted");

    let both = ring(2).with_opening(1, MasterKey::from([1; 32])).unwrap();
    second.supervisor.keys().reload(both);
    assert_eq!(token_in_time(&clock, &second.session).await, 1);
    assert_eq!(second.session.refresh().await.unwrap().generation(), 2);
}

/// Lets go of a future after it was polled so often. None if it did not end by then.
struct Leaving<F>(Pin<Box<F>>, usize);

impl<F: Future> Future for Leaving<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.1 -= 1;
        match self.0.as_mut().poll(context) {
            Poll::Pending if self.1 > 0 => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
            Poll::Ready(done) => Poll::Ready(Some(done)),
        }
    }
}

/// At which await a call is left, from the first to the last.
async fn left_at_every_await<T, F: Future<Output = T>>(
    process: &Process,
    clock: &ManualClock,
    call: impl Fn(Session<ScriptedProvider>) -> F,
) {
    for polls in 1..100 {
        let name = format!("device-{}-{polls}", process.script.establishes());
        let session = session(&process.supervisor, &name);
        let _ = session.establish(()).await.unwrap();
        clock.advance(LIFE + SECOND).await;
        let asked = |script: &session_warden::testing::Script| {
            script.establishes() + script.refreshes() + script.revocations()
        };
        let before = asked(&process.script);
        let leaving = Leaving(Box::pin(call(session.clone())), polls);
        // Polled when it is woken and not beside it, so that a slow disk makes no awaits.
        let mut leaving = FuturesUnordered::from_iter([leaving]);
        let left = until(clock, leaving.next()).await.flatten();
        // The exchange ends, and somebody else is served with what it brought. A grant that was
        // left before its turn is not sent; then that one's refresh is the one exchange.
        clock.advance(Duration::ZERO).await;
        let next = until(clock, session.permission_token()).await;
        let record = found(&process.store, session.id()).await;
        match next {
            Ok(token) => {
                assert_eq!((record.epoch, record.generation), (token.epoch(), token.generation()))
            }
            Err(error) => {
                assert_eq!(
                    (error.kind(), record.phase),
                    (ErrorKind::NotEstablished, Phase::Closed)
                );
            }
        }
        assert_eq!(asked(&process.script) - before, 1, "left after {polls} polls");
        if left.is_some() {
            assert!(polls > 1, "it has an await");
            return;
        }
    }
    panic!("it does not end");
}

#[tokio::test]
async fn a_caller_that_leaves_at_any_await_leaves_an_exchange_that_ends_and_is_stored() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let process = Process::open(&folder, &clock, Rotation::Strict).await;
    left_at_every_await(&process, &clock, |s| async move { s.permission_token().await }).await;
    left_at_every_await(&process, &clock, |s| async move { s.refresh().await }).await;
    left_at_every_await(&process, &clock, |s| async move { s.establish(()).await }).await;
    left_at_every_await(&process, &clock, |s| async move { s.revoke().await }).await;
    assert_eq!(process.script.most_at_once(), 1);
}

#[tokio::test]
async fn a_storm_of_dying_actors_does_not_repeat_a_refresh_that_is_out() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let process = established(&folder, &clock).await;
    clock.advance(LIFE + SECOND).await;
    process.script.refresh(Reply::Hold);
    let asking = callers(50, || {
        let session = process.session.clone();
        async move { session.permission_token().await }
    });
    process.script.held(1).await;
    for _ in 0..8 {
        let _ = Chaos::of(&process.supervisor).kill_session(process.session.id());
        let _ = Chaos::of(&process.supervisor).kill_supervisor();
        assert!(process.record().await.lease.is_some());
        clock.advance(SECOND).await;
    }
    assert!(process.supervisor.snapshot().supervisor_restarts > 1, "nobody died");
    process.script.release();
    let served = until(&clock, asking.join_all()).await;
    let served: Vec<_> = served.into_iter().map(|token| token.unwrap().generation()).collect();
    assert_eq!(served, [2; 50]);
    assert_eq!((process.script.refreshes(), process.script.most_at_once()), (1, 1));
    assert_eq!(process.session.status().await.unwrap().state, State::Active);
    process.die().await;
    let next = Process::open(&folder, &clock, Rotation::Strict).await;
    assert_eq!(next.session.permission_token().await.unwrap().generation(), 2);
}
