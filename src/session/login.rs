//! Logins through a browser: what is sealed when one begins, and what ends it.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use super::api_call::{ApiCall, caught};
use super::dispatch::Dispatcher;
use super::{Establishment, Session};
use crate::client::Client;
use crate::client::provider_entry::ProviderEntry;
use crate::error::{Error, ErrorKind, ExchangeOutcome, Result};
use crate::provider::{LoginRequest, RedirectLogin};
use crate::seal;
use crate::secret::Secret;
use crate::ticket::{Opened, Purpose, RawPayload, Ticket};

/// A login that has begun.
#[non_exhaustive]
pub struct Login {
    /// Where the browser is to be sent.
    pub url: Url,
    /// What must come back with the browser, from its own cookie or form.
    pub ticket: Ticket,
    /// Until when.
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

/// What the ticket of a login holds.
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "O: Serialize", deserialize = "O: DeserializeOwned"))]
struct Begun<O> {
    #[serde(with = "crate::ticket::serde_secret")]
    state: Secret,
    #[serde(with = "crate::ticket::serde_secret")]
    verifier: Secret,
    /// Who the browser was sent to: the code of one server goes to no other (RFC 9700 section
    /// 4.4).
    authority: String,
    client: String,
    options: O,
}

impl<P: RedirectLogin> Session<P> {
    /// Begins a login through the browser: send it to the [`url`](Login::url), and give it the
    /// [`ticket`](Login::ticket) in a cookie (`HttpOnly; Secure; SameSite=Lax`) or a hidden form
    /// field. Nothing is remembered here.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if the provider's settings do not suffice, or if the rules of the
    /// [`TransportConfig`](crate::transport::TransportConfig) refuse the URL; `InvalidInput` if the options
    /// are too much for a ticket; `RetryLater` if the provider could not be asked for its
    /// endpoints; `Capacity`, `ShuttingDown`.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; nothing has begun then.
    pub async fn begin_login(&self, options: P::LoginOptions) -> Result<Login> {
        let context = &self.dispatcher.context;
        let (client, provider) = self.logs_in().await?;
        let (state, verifier) = (random()?, random()?);
        let request = LoginRequest::new(&state, &verifier);
        let url = caught(|| provider.login_url(&request, &options))?;
        client.check_shown(&url).map_err(|error| error.of_session(&self.id))?;
        let expires_at = context.now().wall + context.policy.login_ttl;
        let (authority, client) =
            (client.bound_to().to_owned(), client.provider.client().to_owned());
        let begun = Begun { state, verifier, authority, client, options };
        let tickets = &context.resources.tickets;
        let ticket = tickets.issue(Purpose::Login, &self.id, expires_at, &begun)?;
        Ok(Login { url, ticket, expires_at })
    }

    /// Ends a login that was begun for this session, in this process or in another one with the
    /// same key ring. `redirect` is the URL that the browser came back to, or its path and query.
    /// Its query or fragment alone will do where the server names itself in its answer.
    ///
    /// # Errors
    ///
    /// `InvalidInput` with the [`TicketFault`](crate::ticket::TicketFault) as its source if the
    /// ticket is not this session's, or not genuine; `Refused(ChallengeExpired)` if it is too old
    /// or was used; `Refused(LoginStateMismatch)` if the browser came back from another login;
    /// `Refused` with what the server or the user said. Otherwise as
    /// [`establish`](Self::establish).
    ///
    /// # Cancel safety
    ///
    /// As [`establish`](Self::establish).
    pub async fn finish_login(&self, ticket: &Ticket, redirect: &str) -> Result<Establishment<P>> {
        let context = &self.dispatcher.context;
        let opened =
            context.resources.tickets.verify(ticket, Purpose::Login, context.now().wall)?;
        opened.for_session(&self.id)?;
        self.finish(opened, redirect).await
    }

    async fn finish(&self, opened: Opened<RawPayload>, redirect: &str) -> Result<Establishment<P>> {
        let context = &self.dispatcher.context;
        let opened = opened.read::<Begun<P::LoginOptions>>()?;
        let (client, provider) = self.logs_in().await?;
        let begun = &opened.payload;
        if begun.authority != client.bound_to() || begun.client != client.provider.client() {
            return Err(Error::new(ErrorKind::InvalidInput)
                .about("the provider's settings have changed since the login began: begin again"));
        }
        let request = LoginRequest::new(&begun.state, &begun.verifier);
        let grant = caught(|| provider.login_grant(redirect, &request, &begun.options))?;
        let tickets = &context.resources.tickets;
        // After the state was checked: a stranger's redirect does not use up the user's ticket.
        tickets.mark_used(&opened, context.now().wall)?;
        let established = self.establish(grant).await;
        if let Err(failed) = &established
            && failed.outcome() == Some(ExchangeOutcome::NotSent)
        {
            tickets.unmark_used(&opened.id);
        }
        established
    }

    /// The client that logins go to, with its endpoints known.
    async fn logs_in(&self) -> Result<(Arc<Client>, Arc<P>)> {
        let context = &self.dispatcher.context;
        if context.tasks.is_closing() {
            return Err(Error::new(ErrorKind::ShuttingDown).of_session(&self.id));
        }
        let tenant_client = self.provider.tenant_client(self.id.key().tenant());
        let client =
            context.resolve(&tenant_client).await.map_err(|error| error.of_session(&self.id))?;
        let provider = client.typed::<P>()?;
        // Only for what it prepares: the grant is an exchange, with a turn of its own.
        let call = ApiCall::begin(context, &tenant_client, &client, Some(&self.id)).await;
        drop(call.map_err(|error| error.of_session(&self.id))?);
        Ok((client, provider))
    }
}

/// Ends a login of whichever session its ticket names.
pub(crate) async fn finish<P: RedirectLogin>(
    dispatcher: &Arc<Dispatcher>,
    provider: &Arc<ProviderEntry>,
    ticket: &Ticket,
    redirect: &str,
) -> Result<(Session<P>, Establishment<P>)> {
    let context = &dispatcher.context;
    let opened = context.resources.tickets.verify(ticket, Purpose::Login, context.now().wall)?;
    opened.for_provider(&provider.name)?;
    let session =
        Session::new(Arc::clone(dispatcher), Arc::clone(provider), opened.session.clone());
    let established = session.finish(opened, redirect).await?;
    Ok((session, established))
}

/// 256 bits as 43 characters: a state, or a verifier (RFC 7636 section 4.1).
fn random() -> Result<Secret> {
    let bytes = zeroize::Zeroizing::new(seal::random::<32>()?);
    Ok(Secret::from(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}
