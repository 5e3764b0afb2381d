//! Service accounts, whose sessions obtain their tokens with JWTs (RFC 7523 section 2.1).

use session_warden::error::Refusal;
use session_warden::event::EventKind;
use session_warden::provider::oauth2::{JwtAssertion, JwtBearer, OAuth2, SigningAlgorithm};
use session_warden::session::State;
use session_warden::store::MemoryStore;
use session_warden::supervisor::SupervisorBuilder;
use session_warden::testing::{Endpoint, FakeAuthServer, Faults, ManualClock};
use session_warden::transport::TransportConfig;
use session_warden::{ErrorKind, Session};

use crate::client_keys::EcKeyPem;
use crate::fixtures::{Fixture, OAuth2Fixture};
use crate::support::{SECOND, key};

fn grant(key: &EcKeyPem) -> JwtBearer {
    let assertion = JwtAssertion {
        issuer: Some("reports".to_owned()),
        subject: Some("ada".to_owned()),
        ..JwtAssertion::new(SigningAlgorithm::Es256)
    };
    JwtBearer::new(assertion, key.private.as_str()).unwrap()
}

async fn server(clock: &ManualClock, key: &EcKeyPem) -> FakeAuthServer {
    let server = FakeAuthServer::builder().clock(clock.clone());
    server.client_key("reports", &key.public).start().await.unwrap()
}

async fn process(clock: &ManualClock, client: OAuth2) -> OAuth2Fixture {
    let transport = TransportConfig::default().allow_loopback_http();
    let set = |builder: SupervisorBuilder, _: &Faults| builder.transport(transport);
    Fixture::start_at_with("p", client, (&MemoryStore::new(), clock), set).await
}

fn client(server: &FakeAuthServer) -> OAuth2 {
    OAuth2::discover(server.url(), "reports").unwrap()
}

#[tokio::test]
async fn a_service_account_obtains_a_token_and_later_another_one_by_itself() {
    let (clock, key) = (ManualClock::new(), EcKeyPem::generate());
    let server = server(&clock, &key).await;
    let fixture = process(&clock, client(&server).jwt_bearer(grant(&key))).await;
    let session: &Session<OAuth2> = &fixture.session;
    let first = session.permission_token().await.unwrap();
    assert!(server.is_active(first.expose_secret()));
    fixture.clock.advance(3601 * SECOND).await;
    let second = session.permission_token().await.unwrap();
    assert!(server.is_active(second.expose_secret()));
    assert_eq!((first.epoch(), second.epoch()), (1, 2));
    let counts = server.counts().of(Endpoint::JwtBearer);
    assert_eq!((counts.requests, counts.granted), (2, 2), "each JWT is accepted once");
}

#[tokio::test]
async fn an_application_that_chooses_the_account_offers_the_grant_itself() {
    let (clock, own) = (ManualClock::new(), EcKeyPem::generate());
    let server = server(&clock, &own).await;
    let fixture = process(&clock, client(&server)).await;
    let grant = grant(&own).subject("grace");
    let token = fixture.session.ensure(grant.clone()).await.unwrap();
    assert!(server.is_active(token.expose_secret()));
    fixture.clock.advance(3601 * SECOND).await;
    let token = fixture.session.ensure(grant).await.unwrap();
    assert!(server.is_active(token.expose_secret()));
    let other = fixture.supervisor.sessions::<OAuth2>("p").unwrap().session(key("other"));
    let none = other.permission_token().await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotEstablished);
}

#[tokio::test]
async fn a_server_that_does_not_know_the_key_refuses_the_grant_and_stops_nobody_else() {
    let (clock, key) = (ManualClock::new(), EcKeyPem::generate());
    let server = server(&clock, &key).await;
    let stranger = client(&server).jwt_bearer(grant(&EcKeyPem::generate()));
    let mut fixture = process(&clock, stranger).await;
    let refused = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused(Refusal::Other));
    assert_eq!(refused.provider_code(), Some("invalid_grant"));
    let again = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Refused(Refusal::Other));
    assert_eq!(server.count(Endpoint::JwtBearer), 1, "there is a back-off");
    assert_eq!(fixture.state().await, State::Vacant);
    let happened = fixture.happened().await;
    let alarm = |kind: &EventKind| matches!(kind, EventKind::ProviderRejecting(_));
    assert!(!happened.iter().any(alarm), "{happened:?}");
}
