//! What goes to the service and what is made of its responses.

mod requests;
mod responses;

use std::error::Error as StdError;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::future::join;
use http::Response;
use serde_json::{Value, json};
use uuid::Uuid;

use super::response::Envelope;
use super::*;
use crate::provider::FailureClass::{
    Ambiguous, NotProcessed, Refused, Rejected, Throttled, Unclassified,
};
use crate::provider::test_bench::Bench;
use crate::transport::peer::Peer;

fn spatium() -> Spatium {
    Spatium::new("https://cloud.example/authorization/v1").unwrap().permissions(["read"])
}

fn response(status: u16, body: impl AsRef<[u8]>) -> Response<Bytes> {
    let response = Response::builder().status(status);
    response.body(Bytes::copy_from_slice(body.as_ref())).unwrap()
}

fn jwt(claims: &Value) -> String {
    format!("e30.{}.canary", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// The pair as the vendor's example has it, each token ending so many seconds after the start.
fn pair(id: &str, access: u64, refresh: u64) -> String {
    let ends = |seconds| crate::provider::test_bench::START.as_secs() + seconds;
    let token = |name: &str, token: String, end| json!({ name: token, "issuer": "authorization-service", "expiresAt": end });
    let claims = json!({
        "accountId": "account-1", "merchantId": "merchant-1", "permissions": ["read", "secret"],
        "exp": 5,
    });
    let data = json!({
        "permissionToken": token("permissionToken", jwt(&claims), ends(access)),
        "permissionRefreshToken": token("permissionRefreshToken", jwt(&json!({})), ends(refresh)),
    });
    json!({ "requestId": id, "data": data }).to_string()
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

fn held() -> Tokens<SpatiumAttributes> {
    let attributes =
        SpatiumAttributes { permissions: vec!["read".to_owned()], ..SpatiumAttributes::default() };
    Tokens::new(attributes).with_access_token("a", None).with_refresh_token("r\"canary", None)
}
