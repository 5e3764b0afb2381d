//! What goes to the server and what is made of its responses.

mod operations;
mod responses;
mod signatures;

use std::error::Error as StdError;

use bytes::Bytes;
use http::Response;

use super::service_error::RequestKind;
use super::*;
use crate::provider::ExchangeError;
use crate::provider::FailureClass::{self, *};
use crate::provider::test_bench::Bench;

const HOST: &str = "dev.acme.extrahorizon.io";

fn oauth1() -> ExtraHorizonOAuth1 {
    ExtraHorizonOAuth1::new("https://api.dev.acme.extrahorizon.io", "ck-demo", "cs demo&secret")
        .unwrap()
}

fn oauth2() -> ExtraHorizonOAuth2 {
    ExtraHorizonOAuth2::public(HOST, "app").unwrap()
}

fn response(status: u16, body: impl AsRef<[u8]>) -> Response<Bytes> {
    Response::builder().status(status).body(Bytes::copy_from_slice(body.as_ref())).unwrap()
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
