//! Logins through a browser: a login begins with an encrypted ticket, and ends with the browser's
//! redirect.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use super::api_call::{ApiCall, CallOf, caught};
use super::context::Context;
use super::dispatch::Dispatcher;
use super::{Establishment, Session};
use crate::client::Client;
use crate::client::provider_entry::ProviderEntry;
use crate::client::tenant_client::TenantClient;
use crate::error::{Error, ErrorKind, ExchangeOutcome, Result};
use crate::key::SessionId;
use crate::provider::{ExchangeError, HttpSender, LoginRequest, Provider, RedirectLogin};
use crate::seal;
use crate::secret::Secret;
use crate::ticket::{Opened, Purpose, RawPayload, Ticket};

/// A login through the browser that has begun.
///
/// ```
/// use std::error::Error as _;
/// use session_warden::provider::oauth2::{LoginOptions, OAuth2};
/// use session_warden::session::Login;
/// use session_warden::ticket::TicketFault;
/// use session_warden::{SessionKey, Supervisor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// let acme = OAuth2::new("https://login.example.com/token", "my-backend")?
///     .authorization_endpoint("https://login.example.com/authorize")?
///     .redirect_uri("https://app.example.com/callback")?;
/// let supervisor = Supervisor::builder().provider("acme", acme).start().await?;
/// let sessions = supervisor.sessions::<OAuth2>("acme")?;
///
/// let ada = sessions.session(SessionKey::new("north", "ada")?);
/// let login: Login = ada.begin_login(LoginOptions::new()).await?;
/// // Answer with a redirect to the URL, and with a cookie.
/// assert_eq!(login.url.host_str(), Some("login.example.com"));
/// let cookie = format!("login={}; HttpOnly; Secure; SameSite=Lax", login.ticket.as_str());
///
/// // Another user brings the ticket.
/// let eve = sessions.session(SessionKey::new("north", "eve")?);
/// let refused = eve.finish_login(&login.ticket, "/callback?code=c&state=s").await.unwrap_err();
/// let fault = refused.source().and_then(|fault| fault.downcast_ref());
/// assert_eq!(fault, Some(&TicketFault::OtherSession));
/// # Ok(())
/// # }
/// ```
#[non_exhaustive]
pub struct Login {
    /// The URL to send the browser to.
    pub url: Url,
    /// The ticket, which the browser must bring back in a cookie or a form field.
    pub ticket: Ticket,
    /// The time by which the browser must have come to the [`url`](Self::url), by the wall clock, if
    /// the server limits that (RFC 9126 section 2.2): often a minute. So send the browser at once.
    pub url_expires_at: Option<SystemTime>,
    /// The time by which the login must have ended, by the wall clock.
    pub expires_at: SystemTime,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("authority", &self.url.origin().ascii_serialization())
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The content of a login's ticket.
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "O: Serialize", deserialize = "O: DeserializeOwned"))]
struct Begun<O> {
    #[serde(with = "crate::ticket::serde_secret")]
    state: Secret,
    #[serde(with = "crate::ticket::serde_secret")]
    verifier: Secret,
    /// The server that the browser was sent to: its code is sent to no other server (RFC 9700
    /// section 4.4).
    authority: String,
    client: String,
    options: O,
}

impl<P: RedirectLogin> Session<P> {
    /// Begins a login through the browser. Send the browser to the [`url`](Login::url), and give it
    /// the [`ticket`](Login::ticket) in a cookie (`HttpOnly; Secure; SameSite=Lax`) or a hidden
    /// form field. The crate keeps nothing in memory or in the store for this.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if the provider's settings are not sufficient, if the rules of the
    /// [`TransportConfig`](crate::transport::TransportConfig) refuse the URL, or if the server
    /// refused the parameters that the provider pushed to it; `InvalidInput` if the options are too
    /// large for a ticket; `RetryLater` if the provider's endpoints could not be fetched, or the
    /// parameters could not be pushed; `Capacity`, `ShuttingDown`.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time, without an effect.
    pub async fn begin_login(&self, options: P::LoginOptions) -> Result<Login> {
        let context = &self.dispatcher.context;
        let of = self.login_client().await?;
        let (state, verifier) = (random()?, random()?);
        let request = LoginRequest::new(&state, &verifier);
        let (url, url_expires_at) = self.login_url(&of, &request, &options).await?;
        let LoginClient { client, .. } = of;
        client.check_shown(&url).map_err(|error| error.of_session(&self.id))?;
        let expires_at = context.now().wall + context.policy.login_ttl;
        let (authority, client) =
            (client.bound_to().to_owned(), client.provider.client().to_owned());
        let begun = Begun { state, verifier, authority, client, options };
        let tickets = &context.resources.tickets;
        let ticket = tickets.issue(Purpose::Login, &self.id, expires_at, &begun)?;
        Ok(Login { url, ticket, url_expires_at, expires_at })
    }

    /// The URL of a login, and the time by which the browser must have come to it, if that is
    /// limited. Sends the parameters to the server first, if the provider wants that.
    async fn login_url(
        &self,
        of: &LoginClient<P>,
        request: &LoginRequest<'_>,
        options: &P::LoginOptions,
    ) -> Result<(Url, Option<SystemTime>)> {
        let provider = &of.provider;
        let mut call = of.prepared(&self.dispatcher.context, &self.id).await?;
        let Some(pushed) = caught(|| provider.pushed_request(request, options))? else {
            return Ok((caught(|| provider.login_url(request, options))?, None));
        };
        let (url, expires_at) = ask(&mut call, &self.id, pushed, |sender, response| {
            provider.pushed_url(sender, response)
        })
        .await?;
        Ok((url, Some(expires_at)))
    }

    /// Finishes a login of this session, which this process has begun or another one with the same
    /// key ring. `redirect` is the URL that the browser came back to, or its path and query. If the
    /// server names itself in its response (`iss`), the query or fragment alone is enough.
    ///
    /// # Errors
    ///
    /// `InvalidInput` with the [`TicketFault`](crate::ticket::TicketFault) as its source if the
    /// ticket belongs to another session or is not genuine; `Refused(ChallengeExpired)` if it is
    /// too old or was used; `Refused(LoginStateMismatch)` if the browser came back from another
    /// login; `Refused` with the reason if the server or the user refused the login. Otherwise as
    /// [`establish`](Self::establish).
    ///
    /// # Cancel safety
    ///
    /// As [`establish`](Self::establish).
    pub async fn finish_login(&self, ticket: &Ticket, redirect: &str) -> Result<Establishment<P>> {
        self.finish(self.opened(ticket, Purpose::Login)?, redirect).await
    }

    async fn finish(&self, opened: Opened<RawPayload>, redirect: &str) -> Result<Establishment<P>> {
        let context = &self.dispatcher.context;
        let opened = opened.read::<Begun<P::LoginOptions>>()?;
        let of = self.login_client().await?;
        // The grant is an exchange and gets a permit of its own.
        drop(of.prepared(context, &self.id).await?);
        let begun = &opened.payload;
        of.check(&begun.authority, &begun.client)?;
        let request = LoginRequest::new(&begun.state, &begun.verifier);
        let grant = caught(|| of.provider.login_grant(redirect, &request, &begun.options))?;
        let tickets = &context.resources.tickets;
        // After the check of the state in `login_grant`: a forged redirect must not use up the
        // user's ticket. Before the exchange: the ticket must not be used twice.
        tickets.mark_used(&opened, context.now().wall)?;
        let established = self.establish(grant).await;
        if let Err(failed) = &established
            && failed.outcome() == Some(ExchangeOutcome::NotSent)
        {
            // Nothing was sent, so the user may try the same redirect again.
            tickets.unmark_used(&opened.id);
        }
        established
    }
}

/// The provider of a login.
pub(super) struct LoginClient<P> {
    tenant_client: Arc<TenantClient>,
    pub(super) client: Arc<Client>,
    pub(super) provider: Arc<P>,
}

impl<P> LoginClient<P> {
    /// A call to the server, after the client has fetched its endpoints.
    pub(super) async fn prepared<'a>(
        &'a self,
        context: &'a Context,
        id: &'a SessionId,
    ) -> Result<ApiCall<'a>> {
        let of = CallOf::Session(id);
        let call = ApiCall::begin(context, &self.tenant_client, &self.client, of).await;
        call.map_err(|error| error.of_session(id))
    }

    /// Fails if these are not the server and the client that a ticket names.
    pub(super) fn check(&self, authority: &str, client: &str) -> Result<()> {
        if authority == self.client.bound_to() && client == self.client.provider.client() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidInput).about(
            "the provider's settings have changed since the login began; begin the login again",
        ))
    }
}

/// Sends a request that changes nothing of the session, and reads the response.
pub(super) async fn ask<T>(
    call: &mut ApiCall<'_>,
    id: &SessionId,
    request: Request<Bytes>,
    read: impl FnOnce(&HttpSender<'_>, &Response<Bytes>) -> std::result::Result<T, ExchangeError>,
) -> Result<T> {
    let sent = call.send_repeatable(request).await;
    let response = sent.map_err(|error| error.of_session(id))?;
    caught(|| Ok(read(call.sender(), &response)))?
        .map_err(|failed| call.error_for_caller(failed.nothing_in_doubt()).of_session(id))
}

impl<P: Provider> Session<P> {
    /// The content of a ticket of this session.
    pub(super) fn opened(&self, ticket: &Ticket, purpose: Purpose) -> Result<Opened<RawPayload>> {
        let context = &self.dispatcher.context;
        let opened = context.resources.tickets.verify(ticket, purpose, context.now().wall)?;
        opened.for_session(&self.id)?;
        Ok(opened)
    }

    pub(super) async fn login_client(&self) -> Result<LoginClient<P>> {
        let context = &self.dispatcher.context;
        if context.tasks.is_closing() {
            return Err(context.tasks.refusal().of_session(&self.id));
        }
        let tenant_client = self.provider.tenant_client(self.id.key().tenant());
        let client =
            context.resolve(&tenant_client).await.map_err(|error| error.of_session(&self.id))?;
        let provider = client.typed::<P>().map_err(|error| error.of_session(&self.id))?;
        Ok(LoginClient { tenant_client, client, provider })
    }
}

/// Finishes a login of the session that its ticket names.
pub(crate) async fn finish<P: RedirectLogin>(
    dispatcher: &Arc<Dispatcher>,
    provider: &Arc<ProviderEntry>,
    ticket: &Ticket,
    redirect: &str,
) -> Result<(Session<P>, Establishment<P>)> {
    let (session, opened) = session_of(dispatcher, provider, ticket, Purpose::Login)?;
    let established = session.finish(opened, redirect).await?;
    Ok((session, established))
}

/// The session that a ticket of this provider names, and the content of the ticket.
pub(super) fn session_of<P: Provider>(
    dispatcher: &Arc<Dispatcher>,
    provider: &Arc<ProviderEntry>,
    ticket: &Ticket,
    purpose: Purpose,
) -> Result<(Session<P>, Opened<RawPayload>)> {
    let context = &dispatcher.context;
    let opened = context.resources.tickets.verify(ticket, purpose, context.now().wall)?;
    opened.for_provider(&provider.name)?;
    let session =
        Session::new(Arc::clone(dispatcher), Arc::clone(provider), opened.session.clone());
    Ok((session, opened))
}

/// 256 bits as 43 characters: a state, or a verifier (RFC 7636 section 4.1).
fn random() -> Result<Secret> {
    let bytes = zeroize::Zeroizing::new(seal::random::<32>()?);
    Ok(Secret::from(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}
