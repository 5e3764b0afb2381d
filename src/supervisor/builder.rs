//! The builder of a supervisor: the only module that puts all the others together.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::Supervisor;
use super::startup;
use super::supervisor_link::SupervisorLink;
use crate::client::provider_entry::ProviderEntry;
use crate::clock::{Clock, SystemClock};
use crate::crash::Steps;
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::event::Publisher;
use crate::health::LatestCount;
use crate::journal::Journal;
use crate::key::ProviderName;
use crate::log::LogLimit;
use crate::measurements::{Measurements, Unmeasured};
use crate::policy::{Policy, USED_TICKETS};
use crate::provider::resources::Resources;
use crate::provider::{Provider, ProviderSource, Registration};
use crate::seal::KeyRing;
use crate::session::context::{Context, Counts};
use crate::session::load_queue::LoadQueue;
use crate::session::mailbox::Mailbox;
use crate::session::paused_scopes::PausedScopes;
use crate::session::registry::Registry;
use crate::session::unwritten_clients::UnwrittenClients;
use crate::store::{
    MeasuredStore, MemoryStore, Owner, PanicSafeStore, Store, StoreContext, StoreErrorKind,
};
use crate::task::Tasks;
use crate::ticket::Tickets;
use crate::transport::{ConfigureApiClient, Transport, TransportConfig};

/// The configuration of a supervisor. [`start`](Self::start) reports mistakes in it.
///
/// ```no_run
/// use std::time::Duration;
/// use session_warden::policy::Policy;
/// use session_warden::provider::oauth2::OAuth2;
/// use session_warden::seal::KeyRing;
/// use session_warden::store::sqlite::SqliteStore;
/// use session_warden::supervisor::SupervisorBuilder;
/// use session_warden::transport::TransportConfig;
/// use session_warden::Supervisor;
///
/// /// What the programs of this backend have in common.
/// fn common() -> Result<SupervisorBuilder, Box<dyn std::error::Error>> {
///     Ok(Supervisor::builder()
///         .application("my-backend")
///         .key_ring(KeyRing::from_file("/etc/my-backend/keys")?)
///         .store(SqliteStore::open("/data/sessions.db")?)
///         .policy(Policy { call_timeout: Duration::from_secs(10), ..Policy::default() })
///         .transport(TransportConfig::default().allow_hosts(["login.example.com"])))
/// }
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let acme = OAuth2::discover("https://login.example.com", "my-backend")?;
/// let supervisor = common()?.provider("acme", acme).start().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing runs before `start`"]
pub struct SupervisorBuilder {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    policy: Policy,
    transport: TransportConfig,
    /// Only the feature `reqwest` can set it.
    api_client: Option<ConfigureApiClient>,
    keys: Option<KeyRing>,
    journal: Option<Journal>,
    application: Option<String>,
    providers: Vec<(String, Owns, Register)>,
    steps: Steps,
    /// Only the feature `metrics` can set it.
    measurements: Arc<dyn Measurements>,
}

/// A registration that still needs the resources that [`SupervisorBuilder::start`] makes.
type Register = Box<dyn FnOnce(ProviderName, Arc<Resources>) -> Result<ProviderEntry> + Send>;

/// Who names a provider's URLs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owns {
    Us,
    Tenants,
}

impl SupervisorBuilder {
    pub(super) fn new() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            clock: Arc::new(SystemClock::new()),
            policy: Policy::default(),
            transport: TransportConfig::default(),
            api_client: None,
            keys: None,
            journal: None,
            application: None,
            providers: Vec::new(),
            steps: Steps::default(),
            measurements: Arc::new(Unmeasured),
        }
    }

    /// Keeps the records of sessions in this store. Defaults to a [`MemoryStore`].
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Arc::new(store);
        self
    }

    /// Takes time from this clock. Defaults to a [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Uses these bounds. Defaults to [`Policy::default`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Connects to servers with this configuration. Defaults to [`TransportConfig::default`].
    pub fn transport(mut self, transport: TransportConfig) -> Self {
        self.transport = transport;
        self
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn with_measurements(self, measurements: Arc<dyn Measurements>) -> Self {
        Self { measurements, ..self }
    }

    #[cfg(feature = "reqwest")]
    pub(crate) fn with_api_client(self, configure: ConfigureApiClient) -> Self {
        Self { api_client: Some(configure), ..self }
    }

    /// Encrypts tickets and stored records with these keys. Without this setting, the start
    /// generates keys. Tickets then work only in this process and only until it ends, and a store
    /// on a disk refuses to start.
    pub fn key_ring(mut self, keys: KeyRing) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Writes new tokens to this journal before they are saved in the store. Defaults to no journal:
    /// if the process is killed while the store is away, the tokens that it could not save are lost.
    /// See the chapter [`journal`](crate::guide::journal).
    pub fn journal(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Names the application. If several applications have the same keys, a ticket of one
    /// application then does not open in another. Give every process of the application the same
    /// name. Without a name, a ticket opens in every process that has its key and no name. If you
    /// change the name, logins that have begun must begin again.
    pub fn application(mut self, name: &str) -> Self {
        self.application = Some(name.to_owned());
        self
    }

    /// Registers a provider for all tenants. The name is part of the id and the record of every
    /// session of this provider: keep it when you change other settings.
    pub fn provider<P: Provider>(
        mut self,
        name: &str,
        provider: impl Into<Registration<P>>,
    ) -> Self {
        let registration: Registration<P> = provider.into();
        let register: Register = Box::new(move |name, resources| {
            registration.settings.check(&name, &resources.transport)?;
            Ok(ProviderEntry::new(name, registration, resources))
        });
        self.providers.push((name.to_owned(), Owns::Us, register));
        self
    }

    /// Registers a provider whose settings differ from tenant to tenant: another server, or another
    /// client. The crate asks the source for a tenant's settings when a session of the tenant is
    /// first used, and again after [`reload`](super::Sessions::reload).
    ///
    /// Requests to a tenant's URLs reach public addresses only, unless
    /// [`tenants_reach_internal_addresses`](TransportConfig::tenants_reach_internal_addresses)
    /// allows other addresses.
    ///
    /// ```
    /// use session_warden::key::Tenant;
    /// use session_warden::provider::{Registration, SourceError};
    /// use session_warden::provider::oauth2::OAuth2;
    /// use session_warden::Supervisor;
    ///
    /// # async fn run() -> Result<(), session_warden::Error> {
    /// let supervisor = Supervisor::builder()
    ///     .provider_per_tenant("crm", |tenant: Tenant| async move {
    ///         if tenant.as_str() == "stranger" {
    ///             return Err(SourceError::UnknownTenant);
    ///         }
    ///         let url = format!("https://{}.crm.example.com/token", tenant.as_str());
    ///         Ok(Registration::new(OAuth2::new(&url, "backend")?))
    ///     })
    ///     .start()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn provider_per_tenant<P: Provider>(
        mut self,
        name: &str,
        source: impl ProviderSource<P>,
    ) -> Self {
        let register: Register =
            Box::new(move |name, resources| Ok(ProviderEntry::per_tenant(name, source, resources)));
        self.providers.push((name.to_owned(), Owns::Tenants, register));
        self
    }

    /// Lets a test kill or stop this process during an exchange.
    #[cfg(feature = "testing")]
    pub fn crash_points(mut self, points: &crate::crash::CrashPoints) -> Self {
        self.steps = points.clone().into();
        self
    }

    /// Starts the supervisor on the current tokio runtime. Its tasks stay on that runtime.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a name that is not valid or is registered twice, and for a transport
    /// configuration that contradicts itself. `Misconfigured` for a policy, refresh policy or
    /// provider limits that contradict themselves or hold an invalid number, for a provider that
    /// panics when it is registered or one of whose configured URLs the transport refuses, for a
    /// store on a disk without keys that outlive the process, and without a tokio runtime. `Store`
    /// if the store cannot be prepared for another reason. The error text names the field, the
    /// provider, the URL or the file.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing runs.
    pub async fn start(self) -> Result<Supervisor> {
        if let Some(fault) = self.policy.fault() {
            return Err(misconfigured(fault));
        }
        let tasks = Tasks::here().ok_or_else(|| misconfigured(NO_RUNTIME))?;
        let keys = self.keys.map_or_else(KeyRing::generate, Ok)?;
        let store = PanicSafeStore::new(self.store);
        let store_context = StoreContext::new(keys.clone(), Arc::clone(&self.clock));
        let ring = prepare(&store, &store_context)?;
        let tickets = tickets(&keys, self.application);
        let transport = Transport::new(&self.transport)?;
        let api_client = transport.api_client(self.api_client);
        api_client.check()?;
        let (clock, measurements) = (self.clock, self.measurements);
        measurements.started();
        let log_limit = LogLimit::new(Arc::clone(&clock));
        let log_limit = Arc::new(log_limit.measured(Arc::clone(&measurements)));
        let events = Publisher::new(self.policy.events, Arc::clone(&log_limit))
            .measured(Arc::clone(&measurements));
        let resources = Arc::new(Resources {
            transport: Arc::new(transport),
            tickets: Arc::new(tickets),
            log_limit,
            replicas: Arc::default(),
            api_client: Arc::new(api_client),
        });
        let providers = registered(self.providers, &resources, &self.transport)?;
        let owner = Owner(fastrand::u64(..));
        // The store's own keys if it has some, so that a journal opens wherever the records do.
        let journal_keys = ring.as_ref().unwrap_or(&keys);
        let journal = self.journal.map(|it| it.start(owner, journal_keys.clone())).transpose()?;
        let registry = Registry::new(&self.policy, owner, providers);
        let link = Arc::new(SupervisorLink::new());
        let mailbox: Arc<dyn Mailbox> = Arc::<SupervisorLink>::clone(&link);
        let context = Arc::new(Context {
            store: MeasuredStore::around(Arc::new(store), &clock, &measurements),
            clock,
            tasks,
            events,
            policy: self.policy,
            owner,
            counts: Counts::default(),
            resources,
            keys,
            journal,
            registry,
            mailbox,
            load_queue: LoadQueue::default(),
            steps: self.steps,
            latest_count: LatestCount::default(),
            measurements,
            unwritten_clients: UnwrittenClients::default(),
            paused: PausedScopes::default(),
        });
        if startup::start(&context, &link, ring).await {
            Ok(Supervisor::new(context, link))
        } else {
            Err(misconfigured(NOT_STARTED))
        }
    }
}

fn tickets(keys: &KeyRing, application: Option<String>) -> Tickets {
    let tickets = Tickets::new(keys.clone(), USED_TICKETS);
    match application {
        Some(name) => tickets.of_application(name),
        None => tickets,
    }
}

const NOT_STARTED: &str = "the supervisor's task did not start on this tokio runtime; start it on \
                           a runtime that keeps running";

/// Prepares the store, and returns the keys that seal its records.
fn prepare(store: &PanicSafeStore, store_context: &StoreContext) -> Result<Option<KeyRing>> {
    let ring = store.prepare(store_context).and_then(|()| store.ring());
    ring.map_err(|refused| {
        let is_sealed = refused.kind() == StoreErrorKind::Sealed;
        refused.explain(if is_sealed { ErrorKind::Misconfigured } else { ErrorKind::Store })
    })
}

/// Registers the providers under their names. Those per tenant get a transport with stricter rules.
fn registered(
    registrations: Vec<(String, Owns, Register)>,
    resources: &Arc<Resources>,
    transport: &TransportConfig,
) -> Result<HashMap<ProviderName, Arc<ProviderEntry>>> {
    let of_tenants = registrations.iter().any(|(_, owns, _)| *owns == Owns::Tenants);
    let strict = match transport.for_tenants().filter(|_| of_tenants) {
        Some(strict) => {
            let transport = Arc::new(Transport::new(&strict)?);
            Arc::new(Resources { transport, ..Resources::clone(resources) })
        }
        None => Arc::clone(resources),
    };
    let mut providers = HashMap::new();
    for (name, owns, register) in registrations {
        let name = ProviderName::new(name)?;
        let resources = if owns == Owns::Tenants { &strict } else { resources };
        if providers.contains_key(&name) {
            let name = quoted(name.as_str());
            return Err(Error::new(ErrorKind::InvalidInput).about(format!(
                "two providers are registered as {name}; give each provider its own name"
            )));
        }
        let registered = Arc::new(register(name.clone(), Arc::clone(resources))?);
        providers.insert(name, registered);
    }
    Ok(providers)
}

const NO_RUNTIME: &str = "there is no tokio runtime here; call `start` within one, for example in \
                          a function with `#[tokio::main]`";

fn misconfigured(about: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Misconfigured).about(about)
}

impl fmt::Debug for SupervisorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.providers.iter().map(|(name, ..)| name).collect();
        f.debug_struct("SupervisorBuilder")
            .field("providers", &names)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
