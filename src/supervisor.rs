//! The supervisor keeps all sessions of a backend, and gives out handles to them.

mod builder;
mod bulk;
mod change_feed;
mod client_call;
mod eviction;
mod forget_tenant;
mod health_report;
mod journal_replay;
mod login_by_ticket;
mod pause;
mod presence;
mod reconfigure;
mod reported_clients;
mod reseal;
mod restart_tracker;
mod retention;
mod samples;
mod scheduler;
mod session_count;
mod shared_clients;
mod startup;
mod supervisor_actor;
mod supervisor_link;
mod supervisor_message;

use std::any::{Any, type_name};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

pub use self::builder::SupervisorBuilder;
pub use self::bulk::ImportReport;
pub use self::forget_tenant::{ForgottenSessions, ForgottenTenant, TenantKeys};
use self::supervisor_link::SupervisorLink;
use crate::client::provider_entry::ProviderEntry;
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::event::Events;
use crate::key::{SessionId, SessionKey};
use crate::provider::Provider;
use crate::seal::KeyRing;
use crate::session::Session;
use crate::session::context::Context;
use crate::session::dispatch::Dispatcher;

/// How many registered names an error lists. Defaults to 8, which a reader takes in at once.
const NAMES_SHOWN: usize = 8;

/// Keeps sessions at the authorization servers of its providers.
///
/// This is a handle, which is cheap to clone. Its clones and all [`Sessions`] and [`Session`]s that
/// come from it belong to one supervisor, which ends when the last of them is dropped. Exchanges
/// that run at that moment go on, and their results are saved, but nothing waits for them. Call
/// [`shutdown`](Self::shutdown) to wait for them.
///
/// ```
/// use session_warden::provider::oauth2::OAuth2;
/// use session_warden::{Supervisor, SessionKey};
///
/// # async fn run() -> Result<(), session_warden::Error> {
/// let supervisor = Supervisor::builder()
///     .provider("acme", OAuth2::new("https://login.example.com/token", "my-client")?)
///     .start()
///     .await?;
/// let sessions = supervisor.sessions::<OAuth2>("acme")?;
/// let session = sessions.session(SessionKey::new("tenant-1", "device-17")?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Supervisor {
    dispatcher: Arc<Dispatcher>,
    link: Arc<SupervisorLink>,
}

impl Supervisor {
    /// Begins to configure a supervisor. See the example of [`SupervisorBuilder`].
    pub fn builder() -> SupervisorBuilder {
        SupervisorBuilder::new()
    }

    fn new(context: Arc<Context>, link: Arc<SupervisorLink>) -> Self {
        let shutdown_guard =
            ShutdownGuard { context: Arc::clone(&context), link: Arc::clone(&link) };
        let shutdown_guard: Box<dyn Any + Send + Sync> = Box::new(shutdown_guard);
        Self { dispatcher: Arc::new(Dispatcher::new(context, shutdown_guard)), link }
    }

    /// Returns the sessions of the provider that was registered under this name.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if no provider of that name and type is registered.
    pub fn sessions<P: Provider>(&self, provider: &str) -> Result<Sessions<P>> {
        let registered = self.registered(provider)?;
        if !registered.provides::<P>() {
            return Err(Error::new(ErrorKind::InvalidInput).about(format!(
                "the provider {} is a {}, not a {}; call `sessions` with the provider's type",
                quoted(provider),
                registered.type_name(),
                type_name::<P>()
            )));
        }
        Ok(Sessions {
            dispatcher: Arc::clone(&self.dispatcher),
            provider: registered,
            provides: PhantomData,
        })
    }

    /// Returns one session of the provider that was registered under this name, without the
    /// provider's type.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if no provider of that name is registered.
    pub fn session(&self, provider: &str, key: SessionKey) -> Result<Session> {
        let registered = self.registered(provider)?;
        let id = SessionId::new(registered.name.clone(), key);
        Ok(Session::new(Arc::clone(&self.dispatcher), registered, id))
    }

    /// Returns the key ring that encrypts tickets. [`KeyRing::reload`] changes its keys while the
    /// supervisor runs.
    #[must_use]
    pub fn keys(&self) -> &KeyRing {
        &self.dispatcher.context.keys
    }

    /// Subscribes to the events from now on. The stream ends when the supervisor shuts down.
    #[must_use]
    pub fn subscribe(&self) -> Events {
        self.dispatcher.context.events.subscribe()
    }

    /// Counts the sessions in memory and the work since the start. This visits every session in
    /// memory, so call it every few seconds, not in every request.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let Context { counts, journal, .. } = &*self.dispatcher.context;
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let mut snapshot = Snapshot {
            sessions: self.dispatcher.context.registry.slots.len(),
            exchanging: 0,
            unsaved: 0,
            journaled: journal.as_ref().map_or(0, |journal| journal.entries()),
            scheduled: self.dispatcher.context.registry.scheduled(),
            exchanges: read(&counts.exchanges),
            establishes: read(&counts.establishes),
            refreshes: read(&counts.refreshes),
            actor_restarts: read(&counts.actor_restarts),
            supervisor_restarts: read(&counts.supervisor_restarts),
        };
        self.dispatcher.context.registry.slots.each(|slot| {
            snapshot.exchanging += usize::from(slot.is_busy());
            snapshot.unsaved += usize::from(slot.unsaved().is_some());
        });
        snapshot
    }

    /// Accepts no new calls, lets every exchange end, saves unsaved credentials, and reports what
    /// was not finished within the time `within`. Call this after your own server has stopped
    /// taking requests, not before.
    ///
    /// When the shutdown begins:
    ///
    /// - Event streams end.
    /// - Calls that need an exchange fail with `ShuttingDown`. Calls that already wait for an
    ///   exchange get its outcome. Calls for a token still get the token in memory while it is
    ///   fresh.
    /// - Grants and adoptions that are queued fail at once with `ShuttingDown`, with the
    ///   [`outcome`](crate::Error::outcome) `NotSent`.
    /// - Revocations and [`forget`](Session::forget)s that are queued are carried out. Those that
    ///   have not begun within the time `within` fail with `ShuttingDown`.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped: the shutdown goes on, and another call waits for its end.
    pub async fn shutdown(&self, within: Duration) -> ShutdownReport {
        let context = &self.dispatcher.context;
        context.tasks.close();
        context.events.close();
        let ended = context.tasks.wait(within, &*context.clock).await;
        self.link.end();
        context.registry.refuse_all();
        presence::retire(context, ended).await;
        let mut report = ShutdownReport { exchanges_cut: 0, unsaved: Vec::new(), journaled: 0 };
        self.dispatcher.context.registry.slots.each(|slot| {
            report.exchanges_cut += usize::from(slot.is_busy());
            match slot.unsaved() {
                Some(unsaved) if unsaved.is_journaled() => report.journaled += 1,
                Some(_) => report.unsaved.push(slot.id().clone()),
                None => {}
            }
        });
        report
    }

    fn registered(&self, provider: &str) -> Result<Arc<ProviderEntry>> {
        let registry = &self.dispatcher.context.registry;
        registry.provider(provider).cloned().ok_or_else(|| {
            let known = registry.providers().map(|entry| entry.name.as_str());
            Error::new(ErrorKind::InvalidInput).about(unknown_provider(provider, known))
        })
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("sessions", &self.dispatcher.context.registry.slots.len())
            .finish()
    }
}

/// The sessions of one provider, with the provider's type. An application keeps this in its state.
///
/// ```
/// use session_warden::provider::oauth2::OAuth2;
/// use session_warden::{Error, PermissionToken, SessionKey, Sessions};
///
/// #[derive(Clone)]
/// struct AppState {
///     acme: Sessions<OAuth2>,
/// }
///
/// async fn handle(state: &AppState, device: &str) -> Result<PermissionToken, Error> {
///     let session = state.acme.session(SessionKey::single(device)?);
///     session.permission_token().await
/// }
/// ```
pub struct Sessions<P> {
    dispatcher: Arc<Dispatcher>,
    provider: Arc<ProviderEntry>,
    provides: PhantomData<fn() -> P>,
}

impl<P: Provider> Sessions<P> {
    /// Makes a handle to one session. This does no I/O.
    #[must_use]
    pub fn session(&self, key: SessionKey) -> Session<P> {
        let id = SessionId::new(self.provider.name.clone(), key);
        Session::new(Arc::clone(&self.dispatcher), Arc::clone(&self.provider), id)
    }
}

impl<P> Clone for Sessions<P> {
    fn clone(&self) -> Self {
        let Self { dispatcher, provider, provides } = self;
        Self {
            dispatcher: Arc::clone(dispatcher),
            provider: Arc::clone(provider),
            provides: *provides,
        }
    }
}

impl<P> fmt::Debug for Sessions<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("provider", &self.provider.name.as_str()).finish()
    }
}

/// How many sessions are in memory, and how much work was done since the start.
///
/// ```
/// use session_warden::Supervisor;
/// use session_warden::supervisor::Snapshot;
///
/// /// Writes the metrics of this process, every few seconds.
/// fn write_metrics(supervisor: &Supervisor, mut gauge: impl FnMut(&str, u64)) {
///     let snapshot: Snapshot = supervisor.snapshot();
///     gauge("sessions_in_memory", snapshot.sessions as u64);
///     gauge("sessions_unsaved", snapshot.unsaved as u64); // alert if this stays above zero
///     gauge("refreshes_total", snapshot.refreshes);
///     gauge("actor_restarts_total", snapshot.actor_restarts); // each is a bug
/// }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Sessions in memory.
    pub sessions: usize,
    /// How many of them have a running exchange.
    pub exchanging: usize,
    /// How many of them have credentials that are not saved.
    pub unsaved: usize,
    /// Entries in the [`Journal`](crate::journal::Journal): credentials that the store may lack.
    pub journaled: usize,
    /// Sessions that the schedule will check in the next minutes, in memory or not.
    pub scheduled: usize,
    /// Exchanges that were begun: grants, renewals and refreshes, but not revocations.
    pub exchanges: u64,
    /// Grants and renewals that established a session.
    pub establishes: u64,
    /// Refreshes that brought tokens.
    pub refreshes: u64,
    /// Session actors that crashed and were started again.
    pub actor_restarts: u64,
    /// How often the supervisor actor crashed and was started again.
    pub supervisor_restarts: u64,
}

/// What a [`shutdown`](Supervisor::shutdown) did not finish in its time.
///
/// ```
/// use std::time::Duration;
/// use session_warden::Supervisor;
/// use session_warden::supervisor::ShutdownReport;
///
/// async fn stop(supervisor: Supervisor) {
///     let report: ShutdownReport = supervisor.shutdown(Duration::from_secs(75)).await;
///     if report.is_clean() {
///         return;
///     }
///     eprintln!("{} exchanges were still running", report.exchanges_cut);
///     for id in &report.unsaved {
///         eprintln!("the user of {id} has to sign in again");
///     }
/// }
/// ```
#[must_use]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Exchanges that had not ended. Their tasks go on until the process ends.
    pub exchanges_cut: usize,
    /// Sessions whose newest credentials are only in memory, and not in a journal. When the process ends, their users
    /// must sign in again.
    pub unsaved: Vec<SessionId>,
    /// Sessions whose newest credentials are only in the [`Journal`](crate::journal::Journal). The
    /// next process with a journal in the same folder saves them.
    pub journaled: usize,
}

impl ShutdownReport {
    /// Whether the shutdown finished everything, and left nothing in the journal.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.exchanges_cut == 0 && self.unsaved.is_empty() && self.journaled == 0
    }
}

/// Says that no provider has this name, and which names there are.
fn unknown_provider<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    let shown: Vec<_> = known.iter().take(NAMES_SHOWN).map(|name| quoted(name)).collect();
    let more = if known.len() > NAMES_SHOWN { ", ..." } else { "" };
    let name = quoted(name);
    if shown.is_empty() {
        return format!("no provider is registered, so there is no {name}; register it");
    }
    format!(
        "no provider is registered as {name}; use a registered name ({}{more}), or register it",
        shown.join(", ")
    )
}

/// Ends the supervisor when the last handle is dropped.
struct ShutdownGuard {
    context: Arc<Context>,
    link: Arc<SupervisorLink>,
}

impl Drop for ShutdownGuard {
    fn drop(&mut self) {
        self.context.tasks.close();
        self.context.events.close();
        self.link.end();
        self.context.registry.refuse_all();
    }
}

/// Kills actors, for tests of what must survive their death.
#[cfg(feature = "testing")]
impl Supervisor {
    /// Kills a session's actor; false if the session has none.
    pub(crate) fn kill_session_actor(&self, id: &SessionId) -> bool {
        let actor = self.dispatcher.context.registry.find(id).and_then(|slot| slot.actor());
        actor.is_some_and(|actor| {
            actor.kill();
            true
        })
    }

    /// Kills the supervisor actor; false if none runs at the moment.
    pub(crate) fn kill_supervisor_actor(&self) -> bool {
        self.link.actor().is_some_and(|actor| {
            actor.kill();
            true
        })
    }
}
