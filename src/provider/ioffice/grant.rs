//! What begins a session: a user's password, or a code from a browser.

use crate::secret::Secret;

/// What [`IOffice`](super::IOffice) takes to establish a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum IOfficeGrant {
    /// A user name and a password.
    Password(IOfficePassword),
    /// A code from a browser.
    Code(IOfficeCode),
}

/// A user name and a password, for a session without a browser (in the document, "alternate
/// authorization code request").
///
/// One `establish` exchanges them for a code, and the code for tokens. If the first response is
/// lost, nothing has changed, and the failure is `RetryLater` with the outcome `NotProcessed`. If
/// the second is lost, the server may have issued tokens that nobody has: the outcome is
/// `Ambiguous`, and a former session is refreshed before its next use. Neither uses up the
/// password: the caller may try again.
///
/// Both are sent in headers. If one begins or ends with a space, or has control characters, the
/// grant is refused as `InvalidInput` before anything is sent, because no header can carry it
/// unchanged.
#[derive(Clone, Debug)]
#[doc(alias = "x-auth-username")]
#[doc(alias = "x-auth-password")]
pub struct IOfficePassword {
    pub(super) username: Secret,
    pub(super) password: Secret,
}

/// A code from a browser. It is valid once and for five minutes.
#[derive(Clone, Debug)]
#[doc(alias = "x-auth-code")]
pub struct IOfficeCode {
    pub(in crate::provider) code: Secret,
    pub(super) app_code: Option<String>,
    pub(super) scope: Option<String>,
}

impl IOfficePassword {
    /// This user with this password.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { username: Secret::from(username.into()), password: password.into() }
    }
}

impl IOfficeCode {
    /// This code, from the redirect.
    #[must_use]
    pub fn new(code: impl Into<Secret>) -> Self {
        Self { code: code.into(), app_code: None, scope: None }
    }

    /// The `appCode` that came with it. It is kept in the session's attributes.
    #[must_use]
    #[doc(alias = "appCode")]
    pub fn app_code(mut self, app_code: impl Into<String>) -> Self {
        self.app_code = Some(app_code.into());
        self
    }

    /// The scope of the login, if it was not the provider's.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }
}

impl From<IOfficePassword> for IOfficeGrant {
    fn from(grant: IOfficePassword) -> Self {
        Self::Password(grant)
    }
}

impl From<IOfficeCode> for IOfficeGrant {
    fn from(grant: IOfficeCode) -> Self {
        Self::Code(grant)
    }
}
