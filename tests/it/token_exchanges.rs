//! Sessions whose tokens were issued in exchange for other tokens (RFC 8693).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use session_warden::error::{LostReason, Refusal};
use session_warden::provider::Registration;
use session_warden::provider::oauth2::{OAuth2, Password, TokenExchange, TokenType};
use session_warden::session::State;
use session_warden::store::{MemoryStore, Store};
use session_warden::testing::{Endpoint, FakeAuthServer, ManualClock};
use session_warden::{ErrorKind, Establishment, PermissionToken, SessionKey, Supervisor};

use crate::support::{SECOND, key, provider_of};

const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A process with a user who is signed in, whose token others exchange.
struct ExchangeFixture {
    server: FakeAuthServer,
    clock: ManualClock,
    store: MemoryStore,
    supervisor: Supervisor,
    user: PermissionToken,
}

impl ExchangeFixture {
    async fn new(exchanging: impl FnOnce(OAuth2) -> Registration<OAuth2>) -> Self {
        let (clock, store) = (ManualClock::new(), MemoryStore::new());
        let server = FakeAuthServer::builder().clock(clock.clone()).client("client", "secret");
        let server = server.start().await.unwrap();
        let transport = session_warden::transport::TransportConfig::default().allow_loopback_http();
        let supervisor = Supervisor::builder()
            .clock(clock.clone())
            .store(store.clone())
            .transport(transport)
            .provider("users", provider_of(&server))
            .provider("orders", exchanging(provider_of(&server)))
            .start()
            .await
            .unwrap();
        let user = supervisor.sessions::<OAuth2>("users").unwrap().session(key("ada"));
        let _ = user.establish(Password::new("ada", "ok")).await.unwrap();
        let user = user.permission_token().await.unwrap();
        Self { server, clock, store, supervisor, user }
    }

    fn orders(&self) -> session_warden::Session<OAuth2> {
        self.supervisor.sessions("orders").unwrap().session(key("ada"))
    }

    fn grant(&self) -> TokenExchange {
        TokenExchange::new(self.user.expose_secret(), TokenType::AccessToken).audience("orders")
    }
}

#[tokio::test]
async fn a_session_has_the_token_that_was_issued_for_another_and_ends_with_it() {
    let fixture = ExchangeFixture::new(Registration::new).await;
    let session = fixture.orders();
    let Establishment::Active(attributes) = session.establish(fixture.grant()).await.unwrap();
    assert_eq!(attributes.issued_token_type.as_deref(), Some(ACCESS));
    let token = session.permission_token().await.unwrap();
    assert_ne!(token.expose_secret(), fixture.user.expose_secret());
    assert!(fixture.server.is_active(token.expose_secret()));
    let stored = fixture.store.load(session.id()).await.unwrap().unwrap();
    let tokens = stored.record.credentials.unwrap();
    assert!(!format!("{:?}", tokens.tokens().attributes()).contains(fixture.user.expose_secret()));

    fixture.clock.advance(3601 * SECOND).await;
    let ended = session.permission_token().await.unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::SignInAgain(LostReason::RefreshExpired));
    assert_eq!(session.status().await.unwrap().state, State::Lost);
    assert_eq!(fixture.server.count(Endpoint::TokenExchange), 1);
}

#[tokio::test]
async fn a_backend_that_has_the_users_token_gives_another_grant() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let subject: Arc<std::sync::OnceLock<String>> = Arc::default();
    let given = Arc::clone(&subject);
    let fixture = ExchangeFixture::new(move |client| {
        Registration::new(client).renew_with(move |_: SessionKey, _: LostReason| {
            counted.fetch_add(1, Ordering::Relaxed);
            let token = given.get().cloned();
            async move {
                token.map(|token| TokenExchange::new(token, TokenType::AccessToken).into())
            }
        })
    })
    .await;
    let session = fixture.orders();
    let _ = session.establish(fixture.grant()).await.unwrap();
    fixture.clock.advance(3601 * SECOND).await;
    let users = fixture.supervisor.sessions::<OAuth2>("users").unwrap().session(key("ada"));
    let fresh = users.permission_token().await.unwrap();
    subject.set(fresh.expose_secret().to_owned()).unwrap();
    let token = session.permission_token().await.unwrap();
    assert!(fixture.server.is_active(token.expose_secret()));
    assert_eq!((token.epoch(), asked.load(Ordering::Relaxed)), (2, 1));
}

#[tokio::test]
async fn a_token_that_is_not_valid_is_refused_and_leaves_the_former_session() {
    let fixture = ExchangeFixture::new(Registration::new).await;
    let session = fixture.orders();
    let _ = session.establish(fixture.grant()).await.unwrap();
    let wrong = TokenExchange::new("canary-subject", TokenType::AccessToken);
    let refused = session.establish(wrong).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused(Refusal::Other));
    assert_eq!(refused.provider_code(), Some("invalid_request"));
    assert!(!format!("{refused:?} {refused}").contains("canary"));
    assert_eq!(session.permission_token().await.unwrap().epoch(), 1);
    let actor = fixture.grant().actor_token("canary-actor", TokenType::AccessToken);
    let refused = session.establish(actor).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused(Refusal::Other));
    let actor = fixture.grant().actor_token(fixture.user.expose_secret(), TokenType::AccessToken);
    let _ = session.establish(actor).await.unwrap();
    assert_eq!(session.permission_token().await.unwrap().epoch(), 2);
}
