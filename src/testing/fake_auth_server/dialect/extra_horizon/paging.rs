//! Lists in pages.

use serde_json::{Value, json};

use crate::testing::fake_auth_server::fake_response::{FakeResponse, members};
use crate::testing::fake_auth_server::incoming_request::IncomingRequest;

/// A page of `data`, of which `limit(amount,offset)` in the query picks a part.
pub(super) fn page(request: &IncomingRequest, data: Vec<Value>) -> FakeResponse {
    let query = request.query.as_deref().unwrap_or_default();
    let limit = query.split('&').find_map(|part| part.strip_prefix("limit(")?.strip_suffix(')'));
    let mut numbers = limit.into_iter().flat_map(|limit| limit.split(',').map(str::parse::<usize>));
    let limit = numbers.next().and_then(Result::ok).unwrap_or(20);
    let offset = numbers.next().and_then(Result::ok).unwrap_or(0);
    let total = data.len();
    let data: Vec<_> = data.into_iter().skip(offset).take(limit).collect();
    FakeResponse::ok(members([
        ("query", "{}".into()),
        ("page", json!({ "total": total, "offset": offset, "limit": limit })),
        ("data", data.into()),
    ]))
}
