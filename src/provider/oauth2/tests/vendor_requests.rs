//! The requests of clients whose settings differ from the standard. Each client is made from JSON.

use serde_json::{Value, json};

use super::*;
use crate::provider::{LoginRequest, Operation, RedirectLogin};

/// A client of the server at `peer` with these settings.
fn client_of(peer: &Peer, more: &Value) -> OAuth2 {
    let mut settings = json!({
        "token_endpoint": peer.url("/token"),
        "client_id": "a b",
        "client_secret": "s&1=é",
    });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let settings: OAuth2Settings = serde_json::from_str(&settings.to_string()).unwrap();
    OAuth2::from_settings(settings).unwrap()
}

/// The request line, the headers and the body of a request.
struct Request {
    line: String,
    headers: String,
    body: String,
}

impl Request {
    fn new(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let (line, headers) = head.split_once("\r\n").unwrap();
        Self { line: line.to_owned(), headers: headers.to_owned(), body: body.to_owned() }
    }

    fn fields(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    fn field(&self, name: &str) -> Option<String> {
        self.fields().into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn granting(settings: Value, grant: impl Into<Grant>) -> Request {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let client = client_of(&peer, &settings);
    let sender = bench.sender();
    let (issued, seen) = join(client.establish(&sender, grant.into()), peer.json(200, GOOD)).await;
    assert!(matches!(issued.unwrap(), Issued::Tokens(_)));
    Request::new(&seen)
}

async fn refreshing(settings: Value) -> Request {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let client = client_of(&peer, &settings);
    let (sender, held) = (bench.sender(), held());
    let refreshed = client.refresh(&sender, held.refresh_token().unwrap(), &held);
    let (issued, seen) = join(refreshed, peer.json(200, GOOD)).await;
    issued.unwrap();
    Request::new(&seen)
}

fn service() -> ClientCredentials {
    ClientCredentials::new().scope("read write")
}

#[tokio::test]
async fn a_client_authenticates_in_each_way_that_servers_ask_for() {
    let sent =
        async |method: Value| granting(json!({ "client_authentication": method }), service()).await;
    let basic = sent(json!("basic")).await;
    assert!(
        basic.headers.contains("authorization: Basic YStiOnMlMjYxJTNEJUMzJUE5"),
        "{}",
        basic.headers
    );
    let unescaped = sent(json!("basic_unescaped")).await;
    assert!(unescaped.headers.contains("authorization: Basic YSBiOnMmMT3DqQ=="));
    let post = sent(json!("post")).await;
    assert_eq!(post.field("client_id").unwrap(), "a b");
    assert_eq!(post.field("client_secret").unwrap(), "s&1=é");
    let query = sent(json!("query")).await;
    let line = "POST /token?client_id=a+b&client_secret=s%261%3D%C3%A9 HTTP/1.1";
    assert_eq!(query.line, line);
    for other in [&unescaped, &query] {
        assert_eq!(other.field("client_id"), None);
        assert_eq!(other.field("client_secret"), None);
    }
    let names = json!({ "header": { "client_id": "X-Id", "client_secret": "X-Secret" } });
    let header = sent(names).await;
    assert!(header.headers.contains("x-id: a b\r\nx-secret: s&1="), "{}", header.headers);
    assert!(!header.headers.contains("authorization") && !header.body.contains("client_id"));
}

#[tokio::test]
async fn the_fields_of_a_request_are_a_form_or_json_or_the_query() {
    let settings = |body: &str| {
        json!({
            "request_body": body,
            "client_authentication": "post",
            "token_request": { "parameters": { "audience": "x", "resource": ["u:1", "u:2"] } },
        })
    };
    let form = granting(settings("form"), service()).await;
    assert!(form.headers.contains("content-type: application/x-www-form-urlencoded"));
    let resources = form.fields().into_iter().filter(|(name, _)| name == "resource");
    assert_eq!(resources.map(|(_, value)| value).collect::<Vec<_>>(), ["u:1", "u:2"]);
    let json = granting(settings("json"), service()).await;
    assert!(json.headers.contains("content-type: application/json"));
    let expected = json!({
        "grant_type": "client_credentials", "scope": "read write", "audience": "x",
        "resource": ["u:1", "u:2"], "client_id": "a b", "client_secret": "s&1=é",
    });
    assert_eq!(json.json(), expected);
    let query = granting(settings("query"), service()).await;
    assert!(query.line.contains("?grant_type=client_credentials&scope=read+write&audience=x&"));
    assert!(query.body.is_empty() && !query.headers.contains("content-type"), "{}", query.headers);
}

#[tokio::test]
async fn the_names_and_words_of_a_request_are_the_servers() {
    let settings = json!({
        "client_authentication": "post",
        "client_id_parameter": "client_key",
        "client_secret_parameter": "secret",
        "scope_separator": ",",
        "token_request": {
            "scope": true,
            "code_parameter": "auth_code",
            "grant_types": { "authorization_code": "code", "client_credentials": "account" },
            "headers": { "Accept": "application/json", "content-type": "text/x" },
        },
    });
    let service = granting(settings.clone(), service()).await;
    assert_eq!(service.field("grant_type").unwrap(), "account");
    assert_eq!(service.field("scope").unwrap(), "read,write");
    assert_eq!(service.field("client_key").unwrap(), "a b");
    assert_eq!(service.field("secret").unwrap(), "s&1=é");
    assert!(service.headers.contains("accept: application/json"));
    assert!(
        service.headers.contains("content-type: text/x") && !service.headers.contains("urlenc")
    );
    let code = AuthorizationCode::new("c-1").requested_scope(Some("read write"));
    let code = granting(settings, code).await;
    assert_eq!(code.field("grant_type").unwrap(), "code");
    assert_eq!((code.field("auth_code").unwrap(), code.field("code")), ("c-1".to_owned(), None));
    assert_eq!(code.field("scope").unwrap(), "read,write");
}

#[tokio::test]
async fn a_token_request_has_the_scope_only_where_the_standard_or_the_settings_have_it() {
    let code = || AuthorizationCode::new("c-1").requested_scope(Some("read"));
    assert_eq!(granting(json!({}), code()).await.field("scope"), None);
    let never = json!({ "token_request": { "scope": false } });
    assert_eq!(granting(never, service()).await.field("scope"), None);
}

#[tokio::test]
async fn a_refresh_goes_to_its_own_endpoint_with_its_own_parameters() {
    let settings = json!({
        "scope_separator": ",",
        "token_request": {
            "parameters": { "first": "1" },
            "headers": { "x-first": "1" },
            "grant_types": { "refresh_token": "renew" },
        },
        "refresh_request": {
            "parameters": { "audience": "x" }, "headers": { "x-more": "2" }, "scope": true,
        },
    });
    let seen = refreshing(settings).await;
    assert_eq!(seen.field("grant_type").unwrap(), "renew");
    assert_eq!(seen.field("audience").unwrap(), "x");
    assert_eq!(seen.field("scope").unwrap(), "read");
    assert_eq!(seen.field("first"), None);
    assert!(seen.headers.contains("x-more: 2") && !seen.headers.contains("x-first"));
    assert_eq!(refreshing(json!({})).await.field("scope"), None);

    let (bench, peer) = (Bench::new(), Peer::start().await);
    let client = client_of(&peer, &json!({ "refresh_endpoint": peer.url("/renew?v=2") }));
    assert!(client.configured_urls().iter().any(|url| url.path() == "/renew"));
    let (sender, held) = (bench.sender(), held());
    let refreshed = client.refresh(&sender, held.refresh_token().unwrap(), &held);
    let (issued, seen) = join(refreshed, peer.json(200, GOOD)).await;
    issued.unwrap();
    assert!(seen.starts_with("POST /renew?v=2 HTTP/1.1"), "{seen}");
}

#[tokio::test]
async fn a_refresh_endpoint_elsewhere_is_a_place_that_credentials_are_bound_to() {
    let settings = |url: &str| {
        let text = json!({
            "token_endpoint": TOKEN_ENDPOINT, "client_id": "c", "refresh_endpoint": url,
        });
        OAuth2::from_settings(serde_json::from_value(text).unwrap()).unwrap()
    };
    let elsewhere = settings("https://other.example/renew").endpoints_elsewhere();
    assert_eq!(elsewhere, [Url::parse("https://other.example/renew").unwrap()]);
    assert_eq!(settings("https://as.example/renew").endpoints_elsewhere(), []);
}

/// A client that logs in, and what it asks for.
fn login_url(settings: &Value, options: &LoginOptions) -> Url {
    let mut all = json!({
        "token_endpoint": TOKEN_ENDPOINT,
        "client_id": "app",
        "authorization_endpoint": "https://as.example/authorize",
        "redirect_uri": "https://app.example/cb",
    });
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let client = OAuth2::from_settings(serde_json::from_value(all).unwrap()).unwrap();
    let (state, verifier) = (Secret::from("s-1"), Secret::from("v-1"));
    client.login_url(&LoginRequest::new(&state, &verifier), options).unwrap()
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    let mut found = url.query_pairs().filter(|(found, _)| found == name);
    let value = found.next().map(|(_, value)| value.into_owned());
    assert!(found.next().is_none(), "{name} is there twice");
    value
}

#[test]
fn an_authorization_request_has_what_the_settings_say() {
    let settings = json!({
        "client_id_parameter": "client_key",
        "scope": "read write",
        "scope_separator": ",",
        "authorization_request": {
            "parameters": { "access_type": "offline", "prompt": "consent", "request": "r" },
            "pkce": "plain",
        },
    });
    let url = login_url(&settings, &LoginOptions::new());
    for (name, value) in [
        ("client_key", "app"),
        ("scope", "read,write"),
        ("access_type", "offline"),
        ("prompt", "consent"),
        ("request", "r"),
        ("code_challenge", "v-1"),
        ("code_challenge_method", "plain"),
    ] {
        assert_eq!(parameter(&url, name).as_deref(), Some(value), "{url}");
    }
    assert_eq!(parameter(&url, "client_id"), None);
    let options = LoginOptions::new().prompt("login").parameter("access_type", "online");
    let url = login_url(&settings, &options);
    assert_eq!(parameter(&url, "prompt").unwrap(), "login");
    assert_eq!(parameter(&url, "access_type").unwrap(), "online");

    let off = json!({ "authorization_request": { "pkce": "off" } });
    let url = login_url(&off, &LoginOptions::new());
    assert_eq!(
        parameter(&url, "code_challenge").or(parameter(&url, "code_challenge_method")),
        None
    );
}

#[test]
fn a_login_with_openid_has_a_nonce_unless_the_settings_name_one() {
    let url = |scope: &str, parameters: Value| {
        let settings =
            json!({ "scope": scope, "authorization_request": { "parameters": parameters } });
        parameter(&login_url(&settings, &LoginOptions::new()), "nonce")
    };
    let made = url("profile openid", json!({})).unwrap();
    assert_eq!(made.len(), 43);
    assert_eq!(url("openidish", json!({})), None);
    assert_eq!(url("openid", json!({ "nonce": "n" })).as_deref(), Some("n"));
}

#[test]
fn the_parameters_follow_a_fragment_in_the_authorization_endpoint() {
    for (endpoint, begin) in [
        ("https://as.example/?a=1#/authorize", "/authorize?response_type=code&client_id=app&"),
        ("https://as.example/#/authorize?b=2", "/authorize?b=2&response_type=code&"),
    ] {
        let url = login_url(&json!({ "authorization_endpoint": endpoint }), &LoginOptions::new());
        assert!(url.fragment().unwrap().starts_with(begin), "{url}");
        assert_eq!(parameter(&url, "client_id"), None);
    }
}

/// A client that takes the host of a session from the redirect.
fn of_regions(peer: &Peer, allowed: &[&str]) -> OAuth2 {
    client_of(
        peer,
        &json!({
            "redirect_uri": "https://app.example/cb",
            "revocation_endpoint": peer.url("/revoke"),
            "introspection_endpoint": peer.url("/introspect"),
            "authorization_response": {
                "code_parameter": "auth_code", "attributes": { "company": "realmId" },
            },
            "session_host": { "callback_parameter": "server", "allowed": allowed },
        }),
    )
}

fn grant_of(client: &OAuth2, redirect: &str) -> Result<Grant> {
    let (state, verifier) = (Secret::from("s-1"), Secret::from("v-1"));
    let redirect = format!("https://app.example/cb?state=s-1&auth_code=c-1&{redirect}");
    client.login_grant(&redirect, &LoginRequest::new(&state, &verifier), &LoginOptions::new())
}

fn host(peer: &Peer) -> String {
    peer.url("").trim_start_matches("http://").to_owned()
}

#[tokio::test]
async fn an_allowed_host_of_the_redirect_gets_the_code_and_each_later_token() {
    let (bench, home, away) = (Bench::new(), Peer::start().await, Peer::start().await);
    let client = of_regions(&home, &[&host(&away)]);
    let grant = grant_of(&client, &format!("server={}&realmId=7", host(&away))).unwrap();
    let sender = bench.sender();
    let (issued, seen) = join(client.establish(&sender, grant), away.json(200, GOOD)).await;
    let Issued::Tokens(held) = issued.unwrap();
    assert!(seen.starts_with("POST /token HTTP/1.1") && seen.contains("code=c-1"), "{seen}");
    let attributes = held.attributes();
    assert_eq!(attributes.host.as_deref(), Some(&*host(&away)));
    assert_eq!(attributes.more["company"], "7");
    assert_eq!(client.endpoints_of_session(attributes)[0].as_str(), away.url("/token"));

    let sender = bench.sender();
    let refreshed = client.refresh(&sender, held.refresh_token().unwrap(), &held);
    let (issued, seen) = join(refreshed, away.json(200, GOOD)).await;
    assert!(seen.contains("refresh_token="), "{seen}");
    // A refresh says neither host nor company, and the session keeps both.
    let issued = issued.unwrap().attributes;
    let merged = client.merge_attributes(attributes, issued).unwrap();
    assert_eq!((&merged.host, &merged.more), (&attributes.host, &attributes.more));
    let sender = bench.sender();
    let (revoked, seen) = join(client.revoke(&sender, &held), away.json(200, "")).await;
    assert_eq!(revoked.unwrap(), Revoked::AtServer);
    assert!(seen.starts_with("POST /revoke "), "{seen}");
    let (request, ()) = Introspect::refresh_token().request(&client, &held).unwrap();
    assert_eq!(request.uri().to_string(), away.url("/introspect"));
}

#[tokio::test]
async fn a_forged_host_is_refused_before_the_code_is_sent() {
    let (home, away) = (Peer::start().await, Peer::start().await);
    let client = of_regions(&home, &[&host(&home)]);
    for forged in [host(&away), "evil.example".to_owned(), format!("{}@evil.example", host(&home))]
    {
        let refused = grant_of(&client, &format!("server={forged}")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused(Refusal::HostNotAllowed), "{forged}");
        assert!(refused.to_string().contains("session_host.allowed"), "{refused}");
    }
    assert!(grant_of(&client, "realmId=7").is_ok(), "without a host it is that of the settings");
}

#[tokio::test]
async fn a_host_that_the_settings_no_longer_allow_gets_no_token() {
    let (bench, home, away) = (Bench::new(), Peer::start().await, Peer::start().await);
    let attributes = Attributes { host: Some(host(&away)), ..Attributes::default() };
    let held = Tokens::new(attributes).with_refresh_token("r-1", None);
    let client = of_regions(&home, &[&host(&home)]);
    let sender = bench.sender();
    let failed = client.refresh(&sender, held.refresh_token().unwrap(), &held).await.unwrap_err();
    assert_eq!(failed.class(), FailureClass::NotSent);
    let error = failed.into_error();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("sign the user in again"), "{error}");
}

#[test]
fn settings_that_cannot_be_used_name_their_field() {
    let told = |more: Value| {
        let mut all = json!({
            "token_endpoint": TOKEN_ENDPOINT, "client_id": "app", "client_secret": "canary",
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let settings = serde_json::from_str::<OAuth2Settings>(&all.to_string());
        let text = match settings {
            Err(error) => error.to_string(),
            Ok(settings) => {
                assert!(!format!("{settings:?}").contains("canary"));
                OAuth2::from_settings(settings).map(drop).unwrap_err().to_string()
            }
        };
        assert!(!text.contains("canary"), "{text}");
        text
    };
    for (settings, field) in [
        (json!({ "token_endpoint": "as.example" }), "`token_endpoint`"),
        (json!({ "token_endpoint": null }), "neither `token_endpoint` nor `issuer`"),
        (json!({ "client_id": "" }), "`client_id`"),
        (json!({ "issuer": "ftp://as.example" }), "`issuer`"),
        (json!({ "refresh_endpoint": "x" }), "`refresh_endpoint`"),
        (json!({ "redirect_uri": "/cb" }), "`redirect_uri`"),
        (json!({ "client_authentication": "none" }), "`client_authentication`"),
        (json!({ "client_authentication": "jwt" }), "`client_authentication`"),
        (json!({ "client_secret": 12345 }), "`client_secret`: the secret is not a text"),
        (json!({ "rotation": { "fork": -1 } }), "`rotation.fork`"),
        (json!({ "refresh_lifetime": "long" }), "`refresh_lifetime`"),
        (json!({ "token_request": { "parameters": { "code": "x" } } }), "`token_request`"),
        (json!({ "token_request": { "headers": { "host": "x" } } }), "`token_request`"),
        (json!({ "refresh_request": { "headers": { "a": "\n" } } }), "`refresh_request`"),
        (json!({ "refresh_request": { "parameter": {} } }), "`refresh_request.parameter`"),
        (
            json!({ "authorization_request": { "parameters": { "state": "x" } } }),
            "`authorization_request`",
        ),
        (
            json!({ "authorization_response": { "attributes": { "a": "code" } } }),
            "`authorization_response`",
        ),
        (json!({ "token_response": { "under": "a" } }), "`token_response.under`"),
        (
            json!({ "token_response": { "attributes": { "a": "/access_token" } } }),
            "`token_response`",
        ),
        (
            json!({ "error_rules": [{ "status": 400, "pointer": "/a", "value": "b", "class": "x" }] }),
            "`error_rules[0].class`",
        ),
        (json!({ "token_dead_on": [{ "pointer": "/a" }] }), "`token_dead_on[0]`"),
        (json!({ "session_host": { "allowed": ["a.example"] } }), "`session_host`"),
    ] {
        let text = told(settings);
        assert!(text.contains(field), "{field}: {text}");
    }
}
