//! Names, types and addresses of providers.

use session_warden::provider::oauth2::{Attributes, LoginOptions, UserInfo};
use session_warden::testing::{FakeProvider, ScriptedProvider};

use super::*;

/// The error of a start with this token endpoint.
async fn start(transport: TransportConfig, url: &str) -> Error {
    let provider = OAuth2::new(url, "my-backend").unwrap();
    let builder = Supervisor::builder().transport(transport).provider("acme", provider);
    builder.start().await.map(drop).unwrap_err()
}

#[tokio::test]
async fn a_wrong_provider_name_is_answered_with_the_known_ones() {
    let supervisor =
        builder().provider("acme", https()).provider("crm", https()).start().await.unwrap();
    let text = "invalid input: no provider is registered as \"acm\"; use a registered name \
                (\"acme\", \"crm\"), or register it";
    let typed = supervisor.sessions::<OAuth2>("acm").map(drop).unwrap_err();
    says(&typed, ErrorKind::InvalidInput, text);
    let key = SessionKey::new("tenant-1", "device-17").unwrap();
    let untyped = supervisor.session("acm", key).map(drop).unwrap_err();
    says(&untyped, ErrorKind::InvalidInput, text);
}

#[tokio::test]
async fn a_provider_name_without_any_provider_says_that_there_is_none() {
    let supervisor = builder().start().await.unwrap();
    let error = supervisor.sessions::<OAuth2>("a\nb").map(drop).unwrap_err();
    says(
        &error,
        ErrorKind::InvalidInput,
        r#"invalid input: no provider is registered, so there is no "a\nb"; register it"#,
    );
}

#[tokio::test]
async fn a_wrong_provider_type_is_named_beside_the_right_one() {
    let supervisor = builder().provider("acme", https()).start().await.unwrap();
    let error = supervisor.sessions::<ScriptedProvider>("acme").map(drop).unwrap_err();
    let (right, wrong) =
        (std::any::type_name::<OAuth2>(), std::any::type_name::<ScriptedProvider>());
    let text = format!(
        "invalid input: the provider \"acme\" is a {right}, not a {wrong}; call `sessions` with \
         the provider's type"
    );
    says(&error, ErrorKind::InvalidInput, &text);
}

#[tokio::test]
async fn a_login_or_a_call_at_another_provider_that_stands_in_says_what_to_implement() {
    let fake = FakeProvider::<OAuth2>::new(Attributes::default());
    let supervisor = builder().provider("acme", fake).start().await.unwrap();
    let session = session::<OAuth2>(&supervisor, "acme");
    let _ = session.establish(Password::new("ada", "pw")).await.unwrap();
    let text = format!(
        "invalid input: another type of provider stands in for a {} here \
         (`Registration::standing_in`), and logins and calls need that type; if it wraps one, \
         return the inner provider in `Provider::wrapped`",
        std::any::type_name::<OAuth2>()
    );
    let login = session.begin_login(LoginOptions::new()).await.map(drop).unwrap_err();
    says(&login, ErrorKind::InvalidInput, &text);
    let call = session.call(UserInfo).await.map(drop).unwrap_err();
    says(&call, ErrorKind::InvalidInput, &text);
    assert_eq!([login.session(), call.session()], [Some(session.id()); 2]);
}

#[tokio::test]
async fn plain_http_to_another_machine_is_refused_at_the_start() {
    let error = start(TransportConfig::default(), "http://login.example.com/token").await;
    says(
        &error,
        ErrorKind::Misconfigured,
        "wrong configuration: provider \"acme\": the transport refuses \
         http://login.example.com/token because plain http is not encrypted; use https, or in \
         development allow the host with `TransportConfig::allow_http_hosts`",
    );
}

#[tokio::test]
async fn plain_http_to_localhost_is_refused_at_the_start_with_the_address_to_write() {
    let allowed = TransportConfig::default().allow_loopback_http();
    let error = start(allowed, "http://localhost:8080/token").await;
    says(
        &error,
        ErrorKind::Misconfigured,
        "wrong configuration: provider \"acme\": the transport refuses \
         http://localhost:8080/token because a resolver may give any address for localhost; write \
         127.0.0.1, and allow it with `TransportConfig::allow_loopback_http`",
    );
}

#[tokio::test]
async fn plain_http_to_a_loopback_address_is_refused_at_the_start_with_the_setting_that_allows_it()
{
    let error = start(TransportConfig::default(), "http://127.0.0.1:8080/token").await;
    says(
        &error,
        ErrorKind::Misconfigured,
        "wrong configuration: provider \"acme\": the transport refuses \
         http://127.0.0.1:8080/token because plain http is not encrypted; use https, or allow it \
         with `TransportConfig::allow_loopback_http`",
    );
}

#[tokio::test]
async fn a_replacement_that_the_transport_refuses_is_refused_and_the_former_settings_stay() {
    let supervisor = builder().provider("acme", https()).start().await.unwrap();
    let sessions = supervisor.sessions::<OAuth2>("acme").unwrap();
    let plain = OAuth2::new("http://keycloak:8080/token", "my-backend").unwrap();
    let error = sessions.replace(plain).await.unwrap_err();
    says(
        &error,
        ErrorKind::Misconfigured,
        "wrong configuration: provider \"acme\": the transport refuses http://keycloak:8080/token \
         because plain http is not encrypted; use https, or in development allow the host with \
         `TransportConfig::allow_http_hosts`",
    );
    let key = SessionKey::new("tenant-1", "device-17").unwrap();
    let provider = sessions.provider(key.tenant()).await.unwrap();
    assert_eq!(provider.authority_url().as_str(), "https://login.example.com/token");
}

#[tokio::test]
async fn plain_http_to_a_named_host_starts() {
    let transport = TransportConfig::default().allow_http_hosts(["keycloak"]);
    let provider = OAuth2::discover("http://keycloak:8080/realms/a", "my-backend").unwrap();
    let builder = Supervisor::builder().transport(transport).provider("acme", provider);
    builder.start().await.map(drop).unwrap();
}

#[test]
fn an_empty_token_id_is_named() {
    let invalid = SessionKey::new("tenant-1", "").unwrap_err();
    assert_eq!(invalid.to_string(), "the token id is empty; give it at least one character");
    says(
        &Error::from(invalid),
        ErrorKind::InvalidInput,
        "invalid input: a token id must have at least 1 and at most 256 bytes",
    );
}

#[tokio::test]
async fn a_name_that_is_registered_twice_is_named() {
    let twice = builder().provider("acme", https()).provider("acme", https());
    let error = twice.start().await.map(drop).unwrap_err();
    says(
        &error,
        ErrorKind::InvalidInput,
        "invalid input: two providers are registered as \"acme\"; give each provider its own name",
    );
}
