//! Logins through a browser, over real HTTP.

mod mix_up;
mod pushed;
mod refusals;

use std::collections::HashMap;

use session_warden::error::Result;
use session_warden::policy::Policy;
use session_warden::provider::oauth2::{LoginOptions, OAuth2};
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::session::Login;
use session_warden::store::MemoryStore;
use session_warden::supervisor::Sessions;
use session_warden::testing::{Endpoint, FakeAuthServer, Faults, FaultyStore, ManualClock};
use session_warden::transport::TransportConfig;
use session_warden::{Establishment, Supervisor};
use url::Url;

use crate::support::{key, provider_of};

const BACK: &str = "https://app.example/back?from=login";

/// A process whose users log in at `server`.
struct LoginFixture {
    server: FakeAuthServer,
    clock: ManualClock,
    ring: KeyRing,
    store: MemoryStore,
    faults: Faults,
    supervisor: Supervisor,
    sessions: Sessions<OAuth2>,
}

/// A client of this server that has logins.
fn logging_in(server: &FakeAuthServer) -> OAuth2 {
    let client = provider_of(server).redirect_uri(BACK).unwrap().scope("read");
    let client = client.issuer(server.url()).unwrap();
    client.authorization_endpoint(&format!("{}/authorize", server.url())).unwrap()
}

fn ring(number: u32, byte: u8) -> KeyRing {
    KeyRing::new(number, MasterKey::from([byte; 32]))
}

async fn process(
    server: &FakeAuthServer,
    clock: &ManualClock,
    ring: &KeyRing,
    store: &MemoryStore,
) -> (Supervisor, Faults) {
    let faulty = FaultyStore::new(store.clone());
    let faults = faulty.faults();
    let supervisor = Supervisor::builder()
        .clock(clock.clone())
        .store(faulty)
        .key_ring(ring.clone())
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("oauth2", logging_in(server))
        .provider("other", logging_in(server))
        .start()
        .await
        .unwrap();
    (supervisor, faults)
}

impl LoginFixture {
    async fn new() -> Self {
        let (clock, ring, store) = (ManualClock::new(), ring(1, 7), MemoryStore::new());
        let server = FakeAuthServer::builder().clock(clock.clone()).client("client", "secret");
        let server = server.start().await.unwrap();
        let (supervisor, faults) = process(&server, &clock, &ring, &store).await;
        let sessions = supervisor.sessions("oauth2").unwrap();
        Self { server, clock, ring, store, faults, supervisor, sessions }
    }

    /// Another process with this ring, at the same server and on the same store.
    async fn beside(&self, ring: &KeyRing) -> Sessions<OAuth2> {
        let (supervisor, _) = process(&self.server, &self.clock, ring, &self.store).await;
        supervisor.sessions("oauth2").unwrap()
    }

    async fn begin(&self, name: &str) -> Login {
        self.sessions.begin_login(key(name), LoginOptions::new()).await.unwrap()
    }

    /// How often a code came to the token endpoint.
    fn codes(&self) -> u64 {
        self.server.count(Endpoint::AuthorizationCode)
    }

    async fn finish(&self, login: &Login, back: &str) -> Result<()> {
        finish(&self.sessions, login, back).await
    }
}

async fn finish(sessions: &Sessions<OAuth2>, login: &Login, back: &str) -> Result<()> {
    sessions.finish_login(&login.ticket, back).await.map(drop)
}

/// Where the browser is sent that comes to this URL. It does not go there.
async fn follow(login: &Login) -> String {
    let browser = reqwest::Client::builder().no_proxy();
    let browser = browser.redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = browser.get(login.url.as_str()).send().await.unwrap();
    answer.headers()["location"].to_str().unwrap().to_owned()
}

fn query(url: &str) -> HashMap<String, String> {
    Url::parse(url).unwrap().query_pairs().into_owned().collect()
}

#[tokio::test]
async fn a_browser_that_is_sent_to_the_server_comes_back_with_a_session() {
    let fixture = LoginFixture::new().await;
    let options = LoginOptions::new().scope("openid").prompt("consent").login_hint("ada");
    let login = fixture.sessions.begin_login(key("device"), options).await.unwrap();
    let asked = query(login.url.as_str());
    assert_eq!((asked["scope"].as_str(), asked["redirect_uri"].as_str()), ("openid", BACK));
    assert_eq!((asked["prompt"].as_str(), asked["login_hint"].as_str()), ("consent", "ada"));
    assert_eq!(fixture.server.counts().connections, 0, "nothing is asked before the browser goes");

    let back = follow(&login).await;
    let (session, established) = fixture.sessions.finish_login(&login.ticket, &back).await.unwrap();
    let Establishment::Active(attributes) = established;
    assert_eq!(attributes.scope.as_deref(), Some("openid"));
    assert_eq!(session.id().key(), &key("device"));
    let token = session.permission_token().await.unwrap();
    assert!(fixture.server.is_active(token.expose_secret()));
    assert_eq!(session.refresh().await.unwrap().generation(), 2);
    assert_eq!((fixture.codes(), fixture.server.counts().authorization_code.granted), (1, 1));
}

#[tokio::test]
async fn only_the_query_of_the_redirect_is_needed_and_the_session_may_finish_its_own() {
    let fixture = LoginFixture::new().await;
    let session = fixture.sessions.session(key("device"));
    let login = session.begin_login(LoginOptions::new()).await.unwrap();
    let back = follow(&login).await;
    let (_, query) = back.split_once('?').unwrap();
    let _ = session.finish_login(&login.ticket, query).await.unwrap();
    assert_eq!(session.permission_token().await.unwrap().epoch(), 1);
}

#[tokio::test]
async fn a_login_is_finished_by_another_process_with_the_same_key_ring() {
    let fixture = LoginFixture::new().await;
    let login = fixture.begin("device").await;
    let back = follow(&login).await;
    // The cookie is text on its way.
    let ticket = login.ticket.as_str().parse().unwrap();
    let beside = fixture.beside(&ring(1, 7)).await;
    let (session, _) = beside.finish_login(&ticket, &back).await.unwrap();
    let token = session.permission_token().await.unwrap();
    let found = fixture.sessions.session(key("device")).permission_token().await.unwrap();
    assert_eq!(token.expose_secret(), found.expose_secret());
    assert_eq!(fixture.codes(), 1);
}

#[tokio::test]
async fn a_login_replaces_the_session_that_serves_until_then() {
    let fixture = LoginFixture::new().await;
    let first = fixture.begin("device").await;
    fixture.finish(&first, &follow(&first).await).await.unwrap();
    let session = fixture.sessions.session(key("device"));
    let second = fixture.begin("device").await;
    let back = follow(&second).await;
    assert_eq!(session.permission_token().await.unwrap().epoch(), 1);
    fixture.finish(&second, &back).await.unwrap();
    assert_eq!(session.permission_token().await.unwrap().epoch(), 2);
}

#[tokio::test]
async fn no_two_logins_have_a_state_a_verifier_or_a_ticket_in_common() {
    let fixture = LoginFixture::new().await;
    let (one, other) = (fixture.begin("device").await, fixture.begin("device").await);
    let (one_asked, other_asked) = (query(one.url.as_str()), query(other.url.as_str()));
    for secret in ["state", "code_challenge"] {
        assert!(one_asked[secret].len() >= 43, "{secret}");
        assert_ne!(one_asked[secret], other_asked[secret], "{secret}");
    }
    assert_ne!(one.ticket.as_str(), other.ticket.as_str());
    assert_eq!(one_asked["code_challenge_method"], "S256");
}

#[tokio::test]
async fn a_login_ends_when_its_policy_says_so_and_says_when_that_is() {
    let fixture = LoginFixture::new().await;
    let login = fixture.begin("device").await;
    let expected =
        session_warden::clock::Clock::now(&fixture.clock).wall + Policy::default().login_ttl;
    assert_eq!(login.expires_at, expected);
}

#[tokio::test]
async fn nothing_of_a_login_that_is_secret_is_in_its_debug_output() {
    let fixture = LoginFixture::new().await;
    let login = fixture.begin("device").await;
    let asked = query(login.url.as_str());
    let shown = format!("{login:?} {:?} {:#?}", login.ticket, fixture.sessions);
    for secret in [&asked["state"], &asked["code_challenge"], &login.ticket.as_str().to_owned()] {
        assert!(!shown.contains(secret.as_str()), "{shown}");
    }
}
