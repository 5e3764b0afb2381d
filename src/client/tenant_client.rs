//! The tenant client: gives sessions their client, which may be replaced while they use it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use parking_lot::Mutex;

use super::{Client, ClientOwner};
use crate::clock::{BootTime, Clock, timeout};
use crate::error::{Error, ExchangeOutcome};
use crate::key::{ProviderName, Tenant};
use crate::policy::Policy;
use crate::provider::Settings;
use crate::provider::resources::Resources;
use crate::provider::source::{Source, SourceError};

/// The replaceable client of one tenant, if each tenant has its own, or of all tenants.
pub(crate) struct TenantClient {
    client: ArcSwapOption<Client>,
    /// Held while one client replaces another.
    replacing: Mutex<()>,
    owner: ClientOwner,
    resources: Arc<Resources>,
    source_state: Option<SourceState>,
}

/// The source of a tenant's client, and what it said last.
struct SourceState {
    tenant: Tenant,
    source: Source,
    /// Held while the source is asked, so that it is asked once for all waiting callers.
    asking: tokio::sync::Mutex<()>,
    failed: Mutex<Option<Failed>>,
    /// When the source was last asked because the server rejected the client.
    last_asked_at: Mutex<Option<BootTime>>,
    /// The source must be asked again before the next use.
    stale: AtomicBool,
}

/// The failure that every caller gets until the source may be asked again.
struct Failed {
    error: Error,
    tries: u32,
    retry_at: BootTime,
}

/// Why no client could be resolved.
pub(crate) struct Unresolved {
    pub(crate) error: Error,
    /// The provider and its tenant if the failure was not published yet.
    pub(crate) first_failure_of: Option<(ProviderName, Tenant)>,
}

impl TenantClient {
    /// The client of all tenants.
    pub(crate) fn of_all(
        name: ProviderName,
        settings: Settings,
        resources: Arc<Resources>,
    ) -> Self {
        let owner = ClientOwner::new(name, None);
        let client = Client::new(owner.clone(), settings, Arc::clone(&resources), None);
        let client = ArcSwapOption::from_pointee(client);
        Self { client, replacing: Mutex::default(), owner, resources, source_state: None }
    }

    /// The client of one tenant, which comes from the source.
    pub(crate) fn of_tenant(
        name: ProviderName,
        tenant: Tenant,
        source: Source,
        resources: Arc<Resources>,
    ) -> Self {
        let owner = ClientOwner::new(name, Some(tenant.clone()));
        let source_state = SourceState {
            tenant,
            source,
            asking: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
            last_asked_at: Mutex::default(),
            stale: AtomicBool::new(false),
        };
        let (client, source_state) = (ArcSwapOption::empty(), Some(source_state));
        Self { client, replacing: Mutex::default(), owner, resources, source_state }
    }

    /// The provider and the tenant whose client this is.
    pub(crate) fn owner(&self) -> &ClientOwner {
        &self.owner
    }

    /// The client, if it is already resolved.
    pub(crate) fn client(&self) -> Option<Arc<Client>> {
        self.client.load_full()
    }

    /// The version of the resolved client; 0 if there is none.
    pub(crate) fn version(&self) -> u64 {
        self.client.load().as_ref().map_or(0, |client| client.version)
    }

    /// Replaces the settings. Exchanges that run keep theirs.
    pub(crate) fn replace(&self, settings: Settings) -> Arc<Client> {
        // One at a time, so that no two clients get the same version.
        let _replacing = self.replacing.lock();
        let former = self.client();
        let (owner, resources) = (self.owner.clone(), Arc::clone(&self.resources));
        let client = Arc::new(Client::new(owner, settings, resources, former.as_deref()));
        self.client.store(Some(Arc::clone(&client)));
        client
    }

    /// Returns the client, and asks the source for it if it is not resolved.
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
        let _guard = source_state.asking.lock().await;
        // Another caller may have been faster.
        if let Some(client) = self.client().filter(|_| !source_state.is_stale()) {
            return Ok(client);
        }
        let asked = self.ask(source_state, clock, policy).await;
        // The former client stays in use, so that a source that is down fails no session.
        asked.or_else(|unresolved| known.ok_or(unresolved))
    }

    /// Asks the source if the client is missing or stale. Unlike [`resolve`](Self::resolve), it
    /// fails if the source fails; the former client stays.
    pub(crate) async fn renew(
        &self,
        clock: &dyn Clock,
        policy: &Policy,
    ) -> Result<Arc<Client>, Unresolved> {
        let Some(source_state) = &self.source_state else {
            return self.resolve(clock, policy).await;
        };
        let _guard = source_state.asking.lock().await;
        match self.client().filter(|_| !source_state.is_stale()) {
            Some(renewed) => Ok(renewed),
            None => self.ask(source_state, clock, policy).await,
        }
    }

    /// Makes the next use ask the source.
    pub(crate) fn expire(&self) {
        if let Some(source_state) = &self.source_state {
            source_state.stale.store(true, Ordering::Release);
            *source_state.failed.lock() = None;
        }
    }

    /// Asks the source for another client in place of one that the server rejected. It asks only
    /// once for each interval in which the client would be probed.
    pub(crate) async fn replacement_for(
        &self,
        invalid: &Arc<Client>,
        clock: &dyn Clock,
        policy: &Policy,
    ) -> Option<Arc<Client>> {
        let source_state = self.source_state.as_ref()?;
        let _guard = source_state.asking.lock().await;
        let known = self.client()?;
        if known.version != invalid.version {
            return Some(known);
        }
        if !source_state.may_ask_again(invalid, clock.now().boot) {
            return None;
        }
        self.ask(source_state, clock, policy).await.ok()
    }

    /// Notes that the server rejected this client in a call that is no exchange. True if this
    /// client was replaced since, or if the source will be asked before the next use, under the same
    /// limit as [`replacement_for`](Self::replacement_for).
    pub(crate) fn note_rejection(&self, invalid: &Client, now: BootTime) -> bool {
        let Some(source_state) = &self.source_state else { return false };
        let asks = self.version() != invalid.version || source_state.may_ask_again(invalid, now);
        if asks && self.version() == invalid.version {
            self.expire();
        }
        asks
    }

    /// Replaces the settings if they can be used.
    pub(crate) fn try_replace(&self, settings: Settings) -> Result<(), Error> {
        self.replace(self.usable(settings)?);
        Ok(())
    }

    /// Checks settings by the same rules as those that a supervisor is started with.
    fn usable(&self, settings: Settings) -> Result<Settings, Error> {
        let checked = settings.check(&self.owner.name, &self.resources.transport);
        checked.map_err(|fault| fault.with_outcome(ExchangeOutcome::NotSent))?;
        Ok(settings)
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
            return Err(Unresolved { error, first_failure_of: None });
        }
        // `failed` and `stale` change only after the answer, so that a dropped future leaves them
        // as they were.
        let found =
            AssertUnwindSafe(source_state.source.ask(source_state.tenant.clone())).catch_unwind();
        let found = match timeout(clock, policy.source_timeout, found).await {
            Some(Ok(found)) => found,
            Some(Err(_)) => Err(unavailable("the source panicked")),
            None => Err(unavailable("the source did not answer in time")),
        };
        let found = found.map_err(SourceError::into_error).and_then(|found| self.usable(found));
        match found {
            Ok(settings) => {
                source_state.stale.store(false, Ordering::Release);
                *source_state.failed.lock() = None;
                Ok(self.replace(settings))
            }
            Err(failed) => {
                let (error, is_first) = source_state.fail(failed, clock.now().boot, policy);
                let whose = (self.owner.name.clone(), source_state.tenant.clone());
                Err(Unresolved { error, first_failure_of: is_first.then_some(whose) })
            }
        }
    }
}

impl SourceState {
    /// True at most once in each probe interval: the source may be asked because of this client.
    /// Notes the time.
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

    /// Notes a failure. Returns the error for callers, and whether this is the first failure in a
    /// row.
    fn fail(&self, error: Error, now: BootTime, policy: &Policy) -> (Error, bool) {
        let mut failed = self.failed.lock();
        let tries = failed.as_ref().map_or(0, |failed| failed.tries).saturating_add(1);
        let wait = policy.backoff.wait(tries, fastrand::f64());
        *failed = Some(Failed { error: error.clone(), tries, retry_at: now.after(wait) });
        (error.with_retry_after(wait), tries == 1)
    }
}

impl Unresolved {
    /// For a tenant client with neither a client nor a source, which is never made.
    fn unknown() -> Self {
        Self { error: SourceError::UnknownTenant.into_error(), first_failure_of: None }
    }
}

fn unavailable(why: &'static str) -> SourceError {
    SourceError::Unavailable(why.into())
}
