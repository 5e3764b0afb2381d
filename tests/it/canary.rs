//! A canary in every secret, and all that the crate says listened to.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use futures_util::{StreamExt, stream};
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

use crate::support::{OAuthWorld, SECOND, oauth2_with, provider_of};

const CANARY: &str = "canary7f3a";

/// All that was logged, shown or told.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    /// Hears while the answer lives.
    fn to_all_logs(&self) -> (tracing::subscriber::DefaultGuard, tracing::Dispatch) {
        // What uses the `log` crate is heard too.
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

    fn listen(&self, what: impl std::fmt::Debug) {
        self.0.lock().extend(format!("{what:?}\n{what:#?}\n").into_bytes());
    }

    fn listen_to(&self, error: &session_warden::Error) {
        self.listen(error);
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = cause {
            self.0.lock().extend(format!("{error}\n").into_bytes());
            cause = error.source();
        }
    }

    fn check(&self) {
        let text = String::from_utf8_lossy(&self.0.lock()).into_owned();
        assert!(text.contains("session_warden"), "nothing was heard of the crate itself");
        assert!(text.contains("hyper"), "nothing was heard of the transport");
        // In base64 the canary looks different at each of three offsets; the ends vary with what
        // stands around it.
        let encoded = (0..3).map(|offset| {
            let padded = format!("{}{CANARY}", "x".repeat(offset));
            let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(padded);
            encoded[4..encoded.len() - 2].to_owned()
        });
        let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
        for form in encoded.chain([hex, CANARY.to_owned()]) {
            if let Some(at) = text.find(&form) {
                panic!("a secret was shown: ...{}", &text[at.saturating_sub(300)..at]);
            }
        }
    }
}

impl io::Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Heard {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Invariant 10 without a disk: tokens, passwords, codes, verifiers and client secrets carry a
/// canary through successes and every fault, with all logs on, and it is nowhere.
#[tokio::test]
async fn invariant_10_no_secret_is_in_any_log_error_event_or_debug_output() {
    let heard = Heard::default();
    let _listening = heard.to_all_logs();
    for rotation in [FakeRotation::Strict, FakeRotation::Fork(30 * SECOND)] {
        let clock = ManualClock::new();
        let server = FakeAuthServer::builder()
            .clock(clock.clone())
            .rotation(rotation)
            .token_prefix(CANARY)
            .client("client", CANARY)
            .user("ada", CANARY)
            .start()
            .await
            .unwrap();
        live(&server, &heard, clock).await;
    }
    heard.check();
}

/// The same where everything secret goes in headers.
#[tokio::test]
async fn invariant_10_no_secret_header_of_ioffice_is_in_any_log_error_event_or_debug_output() {
    let heard = Heard::default();
    let _listening = heard.to_all_logs();
    let clock = ManualClock::new();
    let builder = FakeAuthServer::builder().dialect(FakeDialect::IOffice).clock(clock.clone());
    let server = builder.token_prefix(CANARY).client("app", CANARY).user("ada", CANARY);
    let server = server.start().await.unwrap();
    let name = http::HeaderName::from_static("x-client-secret");
    let provider = IOffice::new(server.url(), "app", "https://b.example/cb").unwrap();
    let provider = provider.client_secret_header(name, CANARY).unwrap();
    heard.listen(&provider);
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
        let grant = ioffice::Password::new("ada", CANARY);
        heard.listen(&grant);
        heard.listen(crate::support::until(&clock, session.establish(grant)).await);
        server.fail_next(Endpoint::SecurityFactor, fault.clone());
        heard.listen(session.establish(ioffice::Password::new("ada", CANARY)).await);
        server.fail_next(Endpoint::RefreshToken, fault);
        look(&session, &heard).await;
        heard.listen(session.call(ioffice::TokenInfo).await);
        clock.advance(Duration::from_secs(7200)).await;
    }
    let unsendable = ioffice::Password::new("ada", format!("{CANARY}\n"));
    heard.listen_to(&session.establish(unsendable).await.unwrap_err());
    heard.listen_to(&session.establish(ioffice::Code::new(CANARY)).await.unwrap_err());
    heard.listen(session.revoke().await);
    heard.listen(supervisor.shutdown(SECOND).await);
    heard.check();
}

async fn live(server: &FakeAuthServer, heard: &Heard, clock: ManualClock) {
    let provider = provider_of(server).client_secret_basic(CANARY);
    heard.listen(&provider);
    let mut world = oauth2_with(provider, clock, MemoryStore::new()).await;
    for fault in faults() {
        let _ = sign_in(&world, heard).await;
        server.fail_next(Endpoint::RefreshToken, fault);
        look(&world.session, heard).await;
        world.clock.advance(Duration::from_secs(7200)).await;
        look(&world.session, heard).await;
    }
    let code = server.authorization_code("ada", "https://b.example/cb", None);
    let code =
        AuthorizationCode::new(code).redirect_uri("https://b.example/cb").code_verifier(CANARY);
    heard.listen(&code);
    drop(world.session.establish(code).await.map_err(|error| heard.listen_to(&error)));
    let wrong = Password::new("ada", format!("{CANARY} wrong"));
    let refused = world.session.establish(wrong).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Refused(_)));
    heard.listen_to(&refused);
    server.set_client_secret("client", "another");
    look(&world.session, heard).await;
    server.set_client_secret("client", CANARY);
    heard.listen(world.session.revoke().await);
    heard.listen(world.store.load(world.session.id()).await.unwrap());
    heard.listen(world.supervisor.list(Filter::default()).collect::<Vec<_>>().await);
    heard.listen(import(&world).await);
    heard.listen(world.supervisor.snapshot());
    for event in world.happened().await {
        heard.listen(event);
    }
    heard.listen(world.supervisor.shutdown(SECOND).await);
    by_post(server, heard, world.clock.clone()).await;
}

/// The same with the secret in the body, and a transport whose proxy has a password.
async fn by_post(server: &FakeAuthServer, heard: &Heard, clock: ManualClock) {
    let transport = TransportConfig::default().allow_loopback_http();
    let proxied =
        TransportConfig::default().proxy(&format!("http://u:{CANARY}@127.0.0.1:9")).unwrap();
    heard.listen(&proxied);
    let provider = provider_of(server).client_secret_post(CANARY);
    let builder =
        Supervisor::builder().clock(clock).transport(transport).provider("post", provider);
    heard.listen(&builder);
    let supervisor = builder.start().await.unwrap();
    let key = crate::support::key("device");
    let session: Session<OAuth2> = supervisor.sessions("post").unwrap().session(key);
    heard.listen(session.establish(Password::new("ada", CANARY)).await);
    look(&session, heard).await;
}

async fn import(world: &OAuthWorld) -> impl std::fmt::Debug + use<> {
    let rows = ["imported", "refused"].map(|name| {
        let refresh = if name == "refused" { "" } else { CANARY };
        let tokens = Tokens::new(Attributes::default()).access(CANARY, None);
        (crate::support::key(name), tokens.refresh(refresh, None))
    });
    let sessions = world.supervisor.sessions::<OAuth2>("oauth2").unwrap();
    sessions.import(stream::iter(rows)).await
}

async fn sign_in(world: &OAuthWorld, heard: &Heard) -> Option<()> {
    let grant = Password::new("ada", CANARY);
    heard.listen(&grant);
    match world.until(world.session.establish(grant)).await {
        Ok(established) => {
            heard.listen(established);
            Some(())
        }
        Err(error) => {
            heard.listen_to(&error);
            None
        }
    }
}

async fn look<P: Provider>(session: &Session<P>, heard: &Heard) {
    for got in [session.permission_token().await, session.refresh().await] {
        match got {
            Ok(token) => {
                assert!(token.expose_secret().contains(CANARY), "the canary sings");
                heard.listen((&token, token.header()));
            }
            Err(error) => heard.listen_to(&error),
        }
    }
    heard.listen(session.status().await);
    heard.listen(session.attributes().await);
    if let Ok(tokens) = session.export_secrets().await {
        heard.listen(&tokens);
        heard.listen(session.adopt(tokens, Adopt::IfVacant).await);
    }
    heard.listen(session);
}

fn faults() -> Vec<Fault> {
    let status =
        |code| Fault::Status { code, retry_after: None, body: Some(format!("<p>{CANARY}</p>")) };
    vec![
        Fault::DropAfterCommit,
        Fault::CloseBeforeProcessing,
        Fault::Malformed,
        Fault::WrongTypes,
        Fault::Html,
        Fault::NoAccessToken,
        Fault::TornBody,
        Fault::HugeBody,
        Fault::BodyAfterCommit(format!("{{\"access_token\":[\"{CANARY}\"]}}").into_bytes()),
        Fault::BodyAfterCommit(format!("{{\"{CANARY}\":1,\"{CANARY}\":2").into_bytes()),
        Fault::RedirectTo(format!("http://127.0.0.1:9/?token={CANARY}")),
        status(400),
        status(401),
        status(500),
        status(429),
    ]
}
