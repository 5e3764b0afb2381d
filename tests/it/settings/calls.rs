//! Calls and logins while the server rejects the client, or while there is no client.

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use session_warden::error::Result;
use session_warden::event::{Event, Events};
use session_warden::provider::oauth2::{Introspect, LoginOptions};
use session_warden::provider::{ClientOperation, ExchangeError, HttpSender};
use session_warden::testing::Fault;

use super::*;

/// Asks for the server's metadata.
struct Metadata(String);

impl ClientOperation<OAuth2> for Metadata {
    type Output = ();
    type RequestInfo = ();

    fn request(&self, _: &OAuth2) -> Result<(Request<Bytes>, ())> {
        Ok((Request::get(&self.0).body(Bytes::new()).unwrap(), ()))
    }

    fn response(
        &self,
        sender: &HttpSender<'_>,
        (): (),
        answer: &Response<Bytes>,
    ) -> std::result::Result<(), ExchangeError> {
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(sender.oauth_error(answer, FailureClass::Rejected)),
        }
    }
}

/// The kind of caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Session,
    Nobody,
}

/// A source that knows one tenant, `one`, and gives the same settings each time.
struct TenantFixture {
    clock: ManualClock,
    server: FakeAuthServer,
    /// It ends when this goes.
    _supervisor: Supervisor,
    sessions: Sessions<OAuth2>,
    asked: Arc<AtomicU64>,
    events: Events,
}

impl TenantFixture {
    async fn start() -> Self {
        let clock = ManualClock::new();
        let server = FakeAuthServer::builder().clock(clock.clone()).client("client", "secret");
        let server = server.start().await.unwrap();
        let asked: Arc<AtomicU64> = Arc::default();
        let introspection = format!("{}/introspect", server.url());
        let provider = provider_of(&server).client_credentials();
        let provider = provider.introspection_endpoint(&introspection).unwrap();
        let count = Arc::clone(&asked);
        let source = move |tenant: Tenant| {
            count.fetch_add(1, Ordering::SeqCst);
            let known = (tenant.as_str() == "one").then(|| provider.clone());
            async move { known.map(Registration::new).ok_or(SourceError::UnknownTenant) }
        };
        let supervisor = Supervisor::builder()
            .clock(clock.clone())
            .transport(
                TransportConfig::default().allow_loopback_http().tenants_reach_internal_addresses(),
            )
            .provider_per_tenant::<OAuth2>("p", source)
            .start()
            .await
            .unwrap();
        let (sessions, events) = (supervisor.sessions("p").unwrap(), supervisor.subscribe());
        Self { clock, server, _supervisor: supervisor, sessions, asked, events }
    }

    fn session(&self, tenant: &str) -> Session<OAuth2> {
        self.sessions.session(SessionKey::new(tenant, "service").unwrap())
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    fn metadata(&self) -> Metadata {
        Metadata(format!("{}/.well-known/oauth-authorization-server", self.server.url()))
    }

    /// A call in which the server calls the client invalid.
    async fn rejected(&self, caller: Caller) -> ErrorKind {
        let invalid = Fault::OAuthError { status: 401, code: "invalid_client".to_owned() };
        let refused = match caller {
            Caller::Session => {
                self.server.fail_next(Endpoint::Introspect, invalid);
                self.session("one").call(Introspect::access_token()).await.map(drop)
            }
            Caller::Nobody => {
                self.server.fail_next(Endpoint::Discovery, invalid);
                self.sessions.call(&tenant("one"), self.metadata()).await
            }
        };
        let refused = refused.unwrap_err();
        assert_eq!(refused.provider_code(), Some("invalid_client"), "{refused:?}");
        refused.kind()
    }

    fn next(&mut self) -> Option<Event> {
        self.events.next().now_or_never().flatten()
    }
}

#[tokio::test]
async fn an_unknown_tenant_that_logs_in_first_or_calls_first_is_reported_once() {
    for logs_in in [true, false] {
        let mut fixture = TenantFixture::start().await;
        for _ in 0..3 {
            let refused = if logs_in {
                let key = SessionKey::new("stranger", "ada").unwrap();
                fixture.sessions.begin_login(key, LoginOptions::new()).await.unwrap_err()
            } else {
                let tenant = tenant("stranger");
                fixture.sessions.call(&tenant, fixture.metadata()).await.unwrap_err()
            };
            assert_eq!(refused.kind(), ErrorKind::Misconfigured);
        }
        assert_eq!((fixture.asked(), fixture.server.counts().connections), (1, 0));
        let provider = ProviderName::new("p").unwrap();
        let tenant = tenant("stranger");
        let event = fixture.next().unwrap();
        assert_eq!(event.kind, EventKind::ProviderUnresolved { provider, tenant });
        assert!(fixture.next().is_none(), "said once");
    }
}

#[tokio::test]
async fn a_client_that_a_call_finds_invalid_is_asked_for_before_the_next_exchange() {
    for caller in [Caller::Session, Caller::Nobody] {
        let mut fixture = TenantFixture::start().await;
        let session = fixture.session("one");
        session.permission_token().await.unwrap();
        assert_eq!(fixture.next().unwrap().kind, EventKind::Established);
        assert_eq!(fixture.rejected(caller).await, ErrorKind::Misconfigured);
        assert_eq!(fixture.asked(), 1, "{caller:?}: not by the call itself");
        assert_eq!(session.refresh().await.unwrap().generation(), 2);
        assert_eq!(fixture.asked(), 2, "{caller:?}");
        // Nothing was wrong with the session, and there is no alarm.
        assert!(!matches!(fixture.next().unwrap().kind, EventKind::ProviderRejecting(_)));
        assert!(fixture.next().is_none());
        // So soon again, the source is not asked, and the client is stopped.
        assert_eq!(fixture.rejected(caller).await, ErrorKind::Misconfigured);
        let refused = session.refresh().await.unwrap_err();
        assert_eq!((refused.kind(), fixture.asked()), (ErrorKind::Misconfigured, 2), "{caller:?}");
        let event = fixture.next().unwrap();
        assert!(
            matches!(&event.kind, EventKind::ProviderRejecting(p) if p.provider.as_str() == "p")
        );
        let met = (caller == Caller::Session).then(|| session.id().clone());
        assert_eq!(event.session, met, "{caller:?}");
        // When the client would be probed, a call may doubt it again.
        fixture.clock.advance(ProviderLimits::default().probe).await;
        assert_eq!(fixture.rejected(caller).await, ErrorKind::Misconfigured);
        assert_eq!(fixture.asked(), 2);
        session.refresh().await.unwrap();
        assert_eq!(fixture.asked(), 3, "{caller:?}");
    }
}

#[tokio::test]
async fn a_misconfiguration_is_reported_with_the_session_that_met_it() {
    let mut fixture = established().await;
    fixture.script.refresh(Reply::Fail(FailureClass::InvalidClient));
    fixture.session.refresh().await.unwrap_err();
    for name in ["established", "provider_rejecting"] {
        let event = fixture.events.next().await.unwrap();
        assert_eq!((event.kind.name(), event.session.as_ref()), (name, Some(fixture.session.id())));
    }
}
