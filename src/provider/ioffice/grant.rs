//! What begins a session: a user's password, or a code from a browser.

use crate::secret::Secret;

/// What [`IOffice`](super::IOffice) takes to establish a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Grant {
    /// A user name and a password.
    Password(Password),
    /// A code that a browser brought.
    Code(Code),
}

/// A user name and a password, for a session without a browser (in the document, "alternate
/// authorization code request").
///
/// They buy a code, and the code tokens, in one `establish`. A server that loses the first response
/// leaves nothing behind, so that the failure is `RetryLater` with the outcome `NotProcessed`; one
/// that loses the second may have issued tokens that nobody has: `Ambiguous`, and a former session
/// is refreshed before its next use. Neither uses up the password: it may be tried again.
///
/// Both go in headers. What begins or ends with a space, or has control characters, is refused as
/// `InvalidInput` before anything is sent, because no header carries it as it is.
#[derive(Clone, Debug)]
#[doc(alias = "x-auth-username")]
#[doc(alias = "x-auth-password")]
pub struct Password {
    pub(super) username: Secret,
    pub(super) password: Secret,
}

/// A code from a browser. It serves once, and for five minutes.
#[derive(Clone, Debug)]
#[doc(alias = "x-auth-code")]
pub struct Code {
    pub(in crate::provider) code: Secret,
    pub(super) app_code: Option<String>,
    pub(super) scope: Option<String>,
}

impl Password {
    /// This user with this password.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { username: Secret::from(username.into()), password: password.into() }
    }
}

impl Code {
    /// This code, as the redirect brought it.
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

    /// The scope that it was asked for with, if that was not the provider's.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }
}

impl From<Password> for Grant {
    fn from(grant: Password) -> Self {
        Self::Password(grant)
    }
}

impl From<Code> for Grant {
    fn from(grant: Code) -> Self {
        Self::Code(grant)
    }
}
