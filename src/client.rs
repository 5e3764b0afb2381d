//! A provider as sessions use it: with a gate, a policy and a way to its server.

pub(crate) mod admission;
pub(crate) mod provider_entry;
pub(crate) mod tenant_client;

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use self::admission::Admission;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{ProviderName, SessionId};
use crate::policy::{Policy, RefreshPolicy};
use crate::provider::erased::Erased;
use crate::provider::http_sender::{Budget, HttpSender};
use crate::provider::resources::Resources;
use crate::provider::{Provider, RenewWith, Settings};
use crate::token::Credentials;

/// What all sessions at one site share until its settings change. An exchange keeps the one that
/// it began with.
pub(crate) struct Client {
    pub(crate) name: ProviderName,
    pub(crate) provider: Arc<dyn Erased>,
    pub(crate) refresh: RefreshPolicy,
    pub(crate) renew_with: Option<RenewWith>,
    pub(crate) admission: Admission,
    /// Counts the site's clients, from 1.
    pub(crate) version: u64,
    resources: Arc<Resources>,
}

impl Client {
    /// `former` is the client that this one replaces, of which the server may have wished to be
    /// left alone.
    pub(crate) fn new(
        name: ProviderName,
        settings: Settings,
        resources: Arc<Resources>,
        former: Option<&Self>,
    ) -> Self {
        let Settings { provider, refresh, limits, renew_with } = settings;
        let admission = Admission::after(limits, former.map(|former| &former.admission));
        let version = former.map_or(0, |former| former.version) + 1;
        Self { name, provider, refresh, renew_with, admission, version, resources }
    }

    /// The wire of one exchange that begins now.
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

    /// Whether this provider's server and client are those that issued the credentials. If not,
    /// nothing of them may be sent.
    pub(crate) fn issued(&self, credentials: &Credentials) -> bool {
        let same_client = credentials.client() == self.provider.client();
        same_client && self.provider.binding().covers(credentials.authority())
    }

    /// What its credentials are bound to.
    pub(crate) fn bound_to(&self) -> &str {
        self.provider.binding().text()
    }

    /// The provider with its type. `InvalidInput` where another stands in for it.
    pub(crate) fn typed<P: Provider>(&self) -> Result<Arc<P>> {
        self.provider.as_any().downcast().map_err(|_| {
            Error::new(ErrorKind::InvalidInput)
                .about("another provider stands in for this one, and has no logins and no calls")
        })
    }

    /// Holds a URL that is given to a user against the rules of this provider's transport: a
    /// server's metadata names it, and sends the user's browser there.
    pub(crate) fn check_shown(&self, url: &Url) -> Result<()> {
        self.resources.transport.check(url).map_err(|refused| {
            Error::new(ErrorKind::Misconfigured)
                .about("the transport's rules refuse the URL that the browser is to be sent to")
                .with_source(refused)
        })
    }

    pub(crate) fn longest_retry_after(&self) -> Duration {
        self.admission.limits().longest_retry_after
    }
}
