//! The grants with which a session is established.

use std::fmt;

use bytes::Bytes;

use super::Spatium;
use crate::error::Result;
use crate::provider::UnattendedGrant;
use crate::provider::http_message::{self, Members};
use crate::secret::Secret;

/// The grants with which a session of [`Spatium`] is established. See the
/// [example of the module](super).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SpatiumGrant {
    /// Security tokens that the caller has collected.
    SecurityTokens(SecurityTokens),
    /// A user name and a password.
    Credentials(SpatiumCredentials),
    /// A merchant's key.
    MerchantKey(MerchantKey),
}

/// The proof that the user has passed a factor (`securityToken`, the seed). It converts into a
/// [`Secret`]. See the [example of the module](super).
#[derive(Clone)]
#[doc(alias = "securityToken")]
pub struct SecurityToken(Secret);

/// The security tokens of all factors that the permissions require (`establish(securityTokens)`,
/// the seed). See the [example of the module](super).
#[derive(Clone, Debug)]
#[doc(alias = "issue-by-factors")]
pub struct SecurityTokens {
    pub(super) tokens: Vec<SecurityToken>,
    pub(super) permissions: Option<Vec<String>>,
}

/// A user name and a password. This grant passes the credentials factor and establishes the session
/// in one step, if the permissions require no other factor. See the
/// [example of the module](super).
#[derive(Clone, Debug)]
pub struct SpatiumCredentials {
    pub(super) username: String,
    pub(super) password: Secret,
    pub(super) permissions: Option<Vec<String>>,
}

/// A merchant's key, for services that act for themselves ("examples", issue by key). The vendor
/// advises to use one fixed token id for each service or procedure. See the
/// [example of the module](super).
#[derive(Clone, Debug)]
#[doc(alias = "issue-by-key")]
pub struct MerchantKey {
    pub(super) key: Secret,
    pub(super) permissions: Option<Vec<String>>,
}

impl SecurityToken {
    /// A security token from this text.
    #[must_use]
    pub fn new(token: impl Into<Secret>) -> Self {
        Self(token.into())
    }

    /// The text of the token.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for SecurityToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecurityToken([redacted])")
    }
}

impl From<SecurityToken> for Secret {
    fn from(token: SecurityToken) -> Self {
        token.0
    }
}

impl SecurityTokens {
    /// A grant with one security token.
    #[must_use]
    pub fn new(token: SecurityToken) -> Self {
        Self { tokens: vec![token], permissions: None }
    }

    /// Adds a security token of another factor.
    #[must_use]
    pub fn and(mut self, token: SecurityToken) -> Self {
        self.tokens.push(token);
        self
    }

    /// Requests these permissions in place of the provider's.
    #[must_use]
    pub fn permissions<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.permissions = Some(names.into_iter().map(Into::into).collect());
        self
    }
}

impl FromIterator<SecurityToken> for SecurityTokens {
    fn from_iter<I: IntoIterator<Item = SecurityToken>>(tokens: I) -> Self {
        Self { tokens: tokens.into_iter().collect(), permissions: None }
    }
}

impl SpatiumCredentials {
    /// The grant of this user with this password.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { username: username.into(), password: password.into(), permissions: None }
    }

    /// Requests these permissions in place of the provider's.
    #[must_use]
    pub fn permissions<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.permissions = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// The body of the credentials factor.
    pub(super) fn body(&self) -> Result<Bytes> {
        let members = [("username", &*self.username), ("password", self.password.expose_secret())];
        http_message::json_body(&Members(&members))
    }
}

impl MerchantKey {
    /// The grant of this key: Base64, as the vendor gives it.
    #[must_use]
    pub fn new(key: impl Into<Secret>) -> Self {
        Self { key: key.into(), permissions: None }
    }

    /// Requests these permissions in place of the provider's.
    #[must_use]
    pub fn permissions<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.permissions = Some(names.into_iter().map(Into::into).collect());
        self
    }
}

impl UnattendedGrant<Spatium> for MerchantKey {}

impl From<SecurityToken> for SpatiumGrant {
    fn from(token: SecurityToken) -> Self {
        Self::SecurityTokens(SecurityTokens::new(token))
    }
}

impl From<SecurityTokens> for SpatiumGrant {
    fn from(grant: SecurityTokens) -> Self {
        Self::SecurityTokens(grant)
    }
}

impl From<SpatiumCredentials> for SpatiumGrant {
    fn from(grant: SpatiumCredentials) -> Self {
        Self::Credentials(grant)
    }
}

impl From<MerchantKey> for SpatiumGrant {
    fn from(grant: MerchantKey) -> Self {
        Self::MerchantKey(grant)
    }
}
