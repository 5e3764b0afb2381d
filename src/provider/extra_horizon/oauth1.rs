//! oAuth1: tokens that do not expire, and requests that are signed one by one.

use std::fmt;

use bytes::Bytes;
use http::{Method, Request, header};
use url::Url;

use super::grant::{ExtraHorizonOAuth1Grant, MfaAnswer};
use super::host::Host;
use super::mfa::{self, MfaChallenge};
use super::request_signature::Signer;
use super::service_error::{self, RequestKind, ServiceError};
use super::settings::DeadStatuses;
use super::{ExtraHorizonAttributes, response, unusable};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::api_origins;
use crate::provider::http_message::{HttpRequest, HttpResponse, Members};
use crate::provider::{
    Exchanged, HttpSender, Issued, Provider, Rejection, RevocationReach, Revoked, Rotation,
    Signing, http_message,
};
use crate::secret::Secret;
use crate::token::{Placement, Tokens};

/// An oAuth1 application of an Extra Horizon cluster.
///
/// Tokens do not expire. They are valid until they are deleted, or until the user's password is
/// reset. Then an API responds with 401 and the number 108, the session is lost, and the user must
/// sign in again.
///
/// No header carries the token. Call [`Session::authorize`](crate::Session::authorize) to sign each
/// request, and call it again before you repeat a request. The signature covers the request's whole
/// URL with its query, and never a JSON body, so complete the query before you sign. Do not use
/// brackets in the names of query parameters: the crate signs `a[]=1` as RFC 5849 says, but the
/// server is reported to read it as `a=1`.
///
/// Pass the body of an error to [`Session::rejected`](crate::Session::rejected), because the body
/// has the number 108. See the [example of the module](super).
///
/// ```
/// use session_warden::provider::extra_horizon::ExtraHorizonOAuth1;
///
/// let exh = ExtraHorizonOAuth1::new("dev.acme.extrahorizon.io", "consumer key", "canary")?;
/// assert!(!format!("{exh:?}").contains("canary"));
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone)]
#[doc(alias = "createOAuth1Client")]
pub struct ExtraHorizonOAuth1 {
    host: Host,
    consumer_key: String,
    consumer_secret: Secret,
    dead: DeadStatuses,
}

impl ExtraHorizonOAuth1 {
    /// This application at the cluster with this host: `dev.acme.extrahorizon.io`, for example.
    /// Like the SDK, the crate removes a scheme, `api.`, `apx.` and a slash at the end, and puts
    /// `https://api.` before the rest. It does not change a host that contains `localhost`, or an
    /// `http` URL of a loopback address, for transports that [allow
    /// it](crate::transport::TransportConfig::allow_loopback_http).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the result is not a URL, or the consumer key is empty.
    pub fn new(
        host: &str,
        consumer_key: impl Into<String>,
        consumer_secret: impl Into<Secret>,
    ) -> Result<Self> {
        let consumer_key = consumer_key.into();
        if consumer_key.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput)
                .about("the consumer key is empty; give the key that the server issued"));
        }
        Ok(Self {
            host: Host::new(host)?,
            consumer_key,
            consumer_secret: consumer_secret.into(),
            dead: DeadStatuses::default(),
        })
    }

    /// The statuses with which the number 108 in an API's response means that the session is lost.
    /// Defaults to 400, 401 and 403: the vendor documents 401, and the SDK ignores the status.
    #[must_use]
    pub fn dead_token_statuses(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.dead = DeadStatuses::new(statuses);
        self
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    fn signer<'s>(&'s self, token: Option<(&'s str, &'s str)>) -> Signer<'s> {
        let consumer_secret = self.consumer_secret.expose_secret();
        Signer { consumer_key: &self.consumer_key, consumer_secret, token }
    }

    /// A request that is signed without a token.
    fn request(&self, sender: &HttpSender<'_>, path: &str, body: Bytes) -> Result<HttpRequest> {
        let request = Request::post(self.host.url(path))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(unusable)?;
        let (mut parts, body) = request.into_parts();
        self.signer(None).sign(&mut parts, sender.now())?;
        Ok(Request::from_parts(parts, body))
    }

    fn grant_request(
        &self,
        sender: &HttpSender<'_>,
        grant: &ExtraHorizonOAuth1Grant,
    ) -> Exchanged<HttpRequest> {
        let (path, body) = match grant {
            ExtraHorizonOAuth1Grant::Password(grant) => {
                let password = grant.password.expose_secret();
                let members = [("email", grant.email.as_str()), ("password", password)];
                (TOKENS, http_message::json_body(&Members(&members)))
            }
            ExtraHorizonOAuth1Grant::Mfa(grant) => {
                let token = mfa::open(sender, &grant.ticket, &self.host, &self.consumer_key)?;
                ("/auth/v2/oauth1/tokens/mfa", mfa_body(&token, grant))
            }
            ExtraHorizonOAuth1Grant::Sso(grant) => {
                let body =
                    http_message::json_body(&Members(&[("ssoToken", grant.token.expose_secret())]));
                ("/auth/v2/oauth1/ssoTokens/consume", body)
            }
        };
        Ok(self.request(sender, path, body?)?)
    }
}

pub(super) const TOKENS: &str = "/auth/v2/oauth1/tokens";

fn mfa_body(token: &Secret, answer: &MfaAnswer) -> Result<Bytes> {
    let (token, code) = (token.expose_secret(), answer.code.expose_secret());
    let members = [("token", token), ("code", code), ("methodId", answer.method_id.as_str())];
    http_message::json_body(&Members(&members))
}

impl fmt::Debug for ExtraHorizonOAuth1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtraHorizonOAuth1")
            .field("host", &self.host.authority().as_str())
            .field("consumer_key", &self.consumer_key)
            .finish_non_exhaustive()
    }
}

impl Provider for ExtraHorizonOAuth1 {
    type Grant = ExtraHorizonOAuth1Grant;
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

    /// The consumer key.
    fn client_id(&self) -> &str {
        &self.consumer_key
    }

    /// There is no refresh token that could rotate.
    fn refresh_token_rotation(&self) -> Rotation {
        Rotation::Static
    }

    /// A revocation deletes one token by its record's id.
    fn reach_of_revocation(&self) -> RevocationReach {
        RevocationReach::OneGrant
    }

    /// None, because each request is signed.
    fn placement(&self) -> Option<Placement> {
        None
    }

    async fn establish(
        &self,
        sender: &HttpSender<'_>,
        grant: ExtraHorizonOAuth1Grant,
    ) -> Exchanged<Issued<Self>> {
        let request_kind = match &grant {
            ExtraHorizonOAuth1Grant::Password(_) => RequestKind::Password,
            ExtraHorizonOAuth1Grant::Mfa(_) => RequestKind::Mfa,
            ExtraHorizonOAuth1Grant::Sso(_) => RequestKind::OneUse,
        };
        let response = sender.send(self.grant_request(sender, &grant)?).await?;
        let from = (&self.host, self.consumer_key.as_str());
        response::issued::<Self, response::OAuth1Token>(sender, &response, request_kind, from)
    }

    /// Refuses the refresh, because the server issues no refresh tokens: an adopted refresh token
    /// cannot be used.
    async fn refresh(
        &self,
        _: &HttpSender<'_>,
        _: &Secret,
        _: &Tokens<ExtraHorizonAttributes>,
    ) -> Exchanged<Tokens<ExtraHorizonAttributes>> {
        let none = Error::new(ErrorKind::InvalidInput)
            .about("oAuth1 has no refresh; establish the session again");
        Err(none.into())
    }

    /// Deletes the token by its record's id, if that is known: the server sends it with every token
    /// that it issues, and [`ExtraHorizonAttributes::token_id`] gives it for adopted tokens.
    async fn revoke(
        &self,
        sender: &HttpSender<'_>,
        held: &Tokens<ExtraHorizonAttributes>,
    ) -> Exchanged<Revoked> {
        let (Some(id), Some(token), Some(secret)) =
            (&held.attributes().token_id, held.access_token(), held.token_secret())
        else {
            return Ok(Revoked::NotSupported);
        };
        // No token can be deleted by such an id, so a retry would not help.
        let Ok(url) = self.host.url_below(TOKENS, id) else { return Ok(Revoked::NotSupported) };
        let request = Request::builder().method(Method::DELETE).uri(url).body(Bytes::new());
        let (mut parts, body) = request.map_err(unusable)?.into_parts();
        let signer = self.signer(Some((token.expose_secret(), secret.expose_secret())));
        signer.sign(&mut parts, sender.now())?;
        let response = sender.send(Request::from_parts(parts, body)).await?;
        deleted(sender, &response)
    }

    /// Signs the request (RFC 5849 section 3).
    fn authorize(
        &self,
        signing: &Signing<'_>,
        request: &mut http::request::Parts,
    ) -> Result<(), Error> {
        let Some(secret) = signing.token_secret() else {
            return Err(Error::new(ErrorKind::Misconfigured).about(
                "the session has no token secret for the signature; adopt its tokens together with \
                 the secret",
            ));
        };
        let token = (signing.token().expose_secret(), secret.expose_secret());
        self.signer(Some(token)).sign(request, signing.now())
    }

    fn rejection_reads_body(&self, response: &http::response::Parts) -> bool {
        !response.status.is_success()
    }

    fn rejection(&self, response: &http::response::Parts, body_prefix: &[u8]) -> Rejection {
        if response.status.is_success() {
            return Rejection::None;
        }
        match service_error::number_in(body_prefix) {
            Some(service_error::OAUTH_TOKEN) if self.dead.contains(response.status) => {
                Rejection::SessionDead
            }
            Some(_) | None if is_auth_failure(response.status) => Rejection::OtherReason,
            Some(_) | None => Rejection::None,
        }
    }
}

/// Whether the status means that the request was not authorized.
pub(super) fn is_auth_failure(status: http::StatusCode) -> bool {
    [http::StatusCode::UNAUTHORIZED, http::StatusCode::FORBIDDEN].contains(&status)
}

/// The result of deleting the session's own token. A token that the server does not know is
/// deleted.
fn deleted(sender: &HttpSender<'_>, response: &HttpResponse) -> Exchanged<Revoked> {
    let gone = |fault: ServiceError| {
        fault.is(service_error::OAUTH_TOKEN) || fault.is(service_error::RESOURCE_UNKNOWN)
    };
    let client_error = response.status().is_client_error();
    if response.status().is_success()
        || (client_error && ServiceError::read(response).is_some_and(gone))
    {
        return Ok(Revoked::AtServer);
    }
    Err(service_error::failure(sender, response, RequestKind::Call))
}
