//! The responses.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::response::{access_revoked, refresh_revoked, rejection};
use super::*;
use crate::error::Refusal;
use crate::provider::FailureClass;

#[test]
fn a_new_session_has_its_ends_in_times_of_day_and_knows_its_member() {
    let bench = Bench::new();
    let tokens = circle().tokens(&bench.sender(), &response(200, GOOD), known(), Create).unwrap();
    let ends = Bench::at(3600) + Duration::from_millis(500);
    assert_eq!(tokens.access_expires_at(), Some(ends));
    assert_eq!(tokens.refresh_expires_at(), Some(Bench::at(31 * 24 * 3600)));
    let expected = CircleAttributes { community_id: 6, community_member_id: 78, ..known() };
    assert_eq!(tokens.attributes(), &expected);
}

#[test]
fn the_end_of_an_access_token_may_be_in_itself_alone() {
    let bench = Bench::new();
    // {"community_id":9,"community_member_id":"8","exp":1800000060}
    let jwt =
        "e30.eyJjb21tdW5pdHlfaWQiOjksImNvbW11bml0eV9tZW1iZXJfaWQiOiI4IiwiZXhwIjoxODAwMDAwMDYwfQ.s";
    for more in ["", r#","access_token_expires_at":"soon""#, r#","access_token_expires_at":null"#] {
        let body = format!(r#"{{"access_token":"{jwt}"{more}}}"#);
        let tokens =
            circle().tokens(&bench.sender(), &response(200, body), known(), Create).unwrap();
        assert_eq!(tokens.access_expires_at(), Some(Bench::at(60)));
        let expected = CircleAttributes { community_id: 9, community_member_id: 8, ..known() };
        assert_eq!(tokens.attributes(), &expected);
    }
    let opaque =
        response(200, r#"{"access_token":"a","community_id":-1,"community_member_id":1.5}"#);
    let tokens = circle().tokens(&bench.sender(), &opaque, known(), Create).unwrap();
    assert_eq!((tokens.access_expires_at(), tokens.attributes()), (None, &known()));
}

/// Every status and message of the vendor's document, and the failure that it means at creation and
/// at refresh.
const REFUSALS: &[(u16, &str, FailureClass, FailureClass)] = &[
    (401, "Your account could not be authenticated.", InvalidClient, InvalidClient),
    (
        403,
        "Your community isn't eligible for headless API access. Please upgrade or contact support",
        Unclassified,
        Unclassified,
    ),
    (
        404,
        "Community member not found. Please provide a valid SSO User ID, community member ID, or \
         email.",
        Refused(Refusal::UnknownSubject),
        Unclassified,
    ),
    (422, "There was an error creating the token. canary", Unclassified, Unclassified),
    (
        401,
        "The refresh token is expired. Please generate/get new auth token.",
        InvalidClient,
        Rejected,
    ),
    (401, "the REFRESH Token Is Expired", InvalidClient, Rejected),
    (404, "Refresh token not found.", Unclassified, Rejected),
    (
        422,
        "The access token generation failed. Please contact support.",
        Unclassified,
        Unclassified,
    ),
    (404, "canary", Unclassified, Unclassified),
    (408, "canary", NotProcessed, NotProcessed),
    (429, "canary", Throttled, Throttled),
    (500, "Refresh token not found.", Ambiguous, Ambiguous),
    (307, "Refresh token not found.", Unclassified, Unclassified),
];

#[test]
fn refusals_are_told_apart_by_status_and_message() {
    let (bench, circle) = (Bench::new(), circle());
    for (status, message, create, refresh) in REFUSALS {
        let response = response(*status, says(message));
        for (call, class) in [(Create, create), (Refresh, refresh)] {
            let failed = circle.tokens(&bench.sender(), &response, known(), call).unwrap_err();
            assert_eq!(failed.class(), *class, "{status} {message}");
            assert_eq!(failed.status(), Some(*status));
            assert!(!shown(&failed).contains("canary"));
        }
    }
}

#[test]
fn the_messages_that_decide_can_be_others() {
    let bench = Bench::new();
    let other = circle()
        .refresh_token_expired_text("Token TOO OLD")
        .refresh_token_unknown_text("no such token")
        .member_unknown_text("nobody");
    let class = |status, message: &str, call| {
        let response = response(status, says(message));
        other.tokens(&bench.sender(), &response, known(), call).unwrap_err().class()
    };
    assert_eq!(class(401, "Your token too old!", Refresh), Rejected);
    assert_eq!(class(401, "The refresh token is expired.", Refresh), InvalidClient);
    assert_eq!(class(404, "No such token", Refresh), Rejected);
    assert_eq!(class(404, "Nobody", Create), Refused(Refusal::UnknownSubject));
}

#[test]
fn a_server_that_throttles_without_a_time_is_left_alone_for_a_minute() {
    let bench = Bench::new();
    let failed =
        circle().tokens(&bench.sender(), &response(429, ""), known(), Refresh).unwrap_err();
    assert_eq!(failed.retry_after(), Some(Duration::from_secs(60)));
    let mut throttled = response(429, "");
    throttled.headers_mut().insert("retry-after", http::HeaderValue::from_static("7"));
    let failed = circle().tokens(&bench.sender(), &throttled, known(), Refresh).unwrap_err();
    assert_eq!(failed.retry_after(), Some(Duration::from_secs(7)));
}

#[test]
fn hazard_10_a_200_without_an_access_token_is_an_error() {
    let (bench, circle) = (Bench::new(), circle());
    let unauthorized =
        r#"{"status":"unauthorized","message":"Your account could not be authenticated."}"#;
    let expired = r#"{"status":"Unauthorized","message":"The refresh token is expired."}"#;
    for (body, create, refresh) in [
        (unauthorized, InvalidClient, InvalidClient),
        (expired, InvalidClient, Rejected),
        ("", Ambiguous, Ambiguous),
        ("<html>canary", Ambiguous, Ambiguous),
        ("[\"canary\"]", Ambiguous, Ambiguous),
        (r#"{"success":false,"message":"canary"}"#, Ambiguous, Ambiguous),
        (r#"{"access_token":"","refresh_token":"canary"}"#, Ambiguous, Ambiguous),
        (r#"{"access_token":null,"x":"canary"}"#, Ambiguous, Ambiguous),
        (r#"{"access_token":["canary"]}"#, Ambiguous, Ambiguous),
        (r#"{"access_token":"canary"#, Ambiguous, Ambiguous),
    ] {
        for (call, class) in [(Create, create), (Refresh, refresh)] {
            let failed =
                circle.tokens(&bench.sender(), &response(200, body), known(), call).unwrap_err();
            assert_eq!(failed.class(), class, "{body}");
            assert!(!shown(&failed).contains("canary"));
        }
    }
}

#[test]
fn a_token_that_is_gone_already_is_revoked() {
    let bench = Bench::new();
    let sender = bench.sender();
    for (status, message) in [
        (422, "The access token is invalid."),
        (422, "The access token is expired."),
        (422, "The access token not found."),
        (422, "Community member not found."),
    ] {
        access_revoked(&sender, &response(status, says(message))).unwrap();
    }
    for (status, message) in [
        (404, "Refresh token not found."),
        (404, "Invalid refresh token."),
        (401, "The refresh token is expired."),
    ] {
        refresh_revoked(&sender, &response(status, says(message))).unwrap();
    }
    for status in [200, 204] {
        access_revoked(&sender, &response(status, "")).unwrap();
        refresh_revoked(&sender, &response(status, "")).unwrap();
    }
}

#[test]
fn a_revocation_that_fails_says_why() {
    let bench = Bench::new();
    let sender = bench.sender();
    let unauthorized = r#"{"status":"unauthorized","message":"canary"}"#.to_owned();
    for (status, body, class) in [
        (200, unauthorized, InvalidClient),
        (401, says("Your account could not be authenticated."), InvalidClient),
        (403, says("canary"), Unclassified),
        (404, says("Oops! Missing parameter."), Unclassified),
        (422, says("Failed to revoke the token."), Unclassified),
        (429, says("canary"), Throttled),
        (500, says("not found"), Ambiguous),
    ] {
        let response = response(status, body);
        for revoked in [access_revoked(&sender, &response), refresh_revoked(&sender, &response)] {
            let failed = revoked.unwrap_err();
            assert_eq!((failed.class(), failed.status()), (class, Some(status)));
            assert!(!shown(&failed).contains("canary"));
        }
    }
}

#[test]
fn an_api_says_whether_a_refresh_helps() {
    let judged = |status: u16, body: &str| {
        let response = http::Response::builder().status(status).body(()).unwrap();
        rejection(&response.into_parts().0, body.as_bytes())
    };
    for message in [
        "The access token is expired.",
        "The access token is invalid.",
        "The access token not found.",
    ] {
        assert_eq!(judged(401, &says(message)), Rejection::TokenDead);
    }
    assert_eq!(judged(401, ""), Rejection::TokenDead);
    for message in
        ["Community 5 not found.", "Community member associated with the access token not found."]
    {
        assert_eq!(judged(401, &says(message)), Rejection::SessionDead);
    }
    let plan = says("Community does not eligible for headless API access.");
    assert_eq!(judged(401, &plan), Rejection::OtherReason);
    assert_eq!(judged(403, &plan), Rejection::OtherReason);
    for status in [200, 404, 422, 500] {
        assert_eq!(judged(status, &says("The access token is expired.")), Rejection::None);
    }
}

const NAMES: &[&str] = &[
    "access_token",
    "refresh_token",
    "access_token_expires_at",
    "refresh_token_expires_at",
    "community_id",
    "community_member_id",
    "message",
    "status",
];

/// Bytes of all kinds, and valid bodies with a change somewhere.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("-1e999".to_owned()),
        Just("[{}]".to_owned()),
        Just("\"canary\"".to_owned()),
        any::<f64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        proptest::sample::select(REFUSALS).prop_map(|(_, text, ..)| format!("{text:?}")),
    ];
    let member = (proptest::sample::select(NAMES), value)
        .prop_map(|(name, value)| format!("\"{name}\":{value}"));
    let object = vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(",")));
    let mutated = (any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| {
        let mut bytes = GOOD.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    prop_oneof![vec(any::<u8>(), 0..200), object.prop_map(String::into_bytes), mutated]
}

#[test]
fn no_answer_panics_or_shows_itself_and_none_succeeds_without_a_token() {
    let (bench, circle) = (Bench::new(), circle());
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(status in prop_oneof![Just(200), 100_u16..1000], body in bodies())| {
        let (sender, response) = (bench.sender(), response(status, body));
        let mut failures = Vec::new();
        for call in [Create, Refresh] {
            match circle.tokens(&sender, &response, known(), call) {
                Ok(tokens) => {
                    prop_assert!((200..300).contains(&status));
                    prop_assert!(!tokens.access_token().unwrap().expose_secret().is_empty());
                }
                Err(failed) => failures.push(failed),
            }
        }
        failures.extend(access_revoked(&sender, &response).err());
        failures.extend(refresh_revoked(&sender, &response).err());
        for failed in failures {
            prop_assert!(!shown(&failed).contains("canary"), "{failed:?}");
        }
        let (parts, body) = response.into_parts();
        let _ = rejection(&parts, &body);
    });
}
