//! How a client is set up.

use std::time::Duration;

use super::authentication::Authentication;
use super::discovery::Issuer;
use super::jwt_bearer::JwtBearer;
use super::metadata::Metadata;
use super::settings::ClientAuthentication;
use super::{OAuth2, Server};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::{RevocationReach, Rotation, http_message};
use crate::secret::Secret;
use crate::transport::{ClientIdentity, ClientKey};

impl OAuth2 {
    /// Sends the client's id and secret in the `Authorization` header (RFC 6749 section 2.3.1).
    /// Every server must support that. It replaces an earlier secret.
    #[must_use]
    pub fn client_secret_basic(mut self, secret: impl Into<Secret>) -> Self {
        self.authentication = Authentication::basic(&self.client_id, &secret.into());
        self
    }

    /// Sends the client's id and secret in the body (RFC 6749 section 2.3.1), for servers that
    /// require that. It replaces an earlier secret.
    #[must_use]
    pub fn client_secret_post(mut self, secret: impl Into<Secret>) -> Self {
        self.authentication = Authentication::Post(secret.into());
        self
    }

    /// Authenticates in this way (RFC 6749 section 2.3). It replaces an earlier secret. With
    /// [`ClientAuthentication::PrivateKeyJwt`], the secret is the private key in PEM, not encrypted:
    /// PKCS#8, SEC1 or PKCS#1.
    ///
    /// ```
    /// use session_warden::provider::oauth2::{ClientAuthentication, CredentialHeaders, OAuth2};
    ///
    /// let headers = CredentialHeaders {
    ///     client_id: "x-client-id".to_owned(),
    ///     client_secret: "x-client-secret".to_owned(),
    /// };
    /// let client = OAuth2::new("https://login.example.com/token", "backend")?
    ///     .client_authentication(ClientAuthentication::Header(headers), "canary")?;
    /// # Ok::<(), session_warden::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the method is [`ClientAuthentication::None`], which has no
    /// secret, has a name that no header can have, or needs another key than this.
    pub fn client_authentication(
        mut self,
        method: ClientAuthentication,
        secret: impl Into<Secret>,
    ) -> Result<Self> {
        self.authentication = Authentication::new(method, &self.client_id, secret.into())?;
        Ok(self)
    }

    /// Presents this certificate in the TLS handshake with the token, refresh, revocation and
    /// introspection endpoints (RFC 8705 section 2). The chain is the certificate in PEM, and after
    /// it those of its authorities, if the server needs them. The key is in PEM, not encrypted:
    /// PKCS#8, SEC1 or PKCS#1. It replaces an earlier certificate.
    ///
    /// It works with every way to authenticate: servers that know a client by its certificate alone
    /// need no other (`tls_client_auth`, RFC 8705 section 2.1), and the client sends its id in the
    /// body. The certificate goes only to servers that ask for it, which includes a proxy with an
    /// `https` URL. With [`discover`](Self::discover), the client uses the endpoints that the
    /// metadata names for clients with a certificate (`mtls_endpoint_aliases`, RFC 8705 section 5).
    ///
    /// If the server refuses the certificate in the handshake, exchanges fail as
    /// [`FailureClass::InvalidClient`](crate::provider::FailureClass::InvalidClient).
    ///
    /// ```
    /// use session_warden::provider::oauth2::OAuth2;
    ///
    /// let client = |chain: &str, key: &str| {
    ///     OAuth2::new("https://login.example.com/token", "backend")?
    ///         .client_secret_post("canary")
    ///         .client_certificate(chain, key)
    /// };
    /// let refused = client("-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----");
    /// assert!(refused.unwrap_err().to_string().contains("client_key"));
    /// # Ok::<(), session_warden::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the chain or the key cannot be read, or the key does not
    /// belong to the first certificate.
    pub fn client_certificate(mut self, chain: &str, key: impl Into<Secret>) -> Result<Self> {
        let key = ClientKey::from_pem(&key.into())?;
        self.identity = Some(ClientIdentity::new(chain, &key)?);
        if let Server::Discovered(metadata) = self.server {
            let issuer = metadata.issuer().clone().certified();
            self.server = Server::Discovered(Box::new(Metadata::new(issuer)));
        }
        Ok(self)
    }

    /// The server's issuer identifier (RFC 8414 section 2), exactly as the server writes it. The
    /// client compares the `iss` in the response to a login (RFC 9207) with it.
    /// [`discover`](Self::discover) sets it.
    ///
    /// Without an issuer, the client refuses a response that has an `iss` as `Misconfigured`,
    /// because it cannot know whether this server sent the response.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `issuer` is not an `https` or `http` URL, has a query, or
    /// differs from the argument of [`discover`](Self::discover).
    pub fn issuer(mut self, issuer: &str) -> Result<Self> {
        let named = Issuer::new(issuer)?;
        if matches!(&self.server, Server::Discovered(known) if !known.issuer().matches(issuer)) {
            return Err(Error::new(ErrorKind::InvalidInput).about(
                "`issuer` differs from the issuer that was given to `discover`; remove one of them",
            ));
        }
        self.issuer = Some(named);
        Ok(self)
    }

    /// Refuses the response to a login that does not name its issuer, even if the metadata does not
    /// promise an issuer. Needs [`issuer`](Self::issuer) or [`discover`](Self::discover).
    ///
    /// Without this setting, the client accepts such a response if the browser came to the
    /// [`redirect_uri`](Self::redirect_uri). That is safe if no two providers share a redirect URI.
    #[must_use]
    pub fn require_issuer(mut self) -> Self {
        self.issuer_is_required = true;
        self
    }

    /// Requests this scope, names with spaces between them (RFC 6749 section 3.3), with every grant
    /// that names no scope. A refresh names no scope: the new tokens have the same scope as before.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// The revocation endpoint (RFC 7009 section 2), in place of the one in the metadata.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is no `https` or `http` URL.
    pub fn revocation_endpoint(mut self, url: &str) -> Result<Self> {
        self.optional.revocation = Some(http_message::endpoint(url)?);
        Ok(self)
    }

    /// The authorization endpoint, where browsers log in (RFC 6749 section 3.1), in place of the
    /// one in the metadata. The client keeps its query. If the URL has a fragment, as some pages
    /// that route in the browser have (`https://login.example.com/#/authorize`), the parameters
    /// follow the fragment.
    ///
    /// # Errors
    ///
    /// As [`revocation_endpoint`](Self::revocation_endpoint).
    pub fn authorization_endpoint(mut self, url: &str) -> Result<Self> {
        self.optional.authorization = Some(http_message::browser_endpoint(url)?);
        Ok(self)
    }

    /// The endpoint to which the client pushes the parameters of each login (RFC 9126 section 2), in
    /// place of the one in the metadata. This also turns pushed requests on, as
    /// [`push_authorization_requests`](Self::push_authorization_requests) does.
    ///
    /// # Errors
    ///
    /// As [`revocation_endpoint`](Self::revocation_endpoint).
    pub fn pushed_authorization_request_endpoint(mut self, url: &str) -> Result<Self> {
        self.optional.pushed = Some(http_message::endpoint(url)?);
        self.pushes_logins = true;
        Ok(self)
    }

    /// Pushes the parameters of each login to the server, authenticated, before the browser is sent
    /// there (RFC 9126): the browser then brings only a reference to them. Without this setting,
    /// the client does this only if the server's metadata requires it.
    ///
    /// ```
    /// use session_warden::provider::oauth2::OAuth2;
    ///
    /// let client = OAuth2::discover("https://login.example.com/realms/main", "backend")?
    ///     .client_secret_basic("canary")
    ///     .redirect_uri("https://app.example.com/callback")?
    ///     .push_authorization_requests();
    /// # Ok::<(), session_warden::Error>(())
    /// ```
    #[must_use]
    pub fn push_authorization_requests(mut self) -> Self {
        self.pushes_logins = true;
        self
    }

    /// The endpoint that gives the codes of logins on another device (RFC 8628 section 3.1), in place
    /// of the one in the metadata. [`begin_device_login`](crate::Session::begin_device_login) needs it.
    ///
    /// # Errors
    ///
    /// As [`revocation_endpoint`](Self::revocation_endpoint).
    pub fn device_authorization_endpoint(mut self, url: &str) -> Result<Self> {
        self.optional.device = Some(http_message::endpoint(url)?);
        Ok(self)
    }

    /// The endpoint for refreshes, if it is not the token endpoint. Without
    /// [`session_host`](Self::session_host), the client sends refresh tokens to no other.
    ///
    /// # Errors
    ///
    /// As [`revocation_endpoint`](Self::revocation_endpoint).
    pub fn refresh_endpoint(mut self, url: &str) -> Result<Self> {
        self.optional.refresh = Some(http_message::endpoint(url)?);
        Ok(self)
    }

    /// The redirect URI, where browsers come back to (RFC 6749 section 3.1.2), exactly as it is
    /// registered at the server. Logins through a browser need it.
    ///
    /// Give each provider, and each tenant, a redirect URI of its own. If a server does not name
    /// itself in its responses, the redirect URI is the only difference between its responses and
    /// another server's (RFC 9700 section 4.4).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `uri` is not a URL, has a fragment, or has a parameter twice
    /// in its query, or a parameter with the name of one of the response (`code`, `state`, `iss`,
    /// `error`).
    pub fn redirect_uri(mut self, uri: &str) -> Result<Self> {
        self.check_redirect_uri(uri)?;
        self.redirect_uri = Some(uri.to_owned());
        Ok(self)
    }

    /// The introspection endpoint (RFC 7662 section 2), in place of the one in the metadata.
    /// [`Introspect`](super::Introspect) needs it.
    ///
    /// # Errors
    ///
    /// As [`revocation_endpoint`](Self::revocation_endpoint).
    pub fn introspection_endpoint(mut self, url: &str) -> Result<Self> {
        self.optional.introspection = Some(http_message::endpoint(url)?);
        Ok(self)
    }

    /// The user info endpoint (`OpenID` Connect Core 1.0 section 5.3), in place of the one in the
    /// metadata. [`UserInfo`](super::UserInfo) needs it.
    ///
    /// # Errors
    ///
    /// As [`revocation_endpoint`](Self::revocation_endpoint).
    pub fn userinfo_endpoint(mut self, url: &str) -> Result<Self> {
        self.optional.userinfo = Some(http_message::endpoint(url)?);
        Ok(self)
    }

    /// What the server does to a refresh token that was used. Defaults to [`Rotation::Strict`],
    /// which is safe if you do not know the kind.
    #[must_use]
    pub fn rotation(mut self, rotation: Rotation) -> Self {
        self.rotation = rotation;
        self
    }

    /// Which tokens a revocation ends at the server (RFC 7009 section 2.1). Defaults to
    /// [`RevocationReach::Unknown`]: some servers keep one grant for each user and client, and end
    /// all tokens of that grant.
    #[must_use]
    pub fn revocation_reach(mut self, reach: RevocationReach) -> Self {
        self.revocation_reach = reach;
        self
    }

    /// Declares that a refresh ends the access tokens that the session got before (Ory Hydra and
    /// Atlassian do that). Then no process of yours serves a former token once it learns of a
    /// refresh.
    #[must_use]
    pub fn refresh_ends_access_tokens(mut self) -> Self {
        self.ends_access_tokens = true;
        self
    }

    /// Lets each session obtain new tokens automatically with client credentials (RFC 6749 section
    /// 4.4), even if the session was never established or is lost. The client needs a
    /// secret, a key or a certificate.
    #[must_use]
    pub fn client_credentials(mut self) -> Self {
        self.auto_renew = true;
        self
    }

    /// Lets each session obtain new tokens automatically with this JWT of a service account (RFC 7523
    /// section 2.1), even if the session was never established or is lost. It replaces
    /// [`client_credentials`](Self::client_credentials).
    #[must_use]
    pub fn jwt_bearer(mut self, grant: JwtBearer) -> Self {
        self.service_account = Some(grant);
        self
    }

    /// How long a refresh token is valid after its issue. Set it for servers that do not send
    /// `refresh_token_expires_in` or `refresh_expires_in`, so that the crate knows when it expires.
    #[must_use]
    pub fn refresh_lifetime(mut self, lifetime: Duration) -> Self {
        self.refresh_lifetime = Some(lifetime);
        self
    }
}
