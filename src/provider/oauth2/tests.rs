//! What goes to the server and what is made of its responses.

mod client_keys;
mod device_codes;
mod jwt_bearer;
mod operations;
mod pushed_requests;
mod redirect_login;
mod requests;
mod response_rules;
mod responses;
mod revocation;
mod session_hosts;
mod settings_as_data;
mod token_exchange;
mod token_places;
mod token_responses;
mod unusable_responses;
mod vendor_requests;

use bytes::Bytes;
use http::Response;
use std::error::Error as StdError;

use futures_util::future::join;

use super::FailureClass::{
    Ambiguous, InvalidClient, NotProcessed, Refused, Rejected, Throttled, Unclassified,
};
use super::*;
use crate::provider::http_message::JsonPointer;
use crate::provider::test_bench::Bench;
use crate::transport::peer::Peer;

const TOKEN_ENDPOINT: &str = "https://as.example/token";

fn client() -> OAuth2 {
    OAuth2::new(TOKEN_ENDPOINT, "app").unwrap()
}

fn response(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Response<Bytes> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Bytes::copy_from_slice(body.as_ref())).unwrap()
}

fn refusing(code: &str) -> String {
    format!(
        r#"{{"error":"{code}","error_description":"canary","error_uri":"https://canary.example"}}"#
    )
}

const GOOD: &str = r#"{"access_token":"canary-access","token_type":"Bearer","expires_in":60,
    "refresh_token":"canary-refresh","scope":"read"}"#;

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

/// All that `with` logs on this thread.
fn logged(with: impl FnOnce()) -> String {
    use parking_lot::Mutex;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    // With one subscriber alone, a place in the code that another test comes to first is switched
    // off for good, because that test's thread has none.
    let second = tracing::Dispatch::new(tracing_subscriber::registry());
    tracing::subscriber::with_default(subscriber, with);
    drop(second);
    let bytes = lines.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

/// A request as the server saw it.
#[derive(Debug)]
struct Seen {
    head: String,
    authorization: Option<String>,
    fields: Vec<(String, String)>,
}

impl Seen {
    fn new(request: &str) -> Self {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let mut values = head.lines().filter_map(|line| line.strip_prefix("authorization: "));
        let authorization = values.next().map(str::to_owned);
        assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
        let fields = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        Self { head: head.to_owned(), authorization, fields }
    }

    fn assert_fields(&self, expected: &[(&str, &str)]) {
        let fields = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        assert_eq!(fields.collect::<Vec<_>>(), expected);
    }
}

fn held() -> Tokens<Attributes> {
    let scope = Attributes { scope: Some("read".to_owned()), ..Attributes::default() };
    Tokens::new(scope).with_access_token("a&b", None).with_refresh_token("r+/=é", None)
}
