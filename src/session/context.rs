//! The context that all sessions of one supervisor share. It steps a slot, publishes the events of
//! the step and arms the schedule.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::load_queue::LoadQueue;
use super::machine::{
    Effects, ExternalChange, Input, MachinePolicy, Notification, Start, State, StepContext,
};
use super::mailbox::Mailbox;
use super::message::Message;
use super::outcome::Invalidation;
use super::paused_scopes::PausedScopes;
use super::registry::Registry;
use super::single_flight::{Flight, FlightSender};
use super::slot::Slot;
use super::unwritten_clients::UnwrittenClients;
use crate::client::admission::ExchangeKind;
use crate::client::request_history::ConditionChange;
use crate::client::tenant_client::{TenantClient, Unresolved};
use crate::client::{Client, ClientOwner};
use crate::clock::{Clock, Now, timeout};
use crate::crash::Steps;
use crate::error::Error;
use crate::event::{AffectedProvider, Event, EventKind, Publisher};
use crate::health::{Condition, LatestCount};
use crate::journal::JournalWriter;
use crate::key::SessionId;
use crate::log::LogLimit;
use crate::measurements::Measurements;
use crate::policy::{Policy, When};
use crate::provider::resources::Resources;
use crate::provider::{ExchangeError, FailureClass};
use crate::seal::KeyRing;
use crate::store::{Change, Owner, Phase, Store, StoreError, StoreErrorKind};
use crate::task::Tasks;

/// The resources that all sessions of one supervisor share.
pub(crate) struct Context {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tasks: Tasks,
    pub(crate) events: Publisher,
    pub(crate) policy: Policy,
    pub(crate) owner: Owner,
    pub(crate) counts: Counts,
    pub(crate) resources: Arc<Resources>,
    pub(crate) keys: KeyRing,
    /// Where new credentials are written before they are saved, if the application has set one.
    pub(crate) journal: Option<Arc<JournalWriter>>,
    pub(crate) registry: Registry,
    pub(crate) mailbox: Arc<dyn Mailbox>,
    pub(crate) load_queue: LoadQueue,
    pub(crate) steps: Steps,
    /// How many sessions the store has. They are counted once somebody asks, or if metrics are on.
    pub(crate) latest_count: LatestCount,
    pub(crate) measurements: Arc<dyn Measurements>,
    pub(crate) unwritten_clients: UnwrittenClients,
    pub(crate) paused: PausedScopes,
}

/// The supervisor's counters.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) exchanges: AtomicU64,
    pub(crate) refreshes: AtomicU64,
    pub(crate) establishes: AtomicU64,
    pub(crate) actor_restarts: AtomicU64,
    pub(crate) supervisor_restarts: AtomicU64,
}

impl Context {
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn log_limit(&self) -> &LogLimit {
        &self.resources.log_limit
    }

    /// Awaits the store for no longer than [`Policy::store_timeout`].
    pub(crate) async fn await_store<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let answer = timeout(&*self.clock, self.policy.store_timeout, answer).await;
        answer.unwrap_or_else(|| Err(StoreError::new(StoreErrorKind::Slow)))
    }

    /// Steps a slot's machine, publishes its notifications and arms the schedule.
    pub(crate) fn apply(&self, slot: &Arc<Slot>, input: Input) -> Option<Start> {
        self.apply_at(slot, input, &self.step_context(slot))
    }

    /// The same with a given step context.
    pub(crate) fn apply_at(
        &self,
        slot: &Arc<Slot>,
        input: Input,
        step_context: &StepContext,
    ) -> Option<Start> {
        let effects = slot.apply(input, step_context);
        self.follow_up(slot, effects, step_context)
    }

    /// Begins a job or a revocation; `None` if another exchange runs.
    pub(crate) fn begin(&self, slot: &Arc<Slot>, what: Start) -> Option<FlightSender> {
        let step_context = self.step_context(slot);
        let (sender, notifications) = slot.begin(what, &step_context);
        self.publish_and_arm(slot, notifications, &step_context);
        sender
    }

    /// Arms the schedule again after it has done its last check.
    pub(crate) fn rearm(&self, slot: &Arc<Slot>) {
        slot.disarm();
        self.arm(slot, &self.policy(slot));
    }

    /// Takes back an exchange that has not begun.
    pub(crate) fn give_up(&self, slot: &Arc<Slot>, is: impl Fn(&Flight) -> bool) {
        let step_context = self.step_context(slot);
        slot.give_up(is, &step_context);
        self.publish_and_arm(slot, Vec::new(), &step_context);
    }

    /// Publishes the notifications of a step, and arms the schedule.
    pub(crate) fn publish_and_arm(
        &self,
        slot: &Arc<Slot>,
        notifications: Vec<Notification>,
        step_context: &StepContext,
    ) {
        self.publish(slot, notifications, step_context.now);
        self.arm(slot, &step_context.policy);
    }

    /// Returns the start for the caller, which must begin it.
    fn follow_up(
        &self,
        slot: &Arc<Slot>,
        effects: Effects,
        step_context: &StepContext,
    ) -> Option<Start> {
        let Effects { start, notifications } = effects;
        self.publish_and_arm(slot, notifications, step_context);
        start
    }

    /// Compares a session with the new settings of its client.
    pub(crate) fn reconsider(&self, slot: &Arc<Slot>) {
        let step_context = self.step_context(slot);
        if slot.reconsider(&step_context) {
            self.event(slot, EventKind::IssuerMismatch);
        }
        self.arm(slot, &step_context.policy);
    }

    /// Steps a session after a change of another process; `None` if the change is unknown.
    pub(crate) fn external_change(&self, slot: &Arc<Slot>, change: Option<Change>) {
        let change =
            change.map_or(ExternalChange::UNKNOWN, |change| self.external_change_of(slot, change));
        self.apply(slot, Input::ExternalChange(change));
    }

    /// The effect of a change on the session in memory: its token may have ended.
    pub(crate) fn external_change_of(&self, slot: &Slot, change: Change) -> ExternalChange {
        let ended = matches!(change.phase, None | Some(Phase::Lost | Phase::Closed));
        let newer = slot.with_state(|state| (change.epoch, change.generation) > state.counters());
        let kills = || {
            let client = slot.tenant_client.client();
            client.is_some_and(|client| client.provider.refresh_ends_access_tokens())
        };
        ExternalChange { version: Some(change.version), ends: ended || (newer && kills()) }
    }

    /// Reports the end of an exchange to the client's admission, for all its sessions.
    pub(crate) fn report(
        &self,
        client: &Client,
        session: Option<&SessionId>,
        of: ExchangeKind,
        result: Result<(), &ExchangeError>,
    ) {
        let now = self.now();
        let change = client.admission.report(now, of, session, result);
        self.write_client_later(client);
        let Some(change) = change else { return };
        let ConditionChange { to, cause, failing_for } = change;
        let provider = affected(&client.owner);
        let kind = match to {
            Condition::Unreachable => EventKind::ProviderUnreachable(provider),
            Condition::Throttled => EventKind::ProviderThrottled(provider),
            Condition::Rejecting => EventKind::ProviderRejecting(provider),
            Condition::Working | Condition::Unknown => {
                EventKind::ProviderRecovered { provider, after: failing_for }
            }
        };
        // With the session whose request showed it.
        let event = match session {
            Some(session) => Event::of_session(session, now.wall, 0, kind),
            None => Event::of_none(now.wall, kind),
        };
        self.events.publish(event.caused_by(cause));
    }

    /// The client of a tenant. Asks the provider's source if it is not known.
    pub(crate) async fn resolve(&self, tenant_client: &TenantClient) -> Result<Arc<Client>, Error> {
        let resolved = tenant_client.resolve(&*self.clock, &self.policy).await;
        resolved.map_err(|unresolved| self.unresolved(unresolved))
    }

    pub(crate) fn unresolved(&self, Unresolved { error, first_failure_of }: Unresolved) -> Error {
        if let Some((provider, tenant)) = first_failure_of {
            let kind = EventKind::ProviderUnresolved { provider, tenant };
            self.events.publish(Event::of_none(self.now().wall, kind));
        }
        error
    }

    /// The caller's error for a failed operation. Only two failures concern the other sessions: the
    /// server throttles requests, or calls the client invalid.
    pub(crate) fn failed_call(
        &self,
        tenant_client: &TenantClient,
        client: &Client,
        session: Option<&SessionId>,
        failed: ExchangeError,
    ) -> Error {
        let asks_source =
            failed.names_client() && tenant_client.note_rejection(client, self.now().boot);
        let concerns_all = failed.class() == FailureClass::Throttled || failed.names_client();
        if concerns_all && !asks_source {
            self.report(client, session, ExchangeKind::Grant, Err(&failed));
        }
        failed.into_error()
    }

    /// Reports a rejected token.
    pub(crate) fn reject(&self, slot: &Arc<Slot>, generation: u64) {
        let step_context = self.step_context(slot);
        slot.reject(generation, &step_context);
        // `reject` may have started the first load.
        self.arm(slot, &step_context.policy);
    }

    /// The same, unless the rejection is damped.
    pub(crate) fn invalidate(&self, slot: &Arc<Slot>, generation: u64) -> Invalidation {
        let step_context = self.step_context(slot);
        let invalidation = slot.invalidate(generation, &step_context);
        self.arm(slot, &step_context.policy);
        invalidation
    }

    pub(crate) fn event(&self, slot: &Slot, kind: EventKind) {
        let epoch = slot.with_state(|state| state.counters().0);
        self.events.publish(Event::of_session(slot.id(), self.now().wall, epoch, kind));
    }

    pub(crate) fn step_context(&self, slot: &Slot) -> StepContext {
        StepContext { now: self.now(), jitter: fastrand::f64(), policy: self.policy(slot) }
    }

    pub(crate) fn policy(&self, slot: &Slot) -> MachinePolicy {
        let client = slot.tenant_client.client();
        let refresh = client.as_ref().map(|client| &client.refresh);
        MachinePolicy {
            backoff: self.policy.backoff,
            challenge: self.policy.challenge_ttl,
            budget: self.policy.attempt_budget,
            ahead: refresh.is_some_and(|refresh| refresh.when == When::Proactive),
            unclassified: refresh.map(|refresh| refresh.unclassified).unwrap_or_default(),
        }
    }

    fn publish(&self, slot: &Slot, notifications: Vec<Notification>, now: Now) {
        for notification in notifications {
            let kind = match notification {
                Notification::Established => {
                    self.counts.establishes.fetch_add(1, Ordering::Relaxed);
                    EventKind::Established
                }
                Notification::Refreshed => {
                    self.counts.refreshes.fetch_add(1, Ordering::Relaxed);
                    EventKind::Refreshed
                }
                Notification::Expiring { left } => EventKind::RefreshExpiring { left },
                Notification::Lost(reason) => EventKind::Lost(reason),
                Notification::InDoubt => EventKind::InDoubt,
                Notification::BackingOff { wait } => EventKind::BackingOff { retry_after: wait },
                Notification::Unsaved => EventKind::Unsaved,
                Notification::Saved => EventKind::Saved,
                Notification::Revoked => EventKind::Revoked,
                Notification::Forgotten => EventKind::Forgotten,
            };
            let failed = matches!(
                kind,
                EventKind::Lost(_) | EventKind::InDoubt | EventKind::BackingOff { .. }
            );
            let cause = if failed { slot.with_state(State::cause) } else { None };
            let epoch = slot.with_state(|state| state.counters().0);
            let event = Event::of_session(slot.id(), now.wall, epoch, kind);
            self.events.publish(event.caused_by(cause));
        }
    }

    /// As [`Mailbox::send`], if no caller waits. While there is no supervisor actor, such messages
    /// are dropped: the next one first checks every slot that has work.
    pub(crate) fn deliver(&self, slot: &Arc<Slot>, message: Message) {
        self.mailbox.send(slot, message);
    }

    /// Releases a reference to a slot. A disposable slot is removed with its last reference.
    pub(crate) fn let_go(&self, slot: Arc<Slot>) {
        if slot.is_disposable() {
            self.registry.release(slot);
        }
    }

    /// Arms the schedule, and puts a load that a step has started into the load queue.
    fn arm(&self, slot: &Arc<Slot>, policy: &MachinePolicy) {
        if let Some(load) = slot.take_background_start() {
            self.load_queue.add(slot, load);
        }
        if let Some((at, known)) = slot.arm(policy, self.now().boot) {
            self.registry.arm(slot.id(), at, known);
        }
    }
}

fn affected(owner: &ClientOwner) -> AffectedProvider {
    let ClientOwner { name, tenant, .. } = owner;
    AffectedProvider { provider: name.clone(), tenant: tenant.clone(), sessions: owner.sessions() }
}
