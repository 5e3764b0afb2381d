//! iOFFICE, now Eptura Workplace: OAuth 2.0 with all parameters in headers and empty bodies.
//!
//! The facts here are from "Using OAuth 2.0 to Access the API" (support.iofficecorp.com, 2019),
//! called "the document" below, or from the vendor's own `AngularJS` client of 2015, called "the
//! client" below. If both are silent, or they disagree, there is a setting.
//!
//! ```
//! use session_warden::provider::ioffice::{
//!     IOffice, IOfficeAttributes, IOfficeCode, IOfficeGrant, IOfficePassword,
//!     IOfficeRevokeAccessToken, TokenInfo,
//! };
//! use session_warden::testing::{FakeAuthServer, FakeDialect};
//! use session_warden::transport::TransportConfig;
//! use session_warden::{SessionKey, Supervisor};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let redirect_uri = "https://app.example.com/callback";
//! let server = FakeAuthServer::builder().dialect(FakeDialect::IOffice).start().await?;
//! let supervisor = Supervisor::builder()
//!     .transport(TransportConfig::default().allow_loopback_http())
//!     .provider("ioffice", IOffice::new(server.url(), "my-client", redirect_uri)?)
//!     .start()
//!     .await?;
//! let sessions = supervisor.sessions::<IOffice>("ioffice")?;
//! let session = sessions.session(SessionKey::new("acme", "ada")?);
//!
//! // A service account signs in with its password.
//! let _ = session.establish(IOfficePassword::new("ada", "ok")).await?;
//! assert!(session.call(TokenInfo).await?);
//!
//! // The session goes on with another access token.
//! let old = session.permission_token().await?;
//! session.call(IOfficeRevokeAccessToken).await?;
//! assert!(!server.is_active(old.expose_secret()));
//! assert!(server.is_active(session.permission_token().await?.expose_secret()));
//!
//! // The code of a login that the backend began itself. `finish_login` reads the others.
//! let code = server.authorization_code("bob", redirect_uri, None);
//! let grant: IOfficeGrant = IOfficeCode::new(code).app_code("desk").into();
//! let bob = sessions.session(SessionKey::new("acme", "bob")?);
//! let _ = bob.establish(grant).await?;
//! let IOfficeAttributes { app_code, scope, .. } = bob.attributes().await?;
//! assert_eq!((app_code.as_deref(), scope.as_deref()), (Some("desk"), Some("email")));
//! # Ok(())
//! # }
//! ```

mod grant;
mod operation;
mod redirect_login;
mod relay;
mod request;
mod response;
mod settings;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

pub use self::grant::{IOfficeCode, IOfficeGrant, IOfficePassword};
pub use self::operation::{IOfficeRevokeAccessToken, TokenInfo};
pub use self::relay::{FRAGMENT_RELAY_CSP, FRAGMENT_RELAY_HTML, fragment_relay_html};
use self::request::{Encoding, fixed};
use self::response::{Unit, revoked};
use super::api_origins;
use super::{
    ExchangeError, Exchanged, FailureClass, HttpSender, Issued, Provider, Rejection, Revoked,
    Rotation, Signing, http_message,
};
use crate::error::{Error, Refusal, Result};
use crate::secret::Secret;
use crate::token::{Placement, Tokens};

/// A client of one iOFFICE site. Every customer has a site of its own, so use
/// [`provider_per_tenant`](crate::supervisor::SupervisorBuilder::provider_per_tenant). See the
/// [example of the module](self).
///
/// ```
/// use session_warden::provider::ioffice::IOffice;
///
/// let acme = IOffice::new("https://acme.iofficeconnect.com", "id", "https://app.example/callback")?;
/// let old = acme.clone().expires_in_seconds().scope("reservations")?;
///
/// // The site is an `https` URL.
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
    /// The client `client_id` of a site: `https://<name>.iofficeconnect.com`. An `http` URL works
    /// if the transport allows it. `redirect_uri` is the URL to which browsers come back, exactly
    /// as it is registered at iOFFICE. Every token request has it, even those for a password.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::error::ErrorKind::InvalidInput) if the site is no such URL or has a
    /// query; if the redirect URI is no URL, has a fragment, or a parameter that is one of the
    /// response (`code`, `appCode`, `state`, `error`) or is there twice; if one of the three is
    /// empty or not plain ASCII.
    pub fn new(site: &str, client_id: &str, redirect_uri: &str) -> Result<Self> {
        let site =
            http_message::base_url(site, "the site's URL has a query; remove what follows `?`")?;
        http_message::check_redirect_uri(redirect_uri, redirect_login::RESPONSE_PARAMETERS)?;
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

    /// A code for a user name and a password, without a browser.
    ///
    /// If the response is lost, there is a code that nobody has and that expires in five minutes.
    /// It does not affect the session, so no failure of this request is ambiguous.
    async fn code(&self, sender: &HttpSender<'_>, grant: &IOfficePassword) -> Exchanged<Secret> {
        let request = self.code_request(grant)?;
        let code = match sender.send(request).await {
            Ok(response) => response::code(sender, &response),
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

/// The attributes of a session. See the [example of the module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct IOfficeAttributes {
    /// The scope with which the session was established. Every refresh sends it again. None for
    /// adopted tokens: their refreshes send the provider's scope.
    pub scope: Option<String>,
    /// The `appCode` that the browser brought back, if it brought one. The document does not
    /// explain it.
    #[doc(alias = "appCode")]
    pub app_code: Option<String>,
}

impl Provider for IOffice {
    type Grant = IOfficeGrant;
    type Challenge = Infallible;
    type Attributes = IOfficeAttributes;

    /// The site.
    fn authority_url(&self) -> &Url {
        &self.authority
    }

    /// The API is at the origin of the server.
    fn api_origins(&self) -> Vec<String> {
        api_origins::of_server(&self.authority)
    }

    fn configured_urls(&self) -> Vec<Url> {
        vec![self.authority_url().clone()]
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
    /// ambiguous. Neither uses up the password.
    async fn establish(
        &self,
        sender: &HttpSender<'_>,
        grant: IOfficeGrant,
    ) -> Exchanged<Issued<Self>> {
        let (code, refused) = match grant {
            IOfficeGrant::Password(grant) => {
                let code = IOfficeCode::new(self.code(sender, &grant).await?);
                // The server issued the code a moment ago, so the password is not wrong.
                (code, Refusal::Other)
            }
            IOfficeGrant::Code(code) => (code, Refusal::GrantExpired),
        };
        let scope = code.scope.as_deref().unwrap_or(&self.scope);
        let grant = ("authorization_code", "x-auth-code");
        let response = sender.send(self.token_request(grant, &code.code, scope)?).await?;
        let attributes =
            IOfficeAttributes { scope: Some(scope.to_owned()), app_code: code.app_code };
        let refused = FailureClass::Refused(refused);
        response::tokens(sender, &response, self.unit, attributes, refused).map(Issued::Tokens)
    }

    async fn refresh(
        &self,
        sender: &HttpSender<'_>,
        refresh_token: &Secret,
        held: &Tokens<IOfficeAttributes>,
    ) -> Exchanged<Tokens<IOfficeAttributes>> {
        let attributes = held.attributes().clone();
        let scope = attributes.scope.as_deref().unwrap_or(&self.scope);
        let grant = ("refresh_token", "x-refresh-token");
        let response = sender.send(self.token_request(grant, refresh_token, scope)?).await?;
        response::tokens(sender, &response, self.unit, attributes, FailureClass::Rejected)
    }

    /// Revokes both tokens, because the document does not say which of them "the token" is, nor
    /// that revoking one revokes the other. A token that the server does not know counts as
    /// revoked.
    async fn revoke(
        &self,
        sender: &HttpSender<'_>,
        held: &Tokens<IOfficeAttributes>,
    ) -> Exchanged<Revoked> {
        let mut outcome = Revoked::NotSupported;
        for token in [held.refresh_token(), held.access_token()].into_iter().flatten() {
            let request = self.request_with_token(self.revoke_method.clone(), "revoke", token)?;
            revoked(sender, &sender.send(request).await?)?;
            outcome = Revoked::AtServer;
        }
        Ok(outcome)
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

    fn rejection_reads_body(&self, _: &http::response::Parts) -> bool {
        false
    }

    fn rejection(&self, response: &http::response::Parts, _: &[u8]) -> Rejection {
        match response.status {
            status if self.dead_on.contains(&status) => Rejection::TokenDead,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Rejection::OtherReason,
            _ => Rejection::None,
        }
    }
}
