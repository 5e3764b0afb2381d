//! How a client is set up.

use http::{HeaderName, Method, StatusCode};

use super::IOffice;
use super::request::{Encoding, fixed, secret};
use super::response::Unit;
use crate::error::Result;
use crate::provider::Rotation;
use crate::secret::Secret;

impl IOffice {
    /// Requests this scope. Defaults to `email`, as the document advises as long as scopes have no
    /// effect.
    ///
    /// The requests for a code, for its exchange and for every refresh must have the same scope, so
    /// a session keeps the scope with which it was established.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::error::ErrorKind::InvalidInput) if `scope` is empty or not plain
    /// ASCII.
    #[doc(alias = "x-scope")]
    pub fn scope(mut self, scope: &str) -> Result<Self> {
        fixed(scope, "the scope is empty or has characters that no header can carry")?;
        scope.clone_into(&mut self.scope);
        Ok(self)
    }

    /// Reads `expires_in` as seconds. Defaults to milliseconds.
    ///
    /// The document (2019) says milliseconds, and so are the other times of the API, but the client
    /// (2015) reads seconds. If the setting is wrong, a token of 3600 seconds seems to expire after
    /// 3.6 s; or, in the other direction, the crate learns only from a refused call that a token
    /// has expired.
    #[must_use]
    pub fn expires_in_seconds(mut self) -> Self {
        self.unit = Unit::Seconds;
        self
    }

    /// The statuses of an API that mean that the access token is no longer valid. Defaults to 401
    /// and 403.
    ///
    /// The client refreshes after 403, and reads 401 as unknown credentials. The vendor does not
    /// document the statuses of today's servers. A 403 may also mean that a permission is missing,
    /// and then a refresh does not help. Leave 403 out if that is frequent and your site sends 401
    /// for invalid tokens.
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
    /// Proxies and servers log URLs much more often than headers. With this setting, tokens have no
    /// fixed header: use [`Session::authorize`](crate::session::Session::authorize) for each
    /// request.
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
    /// This setting allows login CSRF (RFC 6749 section 10.12). While a user logs in, an attacker
    /// can make the user's browser open a link with the attacker's code. Then the user's session is
    /// logged in as the attacker. The ticket does not prevent that.
    ///
    /// Use it only for a site that sends no state back. The redirect in the document,
    /// `#code=..&appCode=..`, has no state. If the redirect has a state, the crate always checks
    /// it.
    #[must_use]
    pub fn allow_login_csrf_where_state_is_missing(mut self) -> Self {
        self.state_may_be_missing = true;
        self
    }

    /// Sends user names and passwords as UTF-8. Defaults to ISO-8859-1: browsers send it for the
    /// client, and servers expect it in headers (RFC 9110 section 5.5). The document does not name
    /// an encoding. With ISO-8859-1, the crate refuses a text with other characters, and does not
    /// send it.
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
