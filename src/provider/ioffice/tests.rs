//! What goes to the server and what is made of its responses.

mod redirect_login;
mod requests;
mod responses;

use std::error::Error as StdError;

use bytes::Bytes;
use futures_util::future::join;
use http::Response;

use super::*;
use crate::provider::test_bench::Bench;
use crate::transport::peer::Peer;

const CALLBACK: &str = "https://app.example/callback?x=1";

fn client() -> IOffice {
    IOffice::new("https://acme.example/office/", "app", CALLBACK).unwrap()
}

fn at(peer: &Peer) -> IOffice {
    IOffice::new(&peer.url(""), "app", CALLBACK).unwrap()
}

fn held() -> Tokens<IOfficeAttributes> {
    let attributes =
        IOfficeAttributes { scope: Some("old".to_owned()), app_code: Some("a-1".to_owned()) };
    Tokens::new(attributes).with_access_token("at/+=", None).with_refresh_token("rt/+=", None)
}

const GOOD: &str = r#"{"token_type":"bearer","access_token":"canary-access","expires_in":60000,
    "refresh_token":"canary-refresh"}"#;

fn response(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Response<Bytes> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Bytes::copy_from_slice(body.as_ref())).unwrap()
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

/// A request as the server saw it: its first line, and its headers that begin with `x-`, sorted.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    line: String,
    headers: Vec<(String, String)>,
}

impl Seen {
    fn new(request: &str) -> Self {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "");
        let (line, rest) = head.split_once("\r\n").unwrap();
        if line.starts_with("POST") {
            assert!(rest.contains("content-type: application/json"), "{rest}");
            assert!(rest.contains("content-length: 0"), "{rest}");
        }
        let headers = rest.lines().filter_map(|line| line.split_once(": "));
        let headers = headers.filter(|(name, _)| name.starts_with("x-"));
        let mut headers: Vec<_> =
            headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        headers.sort();
        Self { line: line.to_owned(), headers }
    }

    #[track_caller]
    fn check(&self, line: &str, headers: &[(&str, &str)]) {
        assert_eq!(self.line, format!("{line} HTTP/1.1"));
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut headers: Vec<_> = headers.iter().map(own).collect();
        headers.sort();
        assert_eq!(self.headers, headers);
    }
}
