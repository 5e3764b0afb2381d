//! The handles with which callers use sessions, and what their calls return.
//!
//! ```text
//!            establish                    due, refresh, 401
//!  Vacant ──────────────► Active ◄──────────────────────────► Refreshing
//!    ▲    Establishing      │  ▲                                 │    │
//!    │                      │  │ the one retry   response lost   │    │ rejected
//!    │               revoke │  └──────────────── InDoubt ◄───────┘    ▼
//!    │                      ▼                       └────────────►  Lost
//!  (store)               Closed                                 (establish)
//! ```
//!
//! You can call `establish` in every state. The former session serves its token until the new
//! session is there. If the server asks for a second factor, Establishing becomes Challenged. Pass
//! the user's answer to `establish` again. The guide's [`semantics`](crate::guide::semantics) has
//! the whole table.

mod adopt;
pub(crate) mod api_call;
mod api_request;
mod api_response;
mod call;
pub(crate) mod context;
pub(crate) mod device_login;
pub(crate) mod dispatch;
pub(crate) mod exchange;
pub(crate) mod forget;
mod from_record;
pub(crate) mod job;
pub(crate) mod list;
pub(crate) mod load;
pub(crate) mod load_queue;
pub(crate) mod login;
pub(crate) mod machine;
pub(crate) mod mailbox;
mod mark_lost;
pub(crate) mod message;
mod outcome;
pub(crate) mod paused_scopes;
mod poll_claim;
pub(crate) mod registry;
pub(crate) mod schedule;
pub(crate) mod session_actor;
pub(crate) mod shared_clients;
mod single_flight;
pub(crate) mod slot;
mod status;
#[cfg(test)]
mod tests;
pub(crate) mod unwritten_clients;

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use tracing::Span;

pub use self::device_login::DeviceLogin;
use self::dispatch::{Dispatcher, SlotRef};
use self::job::Job;
pub use self::list::Filter;
pub use self::login::Login;
use self::machine::Input;
use self::outcome::EstablishReply;
pub use self::outcome::{Adopt, Adopted, Establishment, Invalidation, Revocation, Verdict};
use self::slot::{ErasedValue, Slot, SnapshotRead};
pub use self::status::{SessionStatus, State};
use crate::client::Client;
use crate::client::provider_entry::ProviderEntry;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SessionId;
#[cfg(any(feature = "reqwest", feature = "reqwest-middleware", feature = "tower"))]
use crate::log::LogLimit;
use crate::provider::{Provider, UnattendedGrant, erased};
use crate::token::{Credentials, PermissionToken, Tokens};

/// Stands for the provider's type in a [`Session`] of any provider. See the example of [`Session`].
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "has no value")]
pub enum AnyProvider {}

/// A handle to one session. It is cheap to make and to clone, and making it does no I/O. Many
/// handles may name one session.
///
/// `Session<P>` has its provider's grants and attributes. `Session`, which is short for
/// `Session<AnyProvider>`, has no provider type, so that one list can hold sessions of several
/// providers.
///
/// # Cancel safety
///
/// Every call may be dropped at any time. An exchange that it waits for goes on, and the session
/// keeps its result.
///
/// # Example
///
/// ```
/// use std::collections::HashMap;
/// use session_warden::session::AnyProvider;
/// use session_warden::testing::ScriptedProvider;
/// use session_warden::{Session, SessionKey, Supervisor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// let supervisor = Supervisor::builder().provider("fake", ScriptedProvider::new()).start().await?;
/// let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
/// let session: Session<ScriptedProvider> = sessions.session(SessionKey::single("device-17")?);
/// let _ = session.establish(()).await?;
///
/// // Code that only needs tokens can use sessions of all providers.
/// let mut devices: HashMap<&str, Session<AnyProvider>> = HashMap::new();
/// devices.insert("lamp", session.erase());
/// let token = devices["lamp"].permission_token().await?;
/// assert_eq!(token.expose_secret(), "access-1");
///
/// // A grant needs the provider's type again.
/// assert!(devices["lamp"].clone().downcast::<ScriptedProvider>().is_ok());
/// # Ok(())
/// # }
/// ```
pub struct Session<P = AnyProvider> {
    dispatcher: Arc<Dispatcher>,
    provider: Arc<ProviderEntry>,
    id: SessionId,
    /// Set when the session has had a token. A handle for an unknown key does not keep a slot.
    slot: OnceLock<Arc<Slot>>,
    provides: PhantomData<fn() -> P>,
}

impl<P> Session<P> {
    pub(crate) fn new(
        dispatcher: Arc<Dispatcher>,
        provider: Arc<ProviderEntry>,
        id: SessionId,
    ) -> Self {
        Self { dispatcher, provider, id, slot: OnceLock::new(), provides: PhantomData }
    }

    /// The id of the session.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Returns a valid access token: the token in memory if it is fresh, otherwise the token from a
    /// refresh that all callers share.
    ///
    /// The token has not expired by this process's clocks. No API has rejected it, unless that
    /// rejection was [damped](Invalidation::Damped).
    ///
    /// # Errors
    ///
    /// `NotEstablished`, `SignInAgain`, `RetryLater`, `Misconfigured`, `Capacity`, `Store`,
    /// `ShuttingDown`; `Refused` if the session obtains new tokens automatically and the server
    /// refused that. If a refresh takes longer than
    /// [`Policy::call_timeout`](crate::policy::Policy::call_timeout), it goes on, and its callers
    /// get `RetryLater`.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time. A refresh that it waits for goes on.
    #[doc(alias = "getPermissionToken")]
    #[doc(alias = "access_token")]
    pub async fn permission_token(&self) -> Result<PermissionToken> {
        match self.try_permission_token() {
            Some(token) => Ok(token),
            None => self.dispatcher.token_newer_than(&*self.obtain()?, 0, None).await,
        }
    }

    /// Returns the token in memory, if it is valid. This does not wait and does no I/O. `None` does
    /// not mean that there is no session: its record may not be loaded yet. If the token is due,
    /// this returns it and starts its refresh in the background.
    #[must_use]
    pub fn try_permission_token(&self) -> Option<PermissionToken> {
        self.with_token(PermissionToken::clone)
    }

    /// Passes the token in memory to `read` and returns the result, without a clone of the token.
    /// Otherwise as [`try_permission_token`](Self::try_permission_token).
    pub fn with_token<R>(&self, read: impl FnOnce(&PermissionToken) -> R) -> Option<R> {
        let clock = &*self.dispatcher.context.clock;
        if let Some(slot) = self.slot.get() {
            let (read_snapshot, read) = slot.read_snapshot(clock, read);
            self.start_if_due(slot, &read_snapshot);
            return read;
        }
        let slot = self.dispatcher.context.registry.find(&self.id)?;
        let (read_snapshot, read) = slot.read_snapshot(clock, read);
        self.start_if_due(&slot, &read_snapshot);
        if read.is_some() {
            // Another thread may have been faster, with the same slot.
            drop(self.slot.set(slot));
        } else {
            self.dispatcher.context.let_go(slot);
        }
        read
    }

    /// Returns a newer token than the token in memory, even if that is not due yet. If a refresh
    /// runs already, this waits for its result. If the refresh takes longer than
    /// [`Policy::call_timeout`](crate::policy::Policy::call_timeout) and the token in memory is
    /// still valid, the caller gets the token in memory.
    ///
    /// This also retries a session that is lost as
    /// [`LostReason::Unclassified`](crate::error::LostReason::Unclassified), with a back-off
    /// between failed tries.
    ///
    /// # Errors
    ///
    /// As [`permission_token`](Self::permission_token). `SignInAgain` also if there is no refresh
    /// token: the token in memory may still be valid then.
    ///
    /// # Cancel safety
    ///
    /// As [`permission_token`](Self::permission_token).
    pub async fn refresh(&self) -> Result<PermissionToken> {
        let slot = self.obtain()?;
        self.dispatcher.ensure_loaded(&slot).await?;
        self.dispatcher.context.apply(&slot, Input::RefreshByHand);
        let held = slot.with_state(|state| state.counters().1);
        self.dispatcher.token_newer_than(&slot, held, None).await
    }

    /// Ends the session: first in the store, then at the server. Afterwards the session hands out
    /// no token. See the example of [`Revocation`].
    ///
    /// # Errors
    ///
    /// `Store` if the store did not confirm the close: the session then goes on in this process,
    /// until the store shows that the close is written. `Deadline`, `Capacity`, `Superseded`,
    /// `RetryLater`, `ShuttingDown`; `Misconfigured` for a tenant that the provider's source does
    /// not know.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; the crate still carries out the revocation, also during a
    /// [`shutdown`](crate::Supervisor::shutdown) that waits long enough. If the revocation is still
    /// queued when the shutdown ends, it is discarded: the caller gets `ShuttingDown` with
    /// `NotSent`.
    pub async fn revoke(&self) -> Result<Revocation> {
        let slot = self.obtain()?;
        let caller_span = Span::current();
        let job = |reply, task_guard| Job::Close { reply, task_guard, caller_span };
        self.dispatcher.run_job(&slot, job).await
    }

    /// Returns the session's present status. This loads the session from the store if it is not in
    /// memory. See the example of [`SessionStatus`].
    ///
    /// # Errors
    ///
    /// `Store`, `Deadline`, `Capacity`, `RetryLater`, `ShuttingDown`; `Misconfigured` for a tenant
    /// that the provider's source does not know.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time: it only reads.
    pub async fn status(&self) -> Result<SessionStatus> {
        let slot = self.obtain()?;
        self.dispatcher.ensure_loaded(&slot).await?;
        let status = status::status(&slot, self.dispatcher.context.now());
        status.ok_or_else(|| Error::new(ErrorKind::RetryLater).of_session(&self.id))
    }

    /// Returns a handle to the same session without the provider's type.
    #[must_use]
    pub fn erase(&self) -> Session {
        self.retype()
    }

    fn retype<Q>(&self) -> Session<Q> {
        let Self { dispatcher, provider, id, slot, .. } = self;
        Session {
            dispatcher: Arc::clone(dispatcher),
            provider: Arc::clone(provider),
            id: id.clone(),
            slot: slot.clone(),
            provides: PhantomData,
        }
    }

    /// The client with which the session sends requests to APIs.
    #[cfg(feature = "reqwest")]
    pub(crate) fn api_client(&self) -> Result<reqwest::Client> {
        self.dispatcher.context.resources.api_client.client()
    }

    #[cfg(any(feature = "reqwest", feature = "reqwest-middleware", feature = "tower"))]
    pub(crate) fn log_limit(&self) -> &LogLimit {
        self.dispatcher.context.log_limit()
    }

    /// The client of the session's tenant, if it is known already.
    pub(crate) fn client(&self) -> Result<Arc<Client>> {
        let tenant_client = self.provider.known(self.id.key().tenant());
        tenant_client.and_then(|tenant_client| tenant_client.client()).ok_or_else(|| {
            Error::new(ErrorKind::RetryLater)
                .about("the session's provider could not be resolved yet")
                .of_session(&self.id)
        })
    }

    fn obtain(&self) -> Result<SlotRef<'_>> {
        match self.slot.get() {
            Some(slot) => Ok(self.dispatcher.hold(Arc::clone(slot))),
            None => self.dispatcher.obtain(&self.id),
        }
    }

    fn start_if_due(&self, slot: &Arc<Slot>, read_snapshot: &SnapshotRead) {
        match read_snapshot {
            SnapshotRead::Due => self.dispatcher.due(slot),
            SnapshotRead::Fresh | SnapshotRead::Stale => {}
        }
    }
}

impl<P: Provider> Session<P> {
    /// Exchanges a grant for a new session, which replaces the present session. The present session
    /// serves its token until the new one is there, and stays if the server refuses the grant. See
    /// the example of [`Establishment`].
    ///
    /// If there are several grants, the crate exchanges them one after the other, each caller gets
    /// the outcome of its own grant, and the last session counts. A grant is sent at most once.
    ///
    /// A grant of another provider does not compile:
    ///
    /// ```compile_fail,E0277
    /// # use session_warden::{Session, provider::oauth2::Password, testing::ScriptedProvider};
    /// async fn sign_in(session: Session<ScriptedProvider>) {
    ///     let _ = session.establish(Password::new("ada", "secret")).await;
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// `Refused` with the reason. `RetryLater` with [`outcome`](Error::outcome): unless that is
    /// `Ambiguous`, the grant was not used. `ShuttingDown` with `NotSent` if the grant was still
    /// queued when the shutdown began. `Deadline`, which does not say whether the grant was used:
    /// the exchange may go on, a late answer still counts, and [`status`](Self::status) shows how
    /// it ended. `Capacity`, `Store`, `Misconfigured`, `Superseded`.
    ///
    /// # Cancel safety
    ///
    /// If you drop the call while the grant is queued, the grant is not sent. Once its
    /// exchange has begun, it goes on, and its session counts.
    pub async fn establish(&self, grant: impl Into<P::Grant>) -> Result<Establishment<P>> {
        self.exchange_grant(grant.into(), None).await
    }

    /// Exchanges a grant, unless the session has a later epoch than this: then nothing is sent, and
    /// the error is `Superseded`.
    async fn exchange_grant(
        &self,
        grant: P::Grant,
        last_epoch: Option<u64>,
    ) -> Result<Establishment<P>> {
        let slot = self.obtain()?;
        let caller_span = Span::current();
        let grant = Box::new(grant);
        let job = |reply, _| Job::Establish { grant, last_epoch, reply, caller_span };
        match self.dispatcher.run_job(&slot, job).await? {
            EstablishReply::Active(credentials) => {
                self.typed(&credentials).map(|tokens| Establishment::Active(tokens.attributes))
            }
            EstablishReply::Challenge(challenge) => match challenge.downcast::<P::Challenge>() {
                Ok(challenge) => Ok(Establishment::Challenge(*challenge)),
                Err(_) => Err(Error::new(ErrorKind::Misconfigured).about(
                    "the provider returned a challenge of another type; correct the provider's \
                     code",
                )),
            },
        }
    }

    /// Returns a valid token. If there is no session, this first establishes one with `grant`,
    /// which must be a grant that the application can make at any time without a user.
    ///
    /// If the session is active, it stays, even if another grant established it. If the session was
    /// never established, is lost, or was revoked with this crate, it begins anew with this grant.
    /// Callers at the same time share one exchange and its outcome. If the server refuses the
    /// grant, all of them get the error, and so do later callers until the back-off is over.
    ///
    /// # Errors
    ///
    /// As [`permission_token`](Self::permission_token); `Refused` if the server refused the grant.
    ///
    /// # Cancel safety
    ///
    /// As [`permission_token`](Self::permission_token).
    pub async fn ensure<G: UnattendedGrant<P>>(&self, grant: G) -> Result<PermissionToken> {
        if let Some(token) = self.try_permission_token() {
            return Ok(token);
        }
        let offer = || -> ErasedValue {
            let grant: P::Grant = grant.clone().into();
            Box::new(grant)
        };
        self.dispatcher.token_newer_than(&*self.obtain()?, 0, Some(&offer)).await
    }

    /// Returns the provider's attributes, which the session stores beside its tokens.
    ///
    /// # Errors
    ///
    /// `NotEstablished` if there are none; `Misconfigured` if the record is not this provider's;
    /// `Store`, `Deadline`, `Capacity`, `RetryLater`, `ShuttingDown`.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time: it only reads.
    pub async fn attributes(&self) -> Result<P::Attributes> {
        self.held().await.map(|tokens| tokens.attributes)
    }

    /// The session's tokens, loaded from the store if they are not in memory.
    async fn held(&self) -> Result<Tokens<P::Attributes>> {
        let slot = self.obtain()?;
        self.dispatcher.ensure_loaded(&slot).await?;
        let held = slot.with_state(|state| state.settled.as_ref()?.credentials().cloned());
        match held {
            Some(credentials) => self.typed(&credentials),
            None => Err(Error::new(ErrorKind::NotEstablished).of_session(&self.id)),
        }
    }

    fn typed(&self, credentials: &Credentials) -> Result<Tokens<P::Attributes>> {
        erased::typed::<P>(credentials).map_err(|unreadable| {
            Error::new(ErrorKind::Misconfigured)
                .about(
                    "the record's attributes cannot be read as this provider's; register the \
                     provider with the type that the session was established with",
                )
                .with_source(unreadable)
                .of_session(&self.id)
        })
    }
}

impl Session {
    /// Returns the same session with its provider's type.
    ///
    /// # Errors
    ///
    /// Returns the session unchanged if its provider is not a `P`.
    pub fn downcast<P: Provider>(self) -> Result<Session<P>, Self> {
        if self.provider.provides::<P>() { Ok(self.retype()) } else { Err(self) }
    }
}

impl<P: Provider> From<Session<P>> for Session {
    fn from(session: Session<P>) -> Self {
        session.erase()
    }
}

impl<P> Clone for Session<P> {
    fn clone(&self) -> Self {
        self.retype()
    }
}

impl<P> Drop for Session<P> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.dispatcher.context.let_go(slot);
        }
    }
}

impl<P> fmt::Debug for Session<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.id).finish()
    }
}
