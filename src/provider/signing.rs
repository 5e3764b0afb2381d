//! The data with which a provider puts a token on a request.

use std::fmt;
use std::time::SystemTime;

use crate::error::{Error, ErrorKind};
use crate::secret::Secret;
use crate::token::PermissionToken;

/// A token, and the other data that a provider needs to put it on a request. The crate passes it to
/// [`Provider::authorize`](super::Provider::authorize). See
/// [a complete provider](super#a-complete-provider).
pub struct Signing<'a> {
    token: &'a PermissionToken,
    token_secret: Option<&'a Secret>,
    now: SystemTime,
}

impl<'a> Signing<'a> {
    pub(crate) fn new(
        token: &'a PermissionToken,
        token_secret: Option<&'a Secret>,
        now: SystemTime,
    ) -> Self {
        Self { token, token_secret, now }
    }

    /// The token to put on the request.
    #[must_use]
    pub fn token(&self) -> &PermissionToken {
        self.token
    }

    /// The token secret (RFC 5849 section 1.1), if the session has one.
    #[must_use]
    pub fn token_secret(&self) -> Option<&Secret> {
        self.token_secret
    }

    /// The time of day, for a signature's timestamp.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.now
    }

    /// Sets the header that [`Provider::placement`](super::Provider::placement) describes. It
    /// replaces a header of the same name.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if no header can carry the token's characters.
    pub fn put_header(&self, request: &mut http::request::Parts) -> Result<(), Error> {
        let Some((name, value)) = self.token.header() else {
            return Err(Error::new(ErrorKind::InvalidInput).about(
                "the access token has characters that no HTTP header can carry; use another token",
            ));
        };
        request.headers.insert(name.clone(), value.clone());
        Ok(())
    }
}

impl fmt::Debug for Signing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signing").field("token", self.token).finish_non_exhaustive()
    }
}
