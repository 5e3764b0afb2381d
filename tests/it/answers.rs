//! Responses of token endpoints as real servers send them, and the result for the session.

mod refused;
mod rows;

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use session_warden::error::{ExchangeOutcome, LostReason};
use session_warden::event::EventKind;
use session_warden::provider::oauth2::{OAuth2, OAuth2Settings, Password};
use session_warden::session::State;
use session_warden::store::{MemoryStore, Store};
use session_warden::testing::ManualClock;
use session_warden::{Error, ErrorKind, PermissionToken, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use self::rows::{At, Expect, HTML, JSON, Row, SETTINGS, survey, with_settings, without_settings};
use crate::fixtures::{OAuth2Fixture, oauth2_fixture_with};
use crate::support::key;

/// The rows with this result, each with settings as JSON: with those that it needs, and without.
fn rows(at: At, wanted: fn(&Expect) -> bool) -> impl Iterator<Item = (Row, &'static str)> {
    let every = with_settings().into_iter().chain(without_settings());
    every.filter(move |(row, _)| row.at == at && wanted(&row.expect))
}

/// A server that sends the given responses, one after the other.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<VecDeque<String>>>,
    /// Bodies of requests.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/oauth/token", listener.local_addr().unwrap());
        let server = Self::default();
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.serve(stream).await;
            }
        });
        (server, url)
    }

    fn will_answer(&self, status: u16, kind: &str, body: &str) {
        let head = format!("HTTP/1.1 {status} Told\r\ncontent-type: {kind}\r\nconnection: close");
        let length = body.len();
        let answer = format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}");
        self.answers.lock().push_back(answer);
    }

    fn will_grant(&self, access: &str, refresh: &str) {
        let body = format!(
            r#"{{"access_token":"{access}","token_type":"bearer","expires_in":3600,
                "refresh_token":"{refresh}"}}"#
        );
        self.will_answer(200, JSON, &body);
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut request = Vec::new();
        let body = loop {
            let text = String::from_utf8_lossy(&request).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                    break body.to_owned();
                }
            }
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "{text}");
        };
        self.asked.lock().push(body);
        let answer = self.answers.lock().pop_front().expect("no request is expected");
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    }

    fn asked(&self) -> usize {
        self.asked.lock().len()
    }
}

/// A server, the session that gets a row's answer, and another of the same client.
struct AnswerFixture {
    server: Server,
    url: String,
    process: OAuth2Fixture,
    neighbour: Session<OAuth2>,
}

impl AnswerFixture {
    async fn new(settings: &str) -> Self {
        let (server, url) = Server::start().await;
        let mut row: serde_json::Value = serde_json::from_str(settings).unwrap();
        row["token_endpoint"] = url.as_str().into();
        row["client_id"] = "client".into();
        row["client_secret"] = "secret".into();
        let settings: OAuth2Settings = serde_json::from_value(row).unwrap();
        let client = OAuth2::from_settings(settings).unwrap();
        let process = oauth2_fixture_with(client, ManualClock::new(), MemoryStore::new()).await;
        let neighbour = process.supervisor.sessions("oauth2").unwrap().session(key("neighbour"));
        Self { server, url, process, neighbour }
    }

    /// With both sessions established, and nothing else to report.
    async fn established(settings: &str) -> Self {
        let mut fixture = Self::new(settings).await;
        fixture.server.will_grant("n1", "nr1");
        let _ = fixture.neighbour.establish(Password::new("eve", "ok")).await.unwrap();
        fixture.server.will_grant("a1", "r1");
        let _ = fixture.process.sign_in().await.unwrap();
        fixture.process.happened().await;
        fixture
    }

    /// The result of a refresh for the row.
    async fn refresh(&self, row: &Row) -> Result<PermissionToken, Error> {
        self.server.will_answer(row.status, &row.kind, &row.body);
        let refreshed = self.process.session.refresh().await;
        assert_eq!(self.server.asked(), 3, "{}", row.body);
        refreshed
    }

    async fn state(&self) -> State {
        self.process.session.status().await.unwrap().state
    }

    async fn stored_refresh_token(&self) -> Option<String> {
        let record =
            self.process.store.load(self.process.session.id()).await.unwrap().unwrap().record;
        let credentials = record.credentials.unwrap();
        credentials.tokens().refresh_token().map(|token| token.expose_secret().to_owned())
    }

    /// The token is served, has the life of the row, and is kept beside its refresh token.
    async fn has_tokens(&self, row: &Row) {
        let Expect::Tokens { access, refresh, seconds } = &row.expect else { unreachable!() };
        let token = self.process.session.permission_token().await.unwrap();
        assert_eq!(token.expose_secret(), *access, "{}", row.body);
        let ends = seconds.map(|seconds| self.process.wall() + Duration::from_secs(seconds));
        assert_eq!(token.expires_at(), ends, "{}", row.body);
        assert_eq!(self.stored_refresh_token().await, *refresh, "{}", row.body);
    }

    /// The session's access token is served although its refresh failed, and its refresh token
    /// kept.
    async fn serves_on(&self, row: &Row) {
        let token = self.process.session.permission_token().await.unwrap();
        assert_eq!(token.expose_secret(), "a1", "{}", row.body);
        assert_eq!(self.state().await, State::Active, "{}", row.body);
        assert_eq!(self.stored_refresh_token().await.as_deref(), Some("r1"), "{}", row.body);
    }

    /// The other session's refresh goes out and brings a token.
    async fn neighbour_is_not_touched(&self, row: &Row) {
        let asked = self.server.asked();
        self.server.will_grant("n2", "nr2");
        let token = self.neighbour.refresh().await.unwrap();
        assert_eq!(token.expose_secret(), "n2", "{}", row.body);
        assert_eq!(self.server.asked(), asked + 1, "{}", row.body);
        assert!(self.server.asked.lock().last().unwrap().contains("refresh_token=nr1"));
    }
}

/// The error and all of its causes, as a log would show them.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

#[test]
fn every_answer_is_expected_once_and_each_setting_is_for_one_answer() {
    let rows = survey();
    let bodies: std::collections::HashSet<_> =
        rows.iter().map(|row| (row.status, &row.kind, &row.body)).collect();
    assert_eq!((bodies.len(), rows.len()), (30, 30));
    for (part, settings) in SETTINGS {
        let found = rows.iter().filter(|row| row.body.contains(part)).count();
        assert_eq!(found, 1, "{part}: {settings}");
    }
}

#[tokio::test]
async fn a_member_of_an_answer_that_the_settings_name_is_an_attribute_of_the_session() {
    for ((row, settings), expected) in
        [(with_settings(), Some("https://na1.example.com")), (without_settings(), None)]
            .map(|(rows, expected)| (with_instance(rows), expected))
    {
        let fixture = AnswerFixture::new(settings).await;
        fixture.server.will_answer(row.status, &row.kind, &row.body);
        let _ = fixture.process.sign_in().await.unwrap();
        let attributes = fixture.process.session.attributes().await.unwrap();
        let kept = attributes.more.get("instance_url").map(String::as_str);
        assert_eq!((kept, attributes.more.len()), (expected, usize::from(expected.is_some())));
    }
}

fn with_instance(rows: Vec<(Row, &'static str)>) -> (Row, &'static str) {
    rows.into_iter().find(|(row, _)| row.body.contains("instance_url")).unwrap()
}

#[tokio::test]
async fn a_grants_answer_with_a_token_makes_a_session_however_it_is_written() {
    for (row, settings) in rows(At::Establish, |expect| matches!(expect, Expect::Tokens { .. })) {
        let fixture = AnswerFixture::new(settings).await;
        fixture.server.will_answer(row.status, &row.kind, &row.body);
        let _ = fixture.process.sign_in().await.unwrap();
        fixture.has_tokens(&row).await;
    }
}

#[tokio::test]
async fn a_grants_answer_without_a_token_that_can_be_served_makes_no_session_and_says_why() {
    for (row, settings) in rows(At::Establish, |expect| matches!(expect, Expect::NoToken(_))) {
        let Expect::NoToken(words) = row.expect else { unreachable!() };
        let fixture = AnswerFixture::new(settings).await;
        fixture.server.will_answer(row.status, &row.kind, &row.body);
        let error = fixture.process.sign_in().await.unwrap_err();
        let told = told(&error);
        assert!(told.contains(words), "{told}");
        assert!(!told.contains("expired by 23m") && !format!("{error:?}").contains("23m"));
        assert_eq!(error.status(), Some(200));
        let error = fixture.process.session.permission_token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotEstablished, "{}", row.body);
    }
}

#[tokio::test]
async fn a_refreshs_answer_with_a_token_is_served_and_an_empty_refresh_token_keeps_the_old_one() {
    for (row, settings) in rows(At::Refresh, |expect| matches!(expect, Expect::Tokens { .. })) {
        let fixture = AnswerFixture::established(settings).await;
        fixture.refresh(&row).await.unwrap();
        fixture.has_tokens(&row).await;
        fixture.neighbour_is_not_touched(&row).await;
    }
}

#[tokio::test]
async fn an_answer_that_rejects_the_refresh_token_ends_this_session_alone() {
    for (row, settings) in rows(At::Refresh, |expect| *expect == Expect::SignInAgain) {
        let mut fixture = AnswerFixture::established(settings).await;
        let error = fixture.refresh(&row).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::Rejected), "{}", row.body);
        assert_eq!(fixture.state().await, State::Lost);
        assert_eq!(fixture.process.happened().await, [EventKind::Lost(LostReason::Rejected)]);
        fixture.neighbour_is_not_touched(&row).await;
    }
}

#[tokio::test]
async fn an_answer_that_names_the_client_is_one_event_and_no_session_is_lost() {
    for (row, settings) in rows(At::Refresh, |expect| *expect == Expect::Client) {
        let mut fixture = AnswerFixture::established(settings).await;
        let error = fixture.refresh(&row).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert_eq!((error.status(), error.provider_code()), (Some(401), Some("invalid_client")));
        let told = error.to_string();
        assert!(
            told.contains("/oauth/token and rejected the client; check the client id"),
            "{told}"
        );
        let kept_out = fixture.neighbour.refresh().await.unwrap_err();
        assert_eq!(kept_out.kind(), ErrorKind::Misconfigured);
        assert_eq!(fixture.server.asked(), 3, "the client is asked rarely");
        let happened = fixture.process.happened().await;
        assert!(matches!(&happened[..], [EventKind::ProviderRejecting(_)]), "{happened:?}");
        fixture.serves_on(&row).await;
        let other = fixture.neighbour.permission_token().await.unwrap();
        assert_eq!(other.expose_secret(), "n1");
    }
}

#[tokio::test]
async fn an_answer_of_a_broken_server_puts_this_session_in_doubt_and_no_other() {
    for (row, settings) in rows(At::Refresh, |expect| *expect == Expect::InDoubt) {
        let mut fixture = AnswerFixture::established(settings).await;
        let error = fixture.refresh(&row).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryLater, "{}", row.body);
        assert_eq!(fixture.state().await, State::InDoubt);
        assert_eq!(fixture.process.happened().await, [EventKind::InDoubt]);
        fixture.neighbour_is_not_touched(&row).await;
    }
}

#[tokio::test]
async fn an_answer_that_asks_for_fewer_requests_leaves_the_session_as_it_was() {
    for (row, settings) in rows(At::Refresh, |expect| *expect == Expect::Later) {
        let mut fixture = AnswerFixture::established(settings).await;
        let error = fixture.refresh(&row).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryLater);
        assert_eq!(error.outcome(), Some(ExchangeOutcome::NotProcessed));
        assert_eq!(error.status(), Some(429));
        fixture.serves_on(&row).await;
        let happened = fixture.process.happened().await;
        let names: Vec<_> = happened.iter().map(EventKind::name).collect();
        assert_eq!(names, ["provider_throttled", "backing_off"]);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_understood_is_tried_again_later_and_concerns_no_other_session() {
    for (row, settings) in rows(At::Refresh, |expect| *expect == Expect::Ladder) {
        let mut fixture = AnswerFixture::established(settings).await;
        let error = fixture.refresh(&row).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryLater, "{} {}", row.status, row.body);
        assert_ne!(error.outcome(), Some(ExchangeOutcome::Ambiguous));
        assert!(!told(&error).contains("rejected the client"), "{error}");
        fixture.serves_on(&row).await;
        let happened = fixture.process.happened().await;
        assert!(matches!(happened[..], [EventKind::BackingOff { .. }]), "{happened:?}");
        fixture.neighbour_is_not_touched(&row).await;
    }
}

#[tokio::test]
async fn the_error_of_an_answer_that_is_not_understood_has_its_status() {
    for (row, settings) in rows(At::Refresh, |expect| *expect == Expect::Ladder) {
        let fixture = AnswerFixture::established(settings).await;
        let error = fixture.refresh(&row).await.unwrap_err();
        assert_eq!(error.status(), Some(row.status), "{}", row.body);
    }
}

#[tokio::test]
async fn a_grants_answer_that_is_not_understood_names_the_endpoint() {
    let fixture = AnswerFixture::new("{}").await;
    fixture.server.will_answer(404, HTML, "<html>canary</html>");
    let error = fixture.process.sign_in().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    let text = error.to_string();
    assert!(
        text.starts_with("wrong configuration: the server answered 404 at http://127.0.0.1:")
            && text.ends_with("/oauth/token, where a token response was expected; check the URL"),
        "{text}"
    );
    assert_eq!(error.source().unwrap().to_string(), "the response is not understood");
    assert!(!told(&error).contains("canary"));
}
