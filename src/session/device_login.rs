//! Logins on another device (RFC 8628): a login begins with a code for the user and an encrypted
//! ticket, and ends when the server says in a poll that the user has approved it.
//!
//! Each poll is an exchange of its own, because a poll that succeeds brings the tokens, once. So
//! refreshes of the session go on between two polls. A claim of the login in the store keeps other
//! processes from polling with the same code; it does not keep them from refreshing.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use super::api_call::caught;
use super::dispatch::Dispatcher;
use super::login::{LoginClient, ask, session_of};
use super::poll_claim::PollClaim;
use super::{Establishment, Session};
use crate::client::provider_entry::ProviderEntry;
use crate::error::{ErrorKind, Refusal, Result};
use crate::policy::{
    DEVICE_LOGIN_TTL, DEVICE_POLL, DEVICE_POLL_CAP, DEVICE_POLL_FLOOR, DEVICE_SLOW_DOWN,
};
use crate::provider::{DeviceAuthorization, DeviceCodes, Provider};
use crate::secret::Secret;
use crate::store::{LoginId, StoreError};
use crate::ticket::{Opened, Purpose, RawPayload, Ticket};

/// A login on another device that has begun. Show the user the code and the URL, and call
/// [`finish_device_login`](Session::finish_device_login) with the ticket.
///
/// ```
/// use session_warden::provider::oauth2::{DeviceOptions, OAuth2};
/// use session_warden::session::DeviceLogin;
/// use session_warden::testing::{FakeAuthServer, FakeLogin};
/// use session_warden::transport::TransportConfig;
/// use session_warden::{Establishment, SessionKey, Supervisor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let clock = session_warden::testing::ManualClock::new();
/// let server = FakeAuthServer::builder().clock(clock.clone()).start().await?;
/// let supervisor = Supervisor::builder()
/// #   .clock(clock.clone())
///     .transport(TransportConfig::default().allow_loopback_http())
///     .provider("acme", OAuth2::discover(server.url(), "tv")?)
///     .start()
///     .await?;
/// let sessions = supervisor.sessions::<OAuth2>("acme")?;
/// let tv = sessions.session(SessionKey::new("north", "living-room")?);
///
/// let login: DeviceLogin = tv.begin_device_login(DeviceOptions::new()).await?;
/// println!("Open {} and enter {}", login.verification_uri, login.user_code);
///
/// // Poll in a task of its own: the user takes a while.
/// let (ticket, device) = (login.ticket.clone(), tv.clone());
/// let polling = tokio::spawn(async move { device.finish_device_login(&ticket).await });
///
/// // The user approves the login.
/// server.answer_device_login(&login.user_code, FakeLogin::approve("ada"));
/// # while !polling.is_finished() {
/// #     clock.advance(std::time::Duration::from_millis(5)).await;
/// # }
/// let Establishment::Active(_) = polling.await??;
/// let token = tv.permission_token().await?;
/// assert!(server.is_active(token.expose_secret()));
/// # Ok(())
/// # }
/// ```
#[non_exhaustive]
pub struct DeviceLogin {
    /// The code that the user types on the other device. Show it to this user only: whoever has it
    /// can have another user approve the login.
    pub user_code: String,
    /// The URL that the user opens on the other device.
    pub verification_uri: Url,
    /// The same URL with the code in it, for a QR code for example, if the server gave one.
    pub verification_uri_complete: Option<Url>,
    /// The ticket. Keep it in the backend until the login has ended: with it, this process or another
    /// one with the same key ring can poll.
    pub ticket: Ticket,
    /// The time by which the user must have approved the login, by the wall clock.
    pub expires_at: SystemTime,
}

impl fmt::Debug for DeviceLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceLogin")
            .field("verification_uri", &self.verification_uri.as_str())
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The content of the ticket.
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "O: Serialize", deserialize = "O: DeserializeOwned"))]
struct Begun<O> {
    #[serde(with = "crate::ticket::serde_secret")]
    code: Secret,
    /// The pause between two polls, in milliseconds.
    interval: u64,
    /// The epoch of the session when the login began. If it is later, somebody has established the
    /// session since, and a poll could only spend a code that was spent already.
    epoch: u64,
    /// The server that gave the code: it is sent to no other server.
    authority: String,
    client: String,
    options: O,
}

impl<P: DeviceAuthorization> Session<P> {
    /// Begins a login on another device. The crate keeps nothing in memory or in the store for this,
    /// and does not poll before [`finish_device_login`](Self::finish_device_login).
    ///
    /// # Errors
    ///
    /// `Misconfigured` if the provider's settings are not sufficient, if the server refused the
    /// request, or if the rules of the [`TransportConfig`](crate::transport::TransportConfig) refuse
    /// the URL for the user; `InvalidInput` if the options are too large for a ticket; `RetryLater`
    /// if the server could not be reached; `Store`, `Capacity`, `ShuttingDown`.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time, without an effect.
    pub async fn begin_device_login(&self, options: P::DeviceOptions) -> Result<DeviceLogin> {
        let context = &self.dispatcher.context;
        let of = self.login_client().await?;
        // Before the server is asked: without the store, nobody could poll.
        let epoch = self.stored_epoch().await?;
        let codes = self.device_codes(&of, &options).await?;
        let LoginClient { client, .. } = of;
        for shown in [&codes.verification_uri].into_iter().chain(&codes.verification_uri_complete) {
            client.check_shown(shown).map_err(|error| error.of_session(&self.id))?;
        }
        let now = context.now().wall;
        let expires_at = codes.expires_at.min(now + DEVICE_LOGIN_TTL);
        let interval = codes.interval.unwrap_or(DEVICE_POLL);
        let interval = interval.clamp(DEVICE_POLL_FLOOR, DEVICE_LOGIN_TTL);
        let begun = Begun {
            code: codes.device_code,
            interval: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            epoch,
            authority: client.bound_to().to_owned(),
            client: client.provider.client().to_owned(),
            options,
        };
        let tickets = &context.resources.tickets;
        let ticket = tickets.issue(Purpose::DeviceLogin, &self.id, expires_at, &begun)?;
        let DeviceCodes { user_code, verification_uri, verification_uri_complete, .. } = codes;
        Ok(DeviceLogin {
            user_code,
            verification_uri,
            verification_uri_complete,
            ticket,
            expires_at,
        })
    }

    /// Polls the server until the user has approved this login, refused it, or let it expire. The
    /// login may have begun in another process with the same key ring.
    ///
    /// Several processes may call this with the same ticket: one of them polls, and the others wait. If
    /// that process dies, another one goes on after [`Policy::lease`](crate::policy::Policy::lease).
    /// If the session has been established since the login began, by this login or by another grant,
    /// the call returns the session and does not poll.
    ///
    /// The call waits for as long as the user takes. While the server cannot be reached, it polls
    /// less and less often. Refreshes of the session go on meanwhile.
    ///
    /// # Errors
    ///
    /// `Refused(NotPermitted)` if the user refused the login; `Refused(GrantExpired)` if the server
    /// says that the code has expired; `Refused(ChallengeExpired)` if the ticket has expired;
    /// `InvalidInput` with the [`TicketFault`](crate::ticket::TicketFault) as its source if the ticket
    /// belongs to another session or is not genuine; `ShuttingDown`, after which another process can
    /// call this with the ticket. Otherwise as [`establish`](Self::establish), except for transient
    /// errors, after which the crate polls again.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time. A poll that was sent goes on, and if it brings tokens, the session
    /// has them. Call this again with the same ticket to go on.
    pub async fn finish_device_login(&self, ticket: &Ticket) -> Result<Establishment<P>> {
        let opened = self.opened(ticket, Purpose::DeviceLogin)?;
        self.poll(opened).await.map_err(|error| error.of_session(&self.id))
    }

    async fn device_codes(
        &self,
        of: &LoginClient<P>,
        options: &P::DeviceOptions,
    ) -> Result<DeviceCodes> {
        let mut call = of.prepared(&self.dispatcher.context, &self.id).await?;
        let request = caught(|| of.provider.device_request(options))?;
        ask(&mut call, &self.id, request, |sender, response| {
            of.provider.device_codes(sender, response)
        })
        .await
    }

    async fn poll(&self, opened: Opened<RawPayload>) -> Result<Establishment<P>> {
        let context = &self.dispatcher.context;
        let Opened { id, session, expires_at, payload: begun } =
            opened.read::<Begun<P::DeviceOptions>>()?;
        let interval = Duration::from_millis(begun.interval);
        let mut claim = PollClaim::new(Arc::clone(context), session, LoginId(id), interval);
        // While the session is held, its slot stays in memory.
        let slot = self.obtain()?;
        self.dispatcher.ensure_loaded(&slot).await?;
        let is_newer = || slot.with_state(|state| state.counters().0 > begun.epoch);
        let mut unanswered = 0;
        loop {
            let pause = pause(claim.interval(), unanswered);
            claim.wait_for_turn(pause, expires_at, is_newer).await?;
            if is_newer() {
                return self.attributes().await.map(Establishment::Active);
            }
            let polled = claim.keep_during(self.poll_once(&begun)).await;
            match Next::after(polled) {
                Next::Return(polled) => return polled,
                Next::Poll => unanswered = 0,
                Next::SlowDown => {
                    unanswered = 0;
                    claim.slow_down(DEVICE_SLOW_DOWN);
                }
                Next::BackOff => unanswered += 1,
            }
        }
    }

    /// One poll: an exchange, which sends nothing if somebody has established the session.
    async fn poll_once(&self, begun: &Begun<P::DeviceOptions>) -> Result<Establishment<P>> {
        let of = self.login_client().await?;
        of.check(&begun.authority, &begun.client)?;
        let code = begun.code.clone();
        let grant = caught(|| Ok(of.provider.device_grant(code, &begun.options)))?;
        self.exchange_grant(grant, Some(begun.epoch)).await
    }

    /// The epoch of the session in the store, or a later one that the store does not have yet.
    async fn stored_epoch(&self) -> Result<u64> {
        let context = &self.dispatcher.context;
        let stored = context.await_store(context.store.load(&self.id)).await;
        let stored =
            stored.map_err(|failed| StoreError::into_error(failed).of_session(&self.id))?;
        let stored = stored.map_or(0, |stored| stored.record.epoch);
        let known = context.registry.find(&self.id);
        let known = known.map_or(0, |slot| {
            let epoch = slot.with_state(|state| state.counters().0);
            context.let_go(slot);
            epoch
        });
        Ok(stored.max(known))
    }
}

/// Finishes a login on another device, of the session that its ticket names.
pub(crate) async fn finish<P: DeviceAuthorization>(
    dispatcher: &Arc<Dispatcher>,
    provider: &Arc<ProviderEntry>,
    ticket: &Ticket,
) -> Result<(Session<P>, Establishment<P>)> {
    let (session, opened) = session_of::<P>(dispatcher, provider, ticket, Purpose::DeviceLogin)?;
    let established = session.poll(opened).await.map_err(|error| error.of_session(session.id()))?;
    Ok((session, established))
}

/// The pause before the next poll, after so many polls in a row that had no answer (RFC 8628 section
/// 3.5).
fn pause(interval: Duration, unanswered: u32) -> Duration {
    let doubled = interval.saturating_mul(2_u32.saturating_pow(unanswered));
    doubled.min(DEVICE_POLL_CAP).max(interval)
}

/// What to do after a poll.
enum Next<P: Provider> {
    Return(Result<Establishment<P>>),
    /// The user has not approved the login yet.
    Poll,
    /// The same, and the server asks for longer pauses.
    SlowDown,
    /// The poll had no answer.
    BackOff,
}

impl<P: Provider> Next<P> {
    fn after(polled: Result<Establishment<P>>) -> Self {
        let Err(failed) = &polled else { return Self::Return(polled) };
        if failed.kind() == ErrorKind::Refused(Refusal::LoginPending) {
            let is_slower = failed.provider_code() == Some("slow_down");
            return if is_slower { Self::SlowDown } else { Self::Poll };
        }
        // Before the next poll it is seen whether somebody has established the session.
        if failed.kind() == ErrorKind::Superseded {
            return Self::Poll;
        }
        if failed.is_transient() { Self::BackOff } else { Self::Return(polled) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_without_answers_and_is_never_shorter_than_the_server_wants() {
        let seconds =
            |interval: u64, unanswered| pause(Duration::from_secs(interval), unanswered).as_secs();
        assert_eq!([0, 1, 2, 3, 4, 5, 1000].map(|n| seconds(5, n)), [5, 10, 20, 40, 60, 60, 60]);
        assert_eq!([0, 1, 40].map(|n| seconds(90, n)), [90, 90, 90]);
    }
}
