//! A site: where a tenant's sessions find their client, which may be replaced under them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use parking_lot::Mutex;

use super::Client;
use crate::clock::{BootTime, Clock, timeout};
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::key::{ProviderName, Tenant};
use crate::policy::Policy;
use crate::provider::Settings;
use crate::provider::resources::Resources;
use crate::provider::source::{Source, SourceError};

/// The place of a client: of one tenant where each has its own, else of all.
pub(crate) struct TenantClient {
    client: ArcSwapOption<Client>,
    /// Held while one client is put in the place of another.
    replacing: Mutex<()>,
    name: ProviderName,
    resources: Arc<Resources>,
    source_state: Option<SourceState>,
}

/// How a tenant's client is got.
struct SourceState {
    tenant: Tenant,
    source: Source,
    /// Held while the source is asked, so that it is asked once for all who wait.
    turn: tokio::sync::Mutex<()>,
    failed: Mutex<Option<Failed>>,
    /// When it was asked because the server called the client invalid.
    last_asked_at: Mutex<Option<BootTime>>,
    /// The source is to be asked again before the next use.
    stale: AtomicBool,
}

/// What everybody gets until the source may be asked again.
struct Failed {
    error: Error,
    tries: u32,
    retry_at: BootTime,
}

/// Why there is no client.
pub(crate) struct Unresolved {
    pub(crate) error: Error,
    /// The provider and its tenant, if nobody was told yet.
    pub(crate) news: Option<(ProviderName, Tenant)>,
}

impl TenantClient {
    /// The site of all tenants.
    pub(crate) fn of_all(
        name: ProviderName,
        settings: Settings,
        resources: Arc<Resources>,
    ) -> Self {
        let client = Client::new(name.clone(), settings, Arc::clone(&resources), None);
        let client = ArcSwapOption::from_pointee(client);
        Self { client, replacing: Mutex::default(), name, resources, source_state: None }
    }

    /// The site of one tenant, whose client the source knows.
    pub(crate) fn of_tenant(
        name: ProviderName,
        tenant: Tenant,
        source: Source,
        resources: Arc<Resources>,
    ) -> Self {
        let source_state = SourceState {
            tenant,
            source,
            turn: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
            last_asked_at: Mutex::default(),
            stale: AtomicBool::new(false),
        };
        let (client, source_state) = (ArcSwapOption::empty(), Some(source_state));
        Self { client, replacing: Mutex::default(), name, resources, source_state }
    }

    /// The client, if it is known already.
    pub(crate) fn client(&self) -> Option<Arc<Client>> {
        self.client.load_full()
    }

    /// The number of the client that is known; 0 if none is.
    pub(crate) fn version(&self) -> u64 {
        self.client.load().as_ref().map_or(0, |client| client.version)
    }

    /// Puts other settings in force. Exchanges that run keep theirs.
    pub(crate) fn replace(&self, settings: Settings) -> Arc<Client> {
        // One at a time, so that no version is given twice.
        let _replacing = self.replacing.lock();
        let former = self.client();
        let (name, resources) = (self.name.clone(), Arc::clone(&self.resources));
        let client = Arc::new(Client::new(name, settings, resources, former.as_deref()));
        self.client.store(Some(Arc::clone(&client)));
        client
    }

    /// The client, asked for if it is not known.
    pub(crate) async fn resolve(
        &self,
        clock: &dyn Clock,
        policy: &Policy,
    ) -> Result<Arc<Client>, Unresolved> {
        let known = self.client();
        let to_be_asked = |source_state: &&SourceState| known.is_none() || source_state.is_stale();
        let Some(source_state) = self.source_state.as_ref().filter(to_be_asked) else {
            return known.ok_or_else(Unresolved::unknown);
        };
        let _turn = source_state.turn.lock().await;
        // Somebody may have been faster.
        if let Some(client) = self.client().filter(|_| !source_state.is_stale()) {
            return Ok(client);
        }
        let asked = self.ask(source_state, clock, policy).await;
        // What was known before goes on: a source that is down takes no session with it.
        asked.or_else(|unresolved| known.ok_or(unresolved))
    }

    /// The client as the source knows it now. The former one stays if it cannot be asked.
    pub(crate) async fn renew(
        &self,
        clock: &dyn Clock,
        policy: &Policy,
    ) -> Result<Arc<Client>, Unresolved> {
        let Some(source_state) = &self.source_state else {
            return self.resolve(clock, policy).await;
        };
        let _turn = source_state.turn.lock().await;
        match self.client().filter(|_| !source_state.is_stale()) {
            Some(renewed) => Ok(renewed),
            None => self.ask(source_state, clock, policy).await,
        }
    }

    /// The source is asked before the next use.
    pub(crate) fn expire(&self) {
        if let Some(source_state) = &self.source_state {
            source_state.stale.store(true, Ordering::Release);
            *source_state.failed.lock() = None;
        }
    }

    /// Another client in place of one that the server called invalid, if the source has one: it is
    /// asked once for this, and not again before the client would be probed.
    pub(crate) async fn replacement_for(
        &self,
        invalid: &Arc<Client>,
        clock: &dyn Clock,
        policy: &Policy,
    ) -> Option<Arc<Client>> {
        let source_state = self.source_state.as_ref()?;
        let _turn = source_state.turn.lock().await;
        let known = self.client()?;
        if known.version != invalid.version {
            return Some(known);
        }
        if !source_state.may_ask_again(invalid, clock.now().boot) {
            return None;
        }
        self.ask(source_state, clock, policy).await.ok()
    }

    /// The server called this client invalid in a call beside the exchanges. True if the source is
    /// asked before the next use, by the same rule as [`replacement_for`](Self::replacement_for).
    pub(crate) fn doubt(&self, invalid: &Client, now: BootTime) -> bool {
        let Some(source_state) = &self.source_state else { return false };
        let doubted = self.version() != invalid.version || source_state.may_ask_again(invalid, now);
        if doubted && self.version() == invalid.version {
            self.expire();
        }
        doubted
    }

    async fn ask(
        &self,
        source_state: &SourceState,
        clock: &dyn Clock,
        policy: &Policy,
    ) -> Result<Arc<Client>, Unresolved> {
        let now = clock.now().boot;
        if let Some(failed) =
            source_state.failed.lock().as_ref().filter(|failed| now < failed.retry_at)
        {
            let wait = failed.retry_at.since(now);
            let error = failed.error.clone().with_retry_after(wait);
            return Err(Unresolved { error, news: None });
        }
        // Not left set if this is dropped: then nothing was learned.
        let found =
            AssertUnwindSafe(source_state.source.ask(source_state.tenant.clone())).catch_unwind();
        let found = match timeout(clock, policy.source_timeout, found).await {
            Some(Ok(found)) => found,
            Some(Err(_)) => Err(unavailable("the source panicked")),
            None => Err(unavailable("the source did not answer in time")),
        };
        let found = found.map_err(SourceError::into_error).and_then(usable);
        match found {
            Ok(settings) => {
                source_state.stale.store(false, Ordering::Release);
                *source_state.failed.lock() = None;
                Ok(self.replace(settings))
            }
            Err(failed) => {
                let (error, is_news) = source_state.fail(failed, clock.now().boot, policy);
                let whose = (self.name.clone(), source_state.tenant.clone());
                Err(Unresolved { error, news: is_news.then_some(whose) })
            }
        }
    }
}

impl SourceState {
    /// Whether the source is asked because of this client, and not so soon again.
    fn may_ask_again(&self, invalid: &Client, now: BootTime) -> bool {
        let mut last_asked_at = self.last_asked_at.lock();
        let probe = invalid.admission.limits().probe;
        let may = last_asked_at.is_none_or(|at| now.since(at) >= probe);
        if may {
            *last_asked_at = Some(now);
        }
        may
    }

    fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// What everybody gets from now on, and whether that is news.
    fn fail(&self, error: Error, now: BootTime, policy: &Policy) -> (Error, bool) {
        let mut failed = self.failed.lock();
        let tries = failed.as_ref().map_or(0, |failed| failed.tries).saturating_add(1);
        let wait = policy.backoff.wait(tries, fastrand::f64());
        *failed = Some(Failed { error: error.clone(), tries, retry_at: now.after(wait) });
        (error.with_retry_after(wait), tries == 1)
    }
}

impl Unresolved {
    /// Of a site that has neither a client nor a source, which is never made.
    fn unknown() -> Self {
        Self { error: SourceError::UnknownTenant.into_error(), news: None }
    }
}

/// A source's answer is held against the same rules as what a supervisor is started with.
fn usable(settings: Settings) -> Result<Settings, Error> {
    match settings.fault() {
        None => Ok(settings),
        Some(fault) => Err(Error::new(ErrorKind::Misconfigured)
            .about(fault)
            .with_outcome(ExchangeOutcome::NotSent)),
    }
}

fn unavailable(why: &'static str) -> SourceError {
    SourceError::Unavailable(why.into())
}
