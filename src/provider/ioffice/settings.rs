//! How a client is set up.

use http::{HeaderName, Method, StatusCode};

use super::IOffice;
use super::request::{Encoding, fixed, secret};
use super::response::Unit;
use crate::error::Result;
use crate::provider::Rotation;
use crate::secret::Secret;

impl IOffice {
    /// Requests this scope. Defaults to `email`, as the document advises while scopes have no
    /// effect.
    ///
    /// The code, its exchange and every refresh must have the same scope: a session keeps the scope
    /// that it was established with.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::error::ErrorKind::InvalidInput) if it is empty (a login needs all
    /// five parameters) or not plain ASCII.
    #[doc(alias = "x-scope")]
    pub fn scope(mut self, scope: &str) -> Result<Self> {
        fixed(scope, "the scope is empty or has characters that no header can carry")?;
        scope.clone_into(&mut self.scope);
        Ok(self)
    }

    /// Reads `expires_in` as seconds. Defaults to milliseconds.
    ///
    /// The document (2019) says milliseconds, the client (2015) adds it to the clock as seconds;
    /// the other times of the API are milliseconds. The crate does not guess: 3600 seconds read as
    /// milliseconds are a token that seems to expire after 3.6 s, and milliseconds read as seconds
    /// are a token whose expiry only a refused call shows.
    #[must_use]
    pub fn expires_in_seconds(mut self) -> Self {
        self.unit = Unit::Seconds;
        self
    }

    /// The statuses of an API that mean that the access token is no longer valid. Defaults to 401
    /// and 403.
    ///
    /// The client refreshes after 403, and reads 401 as unknown credentials; what today's servers
    /// send is not documented. A 403 may also mean a missing permission, for which no refresh
    /// helps: if that is frequent and invalid tokens are known to give 401, leave 403 out.
    #[must_use]
    pub fn token_dead_on(mut self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.dead_on = statuses.into_iter().collect();
        self
    }

    /// The method of a revocation. Defaults to GET: the document names none, and the client uses
    /// GET.
    #[must_use]
    #[doc(alias = "oauth2/revoke")]
    pub fn revoke_method(mut self, method: Method) -> Self {
        self.revoke_method = method;
        self
    }

    /// Carries the access token in the query, as `access_token`. Defaults to the header
    /// `x-access-token`; the document has both.
    ///
    /// Proxies and servers log URLs much more often than headers. There is no fixed header then:
    /// requests need [`Session::authorize`](crate::session::Session::authorize).
    #[must_use]
    #[doc(alias = "access_token")]
    pub fn token_in_query(mut self) -> Self {
        self.in_query = true;
        self
    }

    /// Sends the client's secret in the header `name`, with every request for a code or a token.
    /// Defaults to none: the document says that a secret "may not be required", and names no
    /// header. `x-client-secret` would match the other headers.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::error::ErrorKind::InvalidInput) if the secret is empty or not plain
    /// ASCII.
    pub fn client_secret_header(
        mut self,
        name: HeaderName,
        client_secret: impl Into<Secret>,
    ) -> Result<Self> {
        let words = "the client secret is empty or has characters that no header can carry";
        let client_secret = client_secret.into();
        fixed(client_secret.expose_secret(), words)?;
        self.client_secret = Some((name, secret(&client_secret, words)?));
        Ok(self)
    }

    /// Accepts a login whose redirect has no `state`. By default such a login is refused as
    /// `Refused(LoginStateMismatch)`.
    ///
    /// This allows login CSRF (RFC 6749 section 10.12): an attacker who makes a user's browser open
    /// a link with the attacker's code, while that user logs in, gets the user's session logged in
    /// as the attacker. The ticket does not prevent that.
    ///
    /// Use it only for a site that sends no state back. The redirect in the document,
    /// `#code=..&appCode=..`, has none. The client always checks a state that comes back.
    #[must_use]
    pub fn allow_login_csrf_where_state_is_missing(mut self) -> Self {
        self.state_may_be_missing = true;
        self
    }

    /// Sends user names and passwords that are not ASCII as UTF-8. Defaults to ISO-8859-1, which
    /// browsers send for the client and servers expect in headers (RFC 9110 section 5.5); the
    /// document does not say. With ISO-8859-1, a text with other characters is refused and not
    /// sent.
    #[must_use]
    pub fn utf8_credentials(mut self) -> Self {
        self.encoding = Encoding::Utf8;
        self
    }

    /// What the server does to a refresh token that was used. Defaults to [`Rotation::Strict`]:
    /// every refresh gives another refresh token, and the document does not say whether the old one
    /// stays valid.
    #[must_use]
    pub fn rotation(mut self, rotation: Rotation) -> Self {
        self.rotation = rotation;
        self
    }
}
