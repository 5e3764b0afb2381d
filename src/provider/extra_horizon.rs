//! Extra Horizon: its oAuth1 (RFC 5849 signatures) and its oAuth2, both with a second factor.
//!
//! When an application is registered, the vendor decides which of the two it uses. An oAuth1
//! application has a consumer key and a consumer secret, and its tokens never expire. An oAuth2
//! application has a client id, and its access tokens expire after minutes. The facts here are from
//! the vendor's documentation (docs.extrahorizon.com, "Authentication Service" API 2.0.4) and from
//! the requests of its SDK, npm `@extrahorizon/javascript-sdk` 8.14.1.
//!
//! The service identifies errors by numbers. [`Error::provider_code`] is such a number, `"106"` for
//! example, or the code of RFC 6749 if the service sends no number.
//!
//! # oAuth1, with a second factor
//!
//! ```
//! use session_warden::Establishment::{Active, Challenge};
//! use session_warden::provider::extra_horizon::{
//!     DeleteToken, ExtraHorizonAttributes, ExtraHorizonOAuth1, ExtraHorizonOAuth1Grant,
//!     ExtraHorizonPassword, GenerateSsoToken, ListTokens, MfaAnswer, MfaChallenge, MfaMethod,
//!     SsoToken,
//! };
//! use session_warden::testing::{FakeAuthServer, FakeDialect};
//! use session_warden::ticket::Ticket;
//! use session_warden::transport::TransportConfig;
//! use session_warden::{SessionKey, Supervisor};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = FakeAuthServer::builder().dialect(FakeDialect::ExtraHorizon);
//! let server = server.client("key", "secret").start().await?;
//! server.set_second_factor("ada@example.com", Some("123456"));
//! let supervisor = Supervisor::builder()
//!     .transport(TransportConfig::default().allow_loopback_http())
//!     .provider("exh", ExtraHorizonOAuth1::new(server.url(), "key", "secret")?)
//!     .start()
//!     .await?;
//! let sessions = supervisor.sessions::<ExtraHorizonOAuth1>("exh")?;
//! let phone = sessions.session(SessionKey::new("acme", "phone-17")?);
//!
//! // The password comes first. The browser keeps the ticket of the challenge.
//! let password = ExtraHorizonPassword::new("ada@example.com", "ok");
//! let challenge: MfaChallenge = match phone.establish(password).await? {
//!     Challenge(challenge) => challenge,
//!     Active(_) => panic!("the server asks for a second factor"),
//! };
//! let MfaMethod { id, .. } = &challenge.methods()[0];
//! let cookie = challenge.ticket().as_str().to_owned();
//!
//! // The code of the second factor comes in another request.
//! let answer = MfaAnswer::new(Ticket::parse(cookie)?, id, "123456");
//! let grant: ExtraHorizonOAuth1Grant = answer.into();
//! assert!(matches!(phone.establish(grant).await?, Active(_)));
//!
//! // Another application establishes a session of the same user.
//! let sso: SsoToken = phone.call(GenerateSsoToken).await?;
//! let web = sessions.session(SessionKey::new("acme", "web-17")?);
//! let _ = web.establish(sso).await?;
//! let ExtraHorizonAttributes { user_id, .. } = web.attributes().await?;
//! assert_eq!(user_id, phone.attributes().await?.user_id);
//!
//! // The user signs out everywhere else.
//! for record in phone.call(ListTokens::new()).await?.records.iter().filter(|it| !it.is_own) {
//!     assert_eq!(phone.call(DeleteToken::of(record)).await?, 1);
//! }
//! assert_eq!(phone.call(ListTokens::new()).await?.records.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # oAuth2
//!
//! ```
//! use session_warden::error::{ErrorKind, LostReason};
//! use session_warden::provider::extra_horizon::{
//!     DeleteRefreshToken, ExtraHorizonCode, ExtraHorizonOAuth2, ExtraHorizonOAuth2Grant,
//!     ListRefreshTokens, ListTokens, OidcLogin, TokenPage, TokenRecord,
//! };
//! use session_warden::testing::{FakeAuthServer, FakeDialect};
//! use session_warden::transport::TransportConfig;
//! use session_warden::{SessionKey, Supervisor};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = FakeAuthServer::builder().dialect(FakeDialect::ExtraHorizon).start().await?;
//! let supervisor = Supervisor::builder()
//!     .transport(TransportConfig::default().allow_loopback_http())
//!     .provider("exh", ExtraHorizonOAuth2::confidential(server.url(), "client id", "secret")?)
//!     .start()
//!     .await?;
//! let sessions = supervisor.sessions::<ExtraHorizonOAuth2>("exh")?;
//! let redirect_uri = "https://app.example.com/callback";
//!
//! // The code of a login at the cluster, or at an OpenID Connect provider of the cluster.
//! let code = server.authorization_code("ada@example.com", redirect_uri, None);
//! let ada = sessions.session(SessionKey::new("acme", "ada")?);
//! let _ = ada.establish(ExtraHorizonCode::new(code)).await?;
//! let code = server.authorization_code("bob@example.com", redirect_uri, None);
//! let grant: ExtraHorizonOAuth2Grant = OidcLogin::new("google", code).into();
//! let _ = sessions.session(SessionKey::new("acme", "bob")?).establish(grant).await?;
//!
//! // The session deletes its refresh token at the server: the user must sign in again.
//! let TokenPage { records, .. } = ada.call(ListTokens::new()).await?;
//! let own: &TokenRecord = records.iter().find(|record| record.is_own).expect("an older server");
//! let delete = DeleteRefreshToken::of(own).expect("a refresh token was issued with it");
//! assert_eq!(ada.call(delete).await?, 1);
//! assert!(ada.call(ListRefreshTokens::new()).await?.records.is_empty());
//! let lost = ada.refresh().await.unwrap_err();
//! assert_eq!(lost.kind(), ErrorKind::SignInAgain(LostReason::TokensDeleted));
//! # Ok(())
//! # }
//! ```
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

/// The attributes of a session. See the [example of the module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ExtraHorizonAttributes {
    /// The user's id, 24 hexadecimal characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The id of the application to which the tokens were issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_id: Option<String>,
    /// The id of the token's record at the server: a token is listed and deleted by this id. The
    /// server sends it in oAuth1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
}

impl ExtraHorizonAttributes {
    /// The attributes of this user, for tokens that are adopted.
    #[must_use]
    pub fn new(user_id: impl Into<String>) -> Self {
        Self { user_id: Some(user_id.into()), ..Self::default() }
    }

    /// Sets the id of the oAuth1 token's record. It is needed to revoke an adopted session.
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
