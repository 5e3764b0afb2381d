//! Wrappers of providers, registered in the place of the provider inside, over real HTTP.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http::{Request, Response, request, response};
use session_warden::error::Result;
use session_warden::provider::oauth2::{
    Introspect, LoginOptions, OAuth2, Password, RevokeAccessToken, UserInfo,
};
use session_warden::provider::{
    ClientOperation, ExchangeError, HttpSender, IdentityChanged, Issued, Provider, Registration,
    Rejection, RevocationReach, Revoked, Rotation, Signing, Wrapped,
};
use session_warden::secret::Secret;
use session_warden::testing::FakeAuthServer;
use session_warden::token::{Placement, Tokens};
use session_warden::transport::TransportConfig;
use session_warden::{Error, ErrorKind, Session, Sessions, Supervisor};
use url::Url;

use crate::support::key;

const BACK: &str = "https://app.example/back";

/// Passes everything on, and counts the exchanges.
struct Counting<P> {
    inner: Arc<P>,
    exchanges: Arc<AtomicU64>,
    names: Names,
}

/// What a wrapper names as the provider inside.
#[derive(Clone, Copy)]
enum Names {
    Inner,
    Nothing,
    /// A wrapper that has the same inside, and so on without end.
    Another,
    Panics,
}

impl<P: Provider> Counting<P> {
    fn new(inner: P, exchanges: &Arc<AtomicU64>) -> Self {
        Self { inner: Arc::new(inner), exchanges: Arc::clone(exchanges), names: Names::Inner }
    }
}

impl<P: Provider> Provider for Counting<P> {
    type Grant = P::Grant;
    type Challenge = P::Challenge;
    type Attributes = P::Attributes;

    fn wrapped(&self) -> Option<Wrapped> {
        let Self { inner, exchanges, names } = self;
        match names {
            Names::Inner => Some(Wrapped::new(Arc::clone(inner))),
            Names::Nothing => None,
            Names::Another => {
                let (inner, exchanges) = (Arc::clone(inner), Arc::clone(exchanges));
                Some(Wrapped::new(Arc::new(Self { inner, exchanges, names: *names })))
            }
            Names::Panics => panic!("it does not know what it wraps"),
        }
    }

    async fn prepare(&self, sender: &HttpSender<'_>) -> Result<(), ExchangeError> {
        self.inner.prepare(sender).await
    }

    async fn establish(
        &self,
        sender: &HttpSender<'_>,
        grant: P::Grant,
    ) -> Result<Issued<Self>, ExchangeError> {
        self.exchanges.fetch_add(1, Relaxed);
        Ok(match self.inner.establish(sender, grant).await? {
            Issued::Tokens(tokens) => Issued::Tokens(tokens),
            Issued::Challenge(challenge) => Issued::Challenge(challenge),
        })
    }

    async fn refresh(
        &self,
        sender: &HttpSender<'_>,
        refresh_token: &Secret,
        held: &Tokens<P::Attributes>,
    ) -> Result<Tokens<P::Attributes>, ExchangeError> {
        self.exchanges.fetch_add(1, Relaxed);
        self.inner.refresh(sender, refresh_token, held).await
    }

    async fn revoke(
        &self,
        sender: &HttpSender<'_>,
        held: &Tokens<P::Attributes>,
    ) -> Result<Revoked, ExchangeError> {
        self.exchanges.fetch_add(1, Relaxed);
        self.inner.revoke(sender, held).await
    }

    fn authority_url(&self) -> &Url {
        self.inner.authority_url()
    }

    fn endpoints_elsewhere(&self) -> Vec<Url> {
        self.inner.endpoints_elsewhere()
    }

    fn configured_urls(&self) -> Vec<Url> {
        self.inner.configured_urls()
    }

    fn api_origins(&self) -> Vec<String> {
        self.inner.api_origins()
    }

    fn client_id(&self) -> &str {
        self.inner.client_id()
    }

    fn refresh_token_rotation(&self) -> Rotation {
        self.inner.refresh_token_rotation()
    }

    fn placement(&self) -> Option<Placement> {
        self.inner.placement()
    }

    fn reach_of_revocation(&self) -> RevocationReach {
        self.inner.reach_of_revocation()
    }

    fn access_tokens_end_at_refresh(&self) -> bool {
        self.inner.access_tokens_end_at_refresh()
    }

    fn merge_attributes(
        &self,
        known: &P::Attributes,
        issued: P::Attributes,
    ) -> Result<P::Attributes, IdentityChanged> {
        self.inner.merge_attributes(known, issued)
    }

    fn renewal_grant(&self, held: Option<&Tokens<P::Attributes>>) -> Option<P::Grant> {
        self.inner.renewal_grant(held)
    }

    fn authorize(&self, signing: &Signing<'_>, request: &mut request::Parts) -> Result<()> {
        self.inner.authorize(signing, request)
    }

    fn rejection(&self, response: &response::Parts, body_prefix: &[u8]) -> Rejection {
        self.inner.rejection(response, body_prefix)
    }

    fn rejection_reads_body(&self, response: &response::Parts) -> bool {
        self.inner.rejection_reads_body(response)
    }
}

/// Asks which client the provider is, and whether its server answers.
struct WhoAsks(String);

impl ClientOperation<OAuth2> for WhoAsks {
    type Output = String;
    type RequestInfo = String;

    fn request(&self, provider: &OAuth2) -> Result<(Request<Bytes>, String)> {
        let request = Request::get(&self.0).body(Bytes::new()).unwrap();
        Ok((request, provider.client_id().to_owned()))
    }

    fn response(
        &self,
        _: &HttpSender<'_>,
        client: String,
        answer: &Response<Bytes>,
    ) -> Result<String, ExchangeError> {
        assert_eq!(answer.status(), 200);
        Ok(client)
    }
}

async fn server() -> FakeAuthServer {
    FakeAuthServer::builder().client("client", "secret").user("ada", "pw").start().await.unwrap()
}

fn client(server: &FakeAuthServer) -> OAuth2 {
    let client = OAuth2::discover(server.url(), "client").unwrap().client_secret_basic("secret");
    client.redirect_uri(BACK).unwrap()
}

async fn sessions_of(
    wrapper: impl Provider<
        Grant = <OAuth2 as Provider>::Grant,
        Challenge = <OAuth2 as Provider>::Challenge,
        Attributes = <OAuth2 as Provider>::Attributes,
    >,
) -> (Supervisor, Sessions<OAuth2>) {
    let supervisor = Supervisor::builder()
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("acme", Registration::<OAuth2>::standing_in(wrapper))
        .start()
        .await
        .unwrap();
    let sessions = supervisor.sessions("acme").unwrap();
    (supervisor, sessions)
}

/// Where the server sends the browser back to.
async fn follow(url: &Url) -> String {
    let browser = reqwest::Client::builder().no_proxy();
    let browser = browser.redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = browser.get(url.as_str()).send().await.unwrap();
    answer.headers()["location"].to_str().unwrap().to_owned()
}

/// A login and all operations. Gives the session, which has had one exchange.
async fn logs_in_and_calls(
    server: &FakeAuthServer,
    sessions: &Sessions<OAuth2>,
) -> Session<OAuth2> {
    let options = LoginOptions::new().scope("openid");
    let login = sessions.begin_login(key("device"), options).await.unwrap();
    let asked: HashMap<_, _> = login.url.query_pairs().into_owned().collect();
    assert_eq!((asked["client_id"].as_str(), asked["scope"].as_str()), ("client", "openid"));
    let back = follow(&login.url).await;
    let (session, _) = sessions.finish_login(&login.ticket, &back).await.unwrap();

    assert!(session.call(Introspect::access_token()).await.unwrap().active);
    assert!(session.call(UserInfo).await.unwrap().contains_key("sub"));
    let old = session.permission_token().await.unwrap();
    assert_eq!(session.call(RevokeAccessToken).await.unwrap(), Revoked::AtServer);
    assert!(!server.is_active(old.expose_secret()));
    session
}

#[tokio::test]
async fn a_wrapper_has_the_logins_and_calls_of_the_provider_inside() {
    let (server, exchanges) = (server().await, Arc::default());
    let (_supervisor, sessions) = sessions_of(Counting::new(client(&server), &exchanges)).await;
    let session = logs_in_and_calls(&server, &sessions).await;
    assert_eq!(exchanges.load(Relaxed), 1);
    // The exchanges go through the wrapper.
    let new = session.permission_token().await.unwrap();
    assert!(server.is_active(new.expose_secret()));
    assert_eq!(exchanges.load(Relaxed), 2);
    session.revoke().await.unwrap();
    assert_eq!((exchanges.load(Relaxed), server.live_grants()), (3, 0));

    let url = format!("{}/.well-known/oauth-authorization-server", server.url());
    let tenant = session.id().key().tenant();
    assert_eq!(sessions.call(tenant, WhoAsks(url)).await.unwrap(), "client");
    assert_eq!(sessions.provider(tenant).await.unwrap().client_id(), "client");
}

#[tokio::test]
async fn a_wrapper_of_a_wrapper_has_them_too() {
    let (server, exchanges) = (server().await, Arc::default());
    let nested = Counting::new(client(&server), &exchanges);
    let nested = Counting::new(Counting::new(nested, &exchanges), &exchanges);
    let (_supervisor, sessions) = sessions_of(nested).await;
    logs_in_and_calls(&server, &sessions).await;
    assert_eq!(exchanges.load(Relaxed), 3);
}

#[tokio::test]
async fn a_wrapper_that_names_no_provider_inside_still_has_tokens_and_says_what_is_missing() {
    let server = server().await;
    for names in [Names::Nothing, Names::Another, Names::Panics] {
        let wrapper = Counting { names, ..Counting::new(client(&server), &Arc::default()) };
        let (_supervisor, sessions) = sessions_of(wrapper).await;
        let session = sessions.session(key("device"));
        let _ = session.establish(Password::new("ada", "pw")).await.unwrap();
        session.refresh().await.unwrap();

        let tenant = session.id().key().tenant();
        let refused: [Error; 4] = [
            session.begin_login(LoginOptions::new()).await.map(drop).unwrap_err(),
            session.call(UserInfo).await.map(drop).unwrap_err(),
            sessions.call(tenant, WhoAsks(String::new())).await.map(drop).unwrap_err(),
            sessions.provider(tenant).await.map(drop).unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("`Provider::wrapped`"), "{error}");
        }
        session.revoke().await.unwrap();
    }
}

#[tokio::test]
async fn a_login_that_began_with_the_plain_provider_ends_with_its_wrapper() {
    let server = server().await;
    let exchanges = Arc::default();
    let (_supervisor, sessions) = sessions_of(client(&server)).await;
    let login = sessions.begin_login(key("device"), LoginOptions::new()).await.unwrap();
    let wrapper = Counting::new(client(&server), &exchanges);
    sessions.replace(Registration::standing_in(wrapper)).await.unwrap();
    let back = follow(&login.url).await;
    sessions.finish_login(&login.ticket, &back).await.map(drop).unwrap();
    assert_eq!(exchanges.load(Relaxed), 1);
}

#[test]
fn a_wrapped_provider_is_shown_by_its_type_and_not_by_its_settings() {
    let client = OAuth2::new("https://as.example/token", "canary").unwrap();
    let shown = format!("{:?}", Wrapped::new(Arc::new(client)));
    assert!(shown.contains("OAuth2") && !shown.contains("canary"), "{shown}");
}
