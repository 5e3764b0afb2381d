//! Reading answers: JSON without a trace of it in errors, and OAuth 2.0 error codes.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::error::Category;

use crate::error::Refusal;
use crate::provider::{ExchangeError, FailureClass};

/// The code of an OAuth 2.0 error answer (RFC 6749 section 5.2), if it is one.
pub(super) fn error_code(body: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Members<'b> {
        #[serde(borrow)]
        error: Cow<'b, str>,
    }
    let Members { error } = members(body).ok()?;
    Some(error)
}

/// What a code says by itself; nothing if it is not known here.
pub(in crate::provider) fn class_of_code(
    code: &str,
    invalid_grant: FailureClass,
) -> Option<FailureClass> {
    Some(match code {
        // The second and third are GitHub's words for it.
        "invalid_grant" | "bad_refresh_token" | "bad_verification_code" => invalid_grant,
        "access_denied" => FailureClass::Refused(Refusal::NotPermitted),
        "invalid_request" => FailureClass::InvalidRequest,
        "invalid_client"
        | "incorrect_client_credentials"
        | "unauthorized_client"
        | "invalid_scope"
        | "invalid_target"
        | "unsupported_grant_type"
        // RFC 9449 is not spoken here.
        | "use_dpop_nonce"
        | "invalid_dpop_proof" => FailureClass::Misconfigured,
        "temporarily_unavailable" | "slow_down" => FailureClass::NotProcessed,
        "server_error" => FailureClass::Ambiguous,
        _ => return None,
    })
}

/// Which of the two is believed.
pub(super) fn by_code_or_status(
    status: StatusCode,
    code: Option<FailureClass>,
    by_status: FailureClass,
) -> FailureClass {
    let final_status = status.is_redirection()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS]
            .contains(&status);
    match code {
        _ if final_status => by_status,
        // What a broken gateway says of a grant is no verdict on it: an answer may exist.
        Some(class) if status.is_server_error() && class != FailureClass::NotProcessed => by_status,
        Some(class) => class,
        None if status == StatusCode::UNAUTHORIZED => FailureClass::Misconfigured,
        None => by_status,
    }
}

/// Reads the JSON object in an answer's body.
///
/// Give `T` no `Debug` if it holds secrets, and have them read into a
/// [`Secret`](crate::secret::Secret), whose text is copied from the body to memory that is wiped.
///
/// # Errors
///
/// [`FailureClass::Ambiguous`] if the body is anything else: the server may have done what it was
/// asked. The cause is the place of the fault and never the text.
pub fn object<'b, T: Deserialize<'b>>(answer: &'b Response<Bytes>) -> Result<T, ExchangeError> {
    members(answer.body()).map_err(|unusable| {
        let failed = ExchangeError::new(FailureClass::Ambiguous).with_status(answer.status());
        failed.with_source(unusable)
    })
}

/// An answer that cannot be used for a reason of its content. It may have been a success.
pub(in crate::provider) fn unusable(
    answer: &Response<Bytes>,
    words: &'static str,
) -> ExchangeError {
    let failed = ExchangeError::new(FailureClass::Ambiguous).with_status(answer.status());
    failed.with_source(Unusable { words, line: 0, column: 0 })
}

fn members<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Unusable> {
    // Derived code takes an array for an object whose names were left out.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Unusable { words: "the answer is no JSON object", line: 0, column: 0 });
    }
    serde_json::from_slice(body).map_err(|error| Unusable::from(&error))
}

/// What is wrong with a body, and where. A parser's own message quotes what it read, and that may
/// be a token.
#[derive(Debug)]
struct Unusable {
    words: &'static str,
    /// Zero where the fault has no place.
    line: usize,
    column: usize,
}

impl From<&serde_json::Error> for Unusable {
    fn from(error: &serde_json::Error) -> Self {
        let words = match error.classify() {
            Category::Syntax | Category::Io => "the answer is no JSON",
            Category::Eof => "the answer is cut short",
            Category::Data => "the answer has members that cannot be used",
        };
        Self { words, line: error.line(), column: error.column() }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words)?;
        match self.line {
            0 => Ok(()),
            line => write!(f, " (line {line}, column {})", self.column),
        }
    }
}

impl std::error::Error for Unusable {}
