//! Extra Horizon: its oAuth1 (RFC 5849 signatures) and its oAuth2, both with a second factor.
//!
//! Which of the two an application speaks is decided when it is registered at the vendor's: an
//! oAuth1 application has a consumer key and a consumer secret, and its tokens never expire; an
//! oAuth2 application has a client id, and its access tokens live for minutes. Facts are from the
//! vendor's documentation (docs.extrahorizon.com, "Authentication Service" API 2.0.4) and from what
//! its SDK, npm `@extrahorizon/javascript-sdk` 8.14.1, sends.
//!
//! Errors are told apart by the service's own numbers: [`Error::provider_code`] is `"106"`, say, or
//! the code of RFC 6749 where the service gives no number.
//!
//! [`Error::provider_code`]: crate::Error::provider_code

mod answer;
mod fault;
mod grant;
mod mfa;
mod oauth1;
mod oauth2;
mod operation;
mod record;
mod sign;
mod site;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::grant::{
    AuthorizationCode, MfaAnswer, OAuth1Grant, OAuth2Grant, OidcLogin, Password, SsoToken,
};
pub use self::mfa::{MfaChallenge, MfaMethod};
pub use self::oauth1::OAuth1;
pub use self::oauth2::OAuth2;
pub use self::operation::{
    DeleteRefreshToken, DeleteToken, GenerateSsoToken, ListRefreshTokens, ListTokens,
};
pub use self::record::{Own, TokenPage, TokenRecord};
use crate::error::{Error, ErrorKind};
use crate::provider::{ExchangeError, FailureClass};

/// What is kept beside the tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Attributes {
    /// The user's id, 24 hexadecimal characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The id of the application that the tokens are for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_id: Option<String>,
    /// The id of the token's record, by which it is listed and deleted. The server says it in
    /// oAuth1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
}

impl Attributes {
    /// Those of this user, for tokens that are adopted.
    #[must_use]
    pub fn new(user_id: impl Into<String>) -> Self {
        Self { user_id: Some(user_id.into()), ..Self::default() }
    }

    /// With the id of the oAuth1 token's record. Revoking an adopted session needs it.
    #[must_use]
    pub fn token_id(mut self, id: impl Into<String>) -> Self {
        self.token_id = Some(id.into());
        self
    }

    /// What an answer says, and for the rest what is known.
    fn or(self, known: &Self) -> Self {
        Self {
            user_id: self.user_id.or_else(|| known.user_id.clone()),
            application_id: self.application_id.or_else(|| known.application_id.clone()),
            token_id: self.token_id.or_else(|| known.token_id.clone()),
        }
    }
}

/// Whether the service's number says that the token is unknown or has expired, and statuses under
/// which it is believed: by default 400, 401 and 403, as the SDK does. Only 401 is documented.
#[derive(Clone, Debug)]
struct DeadStatuses(Vec<http::StatusCode>);

impl Default for DeadStatuses {
    fn default() -> Self {
        use http::StatusCode;
        Self(vec![StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN])
    }
}

impl DeadStatuses {
    /// Numbers that are no status are left out: no answer has them.
    fn new(statuses: impl IntoIterator<Item = u16>) -> Self {
        let statuses = statuses.into_iter();
        Self(statuses.filter_map(|status| http::StatusCode::from_u16(status).ok()).collect())
    }

    fn take(&self, status: http::StatusCode) -> bool {
        self.0.contains(&status)
    }
}

/// The settings or the arguments make no request.
fn unusable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::InvalidInput).about("no request can be made of it").with_source(cause)
}

/// The request could not even be made.
fn unsent(error: Error) -> ExchangeError {
    ExchangeError::new(FailureClass::NotSent).with_source(error)
}
