//! Which responses without a token mean something else to this client than their status says.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::OAuth2;
use super::authentication::Authentication;
use crate::error::Refusal;
use crate::provider::http_message::ErrorResponse;
use crate::provider::{ExchangeError, FailureClass, bearer};

impl OAuth2 {
    /// `failed` is what the response says by itself, and `invalid_grant` what that code says of what
    /// was sent.
    pub(super) fn reclassified(
        &self,
        response: &Response<Bytes>,
        failed: ExchangeError,
        invalid_grant: FailureClass,
    ) -> ExchangeError {
        if failed.class() != FailureClass::Unclassified || response.status().is_redirection() {
            return failed;
        }
        let error = ErrorResponse::of(response);
        let class = if self.rejects_client(response, &error, invalid_grant) {
            FailureClass::InvalidClient
        } else if rejects_password(response.status(), &error, invalid_grant) {
            invalid_grant
        } else {
            return failed;
        };
        ExchangeError { class, ..failed }
    }

    /// A 401 asks for what the client has sent already (RFC 6749 section 5.2), and no code says
    /// better. Without a challenge it may be about anything.
    fn rejects_client(
        &self,
        response: &Response<Bytes>,
        error: &ErrorResponse,
        invalid_grant: FailureClass,
    ) -> bool {
        let asked = matches!(self.authentication, Authentication::Basic(_))
            && response.status() == StatusCode::UNAUTHORIZED
            && bearer::challenges(response.headers(), "basic");
        asked && error.class(response.status(), invalid_grant).is_none()
    }
}

/// Authlib says `invalid_request` to a wrong password, and others 403 without a code.
fn rejects_password(
    status: StatusCode,
    error: &ErrorResponse,
    invalid_grant: FailureClass,
) -> bool {
    let is_password = invalid_grant == FailureClass::Refused(Refusal::WrongCredentials);
    is_password
        && match error.code.as_deref() {
            Some(code) => code == "invalid_request",
            None => status == StatusCode::FORBIDDEN,
        }
}
