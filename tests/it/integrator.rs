//! A user's program: one iOFFICE site per customer, with a form, a browser login and a service
//! account each. It was written before the crate existed. Only the handlers differ from that: a
//! memory store, loopback addresses, and the real names.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use secrecy::SecretString;
use session_warden::key::Tenant;
use session_warden::provider::Registration;
use session_warden::provider::ioffice::{
    FRAGMENT_RELAY_CSP, FRAGMENT_RELAY_HTML, IOffice, IOfficePassword, TokenInfo,
};
use session_warden::seal::KeyRing;
use session_warden::store::MemoryStore;
use session_warden::testing::{Endpoint, FakeAuthServer, FakeDialect, ManualClock};
use session_warden::ticket::Ticket;
use session_warden::transport::TransportConfig;
use session_warden::{Error, ErrorKind, Establishment, SessionKey, Sessions, Supervisor};
use tokio::net::TcpListener;

use crate::support::SECOND;

#[derive(Clone, Default)]
struct Db(Arc<Mutex<HashMap<String, Row>>>);

#[derive(Clone)]
struct Row {
    site: String,
    client_id: String,
    user: String,
    password: SecretString,
}

#[derive(Debug, thiserror::Error)]
#[error("no such customer")]
struct DbErr;

impl Db {
    #[expect(clippy::unused_async, reason = "it stands for a question to a database")]
    async fn customer(&self, tenant: &str) -> Result<Row, DbErr> {
        self.0.lock().get(tenant).cloned().ok_or(DbErr)
    }
}

#[derive(Clone)]
struct App {
    ioffice: Sessions<IOffice>,
}

/// The user's `main`.
async fn supervise(db: Db, clock: ManualClock) -> Result<Supervisor, Error> {
    Supervisor::builder()
        .clock(clock)
        .key_ring(KeyRing::generate()?)
        .store(MemoryStore::new())
        .transport(
            TransportConfig::default()
                .allow_loopback_http()
                .allow_hosts(["127.0.0.1"])
                .tenants_reach_internal_addresses(),
        )
        .provider_per_tenant("ioffice", move |tenant: Tenant| {
            let db = db.clone();
            async move {
                let row = db.customer(tenant.as_str()).await?;
                let provider = IOffice::new(&row.site, &row.client_id, "https://me/callback")?;
                let again = db.clone();
                Ok(Registration::new(provider).renew_with(move |key: SessionKey, _| {
                    let db = again.clone();
                    async move {
                        let row = db.customer(key.tenant().as_str()).await.ok()?;
                        Some(IOfficePassword::new(row.user, row.password).into())
                    }
                }))
            }
        })
        .start()
        .await
}

fn router(app: App) -> Router {
    Router::new()
        .route("/{tenant}/form", post(form))
        .route("/{tenant}/settings", post(settings))
        .route("/{tenant}/go", get(go))
        .route("/callback", get(callback))
        .route("/callback/done", post(done))
        .with_state(app)
}

#[derive(serde::Deserialize)]
struct Login {
    user: String,
    password: SecretString,
}

async fn form(
    State(app): State<App>,
    Path(tenant): Path<String>,
    Form(form): Form<Login>,
) -> Result<StatusCode, StatusCode> {
    let session = app.ioffice.session(SessionKey::new(tenant, "service").map_err(invalid)?);
    let grant = IOfficePassword::new(form.user, form.password);
    let Establishment::Active(_) = session.establish(grant).await.map_err(code)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn settings(State(app): State<App>, Path(tenant): Path<String>) -> Result<(), StatusCode> {
    app.ioffice.reload(Some(&Tenant::new(tenant).map_err(invalid)?)).await.map_err(code)
}

async fn go(State(app): State<App>, Path(tenant): Path<String>) -> Result<Response, StatusCode> {
    let key = SessionKey::new(tenant, "ada").map_err(invalid)?;
    let login = app.ioffice.begin_login(key, ()).await.map_err(code)?;
    let cookie = format!("login={}; HttpOnly; Secure; SameSite=Lax", login.ticket.as_str());
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(login.url.as_str())).into_response())
}

async fn callback() -> impl IntoResponse {
    ([(header::CONTENT_SECURITY_POLICY, FRAGMENT_RELAY_CSP)], Html(FRAGMENT_RELAY_HTML))
}

async fn done(
    State(app): State<App>,
    headers: HeaderMap,
    body: String,
) -> Result<Redirect, StatusCode> {
    let cookie = headers.get(header::COOKIE).and_then(|cookie| cookie.to_str().ok());
    let ticket = cookie.and_then(|cookie| cookie.strip_prefix("login="));
    let ticket = Ticket::parse(ticket.unwrap_or_default()).map_err(code)?;
    let (session, Establishment::Active(_)) =
        app.ioffice.finish_login(&ticket, &body).await.map_err(code)?;
    let live = session.call(TokenInfo).await.map_err(code)?;
    if live { Ok(Redirect::to("/")) } else { Err(StatusCode::BAD_GATEWAY) }
}

fn invalid(_: session_warden::key::InvalidKey) -> StatusCode {
    StatusCode::BAD_REQUEST
}

#[expect(clippy::wildcard_enum_match_arm, reason = "as a user writes it")]
fn code(error: Error) -> StatusCode {
    match error.kind() {
        ErrorKind::Misconfigured => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorKind::RetryLater => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// The program, its two customers, and a browser that follows no redirect on its own.
struct AppFixture {
    url: String,
    browser: reqwest::Client,
    app: App,
    db: Db,
    clock: ManualClock,
    acme: FakeAuthServer,
    bolt: FakeAuthServer,
}

impl AppFixture {
    async fn start() -> Self {
        let clock = ManualClock::new();
        let site = || {
            let site = FakeAuthServer::builder().dialect(FakeDialect::IOffice);
            site.clock(clock.clone()).user("svc", "p w").start()
        };
        let (acme, bolt) = (site().await.unwrap(), site().await.unwrap());
        let db = Db::default();
        for (tenant, site) in [("acme", &acme), ("bolt", &bolt)] {
            let password = SecretString::from("p w");
            let (site, client_id) = (site.url().to_owned(), format!("id-{tenant}"));
            let row = Row { site, client_id, user: "svc".to_owned(), password };
            db.0.lock().insert(tenant.to_owned(), row);
        }
        let supervisor = supervise(db.clone(), clock.clone()).await.unwrap();
        let app = App { ioffice: supervisor.sessions("ioffice").unwrap() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = router(app.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let browser = reqwest::Client::builder().no_proxy();
        let browser = browser.redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { url, browser, app, db, clock, acme, bolt }
    }

    async fn post(&self, path: &str, cookie: &str, body: &str) -> StatusCode {
        let request = self.browser.post(format!("{}{path}", self.url)).header("cookie", cookie);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(body.to_owned()).send().await.unwrap().status()
    }

    /// From "log in" to the page behind the redirect: the cookie, and the fragment as the relay
    /// page posts it.
    async fn log_in(&self, tenant: &str) -> (String, String) {
        let begun = self.browser.get(format!("{}/{tenant}/go", self.url)).send().await.unwrap();
        assert_eq!(begun.status(), 303);
        let cookie = begun.headers()["set-cookie"].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let login = begun.headers()["location"].to_str().unwrap();
        let back = self.browser.get(login).send().await.unwrap();
        let back = back.headers()["location"].to_str().unwrap();
        let (place, fragment) = back.split_once('#').unwrap();
        assert_eq!(place, "https://me/callback");
        (cookie, fragment.to_owned())
    }
}

#[tokio::test]
async fn each_customers_password_goes_to_the_customers_own_site() {
    let fixture = AppFixture::start().await;
    let login = "user=svc&password=p+w";
    assert_eq!(fixture.post("/acme/form", "", login).await, StatusCode::NO_CONTENT);
    let sites = [&fixture.acme, &fixture.bolt];
    assert_eq!(sites.map(|site| site.count(Endpoint::SecurityFactor)), [1, 0]);
    let wrong = fixture.post("/bolt/form", "", "user=svc&password=wrong").await;
    assert_eq!(wrong, StatusCode::BAD_REQUEST);
    let unknown = fixture.post("/nobody/form", "", login).await;
    assert_eq!(unknown, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(sites.map(|site| site.count(Endpoint::SecurityFactor)), [1, 1]);
}

#[tokio::test]
async fn a_browser_logs_in_by_the_relay_page_and_its_cookie() {
    let fixture = AppFixture::start().await;
    let (cookie, fragment) = fixture.log_in("acme").await;
    let page = fixture.browser.get(format!("{}/callback", fixture.url)).send().await.unwrap();
    assert_eq!(page.headers()["content-security-policy"], FRAGMENT_RELAY_CSP);
    assert!(page.text().await.unwrap().contains("action=\"callback/done\""));
    // Without this browser's ticket, the fragment is useless.
    assert_eq!(fixture.post("/callback/done", "login=", &fragment).await, StatusCode::BAD_REQUEST);
    assert_eq!(
        fixture.post("/callback/done", "login=x.y", &fragment).await,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(fixture.post("/callback/done", &cookie, &fragment).await, StatusCode::SEE_OTHER);
    assert_eq!(fixture.post("/callback/done", &cookie, &fragment).await, StatusCode::BAD_REQUEST);
    assert_eq!(fixture.acme.counts().authorization_code.granted, 1);
    assert_eq!(fixture.acme.count(Endpoint::Introspect), 1);
    assert_eq!(fixture.bolt.counts().connections, 0);
}

#[tokio::test]
async fn a_code_of_one_customers_site_is_no_login_at_anothers() {
    let fixture = AppFixture::start().await;
    let (cookie, _) = fixture.log_in("bolt").await;
    let (_, fragment) = fixture.log_in("acme").await;
    assert_eq!(fixture.post("/callback/done", &cookie, &fragment).await, StatusCode::BAD_REQUEST);
    assert_eq!((fixture.acme.live_grants(), fixture.bolt.live_grants()), (0, 0));
}

#[tokio::test]
async fn a_service_account_that_is_lost_signs_in_again_with_the_password_that_is_on_file() {
    let fixture = AppFixture::start().await;
    assert_eq!(
        fixture.post("/acme/form", "", "user=svc&password=p+w").await,
        StatusCode::NO_CONTENT
    );
    fixture.acme.kill_all_grants();
    fixture.clock.advance(3601 * SECOND).await;
    let session = fixture.app.ioffice.session(SessionKey::new("acme", "service").unwrap());
    let token = session.permission_token().await.unwrap();
    assert!(fixture.acme.is_active(token.expose_secret()));
    assert_eq!((token.epoch(), fixture.acme.count(Endpoint::SecurityFactor)), (2, 2));
}

#[tokio::test]
async fn changed_settings_take_hold_without_a_restart() {
    let fixture = AppFixture::start().await;
    let login = "user=svc&password=p+w";
    assert_eq!(fixture.post("/acme/form", "", login).await, StatusCode::NO_CONTENT);
    // The customer moves to another site.
    if let Some(row) = fixture.db.0.lock().get_mut("acme") {
        fixture.bolt.url().clone_into(&mut row.site);
    }
    assert_eq!(fixture.post("/acme/settings", "", "").await, StatusCode::OK);
    let session = fixture.app.ioffice.session(SessionKey::new("acme", "service").unwrap());
    let error = session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "its token belongs to the former site");
    assert_eq!(fixture.post("/acme/form", "", login).await, StatusCode::NO_CONTENT);
    session.permission_token().await.unwrap();
    assert_eq!(fixture.bolt.count(Endpoint::SecurityFactor), 1);
}
