//! Where requests and browsers may be sent, by whoever may name a URL.

use std::error::Error as _;

use session_warden::error::ErrorKind;
use session_warden::provider::oauth2::{LoginOptions, OAuth2};
use session_warden::transport::TransportConfig;
use session_warden::{SessionKey, Sessions, Supervisor};

/// What a login gets whose server names this authorization endpoint.
async fn sent_to(endpoint: &str, transport: TransportConfig) -> Result<String, String> {
    let provider = OAuth2::new("https://as.example/token", "client").unwrap();
    let provider = provider.redirect_uri("https://app.example/back").unwrap();
    let provider = provider.authorization_endpoint(endpoint).unwrap();
    let builder = Supervisor::builder().transport(transport).provider("p", provider);
    let supervisor = builder.start().await.unwrap();
    let sessions: Sessions<OAuth2> = supervisor.sessions("p").unwrap();
    let key = SessionKey::new("tenant", "device").unwrap();
    let begun = sessions.begin_login(key, LoginOptions::new()).await;
    begun.map(|login| login.url.host_str().unwrap().to_owned()).map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        error.source().unwrap().to_string()
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
        let told = ["not among those that are allowed", "not public", "neither https"];
        assert!(told.iter().any(|words| refused.contains(words)), "{endpoint}: {refused}");
    }
    assert_eq!(sent_to("https://login.example/", listed()).await.unwrap(), "login.example");
    assert_eq!(sent_to("https://login.example/", public()).await.unwrap(), "login.example");
    let local = any().allow_loopback_http();
    assert_eq!(sent_to("http://127.0.0.1:1/", local).await.unwrap(), "127.0.0.1");
}
