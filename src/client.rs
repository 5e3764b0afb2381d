//! A provider as sessions use it: with its admission, its refresh policy and its transport.

pub(crate) mod admission;
pub(crate) mod provider_entry;
pub(crate) mod request_history;
pub(crate) mod tenant_client;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use url::Url;

use self::admission::Admission;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{ProviderName, SessionId, Tenant};
use crate::policy::{Policy, RefreshPolicy};
use crate::provider::api_origins::ApiOrigins;
use crate::provider::erased::{self, Erased};
use crate::provider::http_sender::{Budget, HttpSender};
use crate::provider::resources::Resources;
use crate::provider::{Provider, RenewWith, Settings};
use crate::store::ClientKey;
use crate::token::Credentials;

/// The provider of a tenant client with its settings, until these are replaced. An exchange keeps
/// the client that it began with.
pub(crate) struct Client {
    pub(crate) owner: ClientOwner,
    /// Its key in the store, which all processes with these settings have.
    pub(crate) key: ClientKey,
    pub(crate) provider: Arc<dyn Erased>,
    pub(crate) refresh: RefreshPolicy,
    pub(crate) renew_with: Option<RenewWith>,
    /// Where its tokens may go. Empty if the settings had a fault, which `start` reports.
    pub(crate) api_origins: ApiOrigins,
    pub(crate) admission: Admission,
    /// Counts the clients of one tenant client, from 1.
    pub(crate) version: u64,
    resources: Arc<Resources>,
}

/// The provider and the tenant of a client. It stays the same when a client replaces another.
#[derive(Clone)]
pub(crate) struct ClientOwner {
    pub(crate) name: ProviderName,
    /// `None` if the client is for all tenants.
    pub(crate) tenant: Option<Tenant>,
    in_memory: Arc<InMemory>,
}

/// What the sessions of a client have in memory.
#[derive(Default)]
struct InMemory {
    sessions: AtomicUsize,
    /// Sessions whose newest credentials are not saved.
    unsaved: AtomicUsize,
}

impl ClientOwner {
    fn new(name: ProviderName, tenant: Option<Tenant>) -> Self {
        Self { name, tenant, in_memory: Arc::default() }
    }

    /// The key of the client with this id at this server. It has a digest, because a server's
    /// address and a client id may be of any length.
    fn key(&self, server: &str, client: &str) -> ClientKey {
        let mut hash = Sha256::new_with_prefix(server);
        hash.update([0]);
        hash.update(client);
        let digits = hash.finalize().into_iter().take(16).map(|byte| format!("{byte:02x}"));
        let client = digits.collect::<String>().into();
        ClientKey { provider: self.name.clone(), tenant: self.tenant.clone(), client }
    }

    /// How many of its sessions are in memory.
    pub(crate) fn sessions(&self) -> usize {
        self.in_memory.sessions.load(Ordering::Relaxed)
    }

    /// Notes that a session came into memory.
    pub(crate) fn session_came(&self) {
        self.in_memory.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a session left memory.
    pub(crate) fn session_left(&self) {
        self.in_memory.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many of its sessions have credentials that are not saved.
    pub(crate) fn unsaved(&self) -> usize {
        self.in_memory.unsaved.load(Ordering::Relaxed)
    }

    /// Notes that a session has credentials that are not saved, and had none before.
    pub(crate) fn unsaved_came(&self) {
        self.in_memory.unsaved.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a session's unsaved credentials were saved or dropped.
    pub(crate) fn unsaved_left(&self) {
        self.in_memory.unsaved.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Client {
    /// `former` is the client that this one replaces. If the server asked it for fewer requests,
    /// that wait still holds for this one.
    pub(crate) fn new(
        owner: ClientOwner,
        settings: Settings,
        resources: Arc<Resources>,
        former: Option<&Self>,
    ) -> Self {
        let api_origins = settings.api_origins().unwrap_or_default();
        let Settings { provider, refresh, limits, renew_with, .. } = settings;
        let former_admission = former.map(|former| &former.admission);
        let admission = Admission::after(limits, &resources.replicas, former_admission);
        let key = owner.key(provider.binding().text(), provider.client());
        let version = former.map_or(0, |former| former.version) + 1;
        Self {
            owner,
            key,
            provider,
            refresh,
            renew_with,
            api_origins,
            admission,
            version,
            resources,
        }
    }

    /// The sender of one exchange that begins now.
    pub(crate) fn sender<'a>(
        &'a self,
        clock: &Arc<dyn Clock>,
        session: Option<&'a SessionId>,
        policy: &Policy,
    ) -> HttpSender<'a> {
        let budget = Budget {
            ends: clock.now().boot.after(policy.attempt_budget),
            send_until: None,
            answer: policy.answer_timeout,
            min_repeat_time: policy.min_repeat_time,
            longest_retry_after: self.longest_retry_after(),
            challenge: policy.challenge_ttl,
        };
        let issuer = (self.bound_to(), self.provider.client());
        HttpSender::new(&self.resources, Arc::clone(clock), session, issuer, budget)
    }

    /// Whether this provider's server and client issued the credentials. If not, the credentials
    /// must not be sent.
    pub(crate) fn issued(&self, credentials: &Credentials) -> bool {
        let same_client = credentials.client() == self.provider.client();
        same_client && self.provider.binding().covers(credentials.authority())
    }

    /// The authority that its credentials are bound to.
    pub(crate) fn bound_to(&self) -> &str {
        self.provider.binding().text()
    }

    /// The provider with its type: the registered one, or one that it wraps. `InvalidInput` if a
    /// provider without a `P` stands in for it.
    pub(crate) fn typed<P: Provider>(&self) -> Result<Arc<P>> {
        erased::find(&*self.provider).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput).about(format!(
                "another type of provider stands in for a {} here (`Registration::standing_in`), \
                 and logins and calls need that type; if it wraps one, return the inner provider \
                 in `Provider::wrapped`",
                std::any::type_name::<P>()
            ))
        })
    }

    /// Checks a URL that is shown to a user against the rules of this provider's transport. A
    /// server's metadata names the URL, and the user's browser follows it.
    pub(crate) fn check_shown(&self, url: &Url) -> Result<()> {
        self.resources.transport.check(url).map_err(|refused| {
            let advice = refused.advice(url.as_str());
            Error::new(ErrorKind::Misconfigured)
                .about(format!("the login page cannot be used: {advice}"))
                .with_source(refused)
        })
    }

    pub(crate) fn longest_retry_after(&self) -> Duration {
        self.admission.limits().longest_retry_after
    }
}
