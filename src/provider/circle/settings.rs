//! How a client is set up.

use super::Circle;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::http_message;

impl Circle {
    /// The server's host name, or its URL without a path. Defaults to `app.circle.so`, as in the
    /// API. Some communities use a domain of their own.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `host` is not a host name, and not an `https` or `http` URL
    /// without path and query.
    pub fn host(mut self, host: &str) -> Result<Self> {
        let url = if host.contains("://") { host.to_owned() } else { format!("https://{host}") };
        let url = http_message::endpoint(&url)?;
        if url.path() != "/" || url.query().is_some() {
            return Err(Error::new(ErrorKind::InvalidInput)
                .about("the host has a path or a query; give the host alone"));
        }
        self.authority = url;
        Ok(self)
    }

    /// The name of the request's field for the id that the member has in the single sign-on.
    /// Defaults to `sso_user_id`, as in the API; the vendor's quick start says `sso_id`.
    #[must_use]
    pub fn sso_field(mut self, name: impl Into<String>) -> Self {
        self.sso_field = name.into();
        self
    }

    /// Whether a session whose refresh token has expired obtains new tokens automatically for the
    /// same member. Defaults to `true`, because that needs only the app token. A session that the
    /// backend ended, by [`revoke`](crate::session::Session::revoke) or
    /// [`CircleRevokeRefreshToken`](super::CircleRevokeRefreshToken), obtains no new tokens.
    #[must_use]
    pub fn auto_renew(mut self, auto_renew: bool) -> Self {
        self.auto_renew = auto_renew;
        self
    }

    /// A text that the message of a 401 contains if the refresh token has expired; any other 401
    /// means that the app token is invalid. The comparison ignores case. Defaults to `refresh token
    /// is expired`, as in the API.
    #[must_use]
    pub fn refresh_token_expired_text(mut self, text: &str) -> Self {
        self.texts.refresh_token_expired = text.to_lowercase();
        self
    }

    /// A text that the message of a 404 contains if the server knows no such refresh token; any
    /// other 404 means that the host is wrong. Defaults to `refresh token not found`, as in the
    /// API.
    #[must_use]
    pub fn refresh_token_unknown_text(mut self, text: &str) -> Self {
        self.texts.refresh_token_unknown = text.to_lowercase();
        self
    }

    /// A text that the message contains if the server knows no such member. Defaults to `member not
    /// found`, as in the API.
    #[must_use]
    pub fn member_unknown_text(mut self, text: &str) -> Self {
        self.texts.member_unknown = text.to_lowercase();
        self
    }
}

/// Texts in the server's messages, in lower case. The server sends no error codes.
#[derive(Clone)]
pub(super) struct Texts {
    pub(super) refresh_token_expired: String,
    pub(super) refresh_token_unknown: String,
    pub(super) member_unknown: String,
}

impl Default for Texts {
    fn default() -> Self {
        Self {
            refresh_token_expired: "refresh token is expired".to_owned(),
            refresh_token_unknown: "refresh token not found".to_owned(),
            member_unknown: "member not found".to_owned(),
        }
    }
}
