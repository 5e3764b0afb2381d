//! Circle: nothing is mounted yet.

use http::StatusCode;
use serde_json::{Value, json};

use super::Route;
use crate::testing::fake_auth_server::request::Call;

/// What is kept beside grants and tokens.
#[derive(Default)]
pub(in super::super) struct Site {}

pub(super) fn route(_: &Call) -> Result<Route, StatusCode> {
    Err(StatusCode::NOT_FOUND)
}

pub(super) fn error(code: &str) -> Value {
    json!({ "error": code })
}
