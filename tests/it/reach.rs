//! The addresses that requests and browsers may be sent to, for the operator's and the tenants'
//! URLs.

use session_warden::error::ErrorKind;
use session_warden::key::Tenant;
use session_warden::provider::oauth2::{LoginOptions, OAuth2};
use session_warden::provider::{Registration, SourceError};
use session_warden::testing::FakeAuthServer;
use session_warden::transport::TransportConfig;
use session_warden::{Error, SessionKey, Sessions, Supervisor};

use crate::support::provider_of;

/// The result of a start or a login with this authorization endpoint.
async fn sent_to(endpoint: &str, transport: TransportConfig) -> Result<String, String> {
    let provider = OAuth2::new("https://as.example/token", "client").unwrap();
    let provider = provider.redirect_uri("https://app.example/back").unwrap();
    let provider = provider.authorization_endpoint(endpoint).unwrap();
    let builder = Supervisor::builder().transport(transport).provider("p", provider);
    let supervisor = match builder.start().await {
        Ok(supervisor) => supervisor,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            return Err(error.to_string());
        }
    };
    let sessions: Sessions<OAuth2> = supervisor.sessions("p").unwrap();
    let key = SessionKey::new("tenant", "device").unwrap();
    let begun = sessions.begin_login(key, LoginOptions::new()).await;
    begun.map(|login| login.url.host_str().unwrap().to_owned()).map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        error.to_string()
    })
}

#[tokio::test]
async fn a_browser_is_sent_nowhere_that_the_rules_of_the_transport_refuse() {
    let any = TransportConfig::default;
    let public = || any().public_addresses_only();
    let listed = || any().allow_hosts(["as.example", "login.example"]);
    for (endpoint, transport) in [
        ("https://phish.example/", listed()),
        ("https://as.example.phish.example/", listed()),
        ("https://127.0.0.1/", public()),
        ("https://[::1]/", public()),
        ("https://169.254.169.254/latest", public()),
        ("https://2852039166/", public()),
        ("http://127.0.0.1:1/", any()),
    ] {
        let refused = sent_to(endpoint, transport).await.unwrap_err();
        let told = ["not in `TransportConfig::allow_hosts`", "not public", "plain http"];
        assert!(told.iter().any(|words| refused.contains(words)), "{endpoint}: {refused}");
    }
    assert_eq!(sent_to("https://login.example/", listed()).await.unwrap(), "login.example");
    assert_eq!(sent_to("https://login.example/", public()).await.unwrap(), "login.example");
    let local = any().allow_loopback_http();
    assert_eq!(sent_to("http://127.0.0.1:1/", local).await.unwrap(), "127.0.0.1");
}

/// A supervisor with one client for all tenants, and one for each.
async fn both(server: &FakeAuthServer, transport: TransportConfig) -> Result<Supervisor, Error> {
    let client = provider_of(server).client_credentials();
    let own = client.clone();
    let source = move |_: Tenant| {
        let own = own.clone();
        async move { Ok::<_, SourceError>(Registration::new(own)) }
    };
    let builder = Supervisor::builder().transport(transport).provider("ours", client);
    builder.provider_per_tenant::<OAuth2>("theirs", source).start().await
}

async fn token(supervisor: &Supervisor, provider: &str) -> Result<(), Error> {
    let sessions: Sessions<OAuth2> = supervisor.sessions(provider).unwrap();
    let session = sessions.session(SessionKey::new("tenant", "service").unwrap());
    session.permission_token().await.map(drop)
}

#[tokio::test]
async fn a_tenants_provider_reaches_no_internal_address_unless_that_is_allowed() {
    let server = FakeAuthServer::builder().client("client", "secret").start().await.unwrap();
    let local = TransportConfig::default().allow_loopback_http();
    let strict = both(&server, local.clone()).await.unwrap();
    let refused = token(&strict, "theirs").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misconfigured);
    assert!(refused.to_string().contains("not public"), "{refused:?}");
    assert_eq!(server.counts().connections, 0);
    token(&strict, "ours").await.unwrap();

    let open = both(&server, local.tenants_reach_internal_addresses()).await.unwrap();
    token(&open, "theirs").await.unwrap();
}

#[tokio::test]
async fn tenants_behind_a_proxy_are_refused_at_the_start_unless_that_is_allowed() {
    let server = FakeAuthServer::builder().client("client", "secret").start().await.unwrap();
    let proxied = TransportConfig::default().proxy("http://proxy.example:3128").unwrap();
    let refused = both(&server, proxied.clone()).await.map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("tenants_reach_internal_addresses"), "{refused}");
    let allowed = proxied.allow_loopback_http().tenants_reach_internal_addresses();
    both(&server, allowed).await.map(drop).unwrap();
}
