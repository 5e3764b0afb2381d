//! A login in a browser, without a user who types.

/// How a login at `GET /authorize` ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FakeLogin {
    /// This user logs in and consents.
    Approve(String),
    /// The browser is sent back with this `error`: `access_denied`, `login_required` ...
    Deny(String),
}

impl FakeLogin {
    /// This user logs in and consents.
    pub fn approve(user: impl Into<String>) -> Self {
        Self::Approve(user.into())
    }

    /// The browser is sent back with this `error`.
    pub fn deny(code: impl Into<String>) -> Self {
        Self::Deny(code.into())
    }
}

impl Default for FakeLogin {
    fn default() -> Self {
        Self::approve("alice")
    }
}
