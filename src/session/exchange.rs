//! An exchange spends a grant or a refresh token: it gets a permit, claims the session in the store,
//! asks the server, saves the tokens and completes its flight. It is a task of the supervisor, so
//! it does not stop when a caller is dropped. If the task panics, its [`Guard`] ends the exchange.

mod adoption;
mod claim;
mod close;
mod delete;
mod exchange_guard;
mod failure;
mod observation;
mod refresh_token_only;
mod revocation;
mod save;
mod scheduled_revocation;
mod send;
mod settle;
mod superseded_tokens;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::Instrument;

use self::claim::{ClaimPurpose, Claimed, OnConflict};
pub(crate) use self::close::close;
pub(crate) use self::delete::forget;
pub(crate) use self::exchange_guard::{Guard, Task};
use self::observation::{Observation, ObservedKind};
pub(crate) use self::scheduled_revocation::revoke;
use self::superseded_tokens::SupersededTokens;
use super::context::Context;
use super::from_record;
use super::job::{Caller, Outcome};
use super::machine::{Class, CredentialState, Failure, Input, Renewable, Retry, StepContext};
use super::outcome::EstablishReply;
use super::single_flight::{FlightOutcome, FlightSender};
use super::slot::{ErasedValue, Slot, Unsaved};
use crate::client::Client;
use crate::client::admission::{ExchangeKind, ScheduledPermit};
use crate::clock::{BootTime, Now};
use crate::crash::{CrashPoint, Steps};
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::journal::Room;
use crate::log::log_session;
use crate::provider::erased::ErasedIssued;
use crate::provider::{ExchangeError, FailureClass, Rotation};
use crate::store::{Attempt, Commit, Intent, StoreError, Stored};
use crate::task::TaskGuard;
use crate::token::Credentials;

/// The kind of request that an exchange sends.
pub(crate) enum Payload {
    Refresh,
    /// A caller's grant. That caller gets the outcome.
    Grant(ErasedValue),
    /// A grant that needs no user: the caller's, or else one that the exchange obtains itself.
    Renewal(Option<ErasedValue>),
}

/// One exchange of one session.
pub(crate) struct Exchange {
    context: Arc<Context>,
    slot: Arc<Slot>,
    /// The client when the exchange began.
    client: Arc<Client>,
    guard: Guard,
    kind: ExchangeKind,
    renewable: Renewable,
    /// The epoch when the exchange began; `None` if no session is known.
    known: Option<u64>,
    /// If the session has a later epoch, the exchange sends nothing.
    last_epoch: Option<u64>,
    /// The epoch that the exchange has claimed.
    epoch: u64,
    /// The generation from which the exchange starts.
    base: u64,
    rotation: Rotation,
    steps: Steps,
    /// The session's credentials when the exchange began.
    held: Option<Arc<Credentials>>,
    /// The record that the store had instead of the expected one. Outer `None`: no conflict; inner
    /// `None`: the store has no record.
    found: Option<Option<Stored>>,
    /// The schedule started the exchange. Admission moves it to the callers' lane as soon as a
    /// caller joins the flight.
    scheduled: bool,
    /// The permit that the schedule has got for this exchange.
    scheduled_permit: Option<ScheduledPermit>,
    /// When another session of the client last succeeded before this request was sent.
    other_success_at: Option<BootTime>,
    observation: Observation,
}

/// The party that requested an exchange.
pub(crate) enum RequestedBy {
    ByCaller,
    /// With a permit, if the schedule has got one for this session.
    BySchedule(Option<ScheduledPermit>),
}

/// How an exchange ended.
enum End {
    Active(CredentialState),
    Challenge(ErasedValue),
    /// With the step context of the settle, so that memory and record have the same times.
    Failed(Failure, StepContext),
    /// The session has a new refresh token, and its former access token. The error says why.
    RefreshTokenOnly(Error),
    /// The store had another record than expected. The exchange sent nothing, or its result does
    /// not count.
    Superseded {
        sent: bool,
    },
    /// The same, but the server has issued tokens that are still valid there.
    TokensSuperseded(SupersededTokens),
}

impl End {
    /// The outcome in spans and metrics, unless a failure was noted before.
    fn name(&self) -> &'static str {
        match self {
            Self::Active(_) => "success",
            Self::Challenge(_) => "challenge",
            Self::Failed(..) | Self::RefreshTokenOnly(_) => "failed",
            Self::Superseded { .. } | Self::TokensSuperseded(_) => "superseded",
        }
    }
}

impl Exchange {
    /// Takes the session's credentials and counters as they are now. From here on its guard answers
    /// `caller` and completes the flight, whatever happens.
    pub(crate) fn new(
        (context, slot): (&Arc<Context>, &Arc<Slot>),
        client: Arc<Client>,
        (renewable, caller): (Renewable, Caller),
        (sender, task_guard): (FlightSender, TaskGuard),
    ) -> Self {
        let (held, (epoch, base)) = slot.with_state(|state| {
            let settled = state.settled.as_ref();
            let held = settled.and_then(|settled| settled.credentials().cloned());
            (held, state.counters())
        });
        let (rotation, kind) = (client.provider.rotation(), ExchangeKind::Own);
        let task = Task::Exchange { rotation, renewable, base };
        let observation = Observation::new(sender.id());
        let guard = Guard::new((context, slot), task, caller, (sender, task_guard));
        let (context, slot) = (Arc::clone(context), Arc::clone(slot));
        let steps = context.steps.of_exchange();
        Self {
            context,
            slot,
            client,
            guard,
            kind,
            renewable,
            known: (epoch > 0).then_some(epoch),
            last_epoch: None,
            epoch,
            base,
            rotation,
            steps,
            held,
            found: None,
            scheduled: false,
            scheduled_permit: None,
            other_success_at: None,
            observation,
        }
    }

    /// Sets who requested the exchange. The default is a caller.
    pub(crate) fn requested_by(mut self, requested_by: RequestedBy) -> Self {
        if let RequestedBy::BySchedule(scheduled_permit) = requested_by {
            (self.scheduled, self.scheduled_permit) = (true, scheduled_permit);
        }
        self
    }

    /// Sends nothing if the session has a later epoch than this: somebody has established it since.
    pub(crate) fn unless_later_than(mut self, last_epoch: Option<u64>) -> Self {
        self.last_epoch = last_epoch;
        self
    }

    /// Runs to the end, even if actors crash and callers are dropped.
    pub(crate) async fn run(mut self, payload: Payload) {
        // Begin before anything is sent: a caller may have given this start up and begun another
        // one, and two exchanges must not spend one refresh token.
        if !self.guard.begin() {
            return;
        }
        self.context.counts.exchanges.fetch_add(1, Ordering::Relaxed);
        let kind = ObservedKind::of(&payload);
        let span = self.observation.begin(&self.context, self.slot.id(), kind);
        self.run_observed(payload).instrument(span).await;
        // Callers get the tokens first: they must not wait for a store that is down.
        save::until_saved(&self.context, &self.slot).await;
    }

    async fn run_observed(&mut self, payload: Payload) {
        let end = match self.grant(payload).await {
            Ok(grant) => self.exchange(grant).await,
            Err(failure) => self.fails(failure),
        };
        if let End::TokensSuperseded(superseded) = &end {
            // Revoke before the flight completes: after it this process may begin a new grant,
            // and a revocation of all the user's tokens would hit that one.
            superseded_tokens::revoke_or_report(&self.context, &self.slot, superseded).await;
        }
        // Step before the flight leaves the slot: a caller that asks in between would find a
        // running exchange without a flight to join.
        let observed = end.name();
        let outcome = self.step(end);
        // Before the callers are answered: a test or an operator that sees the answer also finds
        // what was observed.
        self.observation.end(observed, self.context.now());
        self.finish(outcome);
    }

    /// The grant to send; `None` for a refresh.
    async fn grant(&mut self, payload: Payload) -> Result<Option<ErasedValue>, Failure> {
        let grant = match payload {
            Payload::Refresh => return Ok(None),
            Payload::Renewal(Some(grant)) => grant,
            Payload::Renewal(None) => {
                // Drop the permit first: the application may take long to give a grant, and the
                // client's other sessions need the permit.
                self.scheduled_permit = None;
                self.own_grant().await?
            }
            Payload::Grant(grant) => {
                self.kind = ExchangeKind::Grant;
                grant
            }
        };
        // Before the revocation, which is dropped if it cannot be sent.
        self.unless_paused()?;
        // Before the grant is sent: a later revocation could hit the tokens that it gives.
        revocation::revoke_before_grant(&self.context, &self.slot).await;
        Ok(Some(grant))
    }

    /// Fails if the backend has paused the session since the exchange was started.
    fn unless_paused(&self) -> Result<(), Failure> {
        let checked = self.context.paused.check(self.slot.id());
        checked.map_err(|error| Failure { class: Class::HeldBack, error, wait: Duration::ZERO })
    }

    async fn exchange(&mut self, grant: Option<ErasedValue>) -> End {
        let held = self.held.clone();
        let sent = held.as_ref().filter(|_| grant.is_none());
        if sent.is_some_and(|held| !self.client.issued(held)) {
            return self.fails(failure::issuer_mismatch());
        }
        if self.is_later(self.known) {
            return End::Superseded { sent: false };
        }
        let intent = if grant.is_some() { Intent::Establish } else { Intent::Refresh };
        let on_conflict = match self.kind {
            ExchangeKind::Grant => OnConflict::ClaimAgain,
            ExchangeKind::Own => OnConflict::Yield,
        };
        let mut claimed = match self.claim(intent, on_conflict, ClaimPurpose::Exchange).await {
            Ok(Some(claimed)) => claimed,
            Ok(None) => return End::Superseded { sent: false },
            Err(failed) => return self.fails(failed),
        };
        self.steps.at(CrashPoint::Claimed);
        // After the claim: the preparation, the room in the journal and the claim may have taken long,
        // and nothing may leave once `Supervisor::pause` has returned.
        if let Err(paused) = self.unless_paused() {
            let Claimed { attempt, permit, room, .. } = claimed;
            drop((permit, room));
            // Without a time to retry: callers may refresh at once after the resume.
            let left = self.left_as_before();
            self.settle(attempt, left).await;
            return self.fails(paused);
        }
        // Read before the request is sent: another session's success during this request may be
        // the first after an outage that this request still meets, so it proves nothing.
        self.other_success_at = self.client.admission.other_success_at(self.slot.id());
        let (answer, sent) = self.send(&mut claimed, grant, held).await;
        let Claimed { attempt, permit, room, .. } = claimed;
        // Drop the permit before the save: a slow store must not hold up other sessions.
        drop(permit);
        match answer {
            Ok(ErasedIssued::Tokens(credentials)) => {
                self.steps.at(CrashPoint::Received);
                let (credentials, from) =
                    from_record::arrived(credentials, sent, self.context.now());
                self.issued(intent, (attempt, room), credentials, from).await
            }
            Ok(ErasedIssued::Challenge(challenge)) => {
                // Settle before the user is asked: the user may take longer than the lease.
                let left = self.left_as_before();
                self.settle(attempt, left).await;
                End::Challenge(challenge)
            }
            Err(mut failed) => match (intent, failed.take_refresh_token()) {
                (Intent::Refresh, Some(refresh)) => {
                    self.steps.at(CrashPoint::Received);
                    self.refresh_token_only((attempt, room, refresh), failed, sent).await
                }
                (_, _) => self.failed(intent, attempt, failed, sent).await,
            },
        }
    }

    /// Whether a session of this epoch is later than the one that the exchange may replace.
    fn is_later(&self, epoch: Option<u64>) -> bool {
        self.last_epoch.is_some_and(|last| epoch.is_some_and(|epoch| epoch > last))
    }

    /// Saves the new credentials. Their lifetimes count from `from`.
    async fn issued(
        &self,
        intent: Intent,
        (attempt, room): (Attempt, Option<Room>),
        credentials: Credentials,
        from: Now,
    ) -> End {
        let epoch = if intent == Intent::Establish { self.epoch + 1 } else { self.epoch };
        let counters = (epoch, self.base + 1);
        let held = from_record::held(&self.client, Arc::new(credentials), counters, from);
        match self.save(intent, (attempt, room), held.clone()).await {
            None => End::Active(held),
            Some(superseded) => End::TokensSuperseded(superseded),
        }
    }

    /// Keeps the credentials in the slot, writes them to the journal, saves and publishes them. Returns them if another
    /// process has closed or replaced the session.
    async fn save(
        &self,
        intent: Intent,
        (attempt, room): (Attempt, Option<Room>),
        held: CredentialState,
    ) -> Option<SupersededTokens> {
        let Self { context, slot, .. } = self;
        let now = context.now();
        let ends = from_record::ends(&held, now.boot, context.policy(slot).ahead);
        let credentials = Arc::clone(&held.credentials);
        let commit = Commit { intent, epoch: self.epoch, attempt, credentials, ends };
        // Keep them first: the server has spent the old token, so this is the only copy. If the
        // task panics from here on, its guard has them saved.
        slot.keep_unsaved(Unsaved::new(commit, now, room));
        // Step before the save: `Saved` and `Unsaved` publish the credentials of `Issued`.
        context.apply(slot, Input::Issued(held));
        save::write_to_journal(context, slot).await;
        save::in_time(context, slot).await
    }

    async fn failed(
        &mut self,
        intent: Intent,
        attempt: Attempt,
        failed: ExchangeError,
        sent: Now,
    ) -> End {
        self.observation.failed(&failed);
        let failure = self.failure(intent, failed, Some(sent));
        let at = self.context.step_context(&self.slot);
        let left = self.settles_to(intent, &failure, &at);
        // Settle before the machine steps: if another process has committed newer tokens, the
        // store reports it here, and a stale token does not make the session `Lost`.
        self.settle(attempt, left).await;
        match self.found {
            Some(_) => End::Superseded { sent: true },
            None => End::Failed(failure, at),
        }
    }

    fn fails(&mut self, failure: Failure) -> End {
        self.observation.held_back(&failure);
        End::Failed(failure, self.context.step_context(&self.slot))
    }

    /// Steps the machine and returns the outcome for the caller of a grant.
    fn step(&mut self, end: End) -> Result<EstablishReply, Error> {
        let (context, slot) = (Arc::clone(&self.context), Arc::clone(&self.slot));
        match end {
            End::Active(held) => Ok(EstablishReply::Active(held.credentials)),
            End::Challenge(challenge) => {
                context.apply(&slot, Input::Challenged);
                Ok(EstablishReply::Challenge(challenge))
            }
            End::Failed(failure, at) => {
                let error = failure.error.clone();
                context.apply_at(&slot, Input::Failed(failure), &at);
                Err(error)
            }
            End::RefreshTokenOnly(error) => Err(error),
            End::Superseded { sent: false } => {
                Err(self.superseded().with_outcome(ExchangeOutcome::NotSent))
            }
            End::Superseded { sent: true } => Err(self.superseded()),
            End::TokensSuperseded(superseded) => {
                self.found = Some(superseded.into_found());
                Err(self.superseded())
            }
        }
    }

    /// Answers the caller, then completes the flight. Step the machine before, so that a caller
    /// who gets the outcome also finds it published.
    fn finish<T: Outcome>(&mut self, outcome: Result<T, Error>) {
        // Before `end`, which disarms the guard: this calls the provider, which may panic.
        let flight_outcome = self.flight_outcome();
        // Also before `end`: the guard of a task that panics answers only while it is armed.
        self.guard.answer(outcome);
        self.guard.end(flight_outcome);
        self.steps.at(CrashPoint::Replied);
    }

    fn superseded(&mut self) -> Error {
        log_session!(
            self.context.log_limit(),
            warn,
            self.slot.id(),
            "another process changed the session meanwhile"
        );
        let found = self.found.take();
        let found = found.map(|found| from_record::found(&self.context, &self.client, found));
        self.context.apply(&self.slot, Input::Conflict { found });
        Error::new(ErrorKind::Superseded)
    }

    /// The outcome that all waiters share.
    fn flight_outcome(&self) -> FlightOutcome {
        self.guard.flight_outcome(self.base, self.slot.renewable().max(self.renewable))
    }

    async fn stored<T>(
        &self,
        statement: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Failure> {
        self.context.await_store(statement).await.map_err(|failed| Failure {
            class: Class::Harmless,
            error: failed.into_error(),
            wait: Duration::ZERO,
        })
    }

    /// `sent` is the time of the request, if one may have left.
    fn failure(&self, intent: Intent, failed: ExchangeError, sent: Option<Now>) -> Failure {
        let wait = failed.retry_after().unwrap_or_default();
        let limits = self.client.admission.limits();
        let (class, wait) = match failed.class() {
            FailureClass::NotSent
            | FailureClass::Untrusted
            | FailureClass::NotProcessed
            | FailureClass::Throttled => (Class::Harmless, wait),
            FailureClass::Ambiguous => match sent {
                Some(sent) => (Class::Ambiguous(self.retry(sent)), wait),
                None => (Class::Harmless, wait),
            },
            FailureClass::Rejected if intent == Intent::Refresh => (Class::Rejected, wait),
            FailureClass::Rejected | FailureClass::Refused(_) => (Class::Refused, wait),
            FailureClass::Unclassified => {
                (Class::Unclassified { other_success_at: self.other_success_at }, wait)
            }
            FailureClass::InvalidClient => (Class::Misconfigured, wait.max(limits.probe)),
            FailureClass::Misconfigured => (Class::Harmless, wait),
        };
        Failure { class, error: failed.into_error(), wait }
    }

    fn retry(&self, sent: Now) -> Retry {
        failure::retry(&self.context, self.rotation, sent)
    }
}
