//! A user's program: Spatium and Extra Horizon for the same device, behind axum. It was written
//! before the crate existed, and differs from that only here:
//!
//! - A memory store, loopback addresses, addresses as arguments, and a channel in place of Ctrl-C.
//!   The key ring is parsed and not taken from the environment, which tests share.
//! - Names live in modules. `SessionKey::new` and `Tenant::new` fail with [`InvalidKey`], which is
//!   smaller than an `Error` and becomes one: handlers with an error of their own convert both.
//! - Spatium's [`SecurityTokens`](spatium::SecurityTokens) are made of one token
//!   [`and`](spatium::SecurityTokens::and) others, because there is no session for none, and
//!   [`CredentialsFactor`](spatium::CredentialsFactor) has a constructor like all operations.
//! - Attributes may grow, so they are made by [`exh::ExtraHorizonAttributes::new`] and by `default`.
//! - [`ListTokens`](exh::ListTokens) can have a filter, and so is not a unit; a token is deleted
//!   [of its record](exh::DeleteToken::of), which tells the session that it was its own.
//! - There is one fake server for all dialects; a [`FakeProvider`] is made with its attributes.
//! - Handovers are an oAuth1 application's, which is a third provider.

mod handlers;

use std::time::Duration;

use axum::Router;
use axum::extract::FromRef;
use futures_util::StreamExt;
use http::StatusCode;
use parking_lot::Mutex;
use secrecy::SecretString;
use serde_json::{Value, json};
use session_warden::event::EventKind;
use session_warden::key::{InvalidKey, SessionId};
use session_warden::provider::extra_horizon::{
    self as exh, ExtraHorizonOAuth1 as Exh1, ExtraHorizonOAuth2 as Exh,
};
use session_warden::provider::spatium::{self, Spatium};
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::session::{SessionStatus, State};
use session_warden::store::MemoryStore;
use session_warden::supervisor::ShutdownReport;
use session_warden::testing::{Endpoint, FakeAuthServer, FakeDialect, FakeProvider, ManualClock};
use session_warden::token::Tokens;
use session_warden::transport::TransportConfig;
use session_warden::{Error, ErrorKind, Establishment, Session, SessionKey, Sessions, Supervisor};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{LIFE, SECOND};

#[derive(Clone)]
struct App {
    supervisor: Supervisor,
    spatium: Sessions<Spatium>,
    exh: Sessions<Exh>,
    http: reqwest::Client,
    api: String,
}

impl FromRef<App> for Supervisor {
    fn from_ref(app: &App) -> Self {
        app.supervisor.clone()
    }
}

impl FromRef<App> for Sessions<Exh> {
    fn from_ref(app: &App) -> Self {
        app.exh.clone()
    }
}

/// The first half of the user's `main`.
async fn supervise(site: &Sites, clock: ManualClock) -> Result<Supervisor, Error> {
    let spatium = format!("{}/authorization/v1", site.spatium.url());
    Supervisor::builder()
        .clock(clock)
        .key_ring(KeyRing::new(1, MasterKey::from([1; 32])))
        .store(MemoryStore::new())
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("spatium", Spatium::new(&spatium)?.permissions(["read", "secret"]))
        .provider("exh", Exh::public(site.exh.url(), "client")?)
        .provider("exh-1", Exh1::new(site.exh.url(), "ck", "cs")?)
        .start()
        .await
}

/// The second half. It sends to `lost` what it logs.
async fn serve(
    app: App,
    listener: TcpListener,
    stop: oneshot::Receiver<()>,
    lost: std::sync::Arc<Mutex<Vec<SessionId>>>,
) -> std::io::Result<ShutdownReport> {
    let supervisor = app.supervisor.clone();
    let router: Router = handlers::router(app);
    let mut events = supervisor.subscribe();
    let reporting = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let EventKind::Lost(reason) = event.kind {
                tracing::warn!(session = ?event.session, ?reason, "sign in again");
                lost.lock().extend(event.session);
            }
        }
    });
    let stopped = async { drop(stop.await) };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await?;
    let report = supervisor.shutdown(Duration::from_secs(20)).await;
    if !report.is_clean() {
        tracing::error!(?report, "credentials not on disk");
    }
    // Events end with the supervisor.
    reporting.await?;
    Ok(report)
}

async fn spatium_login(
    sessions: Sessions<Spatium>,
    key: SessionKey,
    token: String,
) -> Result<(), Error> {
    let token = spatium::SecurityToken::new(token);
    // Irrefutable: there is no challenge here.
    let Establishment::Active(_) =
        sessions.session(key).establish(spatium::SecurityTokens::new(token)).await?;
    Ok(())
}

async fn spatium_two_factors(
    sessions: Sessions<Spatium>,
    key: SessionKey,
    user: String,
    password: SecretString,
    otp: String,
) -> Result<Vec<String>, Error> {
    let factor = spatium::CredentialsFactor::new(user, password);
    let first = sessions.call(key.tenant(), factor).await?;
    let both = spatium::SecurityTokens::new(first).and(spatium::SecurityToken::new(otp));
    let Establishment::Active(attributes) = sessions.session(key).establish(both).await?;
    tracing::info!(?attributes.permissions);
    Ok(attributes.permissions)
}

/// Tenant, device, refresh token and user of each row.
type Row = (String, String, String, String);

async fn migrate(exh: Sessions<Exh>, rows: Vec<Row>) -> Result<(u64, u64), Error> {
    let rows = rows.into_iter().filter_map(|(tenant, device, refresh, user)| {
        let tokens =
            Tokens::new(exh::ExtraHorizonAttributes::new(user)).with_refresh_token(refresh, None);
        Some((SessionKey::new(tenant, device).ok()?, tokens))
    });
    let report = exh.import(futures_util::stream::iter(rows)).await?;
    tracing::info!(report.adopted, report.already_there);
    Ok((report.adopted, report.already_there))
}

async fn tokens_of(session: Session<Exh>) -> Result<(), Error> {
    for token in session.call(exh::ListTokens::new()).await? {
        session.call(exh::DeleteToken::of(&token)).await?;
    }
    Ok(())
}

async fn handover(from: Session<Exh1>, to: Session<Exh1>) -> Result<(), Error> {
    let sso = from.call(exh::GenerateSsoToken).await?;
    let _ = to.establish(sso).await?;
    Ok(())
}

async fn rotate(exh: Sessions<Exh>, host: &str) -> Result<(), Error> {
    exh.replace(Exh::public(host, "client-2")?).await
}

/// One server for each dialect.
struct Sites {
    spatium: FakeAuthServer,
    exh: FakeAuthServer,
}

impl Sites {
    async fn start(clock: &ManualClock) -> Self {
        let site = |dialect| {
            let site = FakeAuthServer::builder().dialect(dialect).clock(clock.clone());
            let site = site.public_client("client").public_client("client-2").client("ck", "cs");
            site.access_lifetime(LIFE).start()
        };
        let spatium = site(FakeDialect::Spatium).await.unwrap();
        Self { spatium, exh: site(FakeDialect::ExtraHorizon).await.unwrap() }
    }
}

/// The running program, and its two servers.
struct AppFixture {
    clock: ManualClock,
    sites: Sites,
    app: App,
    url: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<ShutdownReport>>,
    lost: std::sync::Arc<Mutex<Vec<SessionId>>>,
}

const LOGIN: &str = r#"{"user":"ada@example.com","password":"ok"}"#;

fn key(tenant: &str) -> SessionKey {
    SessionKey::new(tenant, "device").unwrap()
}

impl AppFixture {
    async fn start() -> Self {
        let clock = ManualClock::new();
        let sites = Sites::start(&clock).await;
        let supervisor = supervise(&sites, clock.clone()).await.unwrap();
        let app = App {
            spatium: supervisor.sessions("spatium").unwrap(),
            exh: supervisor.sessions("exh").unwrap(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            api: format!("{}/resource", sites.spatium.url()),
            supervisor,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let lost = std::sync::Arc::default();
        let serving = serve(app.clone(), listener, stopped, std::sync::Arc::clone(&lost));
        let serving = tokio::spawn(serving);
        Self { clock, sites, app, url, stop, serving, lost }
    }

    async fn post(&self, path: &str, body: impl Into<String>) -> (StatusCode, String) {
        let request = self.app.http.post(format!("{}{path}", self.url));
        let request = request.header("content-type", "application/json").body(body.into());
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    async fn status(&self, path: &str, body: impl Into<String>) -> StatusCode {
        self.post(path, body).await.0
    }

    /// A device at Spatium.
    async fn device(&self, tenant: &str) {
        let token = self.sites.spatium.security_token("ada");
        spatium_login(self.app.spatium.clone(), key(tenant), token).await.unwrap();
    }

    fn one(&self, tenant: &str) -> Session<Exh1> {
        self.app.supervisor.sessions("exh-1").unwrap().session(key(tenant))
    }
}

#[tokio::test]
async fn a_user_logs_in_and_the_errors_are_the_handlers_own() {
    let fixture = AppFixture::start().await;
    let (status, body) = fixture.post("/acme/device/login", LOGIN).await;
    assert_eq!(status, StatusCode::OK);
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told["user_id"].as_str().unwrap().len(), 24);
    let wrong = r#"{"user":"ada@example.com","password":"wrong"}"#;
    assert_eq!(fixture.status("/acme/device/login", wrong).await, StatusCode::FORBIDDEN);
    assert_eq!(fixture.status("/acme/a%0Ab/login", LOGIN).await, StatusCode::BAD_REQUEST);
    fixture.sites.exh.set_second_factor("ada@example.com", Some("1"));
    let other = json!({"ticket": "no ticket", "method": "m", "code": "1"}).to_string();
    assert_eq!(fixture.status("/acme/device/mfa", other).await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_second_factor_is_answered_in_another_request() {
    let fixture = AppFixture::start().await;
    fixture.sites.exh.set_second_factor("ada@example.com", Some("123456"));
    let (status, body) = fixture.post("/acme/device/login", LOGIN).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let told: Value = serde_json::from_str(&body).unwrap();
    let answer = |code: &str| {
        let method = &told["methods"][0]["id"];
        json!({"ticket": told["ticket"], "method": method, "code": code}).to_string()
    };
    assert_eq!(fixture.status("/acme/device/mfa", answer("000000")).await, StatusCode::FORBIDDEN);
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.status("/acme/other/mfa", answer("123456")).await, StatusCode::BAD_REQUEST);
    assert_eq!(fixture.status("/acme/device/mfa", answer("123456")).await, StatusCode::NO_CONTENT);
    let session = fixture.app.exh.session(key("acme"));
    assert_eq!(session.permission_token().await.unwrap().epoch(), 1);
}

#[tokio::test]
async fn two_factors_make_one_session_at_spatium() {
    let fixture = AppFixture::start().await;
    let otp = fixture.sites.spatium.security_token("ada");
    let (sessions, password) = (fixture.app.spatium.clone(), SecretString::from("ok"));
    let made = spatium_two_factors(sessions, key("acme"), "ada".to_owned(), password, otp.clone());
    assert_eq!(made.await.unwrap(), ["read", "secret"]);
    assert_eq!(fixture.status("/acme/device/read", "").await, StatusCode::OK);
    let used = spatium_login(fixture.app.spatium.clone(), key("other"), otp).await.unwrap_err();
    assert!(matches!(used.kind(), ErrorKind::Refused(_)));
}

#[tokio::test]
async fn a_read_whose_token_was_rejected_gets_another_the_next_time() {
    let fixture = AppFixture::start().await;
    assert_eq!(fixture.status("/acme/device/read", "").await, StatusCode::UNAUTHORIZED);
    fixture.device("acme").await;
    let (status, read) = fixture.post("/acme/device/read", "").await;
    assert_eq!(status, StatusCode::OK);
    fixture.sites.spatium.kill_access_tokens();
    assert_ne!(fixture.post("/acme/device/read", "").await.1, read);
    assert_eq!(fixture.sites.spatium.refreshes(), 0);
    assert_eq!(fixture.post("/acme/device/read", "").await, (StatusCode::OK, read));
    let spatium = &fixture.sites.spatium;
    assert_eq!((spatium.refreshes(), spatium.counts().resource.refused), (1, 1));
}

#[tokio::test]
async fn a_logout_ends_the_sessions_of_both_providers() {
    let fixture = AppFixture::start().await;
    fixture.device("acme").await;
    fixture.device("bolt").await;
    assert_eq!(fixture.status("/acme/device/login", LOGIN).await, StatusCode::OK);
    assert_eq!(fixture.status("/acme/device/logout", "").await, StatusCode::NO_CONTENT);
    let key = key("acme");
    for provider in ["spatium", "exh"] {
        let session = fixture.app.supervisor.session(provider, key.clone()).unwrap();
        assert_eq!(session.status().await.unwrap().state, State::Closed, "{provider}");
        let error = session.permission_token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotEstablished, "{provider}");
    }
    assert_eq!(fixture.status("/bolt/device/read", "").await, StatusCode::OK);
}

#[tokio::test]
async fn lost_sessions_are_reported_and_listed_for_their_tenant_alone() {
    let fixture = AppFixture::start().await;
    for tenant in ["acme", "bolt"] {
        fixture.device(tenant).await;
        assert_eq!(fixture.status(&format!("/{tenant}/device/login"), LOGIN).await, StatusCode::OK);
    }
    fixture.sites.spatium.kill_all_grants();
    fixture.clock.advance(LIFE + SECOND).await;
    for tenant in ["acme", "bolt"] {
        let read = fixture.status(&format!("/{tenant}/device/read"), "").await;
        assert_eq!(read, StatusCode::UNAUTHORIZED);
    }
    let (status, body) = fixture.post("/acme/sessions", "").await;
    assert_eq!(status, StatusCode::OK);
    let listed: Vec<Value> = serde_json::from_str(&body).unwrap();
    assert_eq!(listed.len(), 1, "{body}");
    assert!(body.contains("acme") && body.contains("spatium") && !body.contains("bolt"), "{body}");
    fixture.stop.send(()).unwrap();
    assert!(fixture.serving.await.unwrap().unwrap().is_clean());
    let lost = ["acme", "bolt"].map(|tenant| fixture.app.spatium.session(key(tenant)).id().clone());
    assert_eq!(*fixture.lost.lock(), lost);
}

#[tokio::test]
async fn rows_of_a_former_program_become_sessions_once() {
    let fixture = AppFixture::start().await;
    let former = supervise(&fixture.sites, fixture.clock.clone()).await.unwrap();
    let former: Session<Exh> = former.sessions("exh").unwrap().session(key("acme"));
    let password = exh::ExtraHorizonPassword::new("ada@example.com", "ok");
    let Establishment::Active(_) = former.establish(password).await.unwrap() else { panic!() };
    let held = former.export_secrets().await.unwrap();
    let refresh = held.refresh_token().unwrap().expose_secret().to_owned();
    let user = held.attributes().user_id.clone().unwrap();
    let row =
        |tenant: &str| (tenant.to_owned(), "device".to_owned(), refresh.clone(), user.clone());
    let rows = vec![row("acme"), row("no\ntenant")];
    assert_eq!(migrate(fixture.app.exh.clone(), rows.clone()).await.unwrap(), (1, 0));
    assert_eq!(migrate(fixture.app.exh.clone(), rows).await.unwrap(), (0, 1));
    let session = fixture.app.exh.session(key("acme"));
    let token = session.permission_token().await.unwrap();
    assert!(fixture.sites.exh.is_active(token.expose_secret()));
    assert_eq!(session.attributes().await.unwrap().user_id, Some(user));
    assert_eq!(fixture.sites.exh.refreshes(), 1);
}

#[tokio::test]
async fn all_tokens_of_a_user_are_listed_and_deleted() {
    let fixture = AppFixture::start().await;
    assert_eq!(fixture.status("/acme/device/login", LOGIN).await, StatusCode::OK);
    let session = fixture.app.exh.session(key("acme"));
    let token = session.permission_token().await.unwrap();
    tokens_of(session.clone()).await.unwrap();
    assert!(!fixture.sites.exh.is_active(token.expose_secret()));
    let next = session.permission_token().await.unwrap();
    assert_eq!((next.generation(), fixture.sites.exh.refreshes()), (2, 1));
}

#[tokio::test]
async fn a_single_use_token_hands_a_user_over_to_another_session() {
    let fixture = AppFixture::start().await;
    let (from, to) = (fixture.one("acme"), fixture.one("bolt"));
    let missing = handover(from.clone(), to.clone()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotEstablished);
    let password = exh::ExtraHorizonPassword::new("ada@example.com", "ok");
    let Establishment::Active(ada) = from.establish(password).await.unwrap() else { panic!() };
    handover(from, to.clone()).await.unwrap();
    assert_eq!(to.attributes().await.unwrap().user_id, ada.user_id);
    assert_eq!(fixture.sites.exh.live_grants(), 0, "these are not tokens of oAuth2");
    let _ = to.permission_token().await.unwrap();
}

#[tokio::test]
async fn another_client_takes_hold_at_once_and_gets_nothing_of_the_formers_sessions() {
    let fixture = AppFixture::start().await;
    assert_eq!(fixture.status("/acme/device/login", LOGIN).await, StatusCode::OK);
    rotate(fixture.app.exh.clone(), fixture.sites.exh.url()).await.unwrap();
    let session = fixture.app.exh.session(key("acme"));
    let error = session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert_eq!(fixture.sites.exh.count(Endpoint::RefreshToken), 0);
    assert_eq!(fixture.status("/acme/device/login", LOGIN).await, StatusCode::OK);
    assert_eq!(session.permission_token().await.unwrap().epoch(), 2);
}

/// The user's own test.
#[tokio::test]
async fn a_device_reads_again_after_its_token_expired() -> Result<(), Error> {
    let clock = ManualClock::new();
    let fake = FakeAuthServer::builder().dialect(FakeDialect::Spatium).clock(clock.clone());
    let fake = fake.access_lifetime(LIFE).start().await.unwrap();
    let sup = Supervisor::builder()
        .clock(clock.clone())
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("spatium", Spatium::new(fake.url())?)
        .start()
        .await?;
    let s: Session<Spatium> =
        sup.sessions("spatium")?.session(SessionKey::new("acme", "device-17")?);
    let token = spatium::SecurityToken::new(fake.security_token("ada"));
    let Establishment::Active(_) = s.establish(token).await?;
    clock.advance(Duration::from_secs(901)).await;
    s.permission_token().await?;
    assert_eq!(fake.refreshes(), 1);
    Ok(())
}

/// The user's own test.
#[tokio::test]
async fn a_handler_without_http() -> Result<(), Error> {
    let fake = FakeProvider::<Spatium>::new(spatium::SpatiumAttributes::default());
    let fake = fake.issue("t", Duration::from_secs(60));
    let sup = Supervisor::builder().provider("spatium", fake).start().await?;
    let s: Sessions<Spatium> = sup.sessions("spatium")?;
    spatium_login(s.clone(), key("acme"), "whatever".to_owned()).await?;
    let token = s.session(key("acme")).permission_token().await?;
    assert_eq!(token.expose_secret(), "t");
    Ok(())
}
