//! Cookies, and the HTTP status of a failure.

use axum::response::{IntoResponse, Response};
use http::header::{COOKIE, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderName, StatusCode};
use session_warden::{Error, ErrorKind};

/// `Lax`, because the browser comes back from another site. The prefix prevents other hosts of the
/// domain from setting it.
pub(super) fn set_cookie(name: &str, value: &str, seconds: u32) -> (HeaderName, String) {
    let rules = "Path=/; HttpOnly; Secure; SameSite=Lax";
    (SET_COOKIE, format!("{name}={value}; {rules}; Max-Age={seconds}"))
}

/// The value of a cookie; empty if there is none.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    let mut named = pairs.filter(|(found, _)| found.trim() == name);
    named.next().map_or("", |(_, value)| value.trim())
}

/// Why a page could not be made.
pub(super) struct Failed(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(cause: E) -> Self {
        Self(cause.into())
    }
}

impl IntoResponse for Failed {
    #[allow(clippy::wildcard_enum_match_arm, reason = "kinds may be added")]
    fn into_response(self) -> Response {
        eprintln!("failed: {:#}", self.0);
        let Some(error) = self.0.downcast_ref::<Error>() else {
            return StatusCode::BAD_GATEWAY.into_response();
        };
        // The README has the complete table.
        let status = match error.kind() {
            ErrorKind::NotEstablished | ErrorKind::SignInAgain(_) | ErrorKind::Refused(_) => {
                StatusCode::UNAUTHORIZED
            }
            ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
            ErrorKind::Misconfigured => StatusCode::BAD_GATEWAY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let wait = error.retry_after().map(|wait| wait.as_secs().max(1).to_string());
        let wait = wait.map(|seconds| [(RETRY_AFTER, seconds)]);
        (status, wait.map(axum::response::AppendHeaders), error.to_string()).into_response()
    }
}
