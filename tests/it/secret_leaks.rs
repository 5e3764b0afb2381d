//! Searches for secrets in all logs, errors, events and `Debug` output of the crate.

mod error_descriptions;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use session_warden::provider::Provider;
use session_warden::provider::ioffice::{self, IOffice};
use session_warden::provider::oauth2::{Attributes, AuthorizationCode, OAuth2, Password};
use session_warden::session::{Adopt, Filter};
use session_warden::store::{MemoryStore, Store};
use session_warden::testing::{
    Endpoint, FakeAuthServer, FakeDialect, FakeRotation, Fault, ManualClock,
};
use session_warden::token::Tokens;
use session_warden::transport::TransportConfig;
use session_warden::{ErrorKind, Session, Supervisor};
use tracing_subscriber::fmt::MakeWriter;

use crate::fixtures::{OAuth2Fixture, oauth2_fixture_with};
use crate::secret_scan::{SECRET, find_secret};
use crate::support::{SECOND, provider_of};

/// All that was logged or shown.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    /// Captures all logs until the guards are dropped.
    fn capture_logs(&self) -> (tracing::subscriber::DefaultGuard, tracing::Dispatch) {
        // Crates that use the `log` crate are captured too.
        drop(tracing_log::LogTracer::init());
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(self.clone())
            .with_ansi(false)
            .finish();
        // With one subscriber alone, a place in the code that another test comes to first is
        // switched off for good, because that test's thread has none.
        let second = tracing::Dispatch::new(tracing_subscriber::registry());
        (tracing::subscriber::set_default(subscriber), second)
    }

    fn add(&self, shown: impl std::fmt::Debug) {
        self.0.lock().extend(format!("{shown:?}\n{shown:#?}\n").into_bytes());
    }

    fn add_error(&self, error: &session_warden::Error) {
        self.add(error);
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = cause {
            self.0.lock().extend(format!("{error}\n").into_bytes());
            cause = error.source();
        }
    }

    fn lines_with(&self, part: &str) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.0.lock()).into_owned();
        text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }

    fn check(&self) {
        let text = String::from_utf8_lossy(&self.0.lock()).into_owned();
        assert!(text.contains("session_warden"), "the crate itself logged nothing");
        assert!(text.contains("hyper"), "the transport logged nothing");
        if let Some(form) = find_secret(text.as_bytes()) {
            let at = text.find(&form).unwrap_or_default();
            panic!("a secret was shown: ...{}", &text[at.saturating_sub(300)..at]);
        }
    }
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Invariant 10 without a disk: tokens, passwords, codes, verifiers and client secrets carry a
/// marker through successes and every fault, with all logs on, and it is nowhere.
#[tokio::test]
async fn invariant_10_no_secret_is_in_any_log_error_event_or_debug_output() {
    let output = Output::default();
    let _guards = output.capture_logs();
    for rotation in [FakeRotation::Strict, FakeRotation::Fork(30 * SECOND)] {
        let clock = ManualClock::new();
        let server = FakeAuthServer::builder()
            .clock(clock.clone())
            .rotation(rotation)
            .token_prefix(SECRET)
            .client("client", SECRET)
            .user("ada", SECRET)
            .start()
            .await
            .unwrap();
        live(&server, &output, clock).await;
    }
    output.check();
}

/// The same where everything secret goes in headers.
#[tokio::test]
async fn invariant_10_no_secret_header_of_ioffice_is_in_any_log_error_event_or_debug_output() {
    let output = Output::default();
    let _guards = output.capture_logs();
    let clock = ManualClock::new();
    let builder = FakeAuthServer::builder().dialect(FakeDialect::IOffice).clock(clock.clone());
    let server = builder.token_prefix(SECRET).client("app", SECRET).user("ada", SECRET);
    let server = server.start().await.unwrap();
    let name = http::HeaderName::from_static("x-client-secret");
    let provider = IOffice::new(server.url(), "app", "https://b.example/cb").unwrap();
    let provider = provider.client_secret_header(name, SECRET).unwrap();
    output.add(&provider);
    let supervisor = Supervisor::builder()
        .clock(clock.clone())
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("ioffice", provider)
        .start()
        .await
        .unwrap();
    let session: Session<IOffice> =
        supervisor.sessions("ioffice").unwrap().session(crate::support::key("ada"));
    for fault in faults() {
        let grant = ioffice::IOfficePassword::new("ada", SECRET);
        output.add(&grant);
        output.add(crate::support::until(&clock, session.establish(grant)).await);
        server.fail_next(Endpoint::SecurityFactor, fault.clone());
        output.add(session.establish(ioffice::IOfficePassword::new("ada", SECRET)).await);
        server.fail_next(Endpoint::RefreshToken, fault);
        look(&session, &output).await;
        output.add(session.call(ioffice::TokenInfo).await);
        clock.advance(Duration::from_secs(7200)).await;
    }
    let unsendable = ioffice::IOfficePassword::new("ada", format!("{SECRET}\n"));
    output.add_error(&session.establish(unsendable).await.unwrap_err());
    output.add_error(&session.establish(ioffice::IOfficeCode::new(SECRET)).await.unwrap_err());
    output.add(session.revoke().await);
    output.add(supervisor.shutdown(SECOND).await);
    output.check();
}

async fn live(server: &FakeAuthServer, output: &Output, clock: ManualClock) {
    let provider = provider_of(server).client_secret_basic(SECRET);
    output.add(&provider);
    let mut fixture = oauth2_fixture_with(provider, clock, MemoryStore::new()).await;
    for fault in faults() {
        let _ = sign_in(&fixture, output).await;
        server.fail_next(Endpoint::RefreshToken, fault);
        look(&fixture.session, output).await;
        output.add(serde_json::to_string(&fixture.supervisor.health().await).unwrap());
        fixture.clock.advance(Duration::from_secs(7200)).await;
        look(&fixture.session, output).await;
    }
    let code = server.authorization_code("ada", "https://b.example/cb", None);
    let code =
        AuthorizationCode::new(code).redirect_uri("https://b.example/cb").code_verifier(SECRET);
    output.add(&code);
    drop(fixture.session.establish(code).await.map_err(|error| output.add_error(&error)));
    let wrong = Password::new("ada", format!("{SECRET} wrong"));
    let refused = fixture.session.establish(wrong).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Refused(_)));
    output.add_error(&refused);
    server.set_client_secret("client", "another");
    look(&fixture.session, output).await;
    server.set_client_secret("client", SECRET);
    output.add(fixture.session.revoke().await);
    output.add(fixture.store.load(fixture.session.id()).await.unwrap());
    output.add(fixture.supervisor.list(Filter::default()).collect::<Vec<_>>().await);
    output.add(import(&fixture).await);
    output.add(fixture.supervisor.snapshot());
    fixture.clock.advance(Duration::ZERO).await;
    while let Some(Some(event)) = fixture.events.next().now_or_never() {
        output.add(serde_json::to_string(&event).unwrap());
        output.add(event.to_string());
        output.add(event);
    }
    output.add(fixture.supervisor.shutdown(SECOND).await);
    by_post(server, output, fixture.clock.clone()).await;
}

/// The same with the secret in the body, and a transport whose proxy has a password.
async fn by_post(server: &FakeAuthServer, output: &Output, clock: ManualClock) {
    let transport = TransportConfig::default().allow_loopback_http();
    let proxied =
        TransportConfig::default().proxy(&format!("http://u:{SECRET}@127.0.0.1:9")).unwrap();
    output.add(&proxied);
    let provider = provider_of(server).client_secret_post(SECRET);
    let builder =
        Supervisor::builder().clock(clock).transport(transport).provider("post", provider);
    output.add(&builder);
    let supervisor = builder.start().await.unwrap();
    let key = crate::support::key("device");
    let session: Session<OAuth2> = supervisor.sessions("post").unwrap().session(key);
    output.add(session.establish(Password::new("ada", SECRET)).await);
    look(&session, output).await;
}

async fn import(fixture: &OAuth2Fixture) -> impl std::fmt::Debug + use<> {
    let rows = ["imported", "refused"].map(|name| {
        let refresh = if name == "refused" { "" } else { SECRET };
        let tokens = Tokens::new(Attributes::default()).with_access_token(SECRET, None);
        (crate::support::key(name), tokens.with_refresh_token(refresh, None))
    });
    let sessions = fixture.supervisor.sessions::<OAuth2>("oauth2").unwrap();
    sessions.import(stream::iter(rows)).await
}

async fn sign_in(fixture: &OAuth2Fixture, output: &Output) -> Option<()> {
    let grant = Password::new("ada", SECRET);
    output.add(&grant);
    match fixture.until(fixture.session.establish(grant)).await {
        Ok(established) => {
            output.add(established);
            Some(())
        }
        Err(error) => {
            output.add_error(&error);
            None
        }
    }
}

async fn look<P: Provider>(session: &Session<P>, output: &Output) {
    for got in [session.permission_token().await, session.refresh().await] {
        match got {
            Ok(token) => {
                assert!(token.expose_secret().contains(SECRET), "the token carries the marker");
                output.add((&token, token.header()));
            }
            Err(error) => output.add_error(&error),
        }
    }
    output.add(session.status().await);
    output.add(session.attributes().await);
    if let Ok(tokens) = session.export_secrets().await {
        output.add(&tokens);
        output.add(session.adopt(tokens, Adopt::IfVacant).await);
    }
    output.add(session);
}

fn faults() -> Vec<Fault> {
    let status =
        |code| Fault::Status { code, retry_after: None, body: Some(format!("<p>{SECRET}</p>")) };
    vec![
        Fault::DropAfterCommit,
        Fault::CloseBeforeProcessing,
        Fault::Malformed,
        Fault::WrongTypes,
        Fault::Html,
        Fault::NoAccessToken,
        Fault::TornBody,
        Fault::HugeBody,
        Fault::BodyAfterCommit(format!("{{\"access_token\":[\"{SECRET}\"]}}").into_bytes()),
        Fault::BodyAfterCommit(format!("{{\"{SECRET}\":1,\"{SECRET}\":2").into_bytes()),
        Fault::RedirectTo(format!("http://127.0.0.1:9/?token={SECRET}")),
        status(400),
        status(401),
        status(500),
        status(429),
    ]
}
