//! What goes to the server and what is made of its responses.

mod requests;
mod responses;

use std::error::Error as StdError;

use bytes::Bytes;

use super::response::RequestKind::{Create, Refresh};
use super::*;
use crate::provider::ExchangeError;
use crate::provider::FailureClass::{
    Ambiguous, InvalidClient, NotProcessed, Refused, Rejected, Throttled, Unclassified,
};
use crate::provider::test_bench::Bench;

fn circle() -> Circle {
    Circle::new("canary-app")
}

fn response(status: u16, body: impl AsRef<[u8]>) -> http::Response<Bytes> {
    let response = http::Response::builder().status(status);
    response.body(Bytes::copy_from_slice(body.as_ref())).unwrap()
}

fn says(message: &str) -> String {
    serde_json::json!({
        "success": false, "message": message, "error_details": { "message": "canary" },
    })
    .to_string()
}

/// The error and all its causes, as a log would show them.
fn shown(error: &ExchangeError) -> String {
    let mut text = format!("{error:?} {error:#?} {error}");
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(" {cause:?} {cause}"));
        next = cause.source();
    }
    text
}

fn known() -> CircleAttributes {
    let member = Member::Email("ada@example.com".to_owned());
    CircleAttributes { community_id: 5, community_member_id: 77, member }
}

fn held() -> Tokens<CircleAttributes> {
    Tokens::new(known()).with_access_token("a\"t", None).with_refresh_token("r\"t", None)
}

const GOOD: &str = r#"{"access_token":"canary-access","refresh_token":"canary-refresh",
    "access_token_expires_at":"2027-01-15T09:00:00.500Z",
    "refresh_token_expires_at":"2027-02-15T08:00:00.000Z",
    "community_member_id":78,"community_id":6}"#;
