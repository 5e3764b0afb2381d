//! oAuth2: short bearer tokens and refresh tokens, in JSON.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Request, header};
use url::Url;
use zeroize::Zeroizing;

use super::grant::ExtraHorizonOAuth2Grant;
use super::host::Host;
use super::mfa::{self, MfaChallenge};
use super::oauth1::is_auth_failure;
use super::service_error::{self, RequestKind};
use super::settings::DeadStatuses;
use super::{ExtraHorizonAttributes, response, unusable};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::api_origins;
use crate::provider::http_message::{HttpRequest, Members};
use crate::provider::{
    Exchanged, HttpSender, IdentityChanged, Issued, Provider, Rejection, Revoked, Rotation,
    http_message,
};
use crate::secret::Secret;
use crate::token::{Placement, Tokens};

/// An oAuth2 application of an Extra Horizon cluster.
///
/// When an application is registered, the vendor decides whether it is public or confidential. A
/// public application can use a refresh token once ([`Rotation::Strict`]). A confidential
/// application can use a refresh token repeatedly ([`Rotation::Static`]), although each response
/// has another refresh token. The server does not send when a refresh token expires.
///
/// Pass the body of an error to [`Session::rejected`](crate::Session::rejected): the numbers 117
/// and 118 in it mean that the access token is no longer valid. The status alone does not show
/// that, because 401 may also mean that a permission is missing.
///
/// The server deletes tokens only by the ids of their records, and it does not send the ids with
/// the tokens. So [`Session::revoke`](crate::Session::revoke) closes the session without a request.
/// [`ListTokens`](super::ListTokens), [`DeleteToken`](super::DeleteToken) and
/// [`DeleteRefreshToken`](super::DeleteRefreshToken) delete tokens at the server.
///
/// A token is refreshed 10 s before it expires or earlier, which is the default of
/// [`RefreshPolicy::at_least`](crate::policy::RefreshPolicy::at_least). The SDK's margin is 10 s
/// too. See the [example of the module](super#oauth2).
///
/// ```
/// use session_warden::provider::extra_horizon::ExtraHorizonOAuth2;
///
/// let app = ExtraHorizonOAuth2::public("dev.acme.extrahorizon.io", "client id")?;
/// let backend = ExtraHorizonOAuth2::confidential("dev.acme.extrahorizon.io", "client id", "canary")?;
/// assert!(!format!("{backend:?}").contains("canary"));
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone)]
#[doc(alias = "createOAuth2Client")]
pub struct ExtraHorizonOAuth2 {
    host: Host,
    client_id: String,
    /// The secret, and the value of the `Authorization` header made of it.
    secret: Option<(Secret, Secret)>,
    dead: DeadStatuses,
}

impl ExtraHorizonOAuth2 {
    /// A public application at the cluster with this host. The crate changes the host as in
    /// [`ExtraHorizonOAuth1::new`](super::ExtraHorizonOAuth1::new).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the result is not a URL, or the client id is empty.
    pub fn public(host: &str, client_id: impl Into<String>) -> Result<Self> {
        let client_id = client_id.into();
        if client_id.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput)
                .about("the client id is empty; give the id that the server issued"));
        }
        let host = Host::new(host)?;
        Ok(Self { host, client_id, secret: None, dead: DeadStatuses::default() })
    }

    /// A confidential application at the cluster with this host. It sends its secret in the header
    /// and in the body, like the SDK: the documentation does not say whether one of them is enough.
    ///
    /// # Errors
    ///
    /// As [`public`](Self::public).
    pub fn confidential(
        host: &str,
        client_id: impl Into<String>,
        client_secret: impl Into<Secret>,
    ) -> Result<Self> {
        let public = Self::public(host, client_id)?;
        let secret = client_secret.into();
        let header = basic(&public.client_id, &secret);
        Ok(Self { secret: Some((secret, header)), ..public })
    }

    /// The statuses with which the numbers 117 and 118 in an API's response mean that the access
    /// token is no longer valid. Defaults to 400, 401 and 403, as in the SDK; the vendor documents
    /// 401.
    #[must_use]
    pub fn dead_token_statuses(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.dead = DeadStatuses::new(statuses);
        self
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    fn request<'v>(
        &'v self,
        url: String,
        members: impl IntoIterator<Item = (&'static str, &'v str)>,
    ) -> Result<HttpRequest> {
        let secret = self.secret.as_ref().map(|(secret, _)| secret.expose_secret());
        let client = [("client_id", self.client_id.as_str())].into_iter();
        let client = client.chain(secret.map(|secret| ("client_secret", secret)));
        let mut request = Request::post(url).header(header::CONTENT_TYPE, "application/json");
        if let Some((_, value)) = &self.secret {
            let value = http_message::secret_header(value).map_err(unusable)?;
            request = request.header(header::AUTHORIZATION, value);
        }
        let members: Vec<_> = client.chain(members).collect();
        request.body(http_message::json_body(&Members(&members))?).map_err(unusable)
    }

    fn grant_request(
        &self,
        sender: &HttpSender<'_>,
        grant: &ExtraHorizonOAuth2Grant,
    ) -> Exchanged<HttpRequest> {
        let request = match grant {
            ExtraHorizonOAuth2Grant::Password(grant) => {
                let members = [
                    ("grant_type", "password"),
                    ("username", grant.email.as_str()),
                    ("password", grant.password.expose_secret()),
                ];
                self.request(self.host.url(TOKENS), members)
            }
            ExtraHorizonOAuth2Grant::Mfa(grant) => {
                let token = mfa::open(sender, &grant.ticket, &self.host, &self.client_id)?;
                let members = [
                    ("grant_type", "mfa"),
                    ("token", token.expose_secret()),
                    ("code", grant.code.expose_secret()),
                    ("method_id", grant.method_id.as_str()),
                ];
                return Ok(self.request(self.host.url(TOKENS), members)?);
            }
            ExtraHorizonOAuth2Grant::Code(grant) => {
                let code = grant.code.expose_secret();
                let members = [("grant_type", "authorization_code"), ("code", code)].into_iter();
                let redirect = grant.redirect_uri.as_deref().map(|uri| ("redirect_uri", uri));
                let verifier = grant.verifier.as_ref().map(Secret::expose_secret);
                let verifier = verifier.map(|verifier| ("code_verifier", verifier));
                self.request(self.host.url(TOKENS), members.chain(redirect).chain(verifier))
            }
            ExtraHorizonOAuth2Grant::Oidc(grant) => {
                let url = self.host.url_below("/auth/v2/oidc/providers", &grant.provider)?;
                let code = grant.code.expose_secret();
                self.request(format!("{url}/oAuth2Login"), [("authorizationCode", code)])
            }
        };
        Ok(request?)
    }
}

pub(super) const TOKENS: &str = "/auth/v2/oauth2/tokens";

/// RFC 7617, without the escapes of RFC 6749 section 2.3.1, as the SDK does it.
fn basic(client_id: &str, secret: &Secret) -> Secret {
    const SCHEME: &str = "Basic ";
    let secret = secret.expose_secret();
    let room = client_id.len() + 1 + secret.len();
    let mut pair = Zeroizing::new(String::with_capacity(room));
    for part in [client_id, ":", secret] {
        pair.push_str(part);
    }
    let mut value = Zeroizing::new(String::with_capacity(SCHEME.len() + room.div_ceil(3) * 4));
    value.push_str(SCHEME);
    STANDARD.encode_string(pair.as_bytes(), &mut value);
    Secret::from(value.as_str())
}

impl fmt::Debug for ExtraHorizonOAuth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtraHorizonOAuth2")
            .field("host", &self.host.authority().as_str())
            .field("client_id", &self.client_id)
            .field("confidential", &self.secret.is_some())
            .finish_non_exhaustive()
    }
}

impl Provider for ExtraHorizonOAuth2 {
    type Grant = ExtraHorizonOAuth2Grant;
    type Challenge = MfaChallenge;
    type Attributes = ExtraHorizonAttributes;

    fn authority_url(&self) -> &Url {
        self.host.authority()
    }

    /// The API is at the origin of the server.
    fn api_origins(&self) -> Vec<String> {
        api_origins::of_server(self.host.authority())
    }

    fn configured_urls(&self) -> Vec<Url> {
        vec![self.authority_url().clone()]
    }

    fn client_id(&self) -> &str {
        &self.client_id
    }

    /// A public application's refresh token is consumed on use, a confidential one's is reusable
    /// (the vendor's "Set up OAuth in your backend").
    fn refresh_token_rotation(&self) -> Rotation {
        if self.secret.is_some() { Rotation::Static } else { Rotation::Strict }
    }

    fn placement(&self) -> Option<Placement> {
        Some(Placement::bearer())
    }

    async fn establish(
        &self,
        sender: &HttpSender<'_>,
        grant: ExtraHorizonOAuth2Grant,
    ) -> Exchanged<Issued<Self>> {
        let request_kind = match &grant {
            ExtraHorizonOAuth2Grant::Password(_) => RequestKind::Password,
            ExtraHorizonOAuth2Grant::Mfa(_) => RequestKind::Mfa,
            ExtraHorizonOAuth2Grant::Code(_) | ExtraHorizonOAuth2Grant::Oidc(_) => {
                RequestKind::OneUse
            }
        };
        let response = sender.send(self.grant_request(sender, &grant)?).await?;
        let from = (&self.host, self.client_id.as_str());
        response::issued::<Self, response::OAuth2Token>(sender, &response, request_kind, from)
    }

    async fn refresh(
        &self,
        sender: &HttpSender<'_>,
        refresh_token: &Secret,
        held: &Tokens<ExtraHorizonAttributes>,
    ) -> Exchanged<Tokens<ExtraHorizonAttributes>> {
        let members =
            [("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose_secret())];
        let request = self.request(self.host.url(TOKENS), members)?;
        let response = sender.send(request).await?;
        let tokens =
            response::tokens::<response::OAuth2Token>(sender, &response, RequestKind::Refresh)?;
        let attributes = tokens.attributes().clone().or_known(held.attributes());
        Ok(Tokens { attributes, ..tokens })
    }

    /// Does nothing: see [`ExtraHorizonOAuth2`].
    async fn revoke(
        &self,
        _: &HttpSender<'_>,
        _: &Tokens<ExtraHorizonAttributes>,
    ) -> Exchanged<Revoked> {
        Ok(Revoked::NotSupported)
    }

    fn merge_attributes(
        &self,
        known: &ExtraHorizonAttributes,
        issued: ExtraHorizonAttributes,
    ) -> Result<ExtraHorizonAttributes, IdentityChanged> {
        let user = issued.user_id.clone();
        let user_id = IdentityChanged::unless_same("user", &known.user_id, user)?;
        Ok(ExtraHorizonAttributes { user_id, ..issued.or_known(known) })
    }

    fn rejection_reads_body(&self, response: &http::response::Parts) -> bool {
        !response.status.is_success()
    }

    fn rejection(&self, response: &http::response::Parts, body_prefix: &[u8]) -> Rejection {
        if response.status.is_success() {
            return Rejection::None;
        }
        match service_error::number_in(body_prefix) {
            Some(service_error::ACCESS_TOKEN_UNKNOWN | service_error::ACCESS_TOKEN_EXPIRED)
                if self.dead.contains(response.status) =>
            {
                Rejection::TokenDead
            }
            Some(_) | None if is_auth_failure(response.status) => Rejection::OtherReason,
            Some(_) | None => Rejection::None,
        }
    }
}
