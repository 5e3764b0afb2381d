//! The requests of clients with a private key or a certificate, and the settings of such clients.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::provider::Operation;
use crate::provider::http_message::HttpRequest;
use crate::provider::test_bench::START;

/// A key, and a certificate of it, in PEM.
fn key_and_certificate() -> [String; 2] {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    [key.serialize_pem(), certificate.pem()]
}

fn settings(token_endpoint: &str, more: &Value) -> OAuth2Settings {
    let mut settings = json!({ "token_endpoint": token_endpoint, "client_id": "app" });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_str(&settings.to_string()).unwrap()
}

/// A client of this server that signs, with these settings too.
fn signing(server: &str, more: Value) -> OAuth2 {
    let [key, _] = key_and_certificate();
    let mut own = json!({
        "client_authentication": { "private_key_jwt": { "algorithm": "ES256" } },
        "client_key": key,
        "revocation_endpoint": format!("{server}/revoke"),
        "introspection_endpoint": format!("{server}/introspect"),
    });
    own.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    OAuth2::from_settings(settings(&format!("{server}/token"), &own)).unwrap()
}

fn claims(assertion: &str) -> Value {
    let claims = assertion.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

/// The value of a field that the request has once.
fn once(fields: &[(String, String)], name: &str) -> String {
    let mut found = fields.iter().filter(|(found, _)| found == name);
    let value = found.next().unwrap_or_else(|| panic!("no {name}: {fields:?}")).1.clone();
    assert!(found.next().is_none(), "{name}: {fields:?}");
    value
}

/// Checks that the fields authenticate the client, and gives the claims.
fn authenticated(fields: &[(String, String)]) -> Value {
    let kind = once(fields, "client_assertion_type");
    assert_eq!(kind, "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    assert_eq!(once(fields, "client_id"), "app");
    assert!(fields.iter().all(|(name, _)| name != "client_secret"), "{fields:?}");
    claims(&once(fields, "client_assertion"))
}

fn form(text: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

fn service() -> Grant {
    ClientCredentials::new().into()
}

#[tokio::test]
async fn each_request_has_an_assertion_of_its_own_by_the_senders_clock() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let client = signing(&peer.url(""), json!({}));
    let (sender, held) = (bench.sender(), held());
    let mut seen = Vec::new();
    let (granted, text) = join(client.establish(&sender, service()), peer.json(200, GOOD)).await;
    granted.map(drop).unwrap();
    seen.push(text);
    bench.clock.advance(Duration::from_secs(7));
    let sender = bench.sender();
    let refreshed = client.refresh(&sender, held.refresh_token().unwrap(), &held);
    let (refreshed, text) = join(refreshed, peer.json(200, GOOD)).await;
    refreshed.map(drop).unwrap();
    seen.push(text);
    let (revoked, text) = join(client.revoke(&sender, &held), peer.json(200, "")).await;
    assert_eq!(revoked.unwrap(), Revoked::AtServer);
    seen.push(text);
    let operations: [HttpRequest; 2] = [
        Introspect::access_token().request(&client, &held).unwrap().0,
        RevokeAccessToken.request(&client, &held).unwrap().0,
    ];
    for request in operations {
        let (sent, text) = join(sender.send(request), peer.json(200, "{}")).await;
        sent.map(drop).unwrap();
        seen.push(text);
    }
    let mut ids = HashSet::new();
    for (at, text) in seen.iter().enumerate() {
        let claims = authenticated(&form(text.split_once("\r\n\r\n").unwrap().1));
        let issued = START.as_secs() + if at == 0 { 0 } else { 7 };
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(issued), &json!(issued + 60)));
        assert_eq!(claims["aud"], peer.url("/token"), "also at the other endpoints");
        assert!(ids.insert(claims["jti"].to_string()));
    }
    let length = seen[0].lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(length.parse(), Ok(seen[0].split_once("\r\n\r\n").unwrap().1.len()));
}

#[tokio::test]
async fn the_assertion_stands_where_the_other_fields_do() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let sent = async |body: &str| {
        let settings = json!({
            "request_body": body,
            "token_endpoint": peer.url("/token?api=1"),
            "token_request": { "parameters": { "audience": "ä&b" } },
        });
        let client = signing(&peer.url(""), settings);
        let sender = bench.sender();
        let (granted, seen) =
            join(client.establish(&sender, service()), peer.json(200, GOOD)).await;
        granted.map(drop).unwrap();
        seen
    };
    let in_json = sent("json").await;
    let body: Value = serde_json::from_str(in_json.split_once("\r\n\r\n").unwrap().1).unwrap();
    let text =
        |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap().to_owned());
    let fields: Vec<_> = body.as_object().unwrap().iter().map(text).collect();
    authenticated(&fields);
    assert_eq!((fields.len(), once(&fields, "audience").as_str()), (5, "ä&b"));
    let in_query = sent("query").await;
    let (line, rest) = in_query.split_once("\r\n").unwrap();
    assert!(rest.ends_with("\r\n\r\n"), "{rest}");
    let query = line.strip_prefix("POST /token?api=1&").unwrap().strip_suffix(" HTTP/1.1").unwrap();
    let fields = form(query);
    authenticated(&fields);
    assert_eq!((fields.len(), once(&fields, "audience").as_str()), (5, "ä&b"));
}

#[tokio::test]
async fn the_audience_is_the_configured_one_else_the_issuer_else_the_token_endpoint() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let configured = json!({
        "client_authentication": { "private_key_jwt": { "algorithm": "ES256", "audience": "x" } },
        "issuer": "https://as.example/Realm",
    });
    for (settings, expected) in [
        (configured, "x".to_owned()),
        (json!({ "issuer": "https://as.example/Realm" }), "https://as.example/Realm".to_owned()),
        (json!({}), peer.url("/token")),
    ] {
        let client = signing(&peer.url(""), settings);
        let sender = bench.sender();
        let (granted, seen) =
            join(client.establish(&sender, service()), peer.json(200, GOOD)).await;
        granted.map(drop).unwrap();
        let claims = authenticated(&form(seen.split_once("\r\n\r\n").unwrap().1));
        assert_eq!(claims["aud"], expected);
    }
}

/// RFC 8705 section 2: a client without a secret names itself by its id in the body.
#[tokio::test]
async fn a_client_with_a_certificate_sends_its_id_and_what_else_its_method_needs() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let [key, certificate] = key_and_certificate();
    let own = json!({ "client_key": key, "client_certificate": certificate });
    let secret = json!({ "client_secret": "s-1", "client_authentication": "post" });
    for (more, expected) in [(json!({}), None), (secret, Some("s-1"))] {
        let mut own = own.clone();
        own.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let client = OAuth2::from_settings(settings(&peer.url("/token"), &own)).unwrap();
        let sender = bench.sender();
        let (granted, seen) =
            join(client.establish(&sender, service()), peer.json(200, GOOD)).await;
        granted.map(drop).unwrap();
        let fields = form(seen.split_once("\r\n\r\n").unwrap().1);
        assert_eq!(once(&fields, "client_id"), "app");
        let secret = fields.iter().find(|(name, _)| name == "client_secret");
        assert_eq!(secret.map(|(_, value)| value.as_str()), expected);
    }
}

#[test]
fn settings_that_do_not_fit_together_are_refused_with_the_field_and_without_the_key() {
    let [key, certificate] = key_and_certificate();
    let [other, _] = key_and_certificate();
    let jwt = json!({ "private_key_jwt": { "algorithm": "ES256" } });
    let rsa = json!({ "private_key_jwt": { "algorithm": "RS256" } });
    let line = key.lines().nth(1).unwrap().to_owned();
    let cases = [
        (json!({ "client_authentication": jwt }), "`client_authentication`: the method"),
        (
            json!({ "client_authentication": jwt, "client_secret": "canary", "client_key": key }),
            "`client_authentication`: the method",
        ),
        (json!({ "client_authentication": rsa, "client_key": key }), "`client_key` is not an RSA"),
        (json!({ "client_authentication": jwt, "client_key": "canary" }), "`client_key` has no"),
        (json!({ "client_key": key }), "nothing uses `client_key`"),
        (json!({ "client_certificate": certificate }), "`client_certificate` needs its key"),
        (
            json!({ "client_certificate": certificate, "client_key": other }),
            "`client_key` does not belong",
        ),
        (
            json!({ "client_certificate": certificate, "client_key": certificate }),
            "`client_key` has no private key",
        ),
        (
            json!({ "client_certificate": key, "client_key": key }),
            "`client_certificate` has no certificate",
        ),
        (
            json!({
                "client_certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n\
                                       -----END CERTIFICATE-----\n",
                "client_key": key,
            }),
            "`client_certificate` has no certificate",
        ),
    ];
    for (more, words) in cases {
        let refused = OAuth2::from_settings(settings(TOKEN_ENDPOINT, &more)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        let shown = shown(&refused.clone().into());
        assert!(refused.to_string().contains(words), "{shown}");
        assert!(!shown.contains("canary") && !shown.contains(&line), "{shown}");
    }
}

#[test]
fn a_key_is_neither_written_nor_shown() {
    let [key, certificate] = key_and_certificate();
    let more = json!({
        "client_authentication": { "private_key_jwt": { "algorithm": "ES256", "kid": "k" } },
        "client_key": key,
        "client_certificate": certificate,
    });
    let settings = settings(TOKEN_ENDPOINT, &more);
    let written = serde_json::to_string(&settings).unwrap();
    let client = OAuth2::from_settings(settings.clone()).unwrap();
    let request = client.request(&Url::parse(TOKEN_ENDPOINT).unwrap(), Vec::new()).unwrap();
    let shown = format!("{written} {settings:?} {client:?} {request:?}");
    assert!(shown.contains("private_key_jwt") && shown.contains("BEGIN CERTIFICATE"), "{shown}");
    for line in key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!shown.contains(line), "{shown}");
    }
    let wrong = serde_json::from_str::<OAuth2Settings>(r#"{ "client_key": ["canary"] }"#);
    let wrong = wrong.unwrap_err().to_string();
    assert!(wrong.starts_with("`client_key") && !wrong.contains("canary"), "{wrong}");
}
