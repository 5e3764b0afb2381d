//! How a client is set up.

use super::Circle;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::http_message;

impl Circle {
    /// The server's host, or the origin of its URL. Defaults to `app.circle.so`, as in the API; a
    /// community's own domain is in use too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is neither a host name nor an `https` URL (or an `http` one
    /// to a loopback address) without path and query.
    pub fn host(mut self, host: &str) -> Result<Self> {
        let url = if host.contains("://") { host.to_owned() } else { format!("https://{host}") };
        let url = http_message::endpoint(&url)?;
        if url.path() != "/" || url.query().is_some() {
            return Err(Error::new(ErrorKind::InvalidInput).about("the host has more to it"));
        }
        self.authority = url;
        Ok(self)
    }

    /// What the member's id of the single sign-on is called. Defaults to `sso_user_id`, as in the
    /// API; the vendor's quick start says `sso_id`.
    #[must_use]
    pub fn sso_field(mut self, name: impl Into<String>) -> Self {
        self.sso_field = name.into();
        self
    }

    /// Whether a session whose refresh token has died makes itself anew for the same member.
    /// Defaults to `true`, because the app token is all that it takes. What the backend itself
    /// ended, by [`revoke`](crate::session::Session::revoke) or [`RevokeRefreshToken`], stays
    /// ended.
    #[must_use]
    pub fn auto_renew(mut self, auto_renew: bool) -> Self {
        self.auto_renew = auto_renew;
        self
    }

    /// What a message has in it that says that the refresh token has expired; any other 401 blames
    /// the app token. Upper and lower case are the same. Defaults to `refresh token is expired`, as
    /// in the API.
    #[must_use]
    pub fn refresh_token_expired_text(mut self, text: &str) -> Self {
        self.texts.refresh_token_expired = text.to_lowercase();
        self
    }

    /// What a message has in it that says that there is no such refresh token; any other 404 blames
    /// the host. Defaults to `refresh token not found`, as in the API.
    #[must_use]
    pub fn refresh_token_unknown_text(mut self, text: &str) -> Self {
        self.texts.refresh_token_unknown = text.to_lowercase();
        self
    }

    /// What a message has in it that says that there is no such member. Defaults to `member not
    /// found`, as in the API.
    #[must_use]
    pub fn member_unknown_text(mut self, text: &str) -> Self {
        self.texts.member_unknown = text.to_lowercase();
        self
    }
}

/// What the server's messages say, in lower case: there are no codes.
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
