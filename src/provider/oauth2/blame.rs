//! Which answers without a token mean something else to this client than their status says.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::OAuth2;
use super::authentication::Authentication;
use crate::error::Refusal;
use crate::provider::wire::Told;
use crate::provider::{ExchangeError, FailureClass, bearer};

impl OAuth2 {
    /// `failed` is what the answer says by itself, and `invalid_grant` what that code says of what
    /// was sent.
    pub(super) fn blamed(
        &self,
        answer: &Response<Bytes>,
        failed: ExchangeError,
        invalid_grant: FailureClass,
    ) -> ExchangeError {
        if failed.class() != FailureClass::Unclassified || answer.status().is_redirection() {
            return failed;
        }
        let told = Told::of(answer);
        let class = if self.rejects_client(answer, &told, invalid_grant) {
            FailureClass::InvalidClient
        } else if rejects_password(answer.status(), &told, invalid_grant) {
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
        answer: &Response<Bytes>,
        told: &Told,
        invalid_grant: FailureClass,
    ) -> bool {
        let asked = matches!(self.authentication, Authentication::Basic(_))
            && answer.status() == StatusCode::UNAUTHORIZED
            && bearer::challenges(answer.headers(), "basic");
        asked && told.class(answer.status(), invalid_grant).is_none()
    }
}

/// Authlib says `invalid_request` to a wrong password, and others 403 without a code.
fn rejects_password(status: StatusCode, told: &Told, invalid_grant: FailureClass) -> bool {
    let is_password = invalid_grant == FailureClass::Refused(Refusal::WrongCredentials);
    is_password
        && match told.code.as_deref() {
            Some(code) => code == "invalid_request",
            None => status == StatusCode::FORBIDDEN,
        }
}
