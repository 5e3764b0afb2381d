//! Clients with a private key or a certificate, from settings alone, at a server that checks both.

pub mod tls_proxy;

use rcgen::KeyPair;
use serde_json::{Value, json};
use session_warden::event::EventKind;
use session_warden::provider::Revoked;
use session_warden::provider::oauth2::{Introspect, OAuth2, OAuth2Settings, RevokeAccessToken};
use session_warden::store::MemoryStore;
use session_warden::supervisor::SupervisorBuilder;
use session_warden::testing::{Endpoint, FakeAuthServer, Faults, ManualClock};
use session_warden::transport::TransportConfig;
use session_warden::{ErrorKind, Session};

use self::tls_proxy::{Authority, CertifiedKeyPem, TlsProxy};
use crate::fixtures::{Fixture, OAuth2Fixture};
use crate::support::{SECOND, key};

/// A key of the curve P-256 in PEM.
pub struct EcKeyPem {
    pub private: String,
    pub public: String,
}

impl EcKeyPem {
    pub fn generate() -> Self {
        let key = KeyPair::generate().unwrap();
        Self { private: key.serialize_pem(), public: key.public_key_pem() }
    }
}

/// A process whose sessions get tokens with client credentials at the server at `url`.
async fn process(
    url: &str,
    own: &Value,
    clock: &ManualClock,
    transport: TransportConfig,
) -> OAuth2Fixture {
    let mut settings = json!({
        "token_endpoint": format!("{url}/token"),
        "revocation_endpoint": format!("{url}/revoke"),
        "introspection_endpoint": format!("{url}/introspect"),
        "client_id": "app",
        "client_credentials": true,
    });
    settings.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    let settings: OAuth2Settings = serde_json::from_str(&settings.to_string()).unwrap();
    let set = |builder: SupervisorBuilder, _: &Faults| builder.transport(transport);
    let registration = settings.registration().unwrap();
    Fixture::start_at_with("p", registration, (&MemoryStore::new(), clock), set).await
}

/// A grant, another one after the token has expired, an introspection, and a revocation.
async fn goes_through_its_life(fixture: &OAuth2Fixture, server: &FakeAuthServer) {
    let session: &Session<OAuth2> = &fixture.session;
    let first = session.permission_token().await.unwrap();
    assert!(server.is_active(first.expose_secret()));
    fixture.clock.advance(3601 * SECOND).await;
    let second = session.permission_token().await.unwrap();
    assert_ne!(first.expose_secret(), second.expose_secret());
    assert!(session.call(Introspect::access_token()).await.unwrap().active);
    assert_eq!(session.call(RevokeAccessToken).await.unwrap(), Revoked::AtServer);
    assert!(!server.is_active(second.expose_secret()));
    let third = session.permission_token().await.unwrap();
    session.revoke().await.unwrap();
    assert!(!server.is_active(third.expose_secret()));
    assert_eq!(server.count(Endpoint::Revoke), 2);
}

fn plain() -> TransportConfig {
    TransportConfig::default().allow_loopback_http()
}

fn trusting(proxy: &TlsProxy) -> TransportConfig {
    TransportConfig::default().root_certificate_pem(proxy.root.as_bytes()).unwrap()
}

fn certified(CertifiedKeyPem { chain, key }: &CertifiedKeyPem) -> Value {
    json!({ "client_certificate": chain, "client_key": key })
}

fn jwt(key: &EcKeyPem) -> Value {
    json!({
        "client_authentication": { "private_key_jwt": { "algorithm": "ES256", "kid": "k-1" } },
        "client_key": key.private,
    })
}

#[tokio::test]
async fn a_client_with_a_private_key_gets_tokens_and_revokes_them() {
    let (clock, key) = (ManualClock::new(), EcKeyPem::generate());
    let builder = FakeAuthServer::builder().clock(clock.clone()).client_key("app", &key.public);
    let server = builder.start().await.unwrap();
    let fixture = process(server.url(), &jwt(&key), &clock, plain()).await;
    goes_through_its_life(&fixture, &server).await;
}

#[tokio::test]
async fn a_discovered_server_gets_assertions_for_its_issuer() {
    let (clock, key) = (ManualClock::new(), EcKeyPem::generate());
    let builder = FakeAuthServer::builder().clock(clock.clone()).client_key("app", &key.public);
    let server = builder.start().await.unwrap();
    let mut own = jwt(&key);
    own["token_endpoint"] = Value::Null;
    own["issuer"] = server.url().into();
    let fixture = process(server.url(), &own, &clock, plain()).await;
    goes_through_its_life(&fixture, &server).await;
}

#[tokio::test]
async fn a_server_refuses_assertions_of_another_key_or_for_another_audience_or_none_at_all() {
    let (clock, key) = (ManualClock::new(), EcKeyPem::generate());
    let builder = FakeAuthServer::builder().clock(clock.clone()).client_key("app", &key.public);
    let server = builder.start().await.unwrap();
    let mut elsewhere = jwt(&key);
    elsewhere["client_authentication"]["private_key_jwt"]["audience"] = "https://b.example".into();
    for own in [jwt(&EcKeyPem::generate()), elsewhere, json!({})] {
        let mut fixture = process(server.url(), &own, &clock, plain()).await;
        let refused = fixture.session.permission_token().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Misconfigured, "{refused}");
        let happened = fixture.happened().await;
        let alarm = |kind: &EventKind| matches!(kind, EventKind::ProviderRejecting(_));
        assert!(happened.iter().any(alarm), "{happened:?}");
    }
    assert_eq!(server.count(Endpoint::ClientCredentials), 3);
}

#[tokio::test]
async fn a_client_presents_its_certificate_at_each_endpoint() {
    let clock = ManualClock::new();
    let builder = FakeAuthServer::builder().clock(clock.clone());
    let server = builder.client("app", "s-1").start().await.unwrap();
    let proxy = TlsProxy::start(server.url()).await;
    let mut own = certified(&proxy.client);
    own["client_secret"] = "s-1".into();
    own["client_authentication"] = "post".into();
    let fixture = process(&proxy.url, &own, &clock, trusting(&proxy)).await;
    goes_through_its_life(&fixture, &server).await;
}

#[tokio::test]
async fn a_client_that_is_known_by_its_certificate_alone_says_its_id() {
    let clock = ManualClock::new();
    let builder = FakeAuthServer::builder().clock(clock.clone());
    let server = builder.public_client("app").start().await.unwrap();
    let proxy = TlsProxy::start(server.url()).await;
    let fixture = process(&proxy.url, &certified(&proxy.client), &clock, trusting(&proxy)).await;
    goes_through_its_life(&fixture, &server).await;
}

/// One more client of a supervisor that has no certificate does not get the one of another.
#[tokio::test]
async fn a_client_without_a_certificate_or_with_one_of_another_authority_is_refused() {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock.clone()).start().await.unwrap();
    let proxy = TlsProxy::start(server.url()).await;
    let other = Authority::new("another").client();
    for own in [json!({}), certified(&other)] {
        let fixture = process(&proxy.url, &own, &clock, trusting(&proxy)).await;
        let refused = fixture.session.permission_token().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Misconfigured, "{refused:?}");
        assert!(refused.to_string().contains("refused the client's certificate"), "{refused}");
        assert!(!format!("{refused:?}").contains("BEGIN"), "{refused:?}");
    }
    assert_eq!(server.counts().connections, 0);
}

#[tokio::test]
async fn two_clients_of_one_supervisor_do_not_share_a_certificate() {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock.clone()).start().await.unwrap();
    let proxy = TlsProxy::start(server.url()).await;
    let client = |own: &CertifiedKeyPem| {
        let client = OAuth2::new(&format!("{}/token", proxy.url), "app").unwrap();
        client.client_credentials().client_certificate(&own.chain, own.key.as_str()).unwrap()
    };
    let other = Authority::new("another").client();
    let supervisor = session_warden::Supervisor::builder()
        .clock(clock)
        .transport(trusting(&proxy))
        .provider("good", client(&proxy.client))
        .provider("other", client(&other))
        .provider("none", OAuth2::new(&format!("{}/token", proxy.url), "app").unwrap())
        .start()
        .await
        .unwrap();
    let session = |name: &str| supervisor.sessions::<OAuth2>(name).unwrap().session(key("device"));
    session("good").permission_token().await.unwrap();
    let refused = session("other").permission_token().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misconfigured, "{refused}");
    let none = session("none");
    let password = session_warden::provider::oauth2::Password::new("ada", "ok");
    let refused = none.establish(password).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misconfigured, "{refused}");
    assert_eq!(server.count(Endpoint::ClientCredentials), 1);
}
