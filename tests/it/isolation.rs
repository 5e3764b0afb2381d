//! The failures of one session do not affect others.

mod tenant_fleet;

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use session_warden::error::LostReason;
use session_warden::event::EventKind;
use session_warden::key::Tenant;
use session_warden::policy::Policy;
use session_warden::provider::{FailureClass, Registration};
use session_warden::session::{Session, State, Verdict};
use session_warden::store::MemoryStore;
use session_warden::testing::{ManualClock, Reply, ScriptedProvider};
use session_warden::{Error, ErrorKind, Establishment, PermissionToken, SessionKey, Supervisor};

use self::tenant_fleet::{Answer, Fleet, Server, at_once};
use crate::fixtures::established;
use crate::support::{LIFE, SECOND, key};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const NOT_FOUND: Answer = Answer::unknown(404, None);

/// Answers to one session that say nothing of any other.
const ABOUT_ONE: [Answer; 6] = [
    Answer { class: FailureClass::Rejected, status: 401, code: Some("invalid_token") },
    Answer::unknown(403, None),
    Answer::unknown(404, None),
    Answer::unknown(400, Some("unauthorized_client")),
    Answer::unknown(400, Some("invalid_scope")),
    Answer::unknown(302, None),
];

async fn lost(session: &Session<Server>) -> Option<LostReason> {
    session.status().await.unwrap().lost
}

fn kind(got: Result<PermissionToken, Error>) -> Option<ErrorKind> {
    got.err().map(|error| error.kind())
}

/// 1,000 sessions of 10 tenants for 10 minutes, of which one gets the answer at every refresh.
#[tokio::test]
async fn of_a_thousand_sessions_the_999_others_get_a_token_at_once_whatever_one_is_answered() {
    for answer in ABOUT_ONE {
        let fleet = Fleet::of(1000, 10, 4 * MINUTE).await;
        let unlucky = fleet.sessions[500].id().clone();
        fleet.server.refuse(move |session| (*session == unlucky).then_some(answer));
        for _ in 0..30 {
            fleet.clock.advance(20 * SECOND).await;
            for (n, session) in fleet.sessions.iter().enumerate() {
                let got = at_once(session.permission_token()).await;
                assert!(n == 500 || got.is_ok(), "{answer:?}: session {n} got {got:?}");
            }
        }
        fleet.signs_in(0).await;
        let asked = fleet.server.requests_of(fleet.sessions[500].id());
        assert!(asked <= 12, "{answer:?}: the one session was sent {asked} times");
    }
}

#[tokio::test]
async fn users_sign_in_at_a_quiet_server_while_5_and_50_and_500_sessions_are_dead() {
    for answer in ABOUT_ONE {
        for dead in [5, 50, 500] {
            let fleet = Fleet::of(dead, 3, MINUTE).await;
            fleet.server.refuse(move |_| Some(answer));
            fleet.clock.advance(MINUTE).await;
            for (n, session) in fleet.sessions.iter().enumerate() {
                at_once(session.permission_token()).await.unwrap_err();
                if n % 100 == 0 {
                    fleet.signs_in(n).await;
                }
            }
            for n in 0..10 {
                fleet.signs_in(1000 + n).await;
            }
        }
    }
}

/// A server that sends 403 for a wrong secret does not name the client. First tries are sent,
/// retries are paced.
#[tokio::test]
async fn a_secret_that_is_wrong_for_10_000_sessions_costs_one_request_a_second_after_the_first() {
    let fleet = Fleet::of(10_000, 10, MINUTE).await;
    fleet.server.refuse(|_| Some(Answer::unknown(403, None)));
    fleet.clock.advance(MINUTE).await;
    let mut minutes = Vec::new();
    for _ in 0..5 {
        let before = fleet.server.requests();
        for some in fleet.sessions.chunks(10_000_usize.div_ceil(60)) {
            for session in some {
                at_once(session.permission_token()).await.unwrap_err();
            }
            fleet.clock.advance(SECOND).await;
        }
        minutes.push(fleet.server.requests() - before);
    }
    println!("10,000 sessions whose secret is answered 403, requests a minute: {minutes:?}");
    assert!(minutes[0] <= 10_000 + 60, "{minutes:?}");
    assert!(minutes[1..].iter().all(|requests| *requests <= 60), "{minutes:?}");
    fleet.server.refuse(|_| None);
    for _ in 0..6 {
        fleet.clock.advance(MINUTE).await;
        for session in &fleet.sessions {
            let _ = at_once(session.permission_token()).await;
        }
    }
    for session in &fleet.sessions {
        at_once(session.permission_token()).await.unwrap();
    }
}

#[tokio::test]
async fn an_outage_of_half_an_hour_that_names_nobody_loses_no_session() {
    let fleet = Fleet::of(300, 3, LIFE).await;
    fleet.clock.advance(LIFE).await;
    fleet.server.refuse(|_| Some(NOT_FOUND));
    for _ in 0..30 {
        for session in &fleet.sessions {
            let error = at_once(session.permission_token()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RetryLater);
            assert!(error.source().is_some(), "the cause is told");
        }
        fleet.clock.advance(MINUTE).await;
    }
    fleet.server.refuse(|_| None);
    for _ in 0..10 {
        for session in &fleet.sessions {
            let _ = at_once(session.permission_token()).await;
        }
        fleet.clock.advance(MINUTE).await;
    }
    for session in &fleet.sessions {
        assert_eq!(lost(session).await, None);
        assert_eq!(kind(at_once(session.permission_token()).await), None);
    }
}

/// There are no calls after the outage: the schedule tries each lost session about once a day.
#[tokio::test]
async fn an_outage_of_two_days_that_names_nobody_heals_within_a_day_of_its_end() {
    let fleet = Fleet::of(200, 3, LIFE).await;
    fleet.clock.advance(LIFE).await;
    fleet.server.refuse(|_| Some(NOT_FOUND));
    for _ in 0..48 * 4 {
        for session in &fleet.sessions {
            at_once(session.permission_token()).await.unwrap_err();
            fleet.clock.advance(2 * SECOND).await;
        }
        fleet.clock.advance(500 * SECOND).await;
    }
    for session in &fleet.sessions {
        assert_eq!(lost(session).await, Some(LostReason::Unclassified));
    }
    let day = fleet.server.requests();
    fleet.server.refuse(|_| None);
    fleet.clock.advance(24 * HOUR).await;
    for session in &fleet.sessions {
        assert_eq!(session.status().await.unwrap().state, State::Active);
    }
    assert_eq!(fleet.server.requests() - day, 200, "one each");
}

/// Errors and events of a doubt, a back-off and a loss name the cause.
#[tokio::test]
async fn what_led_to_a_doubt_a_back_off_and_a_loss_is_in_the_error_and_in_the_event() {
    let lost_answer = Answer { class: FailureClass::Ambiguous, status: 502, code: None };
    let rejected =
        Answer { class: FailureClass::Rejected, status: 400, code: Some("invalid_grant") };
    let unknown = Answer::unknown(403, Some("vendor_word"));
    type Expected = fn(&EventKind) -> bool;
    let cases: [(Answer, Expected); 3] = [
        (lost_answer, |kind| matches!(kind, EventKind::InDoubt)),
        (rejected, |kind| matches!(kind, EventKind::Lost(LostReason::Rejected))),
        (unknown, |kind| matches!(kind, EventKind::BackingOff { .. })),
    ];
    for (answer, expected) in cases {
        let fleet = Fleet::of(1, 1, LIFE).await;
        let mut events = fleet.supervisor.subscribe();
        fleet.server.refuse(move |_| Some(answer));
        fleet.clock.advance(LIFE).await;
        let error = at_once(fleet.sessions[0].permission_token()).await.unwrap_err();
        assert_eq!((error.status(), error.provider_code()), (Some(answer.status), answer.code));
        let cause = error.source().unwrap().to_string();
        assert!(!error.to_string().contains(&cause), "{error}: {cause}");
        let event = events.next().now_or_never().flatten().unwrap();
        assert!(expected(&event.kind), "{event:?}");
        let cause = event.cause.unwrap();
        assert_eq!((cause.status(), cause.provider_code()), (Some(answer.status), answer.code));
    }
}

#[tokio::test]
async fn a_dead_session_is_lost_when_others_of_its_client_succeed_and_can_be_had_back_by_hand() {
    let fleet = Fleet::of(2, 1, LIFE).await;
    let [dead, other] = &fleet.sessions[..] else { panic!() };
    let unlucky = dead.id().clone();
    fleet.server.refuse(move |session| (*session == unlucky).then_some(NOT_FOUND));
    fleet.clock.advance(LIFE).await;
    for _ in 0..2 {
        assert_eq!(kind(at_once(dead.permission_token()).await), Some(ErrorKind::RetryLater));
        fleet.clock.advance(5 * MINUTE).await;
        at_once(other.refresh()).await.unwrap();
    }
    let sign_in_again = Some(ErrorKind::SignInAgain(LostReason::Unclassified));
    let error = at_once(dead.permission_token()).await.unwrap_err();
    assert_eq!(Some(error.kind()), sign_in_again);
    let asked = fleet.server.requests_of(dead.id());
    for _ in 0..100 {
        assert_eq!(kind(at_once(dead.permission_token()).await), sign_in_again);
    }
    assert_eq!(fleet.server.requests_of(dead.id()), asked, "answered from memory");
    // By hand it is tried at once, and then with a back-off.
    for _ in 0..20 {
        assert_eq!(kind(at_once(dead.refresh()).await), sign_in_again);
    }
    assert_eq!(fleet.server.requests_of(dead.id()), asked + 1);
    fleet.server.refuse(|_| None);
    fleet.clock.advance(SECOND).await;
    assert_eq!(at_once(dead.refresh()).await.unwrap().epoch(), 1, "without a new grant");
    assert_eq!(lost(dead).await, None);
}

/// Other sessions succeed all the time, also while the request of the dead session runs.
#[tokio::test]
async fn a_dead_session_of_a_busy_client_is_lost_as_soon_as_one_of_a_quiet_client() {
    let fixture = established().await;
    let other = crate::support::session(&fixture.supervisor, "other");
    let _ = other.establish(()).await.unwrap();
    fixture.clock.advance(LIFE).await;
    let mut kinds = Vec::new();
    for round in 1..=3 {
        fixture.script.refresh(Reply::HoldThenFail(FailureClass::Unclassified));
        let dead = fixture.session.clone();
        let refreshing = tokio::spawn(async move { dead.permission_token().await });
        fixture.script.held(round).await;
        other.refresh().await.unwrap();
        fixture.script.release();
        kinds.push(refreshing.await.unwrap().unwrap_err().kind());
        fixture.clock.advance(5 * MINUTE).await;
    }
    let lost = ErrorKind::SignInAgain(LostReason::Unclassified);
    assert_eq!(kinds, [ErrorKind::RetryLater, ErrorKind::RetryLater, lost]);
}

/// The loss and its next try are in the record.
#[tokio::test]
async fn a_provisional_loss_outlives_a_restart_and_is_tried_by_the_next_process() {
    let fleet = Fleet::of(2, 1, LIFE).await;
    fleet.server.refuse(|session| (session.key().token_id() == "device-0").then_some(NOT_FOUND));
    fleet.clock.advance(LIFE).await;
    for _ in 0..4 {
        at_once(fleet.sessions[0].permission_token()).await.unwrap_err();
        fleet.clock.advance(5 * MINUTE).await;
        at_once(fleet.sessions[1].refresh()).await.unwrap();
    }
    let Fleet { clock, store, supervisor, server, sessions } = fleet;
    assert!(crate::support::until(&clock, supervisor.shutdown(SECOND)).await.is_clean());
    drop((sessions, supervisor));
    let next = Fleet::on(store, clock, server).await;
    let session = next.session("tenant-0", 0);
    assert_eq!(lost(&session).await, Some(LostReason::Unclassified));
    drop(session);
    next.server.refuse(|_| None);
    next.clock.advance(24 * HOUR).await;
    assert_eq!(next.session("tenant-0", 0).status().await.unwrap().state, State::Active);
}

#[tokio::test]
async fn where_tenants_have_clients_of_their_own_one_that_is_rejected_stops_no_other() {
    let servers = ["a", "b"].map(|tenant| (tenant, Server::new(MINUTE)));
    let known = servers.clone();
    let clock = ManualClock::new();
    let supervisor = Supervisor::builder()
        .clock(clock.clone())
        .provider_per_tenant::<Server>("p", move |tenant: Tenant| {
            let server = known.iter().find(|(name, _)| *name == tenant.as_str()).unwrap().1.clone();
            async move { Ok(Registration::new(server)) }
        })
        .start()
        .await
        .unwrap();
    let sessions = supervisor.sessions::<Server>("p").unwrap();
    let [a, b] = ["a", "b"].map(|tenant| sessions.session(SessionKey::new(tenant, "d").unwrap()));
    let _ = (a.establish(()).await.unwrap(), b.establish(()).await.unwrap());
    let rejected =
        Answer { class: FailureClass::InvalidClient, status: 401, code: Some("invalid_client") };
    servers[0].1.refuse(move |_| Some(rejected));
    for _ in 0..10 {
        clock.advance(MINUTE).await;
        assert_eq!(kind(at_once(a.permission_token()).await), Some(ErrorKind::Misconfigured));
        assert_eq!(kind(at_once(b.permission_token()).await), None);
    }
    assert_eq!(lost(&a).await, None);
}

/// 1,000 calls a minute for 10 minutes. Each calls once more if `rejected` says so.
#[tokio::test]
async fn an_api_that_rejects_every_token_costs_eight_refreshes_in_ten_minutes() {
    for second_api in [false, true] {
        let fixture = established().await;
        let answered =
            |status: u16| http::Response::builder().status(status).body(()).unwrap().into_parts().0;
        let (mut calls, begun) = (0, fixture.script.refreshes());
        for _ in 0..10_000 {
            fixture.clock.advance(MINUTE / 1000).await;
            for _ in 0..2 {
                calls += 1;
                let token = fixture.session.permission_token().await.unwrap();
                if fixture.session.rejected(&token, &answered(401), b"") == Verdict::Forward {
                    break;
                }
            }
            if second_api {
                let token = fixture.session.permission_token().await.unwrap();
                let _ = fixture.session.rejected(&token, &answered(200), b"");
            }
        }
        let refreshes = fixture.script.refreshes() - begun;
        println!("an API that rejects each of {calls} calls: {refreshes} refreshes");
        // One that accepts ends the doubling, not the ten seconds.
        assert!(refreshes <= if second_api { 61 } else { 8 }, "{refreshes}");
        assert!(calls <= 10_000 + refreshes);
    }
}

/// A caller would ask again and again, because only the user can end the wait.
#[tokio::test]
async fn a_second_factor_that_is_awaited_over_a_dead_session_is_told_at_once() {
    let asked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&asked);
    let provider =
        ScriptedProvider::<(), &'static str, ()>::of(()).lifetime(SECOND).renewal(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
    let (script, clock) = (provider.script(), ManualClock::new());
    let supervisor = Supervisor::builder()
        .clock(clock.clone())
        .store(MemoryStore::new())
        .policy(Policy::default())
        .provider("p", provider)
        .start()
        .await
        .unwrap();
    let session = supervisor
        .sessions::<ScriptedProvider<(), &'static str, ()>>("p")
        .unwrap()
        .session(key("device"));
    script.establish(Reply::IssueAccessOnly);
    let _ = session.establish(()).await.unwrap();
    clock.advance(2 * SECOND).await;
    script.establish(Reply::Challenge("code"));
    let Establishment::Challenge(_) = session.establish(()).await.unwrap() else { panic!() };
    let before = asked.load(Ordering::SeqCst);
    let error = at_once(session.permission_token()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEstablished);
    assert!(asked.load(Ordering::SeqCst) - before < 4);
}
