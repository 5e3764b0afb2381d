//! iOFFICE, now Eptura Workplace: OAuth 2.0 with all parameters in headers and empty bodies.
//!
//! What is said here of the server is in "Using OAuth 2.0 to Access the API"
//! (support.iofficecorp.com, 2019), called "the document" below, or in what the vendor's own
//! `AngularJS` client does ("the client", 2015). Where both are silent or disagree there is a
//! setting.

mod answer;
mod grant;
mod login;
mod operation;
mod relay;
mod request;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

use self::answer::{Unit, revoked};
pub use self::grant::{Code, Grant, Password};
pub use self::operation::{RevokeAccessToken, TokenInfo};
pub use self::relay::{FRAGMENT_RELAY_CSP, FRAGMENT_RELAY_HTML, fragment_relay_html};
use self::request::{Encoding, fixed, secret};
use super::{
    ExchangeError, FailureClass, Issued, Provider, Rejection, Revoked, Rotation, Signing, Wire,
    wire,
};
use crate::error::{Error, ErrorKind, Refusal, Result};
use crate::secret::Secret;
use crate::token::{Placement, Tokens};

/// A client of one iOFFICE site. Every customer has its own, so that this mostly comes from
/// [`provider_per_tenant`](crate::supervisor::SupervisorBuilder::provider_per_tenant).
///
/// ```
/// use session_warden::provider::ioffice::IOffice;
///
/// let acme = IOffice::new("https://acme.iofficeconnect.com", "id", "https://app.example/callback")?;
/// let old = acme.clone().expires_in_seconds().scope("reservations")?;
///
/// // A site is a URL, and nothing goes out without TLS.
/// assert!(IOffice::new("acme.iofficeconnect.com", "id", "https://app.example/callback").is_err());
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone)]
#[doc(alias = "Eptura")]
pub struct IOffice {
    site: Url,
    /// The site, without a slash at the end of its path.
    authority: Url,
    client_id: String,
    redirect_uri: String,
    scope: String,
    unit: Unit,
    dead_on: Vec<StatusCode>,
    revoke_method: Method,
    in_query: bool,
    client_secret: Option<(HeaderName, HeaderValue)>,
    state_may_be_missing: bool,
    encoding: Encoding,
    rotation: Rotation,
}

impl IOffice {
    /// The client `client_id` of the site, `https://<name>.iofficeconnect.com`, or an `http` URL of
    /// a loopback address for transports that allow it. `redirect_uri` is where browsers come back
    /// to, exactly as it was given to iOFFICE; it goes with every token request, also where no
    /// browser is used.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the site is no such URL or has a query; if the redirect URI
    /// is no URL, has a fragment, or a parameter that is one of the answer (`code`, `appCode`,
    /// `state`, `error`) or is there twice; if one of the three is empty or not plain ASCII.
    pub fn new(site: &str, client_id: &str, redirect_uri: &str) -> Result<Self> {
        let site = wire::endpoint(site)?;
        if site.query().is_some() {
            return Err(Error::new(ErrorKind::InvalidInput).about("the site's URL has a query"));
        }
        wire::check_redirect_uri(redirect_uri, login::ANSWER)?;
        fixed(client_id, "the client id is empty or has characters that no header can carry")?;
        fixed(redirect_uri, "the redirect URI has characters that no header can carry")?;
        let mut authority = site.clone();
        authority.set_path(site.path().trim_end_matches('/'));
        Ok(Self {
            site,
            authority,
            client_id: client_id.to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            scope: "email".to_owned(),
            unit: Unit::Milliseconds,
            dead_on: vec![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN],
            revoke_method: Method::GET,
            in_query: false,
            client_secret: None,
            state_may_be_missing: false,
            encoding: Encoding::Latin1,
            rotation: Rotation::Strict,
        })
    }

    /// Asks for this scope. Defaults to `email`, as the document advises while scopes restrict
    /// nothing.
    ///
    /// The same scope has to go with the code, its exchange and every refresh: a session keeps the
    /// one that it began with.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is empty (a login needs all five parameters) or not plain
    /// ASCII.
    #[doc(alias = "x-scope")]
    pub fn scope(mut self, scope: &str) -> Result<Self> {
        fixed(scope, "the scope is empty or has characters that no header can carry")?;
        scope.clone_into(&mut self.scope);
        Ok(self)
    }

    /// Reads `expires_in` as seconds. Defaults to milliseconds.
    ///
    /// The document (2019) says milliseconds, the client (2015) adds it to the clock as seconds;
    /// the other times of the API are milliseconds. Nothing is guessed: 3600 seconds that are read
    /// as milliseconds are a token that looks dead after 3.6 s, and seconds that are milliseconds a
    /// token whose end only a refused call shows.
    #[must_use]
    pub fn expires_in_seconds(mut self) -> Self {
        self.unit = Unit::Seconds;
        self
    }

    /// Which statuses of an API mean that the access token is dead. Defaults to 401 and 403.
    ///
    /// The client refreshes at 403, and takes 401 for credentials that are not known; what today's
    /// servers send is not documented. A 403 may also mean that the user may not do something,
    /// which no refresh mends: where that is frequent and dead tokens are known to be 401, leave it
    /// out.
    #[must_use]
    pub fn token_dead_on(mut self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.dead_on = statuses.into_iter().collect();
        self
    }

    /// With which method tokens are revoked. Defaults to GET: the document names none, and the
    /// client uses that.
    #[must_use]
    #[doc(alias = "oauth2/revoke")]
    pub fn revoke_method(mut self, method: Method) -> Self {
        self.revoke_method = method;
        self
    }

    /// Carries the access token in the query, as `access_token`. Defaults to the header
    /// `x-access-token`; the document has both.
    ///
    /// A URL is written into logs by many who see it, and a header by few. There is no fixed header
    /// then: requests go through [`Session::authorize`](crate::session::Session::authorize).
    #[must_use]
    #[doc(alias = "access_token")]
    pub fn token_in_query(mut self) -> Self {
        self.in_query = true;
        self
    }

    /// Sends the client's secret in the header `name`, with every request for a code or a token.
    /// Defaults to none: the document says that a secret "may not be required", and names no
    /// header. `x-client-secret` would be of a piece with the others.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the secret is empty or not plain ASCII.
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
    /// The price is login CSRF (RFC 6749 section 10.12): whoever makes a user's browser open a link
    /// with a code of their own, while that user's login is under way, puts themselves in the user's
    /// place, and the user's session then acts for them. The ticket does not prevent that.
    ///
    /// Use it only for a site that sends no state back. The redirect in the document,
    /// `#code=..&appCode=..`, has none. A state that comes back is checked in any case.
    #[must_use]
    pub fn allow_login_csrf_where_state_is_missing(mut self) -> Self {
        self.state_may_be_missing = true;
        self
    }

    /// Sends user names and passwords that are not ASCII as UTF-8. Defaults to ISO-8859-1, which
    /// is what a browser sends for the client and what servers take headers for (RFC 9110 section
    /// 5.5); the document does not say. What has other characters is refused unsent then.
    #[must_use]
    pub fn utf8_credentials(mut self) -> Self {
        self.encoding = Encoding::Utf8;
        self
    }

    /// What the server does to a refresh token that was used. Defaults to [`Rotation::Strict`]:
    /// every refresh gives another refresh token, and whether the old one lives on is not
    /// documented.
    #[must_use]
    pub fn rotation(mut self, rotation: Rotation) -> Self {
        self.rotation = rotation;
        self
    }

    /// A code for a user name and a password, without a browser.
    ///
    /// What can be lost on the way is a code that nobody has and that ends in five minutes. No
    /// session is touched by it, so that no failure of this request is ambiguous.
    async fn code(&self, wire: &Wire<'_>, grant: &Password) -> Result<Secret, ExchangeError> {
        let request = self.code_request(grant)?;
        let code = match wire.send(request).await {
            Ok(answer) => answer::code(wire, &answer),
            Err(failed) => Err(failed),
        };
        code.map_err(ExchangeError::nothing_in_doubt)
    }
}

impl fmt::Debug for IOffice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IOffice")
            .field("site", &self.site.as_str())
            .field("client_id", &self.client_id)
            .field("redirect_uri", &self.redirect_uri)
            .field("scope", &self.scope)
            .field("rotation", &self.rotation)
            .finish_non_exhaustive()
    }
}

/// What is kept beside the tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Attributes {
    /// The scope that the session began with, and that every refresh repeats; None for tokens
    /// from elsewhere, which are refreshed with the provider's.
    pub scope: Option<String>,
    /// The `appCode` that came with the browser, if one came. The document does not say what it is.
    #[doc(alias = "appCode")]
    pub app_code: Option<String>,
}

impl Provider for IOffice {
    type Grant = Grant;
    type Challenge = Infallible;
    type Attributes = Attributes;

    /// The site.
    fn authority_url(&self) -> &Url {
        &self.authority
    }

    fn client_id(&self) -> &str {
        &self.client_id
    }

    fn refresh_token_rotation(&self) -> Rotation {
        self.rotation
    }

    /// `x-access-token`; None with [`token_in_query`](Self::token_in_query).
    fn placement(&self) -> Option<Placement> {
        (!self.in_query).then(|| Placement::header(request::ACCESS_TOKEN))
    }

    /// A password takes two requests: one for a code, one for its tokens. Only the second can be
    /// lost in a way that matters. The password itself is not used up by either.
    async fn establish(
        &self,
        wire: &Wire<'_>,
        grant: Grant,
    ) -> Result<Issued<Self>, ExchangeError> {
        let (code, refused) = match grant {
            Grant::Password(grant) => {
                let code = Code::new(self.code(wire, &grant).await?);
                // The server gave the code a moment ago, so it is not the password that is wrong.
                (code, Refusal::Other)
            }
            Grant::Code(code) => (code, Refusal::GrantExpired),
        };
        let scope = code.scope.as_deref().unwrap_or(&self.scope);
        let grant = ("authorization_code", "x-auth-code");
        let answer = wire.send(self.token_request(grant, &code.code, scope)?).await?;
        let attributes = Attributes { scope: Some(scope.to_owned()), app_code: code.app_code };
        let refused = FailureClass::Refused(refused);
        answer::tokens(wire, &answer, self.unit, attributes, refused).map(Issued::Tokens)
    }

    async fn refresh(
        &self,
        wire: &Wire<'_>,
        refresh_token: &Secret,
        held: &Tokens<Attributes>,
    ) -> Result<Tokens<Attributes>, ExchangeError> {
        let attributes = held.attributes().clone();
        let scope = attributes.scope.as_deref().unwrap_or(&self.scope);
        let grant = ("refresh_token", "x-refresh-token");
        let answer = wire.send(self.token_request(grant, refresh_token, scope)?).await?;
        answer::tokens(wire, &answer, self.unit, attributes, FailureClass::Rejected)
    }

    /// Revokes both tokens: the document does not say which of them "the token" is, nor that one
    /// takes the other with it. A token that the server does not know is as good as revoked.
    async fn revoke(
        &self,
        wire: &Wire<'_>,
        held: &Tokens<Attributes>,
    ) -> Result<Revoked, ExchangeError> {
        let mut told = Revoked::NotSupported;
        for token in [held.refresh_token(), held.access_token()].into_iter().flatten() {
            let request = self.about_token(self.revoke_method.clone(), "revoke", token)?;
            revoked(wire, &wire.send(request).await?)?;
            told = Revoked::AtServer;
        }
        Ok(told)
    }

    fn authorize(
        &self,
        signing: &Signing<'_>,
        request: &mut http::request::Parts,
    ) -> Result<(), Error> {
        if self.in_query {
            return request::put_in_query(signing.token(), request);
        }
        signing.put_header(request)
    }

    fn rejection(&self, response: &http::response::Parts, _: &[u8]) -> Rejection {
        match response.status {
            status if self.dead_on.contains(&status) => Rejection::TokenDead,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Rejection::NotOurs,
            _ => Rejection::None,
        }
    }
}
