//! Start, stop, and the life of sessions between them.

use std::time::Duration;

use session_warden::error::Refusal;
use session_warden::event::EventKind;
use session_warden::policy::{Policy, RefreshPolicy, When};
use session_warden::provider::{FailureClass, Registration};
use session_warden::session::State;
use session_warden::testing::{ManualClock, Reply, Script, ScriptedProvider};
use session_warden::{ErrorKind, Establishment, Session, Supervisor};
use tokio_stream::StreamExt;

use crate::fixtures::{established, fixture, registered};
use crate::support::{LIFE, SECOND, callers, key, session, until};

#[tokio::test]
async fn two_supervisors_with_equal_keys_do_not_meet() {
    let (one, other) = (established().await, fixture().await);
    assert_eq!(one.session.id(), other.session.id());
    let error = other.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEstablished);
    assert!(other.chaos().kill_supervisor());
    one.session.refresh().await.unwrap();
    assert_eq!(one.supervisor.snapshot().supervisor_restarts, 0);
}

#[tokio::test]
async fn a_shutdown_waits_for_exchanges_and_then_only_fresh_tokens_are_served() {
    let mut fixture = established().await;
    let refreshing = fixture.held_refresh().await;
    let supervisor = fixture.supervisor.clone();
    let stopping = tokio::spawn(async move { supervisor.shutdown(20 * SECOND).await });
    fixture.clock.advance(SECOND).await;
    assert!(!stopping.is_finished());
    let late = session(&fixture.supervisor, "late").establish(()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::ShuttingDown);
    fixture.script.release();
    assert_eq!(refreshing.await.unwrap().unwrap().generation(), 2);
    let report = stopping.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 2);
    fixture.clock.advance(LIFE + SECOND).await;
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShuttingDown);
    while fixture.events.next().await.is_some() {}
}

#[tokio::test]
async fn a_shutdown_says_which_exchanges_it_did_not_wait_for() {
    let fixture = established().await;
    fixture.script.refresh(Reply::Hang);
    let refreshing = fixture.session.clone();
    let refreshing = tokio::spawn(async move { refreshing.refresh().await });
    fixture.script.held(1).await;
    let report = fixture.until(fixture.supervisor.shutdown(2 * SECOND)).await;
    assert_eq!((report.exchanges_cut, report.is_clean()), (1, false));
    refreshing.abort();
}

#[tokio::test]
async fn the_supervisor_goes_with_its_last_handle() {
    let fixture = established().await.fixture;
    let mut events = fixture.supervisor.subscribe();
    drop(fixture.supervisor);
    let last = fixture.session.clone();
    drop(fixture.session);
    last.refresh().await.unwrap();
    drop(last);
    while events.next().await.is_some() {}
    fixture.clock.advance(SECOND).await;
}

/// A caller's own runtime ends while the refresh that it started runs.
#[test]
fn a_callers_short_lived_runtime_takes_nothing_with_it() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let host = runtime();
    let provider = ScriptedProvider::new();
    let script = provider.script();
    let builder = Supervisor::builder().provider("p", provider);
    let supervisor = host.block_on(builder.start()).unwrap();
    let session = session(&supervisor, "device");
    let caller = runtime();
    caller.block_on(async {
        let _ = session.establish(()).await.unwrap();
        script.refresh(Reply::Hold);
        let refreshing = session.clone();
        tokio::spawn(async move { refreshing.refresh().await });
        script.held(1).await;
    });
    drop(caller);
    host.block_on(async {
        let joined = session.refresh();
        // Polled in this order: it joins the flight, then that is released.
        let (joined, ()) = tokio::join!(joined, async { script.release() });
        assert_eq!(joined.unwrap().generation(), 2);
    });
    assert_eq!(script.refreshes(), 1);
}

#[tokio::test]
async fn a_supervisor_that_cannot_be_started_says_why() {
    let provider = ScriptedProvider::new;
    let bad_name = Supervisor::builder().provider("", provider()).start().await;
    assert_eq!(bad_name.unwrap_err().kind(), ErrorKind::InvalidInput);
    let twice = Supervisor::builder().provider("a", provider()).provider("a", provider());
    assert_eq!(twice.start().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let policy = Policy { max_sessions: 0, ..Policy::default() };
    let zero = Supervisor::builder().policy(policy).start().await;
    assert_eq!(zero.unwrap_err().kind(), ErrorKind::Misconfigured);
    let supervisor = Supervisor::builder().provider("a", provider()).start().await.unwrap();
    let unknown = supervisor.session("b", key("device")).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::InvalidInput);
    let other = supervisor.sessions::<session_warden::provider::oauth2::OAuth2>("a").unwrap_err();
    assert_eq!(other.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn ahead_means_that_sessions_are_refreshed_without_being_asked_for() {
    let provider = ScriptedProvider::new().lifetime(LIFE);
    let script = provider.script();
    let ahead = RefreshPolicy { when: When::Proactive, ..RefreshPolicy::default() };
    let provider = Registration::new(provider).refresh(ahead);
    let fixture = registered(provider, script, Policy::default()).await;
    let _ = fixture.session.establish(()).await.unwrap();
    // Due between 630 s and 720 s of 900 s.
    fixture.clock.advance(600 * SECOND).await;
    assert_eq!(fixture.script.refreshes(), 0);
    fixture.clock.advance(125 * SECOND).await;
    assert_eq!(fixture.script.refreshes(), 1);
    fixture.script.refresh(Reply::Fail(FailureClass::NotSent));
    fixture.clock.advance(10 * LIFE).await;
    let refreshed = fixture.script.refreshes();
    assert!((12..=16).contains(&refreshed), "{refreshed} refreshes in 11 lives");
    assert!(fixture.session.try_permission_token().is_some());
}

#[tokio::test]
async fn a_due_token_is_served_while_its_first_reader_starts_its_refresh() {
    let fixture = established().await;
    fixture.clock.advance(725 * SECOND).await;
    fixture.script.refresh(Reply::Hold);
    for _ in 0..100 {
        assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 1);
    }
    fixture.script.held(1).await;
    for _ in 0..100 {
        assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 1);
    }
    fixture.script.release();
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 2);
    assert_eq!(fixture.script.refreshes(), 1);
}

/// A challenge is a provider's own; here it is its text.
type Challenging = ScriptedProvider<(), String>;

#[tokio::test]
async fn a_challenge_is_handed_to_its_caller_while_the_former_session_serves() {
    let clock = ManualClock::new();
    let provider = Challenging::of(()).lifetime(LIFE);
    let script: Script<String> = provider.script();
    let builder = Supervisor::builder().clock(clock.clone()).provider("p", provider);
    let supervisor = builder.start().await.unwrap();
    let session: Session<Challenging> = supervisor.sessions("p").unwrap().session(key("device"));

    script.establish(Reply::Challenge("code?".to_owned()));
    let challenge = session.establish(()).await.unwrap();
    assert!(matches!(challenge, Establishment::Challenge(text) if text == "code?"));
    assert_eq!(session.status().await.unwrap().state, State::Challenged);
    let error = session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEstablished);
    script.establish(Reply::Fail(FailureClass::Refused(Refusal::WrongCode)));
    let wrong = session.establish(()).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Refused(Refusal::WrongCode));
    assert!(matches!(session.establish(()).await.unwrap(), Establishment::Active(())));

    script.establish(Reply::Challenge("again?".to_owned()));
    assert!(matches!(session.establish(()).await.unwrap(), Establishment::Challenge(_)));
    assert_eq!(session.permission_token().await.unwrap().epoch(), 1);
    // The challenge is not answered, and the former session stays active.
    until(&clock, async { session.refresh().await.unwrap() }).await;
    clock.advance(601 * SECOND).await;
    assert_eq!(session.status().await.unwrap().state, State::Active);
}

#[tokio::test]
async fn an_unanswered_challenge_expires() {
    let clock = ManualClock::new();
    let provider = Challenging::of(());
    let script = provider.script();
    let builder = Supervisor::builder().clock(clock.clone()).provider("p", provider);
    let supervisor = builder.start().await.unwrap();
    let session: Session<Challenging> = supervisor.sessions("p").unwrap().session(key("device"));
    script.establish(Reply::Challenge("code?".to_owned()));
    assert!(matches!(session.establish(()).await.unwrap(), Establishment::Challenge(_)));
    clock.advance(Duration::from_secs(599)).await;
    assert_eq!(session.status().await.unwrap().state, State::Challenged);
    clock.advance(Duration::from_secs(2)).await;
    assert_eq!(session.status().await.unwrap().state, State::Vacant);
}

#[tokio::test]
async fn a_renewable_session_mints_itself_once_for_all_and_its_failure_is_shared() {
    let provider = ScriptedProvider::new().lifetime(LIFE).renewal(|| ());
    let script = provider.script();
    let fixture = registered(provider.into(), script, Policy::default()).await;
    fixture.script.establish(Reply::HoldThenFail(FailureClass::NotSent));
    let ask = || {
        let session = fixture.session.clone();
        async move { session.permission_token().await }
    };
    let asking = callers(100, ask);
    fixture.script.held(1).await;
    fixture.script.release();
    for got in fixture.until(asking.join_all()).await {
        assert_eq!(got.unwrap_err().kind(), ErrorKind::RetryLater);
    }
    assert_eq!(fixture.script.establishes(), 1);
    fixture.clock.advance(SECOND).await;
    for got in fixture.until(callers(100, ask).join_all()).await {
        assert_eq!(got.unwrap().generation(), 1);
    }
    assert_eq!(fixture.script.establishes(), 2);
    fixture.session.revoke().await.unwrap();
    let revoked = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(
        revoked.kind(),
        ErrorKind::NotEstablished,
        "a session that we revoked obtains no tokens automatically"
    );
}

#[tokio::test]
async fn the_log_of_a_session_is_told_as_events_in_their_order() {
    let mut fixture = established().await;
    fixture.session.refresh().await.unwrap();
    let _ = fixture.session.establish(()).await.unwrap();
    fixture.session.revoke().await.unwrap();
    let _ = fixture.session.establish(()).await.unwrap();
    use EventKind::{Established, Refreshed, Revoked};
    assert_eq!(
        fixture.happened().await,
        [Established, Refreshed, Established, Revoked, Established]
    );
    assert_eq!(fixture.session.permission_token().await.unwrap().epoch(), 3);
}
