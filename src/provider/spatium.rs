//! Spatium's authorization service: permission tokens for security tokens or a key.
//!
//! Sources: the vendor's class `AuthorizationSession` of `@spatium/sdk` ("the seed" below), and
//! <https://docs.spatium.net>, pages "getting-started/authorization",
//! "cloud-services/authorization-service/examples" and "signer-client". The vendor does not
//! document the path and body of a refresh, nor any error, so they can be configured.
//!
//! ```
//! use session_warden::key::Tenant;
//! use session_warden::provider::spatium::{
//!     CredentialsFactor, MerchantKey, SecurityToken, SecurityTokens, Spatium, SpatiumAttributes,
//!     SpatiumCredentials, SpatiumGrant,
//! };
//! use session_warden::testing::{FakeAuthServer, FakeDialect};
//! use session_warden::transport::TransportConfig;
//! use session_warden::{SessionKey, Supervisor};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = FakeAuthServer::builder().dialect(FakeDialect::Spatium).user("ada", "ok").start();
//! let server = server.await?;
//! let supervisor = Supervisor::builder()
//!     .transport(TransportConfig::default().allow_loopback_http())
//!     .provider("spatium", Spatium::new(server.url())?.permissions(["read"]))
//!     .start()
//!     .await?;
//! let sessions = supervisor.sessions::<Spatium>("spatium")?;
//!
//! // Each factor gives a security token. Together they establish a session.
//! let factor = CredentialsFactor::new("ada", "ok");
//! let token: SecurityToken = sessions.call(&Tenant::new("acme")?, factor).await?;
//! let device = sessions.session(SessionKey::new("acme", "device-17")?);
//! let _ = device.establish(SecurityTokens::new(token)).await?;
//! let SpatiumAttributes { permissions, .. } = device.attributes().await?;
//! assert_eq!(permissions, ["read"]);
//!
//! // If the password is the only factor, one step is enough.
//! let grant: SpatiumGrant = SpatiumCredentials::new("ada", "ok").into();
//! let _ = sessions.session(SessionKey::new("acme", "phone")?).establish(grant).await?;
//!
//! // A service acts for itself with the merchant's key, and needs no user.
//! server.add_merchant_key("bWVyY2hhbnQ=");
//! let service = sessions.session(SessionKey::new("acme", "reports")?);
//! service.ensure(MerchantKey::new("bWVyY2hhbnQ=")).await?;
//! assert_eq!(server.token_ids(), ["device-17", "phone", "reports"]);
//! # Ok(())
//! # }
//! ```

mod grant;
mod operation;
mod request;
mod response;
mod settings;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use url::Url;

pub use self::grant::{
    MerchantKey, SecurityToken, SecurityTokens, SpatiumCredentials, SpatiumGrant,
};
pub use self::operation::CredentialsFactor;
use self::request::MemberValue;
pub use self::settings::TokenIds;
use self::settings::{Names, Paths};
use super::http_message::Members;
use super::{
    ExchangeError, Exchanged, HttpSender, IdentityChanged, Issued, Provider, Rejection, Revoked,
    Rotation, bearer, http_message,
};
use crate::error::{Error, ErrorKind, Refusal, Result};
use crate::secret::Secret;
use crate::token::{Placement, Tokens};

/// A client of Spatium's authorization service.
///
/// The session's token id is the service's `tokenId`, by which the service tells parallel sessions
/// apart ([`TokenIds`]). If the backend establishes a session again, the service replaces the
/// former session and ends its refresh token. See the [example of the module](self).
///
/// ```
/// use session_warden::provider::spatium::{Spatium, TokenIds};
///
/// let spatium = Spatium::new("https://cloud.spatium.net/authorization/v1")?
///     .permissions(["read", "secret"])
///     .token_ids(TokenIds::UuidV5);
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone)]
#[doc(alias = "AuthorizationSession")]
pub struct Spatium {
    /// Without a slash at its end.
    base: String,
    /// The same as a URL.
    authority: Url,
    /// The path of `base`: an origin may have a service for each of several environments.
    client: String,
    permissions: Vec<String>,
    token_ids: TokenIds,
    paths: Paths,
    names: Names,
    refresh_names_session: bool,
    terminal: Vec<StatusCode>,
    rotation: Rotation,
    key: Option<MerchantKey>,
}

impl Spatium {
    /// A client of the service at this `https` URL: `https://cloud.spatium.net/authorization/v1`,
    /// for example. An `http` URL works if the transport allows it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `url` is not such a URL, or has a query.
    pub fn new(url: &str) -> Result<Self> {
        let url =
            http_message::base_url(url, "the service's URL has a query; remove what follows `?`")?;
        let base = url.as_str().trim_end_matches('/').to_owned();
        let client = url.path().to_owned();
        let mut authority = url;
        authority.set_path(client.trim_end_matches('/'));
        Ok(Self {
            base,
            authority,
            client,
            permissions: Vec::new(),
            token_ids: TokenIds::Verbatim,
            paths: Paths::default(),
            names: Names::default(),
            refresh_names_session: false,
            terminal: settings::TERMINAL.to_vec(),
            rotation: Rotation::Strict,
            key: None,
        })
    }

    /// The id by which the service knows the session.
    fn token_id(&self, sender: &HttpSender<'_>) -> Exchanged<String> {
        let missing = || {
            Error::new(ErrorKind::InvalidInput)
                .about("this call needs a session; make it on a session")
        };
        let session = sender.session().ok_or_else(missing)?;
        Ok(self.token_ids.of(session.key()))
    }

    /// Tokens in exchange for `proof`: security tokens, or a key.
    async fn issue(
        &self,
        sender: &HttpSender<'_>,
        path: &str,
        proof: (&str, MemberValue<'_>),
        permissions: Option<&[String]>,
    ) -> Exchanged<Tokens<SpatiumAttributes>> {
        let token_id = self.token_id(sender)?;
        let wanted = permissions.unwrap_or(&self.permissions);
        let members = [
            (&*self.names.token_id, MemberValue::Text(&token_id)),
            (&*self.names.permissions, MemberValue::List(wanted)),
            proof,
        ];
        let response =
            self.send_checked(sender, path, http_message::json_body(&Members(&members))?).await?;
        if !response.status().is_success() {
            return Err(settings::grant_failure(sender, &response, Refusal::Other));
        }
        let former =
            SpatiumAttributes { permissions: wanted.to_vec(), ..SpatiumAttributes::default() };
        response::tokens(sender, &response, &former)
    }

    /// `POST {url}/api/permission/issue-by-factors`.
    async fn by_factors(
        &self,
        sender: &HttpSender<'_>,
        factors: &SecurityTokens,
        permissions: Option<&[String]>,
    ) -> Exchanged<Tokens<SpatiumAttributes>> {
        let tokens: Vec<_> = factors.tokens.iter().map(SecurityToken::expose_secret).collect();
        if tokens.is_empty() {
            let none = Error::new(ErrorKind::InvalidInput)
                .about("the grant holds no security token; give at least one");
            return Err(none.into());
        }
        let proof = (&*self.names.security_tokens, MemberValue::Secrets(&tokens));
        self.issue(sender, &self.paths.establish, proof, permissions).await
    }

    /// Gets the security token of the first factor, and exchanges it for tokens.
    async fn by_credentials(
        &self,
        sender: &HttpSender<'_>,
        credentials: &SpatiumCredentials,
    ) -> Exchanged<Tokens<SpatiumAttributes>> {
        let body = credentials.body()?;
        let asked = self.send_checked(sender, &self.paths.credentials, body).await;
        let token = asked.and_then(|response| operation::security_token(sender, &response));
        // This request does not touch the session, even if its response is lost.
        let token = token.map_err(ExchangeError::nothing_in_doubt)?;
        let factors = SecurityTokens::new(token);
        self.by_factors(sender, &factors, credentials.permissions.as_deref()).await
    }
}

impl fmt::Debug for Spatium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spatium")
            .field("url", &self.base)
            .field("permissions", &self.permissions)
            .field("token_ids", &self.token_ids)
            .field("rotation", &self.rotation)
            .finish_non_exhaustive()
    }
}

/// The attributes of a session, from the permission token ("examples"). See the
/// [example of the module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SpatiumAttributes {
    /// The permissions in the token; if the token has none, the permissions of the grant.
    pub permissions: Vec<String>,
    /// The id of the user's account; None for a token that was issued for a key.
    pub account_id: Option<String>,
    /// The id of the merchant.
    pub merchant_id: Option<String>,
}

impl Provider for Spatium {
    type Grant = SpatiumGrant;
    type Challenge = Infallible;
    type Attributes = SpatiumAttributes;

    /// The service's URL.
    fn authority_url(&self) -> &Url {
        &self.authority
    }

    fn configured_urls(&self) -> Vec<Url> {
        vec![self.authority_url().clone()]
    }

    /// The path of the service, because it has no client ids.
    fn client_id(&self) -> &str {
        &self.client
    }

    fn refresh_token_rotation(&self) -> Rotation {
        self.rotation
    }

    fn placement(&self) -> Option<Placement> {
        Some(Placement::bearer())
    }

    async fn establish(
        &self,
        sender: &HttpSender<'_>,
        grant: SpatiumGrant,
    ) -> Exchanged<Issued<Self>> {
        let tokens = match &grant {
            SpatiumGrant::SecurityTokens(factors) => {
                self.by_factors(sender, factors, factors.permissions.as_deref()).await
            }
            SpatiumGrant::Credentials(credentials) => {
                self.by_credentials(sender, credentials).await
            }
            SpatiumGrant::MerchantKey(MerchantKey { key, permissions }) => {
                let proof = (&*self.names.merchant_key, MemberValue::Text(key.expose_secret()));
                self.issue(sender, &self.paths.issue_by_key, proof, permissions.as_deref()).await
            }
        };
        tokens.map(Issued::Tokens)
    }

    async fn refresh(
        &self,
        sender: &HttpSender<'_>,
        refresh_token: &Secret,
        held: &Tokens<SpatiumAttributes>,
    ) -> Exchanged<Tokens<SpatiumAttributes>> {
        let token_id = self.refresh_names_session.then(|| self.token_id(sender)).transpose()?;
        let mut members =
            vec![(&*self.names.refresh_token, MemberValue::Text(refresh_token.expose_secret()))];
        members
            .extend(token_id.as_deref().map(|id| (&*self.names.token_id, MemberValue::Text(id))));
        let body = http_message::json_body(&Members(&members))?;
        let response = self.send_checked(sender, &self.paths.refresh, body).await?;
        if !response.status().is_success() {
            return Err(self.refresh_failure(sender, &response));
        }
        response::tokens(sender, &response, held.attributes())
    }

    /// Does nothing, because no revocation is documented.
    async fn revoke(
        &self,
        _: &HttpSender<'_>,
        _: &Tokens<SpatiumAttributes>,
    ) -> Exchanged<Revoked> {
        Ok(Revoked::NotSupported)
    }

    fn merge_attributes(
        &self,
        known: &SpatiumAttributes,
        issued: SpatiumAttributes,
    ) -> Result<SpatiumAttributes, IdentityChanged> {
        let same = IdentityChanged::unless_same;
        Ok(SpatiumAttributes {
            account_id: same("account", &known.account_id, issued.account_id)?,
            merchant_id: same("merchant", &known.merchant_id, issued.merchant_id)?,
            permissions: issued.permissions,
        })
    }

    fn renewal_grant(&self, _: Option<&Tokens<SpatiumAttributes>>) -> Option<SpatiumGrant> {
        self.key.clone().map(SpatiumGrant::MerchantKey)
    }

    fn rejection_reads_body(&self, _: &http::response::Parts) -> bool {
        false
    }

    /// 401 is read as an invalid token, 403 as a missing permission, because nothing is documented.
    fn rejection(&self, response: &http::response::Parts, _: &[u8]) -> Rejection {
        bearer::rejection(response)
    }
}
