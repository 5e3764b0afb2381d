//! The responses.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::provider::ClientOperation;

fn read(bench: &Bench, body: &str) -> Result<Tokens<SpatiumAttributes>, ExchangeError> {
    response::tokens(&bench.sender(), &response(200, body), held().attributes())
}

#[test]
fn a_pair_is_read_with_ends_in_unix_seconds_and_with_what_the_token_says() {
    let bench = Bench::new();
    let tokens = read(&bench, &pair("x", 900, 3600)).unwrap();
    assert_eq!(tokens.access_expires_at(), Some(Bench::at(900)));
    assert_eq!(tokens.refresh_expires_at(), Some(Bench::at(3600)));
    let SpatiumAttributes { permissions, account_id, merchant_id } = tokens.attributes();
    assert_eq!(permissions, &["read", "secret"]);
    assert_eq!(
        account_id.as_deref().zip(merchant_id.as_deref()),
        Some(("account-1", "merchant-1"))
    );
}

#[test]
fn a_token_is_an_object_or_a_text_and_its_end_may_be_in_itself_alone() {
    let bench = Bench::new();
    let exp = crate::provider::test_bench::START.as_secs() + 60;
    let (token, refresh) = (jwt(&json!({ "exp": exp })), jwt(&json!({ "exp": exp + 60 })));
    for data in [
        json!({ "permissionToken": token, "permissionRefreshToken": refresh }),
        json!({
            "permissionToken": { "permissionToken": token, "expiresAt": null },
            "permissionRefreshToken": { "permissionRefreshToken": refresh, "expiresAt": "soon" },
        }),
        json!({
            "permissionToken": { "token": token, "x": [1] },
            "permissionRefreshToken": { "token": refresh },
        }),
    ] {
        let tokens = read(&bench, &json!({ "data": data }).to_string()).unwrap();
        assert_eq!(tokens.access_token().unwrap().expose_secret(), token);
        assert_eq!(tokens.refresh_token().unwrap().expose_secret(), refresh);
        assert_eq!(tokens.access_expires_at(), Some(Bench::at(60)), "{data}");
        assert_eq!(tokens.refresh_expires_at(), Some(Bench::at(120)), "{data}");
        assert_eq!(tokens.attributes(), held().attributes());
    }
    let opaque = read(&bench, r#"{"data":{"permissionToken":"t"}}"#).unwrap();
    assert!(opaque.access_expires_at().is_none() && opaque.refresh_token().is_none());
}

#[test]
fn hazard_10_a_200_without_a_permission_token_is_a_lost_answer_and_nothing_of_it_is_kept() {
    let bench = Bench::new();
    for body in [
        "",
        "<html>canary",
        "[]",
        "{}",
        r#"{"permissionToken":"canary"}"#,
        r#"{"data":null}"#,
        r#"{"data":"canary"}"#,
        r#"{"data":["canary","canary"]}"#,
        r#"{"data":{"permissionToken":""}}"#,
        r#"{"data":{"permissionToken":null}}"#,
        r#"{"data":{"permissionToken":4711}}"#,
        r#"{"data":{"permissionToken":["canary"]}}"#,
        r#"{"data":{"permissionToken":{}}}"#,
        r#"{"data":{"permissionToken":{"permissionToken":{"canary":1}}}}"#,
        r#"{"data":{"permissionToken":{"permissionToken":"canary","token":"canary"}}}"#,
        r#"{"data":{"permissionToken":"canary","permissionRefreshToken":7}}"#,
        r#"{"data":{"permissionRefreshToken":"canary"}}"#,
        r#"{"data":{"permissionToken":"canary"#,
        r#"{"error":"canary"}"#,
    ] {
        let failed = read(&bench, body).unwrap_err();
        assert_eq!((failed.class(), failed.status()), (Ambiguous, Some(200)), "{body}");
        assert!(!shown(&failed).contains("canary"), "{body}");
    }
}

#[test]
fn the_answer_to_another_request_is_a_lost_answer_whatever_it_says() {
    let id = Uuid::new_v4();
    for status in [200, 400, 401, 500] {
        for other in [json!(Uuid::new_v4().to_string()), json!("canary"), json!(7), json!("")] {
            let body = json!({ "requestId": other, "data": { "permissionToken": "canary" } });
            let failed = Envelope::check(&response(status, body.to_string()), id).unwrap_err();
            assert_eq!(failed.class(), Ambiguous, "{body}");
            assert!(!shown(&failed).contains("canary"));
        }
    }
    for ours in [json!(id.to_string()), json!(id.to_string().to_uppercase()), Value::Null] {
        let body = json!({ "requestId": ours }).to_string();
        Envelope::check(&response(200, body), id).unwrap();
    }
    Envelope::check(&response(200, "{}"), id).unwrap();
    Envelope::check(&response(502, "<html>"), id).unwrap();
    let twice = format!(r#"{{"requestId":"{id}","requestId":"other"}}"#);
    Envelope::check(&response(200, twice), id).unwrap_err();
}

#[test]
fn at_refresh_the_configured_statuses_end_the_session_and_a_gateways_word_does_not() {
    let bench = Bench::new();
    let json = r#"{"requestId":null,"error":"canary"}"#;
    let classes = |spatium: &Spatium, body: &str| {
        let class = |status: u16| {
            let failed = spatium.refresh_failure(&bench.sender(), &response(status, body));
            assert!(!shown(&failed).contains("canary"));
            failed.class()
        };
        [400, 401, 403, 404, 405, 408, 422, 429, 500, 503, 302].map(class)
    };
    let (no, odd, lost) = (NotProcessed, Unclassified, Ambiguous);
    let after = [odd, no, odd, Throttled, lost, lost, odd];
    let [a, b, c, d, e, f, g] = after;
    let end = Rejected;
    assert_eq!(classes(&spatium(), json), [end, end, end, end, a, b, c, d, e, f, g]);
    for page in ["", "<html>canary", "{canary"] {
        let expected = [end, end, odd, odd, a, b, c, d, e, f, g];
        assert_eq!(classes(&spatium(), page), expected, "{page}");
    }
    let other = spatium().terminal_statuses([422]).unwrap();
    assert_eq!(classes(&other, json), [odd, odd, odd, odd, a, b, end, d, e, f, g]);
}

#[test]
fn a_refused_grant_says_what_the_caller_can_do() {
    let bench = Bench::new();
    for (status, body, class) in [
        (400, "", Refused(Refusal::WrongCredentials)),
        (401, "canary", Refused(Refusal::WrongCredentials)),
        (403, r#"{"error":"canary"}"#, Refused(Refusal::NotPermitted)),
        (404, r#"{"error":"canary"}"#, Refused(Refusal::UnknownSubject)),
        (403, "<html>canary", Unclassified),
        (404, "", Unclassified),
        (429, "{}", Throttled),
        (408, "{}", NotProcessed),
        (500, "{}", Ambiguous),
        (307, "", Unclassified),
    ] {
        let factor = CredentialsFactor::new("ada", "canary");
        let failed =
            factor.response(&bench.sender(), Uuid::nil(), &response(status, body)).unwrap_err();
        assert_eq!(failed.class(), class, "{status} {body}");
        assert!(!shown(&failed).contains("canary"));
    }
}

#[test]
fn a_security_token_is_read_as_an_object_or_a_text() {
    let bench = Bench::new();
    let spatium = spatium();
    for token in [json!("canary"), json!({ "securityToken": "canary", "expiresAt": 5 })] {
        let factor = CredentialsFactor::new("ada", "pw");
        let (asked, context) = factor.request(&spatium).unwrap();
        let id = asked.headers()["request-id"].to_str().unwrap();
        let body = json!({ "requestId": id, "data": { "securityToken": token } }).to_string();
        let token = factor.response(&bench.sender(), context, &response(200, &body)).unwrap();
        assert!(!format!("{token:?}").contains("canary"));
        assert_eq!(Secret::from(token).expose_secret(), "canary");
        // The same response does not belong to the next request.
        let (_, next) = factor.request(&spatium).unwrap();
        factor.response(&bench.sender(), next, &response(200, &body)).unwrap_err();
    }
}

#[tokio::test]
async fn a_first_factor_whose_answer_is_lost_leaves_the_session_as_it_was() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let spatium = Spatium::new(&peer.url("")).unwrap();
    let sender = bench.sender();
    let grant = SpatiumCredentials::new("ada", "canary").into();
    let (issued, _) = join(spatium.establish(&sender, grant), peer.json(200, "{}")).await;
    assert_eq!(issued.unwrap_err().class(), NotProcessed);
}

const NAMES: &[&str] = &[
    "requestId",
    "data",
    "permissionToken",
    "permissionRefreshToken",
    "securityToken",
    "expiresAt",
    "error",
];

/// Bytes of all kinds, and valid bodies with a change somewhere.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("1e999".to_owned()),
        Just("-1".to_owned()),
        Just("\"canary\"".to_owned()),
        any::<f64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(format!("\"{}\"", jwt(&json!({ "exp": "canary", "permissions": { "a": 1 } })))),
    ];
    let value = leaf.prop_recursive(4, 32, 4, |inner| {
        let member = (proptest::sample::select(NAMES), inner.clone());
        let member = member.prop_map(|(name, value)| format!("\"{name}\":{value}"));
        prop_oneof![
            vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(","))),
            vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(","))),
        ]
    });
    let mutated = (any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| {
        let mut bytes = pair("x", 900, 3600).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    prop_oneof![vec(any::<u8>(), 0..200), value.prop_map(String::into_bytes), mutated]
}

#[test]
fn no_answer_panics_or_shows_itself_and_none_succeeds_without_a_token() {
    let (bench, id) = (Bench::new(), Uuid::new_v4());
    let spatium = spatium();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(status in prop_oneof![Just(200), 100_u16..1000], body in bodies())| {
        let sender = bench.sender();
        let response = response(status, body);
        let mut failures = vec![spatium.refresh_failure(&sender, &response)];
        failures.extend(Envelope::check(&response, id).err());
        failures.extend(operation::security_token(&sender, &response).err());
        match response::tokens(&sender, &response, &SpatiumAttributes::default()) {
            Ok(tokens) => prop_assert!(!tokens.access_token().unwrap().expose_secret().is_empty()),
            Err(failed) => {
                let denied = (300..500).contains(&status);
                prop_assert_eq!(failed.class(), if denied { Unclassified } else { Ambiguous });
                failures.push(failed);
            }
        }
        for failed in failures {
            prop_assert!(!shown(&failed).contains("canary"), "{failed:?}");
        }
    });
}
