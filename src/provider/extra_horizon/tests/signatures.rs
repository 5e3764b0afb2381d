//! Signatures of requests.

use std::collections::HashSet;

use http::{Method, Request, header, request};
use proptest::prelude::*;
use url::Url;

use super::*;
use crate::provider::extra_horizon::request_signature::{
    NonceAndTime, Signer, base_string, encode,
};
use crate::provider::{Provider, Signing};
use crate::secret::Secret;
use crate::token::{Access, PermissionToken};

const NONCE: &str = "0123456789abcdefghijklmnopqrstuv";

fn signed(method: &str, url: &str, token: Option<(&str, &str)>) -> String {
    let signer = Signer { consumer_key: "ck-demo", consumer_secret: "cs demo&secret", token };
    let once = NonceAndTime { nonce: NONCE, timestamp: 1_700_000_000 };
    let url = Url::parse(url).unwrap();
    signer.header(&method.parse().unwrap(), &url, &once).expose_secret().to_owned()
}

#[test]
fn the_two_vectors_of_the_vendors_form_come_out() {
    let first = signed("POST", "https://api.dev.acme.extrahorizon.io/auth/v2/oauth1/tokens", None);
    assert_eq!(
        first,
        "OAuth oauth_consumer_key=\"ck-demo\", \
         oauth_nonce=\"0123456789abcdefghijklmnopqrstuv\", \
         oauth_signature=\"Ni0nFslEdy9AW%2FOObJokI7LUgiI%3D\", \
         oauth_signature_method=\"HMAC-SHA1\", oauth_timestamp=\"1700000000\", \
         oauth_version=\"1.0\""
    );
    let (token, secret) = ("a1".repeat(20), "b2".repeat(20));
    let second = "https://api.dev.acme.extrahorizon.io/users/v1/me";
    let second = signed("GET", second, Some((&token, &secret)));
    assert!(second.contains("oauth_signature=\"bmuoUFSK6YgRrfHxmw1GkwrNqEY%3D\""), "{second}");
    assert!(second.contains(&format!("oauth_timestamp=\"1700000000\", oauth_token=\"{token}\"")));
}

/// RFC 5849 section 3.4.1.1, without the body, which is a form there.
fn base(method: &str, url: &str) -> String {
    let mut text = String::new();
    let method: Method = method.parse().unwrap();
    let fields = [("oauth_nonce", "n")];
    base_string(&method, &Url::parse(url).unwrap(), &fields, &mut |piece| text.push_str(piece));
    text
}

#[test]
fn a_base_string_has_what_is_sent_and_no_more() {
    for (url, path, params) in [
        ("http://example.com/r%20v/X?id=123", "http://example.com/r%20v/X", "id=123&oauth_nonce=n"),
        ("https://EXAMPLE.com:443/", "https://example.com/", "oauth_nonce=n"),
        ("http://example.com:80", "http://example.com/", "oauth_nonce=n"),
        ("https://www.example.net:8080/?q=1", "https://www.example.net:8080/", "oauth_nonce=n&q=1"),
        (
            "http://e.x/?b5=%3D%253D&a3=a&c%40=&a2=r%20b&c2&a3=2+q",
            "http://e.x/",
            "a2=r%20b&a3=2%20q&a3=a&b5=%3D%253D&c%40=&c2=&oauth_nonce=n",
        ),
        (
            "http://e.x/l?eq(name,x)&limit(5)",
            "http://e.x/l",
            "eq%28name%2Cx%29=&limit%285%29=&oauth_nonce=n",
        ),
        ("http://e.x/?&&a&", "http://e.x/", "a=&oauth_nonce=n"),
        ("http://e.x/?a=%&b=%zz&c=%FF", "http://e.x/", "a=%25&b=%25zz&c=%FF&oauth_nonce=n"),
        ("http://[::1]:8080/a'b", "http://[::1]:8080/a'b", "oauth_nonce=n"),
    ] {
        let escaped = |text: &str| {
            let mut escaped = String::new();
            encode(text.as_bytes(), &mut |piece| escaped.push_str(piece));
            escaped
        };
        let expected = format!("GET&{}&{}", escaped(path), escaped(params));
        assert_eq!(base("get", url), expected, "{url}");
    }
}

fn parts(method: &str, url: &str, body: &str) -> request::Parts {
    let request = Request::builder().method(method).uri(url).body(body.to_owned()).unwrap();
    request.into_parts().0
}

fn sign(request: &mut request::Parts) -> Result<(), Error> {
    let access = Access { secret: Secret::from("canary-token"), expires_at: None };
    let token = PermissionToken::new(&access, oauth1().placement().as_ref(), (1, 1));
    assert!(token.header().is_none());
    let secret = Secret::from("canary-secret");
    oauth1().authorize(&Signing::new(&token, Some(&secret), Bench::at(0)), request)
}

#[test]
fn each_request_is_signed_anew_and_its_header_is_no_secret_in_a_log() {
    let mut nonces = HashSet::new();
    let mut request = parts("GET", "https://api.x.io/users/v1/me?limit(5)", "");
    for _ in 0..100 {
        sign(&mut request).unwrap();
        let value = &request.headers[header::AUTHORIZATION];
        assert!(value.is_sensitive() && !format!("{request:?}").contains("canary"));
        let text = value.to_str().unwrap();
        assert!(!text.contains("canary-secret") && text.contains("oauth_timestamp=\"1800000000\""));
        let nonce = text.split("oauth_nonce=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(nonces.insert(nonce.to_owned()));
    }
    assert_eq!(request.headers.get_all(header::AUTHORIZATION).iter().count(), 1);
}

#[test]
fn what_is_signed_is_the_url_that_http_clients_send() {
    for (given, sent) in [
        ("https://api.x.io/a/../b%20c?q='x'", "https://api.x.io/b%20c?q=%27x%27"),
        ("https://API.x.io:443", "https://api.x.io/"),
        ("https://api.x.io/f/a%2Fb?c=%20d", "https://api.x.io/f/a%2Fb?c=%20d"),
    ] {
        let mut request = parts("GET", given, "");
        sign(&mut request).unwrap();
        assert_eq!(request.uri, sent);
    }
}

#[test]
fn what_cannot_be_signed_is_left_as_it_was() {
    let mut relative = parts("GET", "/users/v1/me", "");
    let mut form = parts("POST", "https://api.x.io/", "");
    let kind = "application/x-www-form-urlencoded; charset=utf-8".parse().unwrap();
    form.headers.insert(header::CONTENT_TYPE, kind);
    for request in [&mut relative, &mut form] {
        let error = sign(request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(!request.headers.contains_key(header::AUTHORIZATION));
    }
    let access = Access { secret: Secret::from("canary"), expires_at: None };
    let token = PermissionToken::new(&access, None, (1, 1));
    let signing = Signing::new(&token, None, Bench::at(0));
    let mut request = parts("GET", "https://api.x.io/", "");
    let error = oauth1().authorize(&signing, &mut request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
}

#[test]
fn no_url_panics_and_a_signature_depends_on_every_part() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let tail = "[ -~é]{0,30}";
    proptest!(config, |(path in tail, query in tail, other in "[a-z]{1,5}")| {
        let mut url = Url::parse("https://api.x.io").unwrap();
        url.set_path(&path);
        url.set_query(Some(&query));
        let before = signed("GET", url.as_str(), None);
        prop_assert_ne!(&before, &signed("PUT", url.as_str(), None));
        prop_assert_ne!(&before, &signed("GET", url.as_str(), Some(("t", ""))));
        url.set_query(Some(&format!("{query}&{other}")));
        prop_assert_ne!(&before, &signed("GET", url.as_str(), None));
    });
}
