//! Responses without a token that mean another failure for this client than their status and code
//! alone.

use http::StatusCode;

use super::OAuth2;
use super::authentication::Authentication;
use crate::error::Refusal;
use crate::provider::http_message::{ErrorResponse, HttpResponse};
use crate::provider::{ExchangeError, FailureClass, bearer};

impl OAuth2 {
    /// `failed` is the failure by status and code alone, and `invalid_grant` the class of that code
    /// for this request.
    pub(super) fn reclassified(
        &self,
        response: &HttpResponse,
        failed: ExchangeError,
        invalid_grant: FailureClass,
    ) -> ExchangeError {
        if failed.class() != FailureClass::Unclassified || response.status().is_redirection() {
            return failed;
        }
        if self.ruled_class(response).is_some() {
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

    /// Whether a 401 asks for the credentials that the client has sent already (RFC 6749 section
    /// 5.2), and no known code gives another reason. Without a challenge a 401 may have any reason.
    fn rejects_client(
        &self,
        response: &HttpResponse,
        error: &ErrorResponse,
        invalid_grant: FailureClass,
    ) -> bool {
        let asked = matches!(self.authentication, Authentication::Basic(_))
            && response.status() == StatusCode::UNAUTHORIZED
            && bearer::challenges(response.headers(), "basic");
        asked && error.class(response.status(), invalid_grant).is_none()
    }
}

/// Whether the server refused the password: Authlib sends `invalid_request` for a wrong one, other
/// servers send 403 without a code.
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
