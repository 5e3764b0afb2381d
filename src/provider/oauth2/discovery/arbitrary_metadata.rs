//! Metadata that an attacker has made or changed, at the server or on the way.

use bytes::Bytes;
use http::Response;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use super::Issuer;
use crate::provider::FailureClass;
use crate::provider::http_message;

const ISSUER: &str = "https://as.example/realm";

/// Some that may be used, and some that may not.
const URLS: &[&str] = &[
    "https://as.example/t",
    "https://other.example/t?x=1",
    "http://as.example/t",
    "http://127.0.0.1:8080/t",
    "http://169.254.169.254/latest",
    "https://user:pass@as.example/t",
    "https://as.example/t#fragment",
    "javascript:alert(1)",
    "//as.example/t",
    "https://as.example\\@evil.example/t",
    "",
];

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => select(URLS).prop_map(Value::from),
        2 => any::<String>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<u32>().prop_map(Value::from),
        1 => Just(json!({"a": [1]})),
    ]
}

/// Names that are almost the issuer's.
const NEAR: &[&str] =
    &["https://as.example/realm/", "https://as.example/", "https://as.EXAMPLE/realm"];

fn issuer() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => Just(Value::from(ISSUER)),
        2 => select(NEAR).prop_map(Value::from),
        1 => text(),
    ]
}

/// A document of members that fit or do not, whole, cut, or with a byte changed.
fn document() -> impl Strategy<Value = Vec<u8>> {
    let members = (issuer(), text(), text(), text(), text(), text());
    let object =
        members.prop_map(|(issuer, token, revocation, authorization, introspection, user)| {
            let object = json!({
                "issuer": issuer,
                "token_endpoint": token,
                "revocation_endpoint": revocation,
                "authorization_endpoint": authorization,
                "introspection_endpoint": introspection,
                "userinfo_endpoint": user,
            });
            object.to_string().into_bytes()
        });
    let damage = (any::<Option<Index>>(), any::<Option<(Index, u8)>>());
    (object, damage).prop_map(|(body, (cut, changed))| damaged(body, cut, changed))
}

/// The document with one byte changed, and cut.
fn damaged(mut body: Vec<u8>, cut: Option<Index>, changed: Option<(Index, u8)>) -> Vec<u8> {
    if let Some((place, byte)) = changed {
        let place = place.index(body.len());
        body[place] = byte;
    }
    if let Some(cut) = cut {
        body.truncate(cut.index(body.len()));
    }
    body
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_document_of_another_issuer_and_no_endpoint_that_may_not_be_used_is_accepted(
        body in document(),
    ) {
        let response = Response::new(Bytes::from(body.clone()));
        match Issuer::new(ISSUER).unwrap().read(&response) {
            Ok(document) => {
                let said: Value = serde_json::from_slice(&body).unwrap();
                prop_assert_eq!(&said["issuer"], ISSUER);
                let optional = document.optional;
                let others = [
                    optional.authorization,
                    optional.introspection,
                    optional.revocation,
                    optional.userinfo,
                ];
                for url in others.into_iter().flatten().chain([document.token]) {
                    prop_assert!(http_message::endpoint(url.as_str()).is_ok(), "{}", url);
                }
            }
            Err(refused) => prop_assert_eq!(refused.class(), FailureClass::Misconfigured),
        }
    }
}
