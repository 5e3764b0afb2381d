//! Extra Horizon: its oAuth1 (RFC 5849 signatures) and its oAuth2, both with a second factor.
//!
//! The vendor decides when an application is registered which of the two it uses: an oAuth1
//! application has a consumer key and a consumer secret, and its tokens never expire; an oAuth2
//! application has a client id, and its access tokens live for minutes. The facts here are from the
//! vendor's documentation (docs.extrahorizon.com, "Authentication Service" API 2.0.4) and from what
//! its SDK, npm `@extrahorizon/javascript-sdk` 8.14.1, sends.
//!
//! The service identifies errors by numbers: [`Error::provider_code`] is `"106"` for example, or
//! the code of RFC 6749 if the service gives no number.
//!
//! [`Error::provider_code`]: crate::Error::provider_code

mod grant;
mod host;
mod mfa;
mod oauth1;
mod oauth2;
mod operation;
mod request_signature;
mod response;
mod service_error;
mod settings;
#[cfg(test)]
mod tests;
mod token_record;

use serde::{Deserialize, Serialize};

pub use self::grant::{
    ExtraHorizonCode, ExtraHorizonOAuth1Grant, ExtraHorizonOAuth2Grant, ExtraHorizonPassword,
    MfaAnswer, OidcLogin, SsoToken,
};
pub use self::mfa::{MfaChallenge, MfaMethod};
pub use self::oauth1::ExtraHorizonOAuth1;
pub use self::oauth2::ExtraHorizonOAuth2;
pub use self::operation::{
    DeleteRefreshToken, DeleteToken, GenerateSsoToken, ListRefreshTokens, ListTokens,
};
pub use self::token_record::{OwnToken, TokenPage, TokenRecord};
use crate::error::{Error, ErrorKind};

/// The attributes of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ExtraHorizonAttributes {
    /// The user's id, 24 hexadecimal characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The id of the application that the tokens are for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_id: Option<String>,
    /// The id of the token's record, by which the token is listed and deleted. The server sends it
    /// in oAuth1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
}

impl ExtraHorizonAttributes {
    /// The attributes of this user, for tokens that are adopted.
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

    /// These attributes of a response, with the known ones where the response has none.
    fn or_known(self, known: &Self) -> Self {
        Self {
            user_id: self.user_id.or_else(|| known.user_id.clone()),
            application_id: self.application_id.or_else(|| known.application_id.clone()),
            token_id: self.token_id.or_else(|| known.token_id.clone()),
        }
    }
}

/// The settings or the arguments do not make a valid request.
fn unusable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::InvalidInput)
        .about(
            "the settings or the arguments do not make a valid request, so see the cause of this \
             error",
        )
        .with_source(cause)
}
