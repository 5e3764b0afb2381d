//! The grants with which a session is established: a user's password, or a code from a browser.

use crate::secret::Secret;

/// The grants with which a session of [`IOffice`](super::IOffice) is established. See the
/// [example of the module](super).
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
/// `establish` first exchanges the password for a code, and then the code for tokens. If a response
/// is lost, the caller gets `RetryLater` and may try again, because neither request uses up the
/// password:
///
/// - The first response is lost: nothing has changed, and the outcome is `NotProcessed`.
/// - The second response is lost: the server may have issued tokens, and the outcome is
///   `Ambiguous`. If the session was active before, the crate refreshes it before its next use.
///
/// The user name and the password are sent in headers. If one of them begins or ends with a space,
/// or has control characters, no header can carry it unchanged: the crate sends nothing, and the
/// caller gets `InvalidInput`. See the [example of the module](super).
#[derive(Clone, Debug)]
#[doc(alias = "x-auth-username")]
#[doc(alias = "x-auth-password")]
pub struct IOfficePassword {
    pub(super) username: Secret,
    pub(super) password: Secret,
}

/// A code from a browser. It can be used once, within five minutes. See the
/// [example of the module](super).
#[derive(Clone, Debug)]
#[doc(alias = "x-auth-code")]
pub struct IOfficeCode {
    pub(in crate::provider) code: Secret,
    pub(super) app_code: Option<String>,
    pub(super) scope: Option<String>,
}

impl IOfficePassword {
    /// The grant of this user with this password.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { username: Secret::from(username.into()), password: password.into() }
    }
}

impl IOfficeCode {
    /// The grant of this code, which the browser brought back.
    #[must_use]
    pub fn new(code: impl Into<Secret>) -> Self {
        Self { code: code.into(), app_code: None, scope: None }
    }

    /// Sets the `appCode` that came with the code. The session keeps it in its attributes.
    #[must_use]
    #[doc(alias = "appCode")]
    pub fn app_code(mut self, app_code: impl Into<String>) -> Self {
        self.app_code = Some(app_code.into());
        self
    }

    /// Sets the scope of the login. Needed only if it differs from the provider's scope.
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
