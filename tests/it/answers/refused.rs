//! Responses to a refresh whose access token the crate refuses: the new refresh token is kept.

use std::time::SystemTime;

use session_warden::provider::Provider;
use session_warden::session::Invalidation;
use session_warden::store::Phase;
use session_warden::testing::{
    CrashPoint, CrashPoints, Endpoint, FakeAuthServer, Fate, Fault, StoreCall,
};

use super::*;
use crate::fixtures::{Fixture, kind, oauth2_fixture};
use crate::support::{SECOND, callers};

const HOUR: Duration = Duration::from_secs(3600);
const DPOP: &str = r#"{"access_token":"a2","token_type":"DPoP","expires_in":3600,
    "refresh_token":"r2"}"#;

/// The members of a response, without its refresh token, and what the error says.
const REFUSED: [(&str, &str); 7] = [
    (
        r#""access_token":"a2","token_type":"DPoP""#,
        "has the token_type DPoP, which needs a key that this client does not have",
    ),
    (r#""access_token":"a2","token_type":"mac""#, "has the token_type mac"),
    (r#""access_token":"a2","token_type":"N_A""#, "has the token_type N_A"),
    (r#""access_token":"a 2""#, "has an access_token with characters that no header can carry"),
    (r#""access_token":["a2"]"#, "has an access_token that is no text"),
    (r#""access_token":null"#, "has no access_token"),
    (r#""token_type":"bearer""#, "has no access_token"),
];

impl AnswerFixture {
    /// The error of a refresh that gets this body.
    async fn refused(&self, body: &str) -> Error {
        self.server.will_answer(200, JSON, body);
        self.process.until(self.process.session.refresh()).await.unwrap_err()
    }

    fn last_request(&self) -> String {
        self.server.asked.lock().last().unwrap().clone()
    }

    /// Time goes on until the session may be refreshed again.
    async fn wait_for_retry(&self) {
        let status = self.process.session.status().await.unwrap();
        let wait = status.retry_at.and_then(|at| at.duration_since(self.process.wall()).ok());
        self.process.clock.advance(wait.unwrap_or_default() + SECOND).await;
    }
}

fn access_end(fixture: &AnswerFixture) -> SystemTime {
    fixture.process.wall() + HOUR
}

#[tokio::test]
async fn a_refresh_whose_access_token_is_refused_keeps_the_new_refresh_token_and_the_old_access_token()
 {
    for (members, words) in REFUSED {
        let mut fixture = AnswerFixture::established("{}").await;
        let end = access_end(&fixture);
        let body = format!(r#"{{{members},"expires_in":60,"refresh_token":"r2"}}"#);
        let error = fixture.refused(&body).await;
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{body}");
        assert_ne!(error.outcome(), Some(ExchangeOutcome::Ambiguous), "{body}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.retry_after().is_some());
        assert!(!format!("{error:?} {}", told(&error)).contains("r2"), "{error:?}");
        let happened = fixture.process.happened().await;
        assert!(matches!(happened[..], [EventKind::BackingOff { .. }]), "{happened:?}");
        assert_eq!(fixture.process.stored().await, (2, "r2".to_owned()), "{body}");
        let record = fixture.process.record().await;
        assert_eq!((record.phase, record.access_expires_at), (Phase::Active, Some(end)));
        let token = fixture.process.session.permission_token().await.unwrap();
        assert_eq!((token.expose_secret(), token.generation()), ("a1", 1), "{body}");
        fixture.neighbour_is_not_touched(&survey()[0]).await;
        fixture.wait_for_retry().await;
        fixture.server.will_grant("a3", "r3");
        let token = fixture.process.session.refresh().await.unwrap();
        assert_eq!((token.expose_secret(), token.generation()), ("a3", 3));
        assert!(fixture.last_request().contains("refresh_token=r2"));
        assert_eq!(fixture.process.stored().await, (3, "r3".to_owned()), "{body}");
    }
}

#[tokio::test]
async fn a_refused_token_type_without_a_new_refresh_token_leaves_the_old_one_and_no_doubt() {
    for (members, words) in &REFUSED[..3] {
        for more in ["", r#","refresh_token":null"#, r#","refresh_token":"r1""#] {
            let mut fixture = AnswerFixture::established("{}").await;
            let error = fixture.refused(&format!("{{{members}{more}}}")).await;
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{members}{more}");
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(fixture.state().await, State::Active);
            assert_eq!(fixture.process.token().await.unwrap().expose_secret(), "a1");
            assert_eq!(fixture.stored_refresh_token().await.as_deref(), Some("r1"));
            let happened = fixture.process.happened().await;
            assert!(matches!(happened[..], [EventKind::BackingOff { .. }]), "{happened:?}");
            fixture.wait_for_retry().await;
            fixture.server.will_grant("a3", "r3");
            fixture.process.session.refresh().await.unwrap();
            assert!(fixture.last_request().contains("refresh_token=r1"));
        }
    }
}

#[tokio::test]
async fn a_response_that_may_hide_the_new_refresh_token_leaves_a_doubt() {
    for body in [
        r#"{"access_token":"a2","token_type":"DPoP","refresh_token":7}"#,
        r#"{"access_token":"a 2"}"#,
        r#"{"token_type":"DPoP"}"#,
    ] {
        let fixture = AnswerFixture::established("{}").await;
        assert_eq!(fixture.refused(body).await.kind(), ErrorKind::RetryLater, "{body}");
        assert_eq!(fixture.state().await, State::InDoubt, "{body}");
    }
}

#[tokio::test]
async fn a_grant_whose_token_type_is_refused_makes_no_session() {
    let fixture = AnswerFixture::new("{}").await;
    fixture.server.will_answer(200, JSON, DPOP);
    let error = fixture.process.sign_in().await.unwrap_err();
    assert!(
        told(&error).contains("has the token_type DPoP") && !format!("{error:?}").contains("r2")
    );
    assert_eq!(kind(fixture.process.token().await), ErrorKind::NotEstablished);
}

#[tokio::test]
async fn a_refused_access_token_causes_no_request_for_each_caller() {
    let fixture = AnswerFixture::established("{}").await;
    fixture.process.clock.advance(HOUR + SECOND).await;
    let (mut asked, mut refreshes) = (fixture.server.asked(), 0);
    for minute in 0..60 {
        // Enough for every refresh that this minute may see.
        fixture.server.answers.lock().clear();
        for _ in 0..4 {
            fixture.server.will_answer(200, JSON, DPOP);
        }
        let waiting = callers(50, || {
            let session = fixture.process.session.clone();
            async move { session.permission_token().await }
        });
        for outcome in fixture.process.until(waiting.join_all()).await {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            assert!(error.to_string().contains("has the token_type DPoP"), "{error}");
        }
        refreshes += fixture.server.asked() - asked;
        assert!(fixture.server.asked() - asked <= 1, "in minute {minute}");
        asked = fixture.server.asked();
        fixture.process.clock.advance(60 * SECOND).await;
    }
    assert!((5..=60).contains(&refreshes), "{refreshes} requests of 3000 callers in an hour");
}

#[tokio::test]
async fn a_rejected_access_token_is_served_by_no_process_after_such_a_refresh() {
    let fixture = AnswerFixture::established("{}").await;
    let old = fixture.process.token().await.unwrap();
    assert_eq!(fixture.process.session.invalidate(&old), Invalidation::Refresh);
    fixture.server.will_answer(200, JSON, DPOP);
    let error = fixture.process.token().await.unwrap_err();
    assert!(error.to_string().contains("has the token_type DPoP"), "{error}");
    assert!(fixture.process.session.try_permission_token().is_none());
    let asked = fixture.server.asked();
    let other = another_process(&fixture).await;
    assert_eq!(kind(other.token().await), ErrorKind::RetryLater);
    assert_eq!(fixture.server.asked(), asked, "the record says that the session backs off");
    other.clock.advance(600 * SECOND).await;
    fixture.server.will_grant("a3", "r3");
    assert_eq!(other.token().await.unwrap().expose_secret(), "a3");
    assert!(fixture.last_request().contains("refresh_token=r2"));
}

#[tokio::test]
async fn a_token_that_is_rejected_after_such_a_refresh_is_not_served_again() {
    let fixture = AnswerFixture::established("{}").await;
    let _ = fixture.refused(DPOP).await;
    let old = fixture.process.token().await.unwrap();
    assert_eq!(fixture.process.session.invalidate(&old), Invalidation::Refresh);
    let error = fixture.process.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(fixture.process.session.try_permission_token().is_none());
    fixture.wait_for_retry().await;
    fixture.server.will_grant("a3", "r3");
    assert_eq!(fixture.process.token().await.unwrap().expose_secret(), "a3");
}

#[tokio::test]
async fn another_process_serves_the_old_token_and_neither_refreshes_before_the_backoff_ends() {
    let fixture = AnswerFixture::established("{}").await;
    let other = another_process(&fixture).await;
    assert_eq!(other.token().await.unwrap().generation(), 1);
    let _ = fixture.refused(DPOP).await;
    other.clock.advance(2 * SECOND / 10).await;
    let asked = fixture.server.asked();
    let token = other.token().await.unwrap();
    assert_eq!((token.expose_secret(), token.generation()), ("a1", 1));
    assert_eq!(kind(other.until(other.session.refresh()).await), ErrorKind::RetryLater);
    assert_eq!(fixture.server.asked(), asked);
}

/// One more process on the store, at the same server.
async fn another_process(fixture: &AnswerFixture) -> OAuth2Fixture {
    let client = OAuth2::new(&fixture.url, "client").unwrap().client_secret_basic("secret");
    let process = &fixture.process;
    oauth2_fixture_with(client, process.clock.clone(), process.store.clone()).await
}

#[tokio::test]
async fn a_provider_whose_refresh_ends_access_tokens_serves_no_old_one_after_such_a_refresh() {
    let (server, url) = Server::start().await;
    let client = OAuth2::new(&url, "client").unwrap().refresh_ends_access_tokens();
    assert!(client.access_tokens_end_at_refresh());
    let process = oauth2_fixture_with(client, ManualClock::new(), MemoryStore::new()).await;
    server.will_grant("a1", "r1");
    let _ = process.sign_in().await.unwrap();
    server.will_answer(200, JSON, DPOP);
    assert_eq!(kind(process.session.refresh().await), ErrorKind::Misconfigured);
    assert_eq!(kind(process.token().await), ErrorKind::Misconfigured);
    assert_eq!(process.record().await.access_expires_at, Some(process.wall()));
}

#[tokio::test]
async fn a_refresh_token_that_cannot_be_saved_is_saved_later_and_nothing_is_sent_before() {
    let mut fixture = AnswerFixture::established("{}").await;
    fixture.process.faults.fail_always(StoreCall::Commit, true);
    let error = fixture.refused(DPOP).await;
    assert!(told(&error).contains("has the token_type DPoP"), "{}", told(&error));
    let happened = fixture.process.news();
    assert!(
        matches!(happened[..], [EventKind::BackingOff { .. }, EventKind::Unsaved]),
        "{happened:?}"
    );
    assert!(!fixture.process.is_saved().await);
    let asked = fixture.server.asked();
    fixture.process.clock.advance(600 * SECOND).await;
    assert_eq!(fixture.process.token().await.unwrap().expose_secret(), "a1");
    fixture.process.until(fixture.process.session.refresh()).await.unwrap_err();
    assert_eq!(fixture.server.asked(), asked);
    fixture.process.faults.fail_always(StoreCall::Commit, false);
    fixture.process.clock.advance(600 * SECOND).await;
    assert_eq!(fixture.process.news(), [EventKind::Saved]);
    assert_eq!(fixture.process.stored().await, (2, "r2".to_owned()));
    fixture.server.will_grant("a3", "r3");
    fixture.process.until(fixture.process.session.refresh()).await.unwrap();
    assert!(fixture.last_request().contains("refresh_token=r2"));
}

#[tokio::test]
async fn a_doubt_ends_with_a_response_that_has_a_new_refresh_token() {
    let mut fixture = AnswerFixture::established("{}").await;
    fixture.server.will_answer(502, HTML, "");
    assert_eq!(kind(fixture.process.session.refresh().await), ErrorKind::RetryLater);
    assert_eq!(fixture.state().await, State::InDoubt);
    fixture.wait_for_retry().await;
    let error = fixture.refused(DPOP).await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert_eq!(fixture.state().await, State::Active);
    assert_eq!(fixture.process.stored().await, (2, "r2".to_owned()));
    let happened = fixture.process.happened().await;
    assert!(
        matches!(happened[..], [EventKind::InDoubt, EventKind::BackingOff { .. }]),
        "{happened:?}"
    );
}

/// Before the save the response is lost as that of any refresh is; after it, nothing is.
#[tokio::test]
async fn a_task_that_dies_around_the_save_leaves_what_it_leaves_after_any_refresh() {
    for (point, state, stored) in [
        (CrashPoint::Received, State::InDoubt, (1, "r1")),
        (CrashPoint::Committed, State::Active, (2, "r2")),
        (CrashPoint::Replied, State::Active, (2, "r2")),
    ] {
        let (server, url) = Server::start().await;
        let armed = CrashPoints::new();
        let client = OAuth2::new(&url, "client").unwrap().client_secret_basic("secret");
        let at = (&MemoryStore::new(), &ManualClock::new());
        let set = |builder: session_warden::supervisor::SupervisorBuilder, _: &_| {
            builder.crash_points(&armed)
        };
        let process: OAuth2Fixture = Fixture::start_at_with("oauth2", client, at, set).await;
        server.will_grant("a1", "r1");
        let _ = process.sign_in().await.unwrap();
        armed.arm(point, Fate::Panic);
        server.will_answer(200, JSON, DPOP);
        let _ = process.until(process.session.refresh()).await.unwrap_err();
        process.clock.advance(5 * SECOND).await;
        assert_eq!(process.state().await, state, "{point:?}");
        let (generation, refresh) = stored;
        assert_eq!(process.stored().await, (generation, refresh.to_owned()), "{point:?}");
        assert_eq!(process.token().await.unwrap().expose_secret(), "a1", "{point:?}");
        assert_eq!(server.asked(), 2, "{point:?}");
    }
}

#[tokio::test]
async fn a_session_at_a_strict_server_lives_on_after_a_response_without_an_access_token() {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock.clone()).start().await.unwrap();
    let mut process = oauth2_fixture(&server, clock).await;
    let _ = process.sign_in().await.unwrap();
    server.fail_next_n(Endpoint::RefreshToken, 3, Fault::NoAccessToken);
    for _ in 0..3 {
        let error = process.session.refresh().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert_eq!(process.token().await.unwrap().generation(), 1);
        process.clock.advance(600 * SECOND).await;
    }
    assert_eq!(process.session.refresh().await.unwrap().generation(), 5);
    assert_eq!((server.reuses_detected(), server.count(Endpoint::RefreshToken)), (0, 4));
    let happened = process.happened().await;
    assert!(
        matches!(
            happened[..],
            [EventKind::Established, EventKind::BackingOff { .. }, EventKind::Refreshed]
        ),
        "{happened:?}"
    );
}
