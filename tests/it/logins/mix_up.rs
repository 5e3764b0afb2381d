//! Mix-up: a server answers a login in place of another (RFC 9700 section 4.4).

use session_warden::ErrorKind;
use session_warden::error::Refusal;

use super::*;

const MISMATCH: ErrorKind = ErrorKind::Refused(Refusal::LoginStateMismatch);

/// A tenant configures a server of its own, and a user's login there is under way. That server
/// sends the browser on to an honest one, which knows the user, with the login's own state and
/// challenge. The honest server's code comes back.
struct MixUp {
    tenants: FakeAuthServer,
    sessions: Sessions<OAuth2>,
    login: Login,
    /// Where the browser came to with the honest server's answer.
    back: String,
    _supervisor: Supervisor,
}

impl MixUp {
    async fn new(set: impl Fn(OAuth2, &FakeAuthServer) -> OAuth2) -> Self {
        let (clock, store) = (ManualClock::new(), MemoryStore::new());
        let start = || FakeAuthServer::builder().clock(clock.clone()).client("client", "secret");
        let honest = start().start().await.unwrap();
        let tenants = start().start().await.unwrap();
        let provider = provider_of(&tenants).redirect_uri(BACK).unwrap();
        let endpoint = format!("{}/authorize", tenants.url());
        let provider = provider.authorization_endpoint(&endpoint).unwrap();
        let supervisor = Supervisor::builder()
            .clock(clock.clone())
            .store(store)
            .transport(TransportConfig::default().allow_loopback_http())
            .provider("oauth2", set(provider, &tenants))
            .start()
            .await
            .unwrap();
        let sessions: Sessions<OAuth2> = supervisor.sessions("oauth2").unwrap();
        let mut login = sessions.begin_login(key("device"), LoginOptions::new()).await.unwrap();
        let sent_on = login.url.as_str().replace(tenants.url(), honest.url());
        login.url = Url::parse(&sent_on).unwrap();
        let back = follow(&login).await;
        Self { tenants, sessions, login, back, _supervisor: supervisor }
    }

    async fn refused(&self, back: &str) -> ErrorKind {
        let error = finish(&self.sessions, &self.login, back).await.unwrap_err();
        assert_eq!(self.tenants.count(Endpoint::AuthorizationCode), 0, "the code went out");
        error.kind()
    }
}

#[tokio::test]
async fn the_code_of_an_honest_server_goes_to_no_other_that_its_issuer_is_compared_with() {
    let mixed = MixUp::new(|client, tenants| client.issuer(tenants.url()).unwrap()).await;
    assert_eq!(mixed.refused(&mixed.back).await, MISMATCH);
}

#[tokio::test]
async fn a_client_that_knows_no_issuer_refuses_an_answer_that_names_one() {
    let mixed = MixUp::new(|client, _| client).await;
    assert_eq!(mixed.refused(&mixed.back).await, ErrorKind::Misconfigured);
}

#[tokio::test]
async fn an_answer_that_names_no_issuer_is_refused_at_the_redirect_uri_of_another() {
    let mixed = MixUp::new(|client, tenants| client.issuer(tenants.url()).unwrap()).await;
    let (unnamed, _) = mixed.back.split_once("&iss=").unwrap();
    let honest = unnamed.replace("app.example/back", "app.example/honest/back");
    assert_eq!(mixed.refused(&honest).await, MISMATCH);
    let (_, query) = unnamed.split_once('?').unwrap();
    assert_eq!(mixed.refused(query).await, ErrorKind::InvalidInput);
}

#[tokio::test]
async fn an_answer_that_names_no_issuer_is_refused_where_the_name_is_required() {
    let strict = |client: OAuth2, tenants: &FakeAuthServer| {
        client.issuer(tenants.url()).unwrap().require_issuer()
    };
    let mixed = MixUp::new(strict).await;
    let (unnamed, _) = mixed.back.split_once("&iss=").unwrap();
    assert_eq!(mixed.refused(unnamed).await, MISMATCH);
}
