//! A provider as the supervisor runs it: under a name, with a gate and a way to its server.

use std::any::TypeId;
use std::sync::Arc;
use std::time::Duration;

use super::erased::{Erased, origin};
use super::gate::Gate;
use super::wire::{Budget, Wire};
use super::{Provider, Registration};
use crate::clock::Clock;
use crate::key::{ProviderName, SessionId};
use crate::policy::{Policy, RefreshPolicy};
use crate::token::Credentials;
use crate::transport::Transport;

/// What all sessions of one provider share.
pub(crate) struct Registered {
    pub(crate) name: ProviderName,
    pub(crate) provider: Arc<dyn Erased>,
    pub(crate) refresh: RefreshPolicy,
    pub(crate) gate: Gate,
    transport: Arc<Transport>,
    /// The type that handles know the provider by.
    provides: TypeId,
}

impl Registered {
    pub(crate) fn new<P: Provider>(
        name: ProviderName,
        registration: Registration<P>,
        transport: Arc<Transport>,
    ) -> Self {
        let Registration { provider, refresh, limits, .. } = registration;
        let (gate, provides) = (Gate::new(limits), TypeId::of::<P>());
        Self { name, provider, refresh, gate, transport, provides }
    }

    pub(crate) fn provides<P: Provider>(&self) -> bool {
        self.provides == TypeId::of::<P>()
    }

    /// The wire of one exchange that begins now.
    pub(crate) fn wire<'a>(
        &'a self,
        clock: &'a dyn Clock,
        session: &'a SessionId,
        policy: &Policy,
    ) -> Wire<'a> {
        let budget = Budget {
            ends: clock.now().boot.after(policy.exchange_budget),
            repeat_floor: policy.repeat_floor,
            longest_retry_after: self.longest_retry_after(),
        };
        Wire::new(&self.transport, clock, session, budget)
    }

    /// Whether this provider's server and client are those that issued the credentials. If not,
    /// nothing of them may be sent.
    pub(crate) fn issued(&self, credentials: &Credentials) -> bool {
        credentials.authority() == origin(&*self.provider)
            && credentials.client() == self.provider.client()
    }

    pub(crate) fn longest_retry_after(&self) -> Duration {
        self.gate.limits().longest_retry_after
    }
}
