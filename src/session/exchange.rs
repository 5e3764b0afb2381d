//! An exchange: permit, claim, the server, save, publish, land. It runs on the task tracker and
//! belongs to nobody who can be dropped; a [`Guard`] ends it whatever happens to it.

mod adopt;
mod close;
mod converse;
mod forget;
mod guard;
mod orphan;
mod save;
mod turn;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

pub(crate) use self::close::{close, revoke};
pub(crate) use self::forget::forget;
pub(crate) use self::guard::{Guard, Task};
use self::orphan::Orphan;
use self::turn::{Moved, Turn, Wants};
use super::core::Core;
use super::flight::Landing;
use super::machine::{self, Class, Failure, Held, Input, Renewable, Rest, Retry, State};
use super::message::{Granted, Outcome};
use super::restore;
use super::slot::{Parcel, Renewal, Slot};
use crate::clock::{BootTime, Now, within};
use crate::crash::{CrashPoint, Steps};
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::log::log_session;
use crate::provider::client::Client;
use crate::provider::erased::ErasedIssued;
use crate::provider::gate::{Exchanged, Shut};
use crate::provider::{ExchangeError, FailureClass, Rotation};
use crate::store::{
    Attempt, Commit, Intent, Settle, SettleTo, Settled, StoreError, StoreErrorKind,
};
use crate::token::Credentials;

/// What an exchange sends.
pub(crate) enum Cargo {
    /// `scheduled`: no caller asked for it.
    Refresh { scheduled: bool },
    /// A grant of a caller's, who gets its outcome.
    Grant(Parcel),
    /// A grant that needs no user.
    Renewal(Renewal),
}

/// One exchange of one session.
pub(crate) struct Exchange {
    core: Arc<Core>,
    slot: Arc<Slot>,
    /// The client that it began with.
    client: Arc<Client>,
    guard: Guard,
    exchanged: Exchanged,
    renewable: Renewable,
    /// The generation from which it starts.
    base: u64,
    epoch: u64,
    rotation: Rotation,
    steps: Steps,
    /// No caller asked for it.
    scheduled: bool,
    /// When another session of the client had last succeeded before this request was sent.
    healthy_at: Option<BootTime>,
    /// The store had something else than the slot when this began.
    outdated: bool,
}

/// How an exchange ended.
enum End {
    Active(Held),
    Challenge(Parcel),
    Failed(Failure),
    /// The store has something else than was thought; nothing was sent, or it does not count.
    Superseded {
        sent: bool,
    },
    /// The same, with credentials that live at the server.
    Orphaned(Orphan),
}

impl Exchange {
    pub(crate) fn new(
        guard: Guard,
        client: Arc<Client>,
        renewable: Renewable,
        (epoch, base): (u64, u64),
    ) -> Self {
        let (core, slot) = (Arc::clone(&guard.core), Arc::clone(&guard.slot));
        let (rotation, exchanged) = (client.provider.rotation(), Exchanged::Own);
        let steps = core.steps.of_exchange();
        let (scheduled, outdated, healthy_at) = (false, false, None);
        Self {
            core,
            slot,
            client,
            guard,
            exchanged,
            renewable,
            base,
            epoch,
            rotation,
            steps,
            scheduled,
            healthy_at,
            outdated,
        }
    }

    /// Runs to its end, even if actors crash and callers are dropped.
    pub(crate) async fn run(mut self, cargo: Cargo, credentials: Option<Arc<Credentials>>) {
        self.core.counts.exchanges.fetch_add(1, Ordering::Relaxed);
        let end = match self.grant(cargo).await {
            Ok(grant) => self.exchange(grant, credentials).await,
            Err(none) => End::Failed(none),
        };
        if let End::Orphaned(orphan) = &end {
            // Before the landing: no grant of this process begins meanwhile.
            orphan::end(&self.core, &self.slot, orphan).await;
        }
        let granted = self.step(end);
        self.finish(granted);
        save::pay(&self.core, &self.slot).await;
    }

    /// The grant to be sent; none for a refresh.
    async fn grant(&mut self, cargo: Cargo) -> Result<Option<Parcel>, Failure> {
        let grant = match cargo {
            Cargo::Refresh { scheduled } => {
                self.scheduled = scheduled;
                return Ok(None);
            }
            Cargo::Renewal(Renewal::Grant(grant)) => grant,
            Cargo::Renewal(Renewal::AskFor(reason)) => self.asked_for(reason).await?,
            Cargo::Grant(grant) => {
                self.exchanged = Exchanged::Grant;
                grant
            }
        };
        close::tell_before(&self.core, &self.slot).await;
        Ok(Some(grant))
    }

    async fn exchange(&mut self, grant: Option<Parcel>, held: Option<Arc<Credentials>>) -> End {
        let sent = held.as_ref().filter(|_| grant.is_none());
        if sent.is_some_and(|held| !self.client.issued(held)) {
            return End::Failed(foreign());
        }
        let intent = if grant.is_some() { Intent::Establish } else { Intent::Refresh };
        let moved = match self.exchanged {
            Exchanged::Grant => Moved::Follow,
            Exchanged::Own => Moved::Yield,
        };
        let Turn { at, attempt, permit } = match self.turn(intent, moved, Wants::Exchange).await {
            Ok(Some(turn)) => turn,
            Ok(None) => return End::Superseded { sent: false },
            Err(failed) => return End::Failed(failed),
        };
        self.steps.at(CrashPoint::Claimed);
        // Asked before the request is sent: a success that comes while it is out may be the first
        // after an outage that this request still meets.
        self.healthy_at = self.client.gate.healthy_at(self.slot.id());
        let (answer, sent) = self.converse(at, grant, held).await;
        drop(permit);
        match answer {
            Ok(ErasedIssued::Tokens(credentials)) => {
                self.steps.at(CrashPoint::Received);
                self.issued(intent, attempt, credentials, sent).await
            }
            Ok(ErasedIssued::Challenge(challenge)) => {
                // A claim that gave a challenge gave no credentials.
                self.settle(attempt, SettleTo::Before, None).await;
                End::Challenge(challenge)
            }
            Err(failed) => self.failed(intent, attempt, failed, sent).await,
        }
    }

    /// The answer is here: kept in the slot first, then saved, then published.
    async fn issued(
        &self,
        intent: Intent,
        attempt: Attempt,
        credentials: Credentials,
        sent: Now,
    ) -> End {
        let Self { core, slot, .. } = self;
        let epoch = if intent == Intent::Establish { self.epoch + 1 } else { self.epoch };
        let credentials = Arc::new(credentials);
        let counters = (epoch, self.base + 1);
        let held = restore::held(&self.client, credentials, counters, sent);
        let due_at = save::due_at(&held, core.now(), core.rules(slot).ahead);
        let credentials = Arc::clone(&held.credentials);
        let commit = Commit { intent, epoch: self.epoch, attempt, credentials, due_at };
        slot.owe(Some(Arc::new(commit)));
        core.apply(slot, Input::Issued(held.clone()));
        match save::in_time(core, slot).await {
            None => End::Active(held),
            Some(orphan) => End::Orphaned(orphan),
        }
    }

    async fn failed(
        &self,
        intent: Intent,
        attempt: Attempt,
        failed: ExchangeError,
        sent: Now,
    ) -> End {
        let failure = self.failure(intent, failed, Some(sent));
        let (to, retry_at) = self.settles_to(intent, &failure);
        // The row is looked at again before a session is declared lost: if it moved, our token
        // was stale, and it is the newer one that counts.
        match self.settle(attempt, to, retry_at).await {
            Some(Settled::Moved) => End::Superseded { sent: true },
            Some(Settled::Done) | None => End::Failed(failure),
        }
    }

    /// Where the machine will rest after this failure, and when it will try again. The record says
    /// it too, or the next process would try out a doubt at once.
    fn settles_to(&self, intent: Intent, failure: &Failure) -> (SettleTo, Option<SystemTime>) {
        let at = self.core.moment(&self.slot);
        let state = self.slot.look(State::clone);
        let (state, _) = machine::step(state, Input::Failed(failure.clone()), &at);
        let rest = state.rest();
        let retry_at = rest.as_ref().and_then(|rest| rest.retry_at());
        let to = match (intent, failure.class, rest.as_deref()) {
            (Intent::Establish, Class::Ambiguous(_), _) => SettleTo::BeforeSuspect,
            (Intent::Refresh, _, Some(Rest::InDoubt(..))) => SettleTo::InDoubt,
            (Intent::Refresh, _, Some(Rest::Lost(lost))) => SettleTo::Lost(lost.reason),
            (Intent::Establish | Intent::Refresh, _, _) => SettleTo::Before,
        };
        (to, retry_at.map(|retry_at| at.now.wall_at(retry_at)))
    }

    async fn settle(
        &self,
        attempt: Attempt,
        to: SettleTo,
        retry_at: Option<SystemTime>,
    ) -> Option<Settled> {
        let Self { core, slot, epoch, .. } = self;
        let settle = Settle { epoch: *epoch, attempt, to, retry_at };
        match self.stored(core.store.settle(slot.id(), settle)).await {
            Ok(settled) => Some(settled),
            Err(unsettled) => {
                // The claim stays our own; the next one takes it over.
                log_session!(warn, slot.id(), error = ?unsettled.error, "not settled");
                None
            }
        }
    }

    /// Steps the machine, and says what the caller of a grant gets.
    fn step(&self, end: End) -> Result<Granted, Error> {
        let Self { core, slot, .. } = self;
        match end {
            End::Active(held) => Ok(Granted::Active(held.credentials)),
            End::Challenge(challenge) => {
                core.apply(slot, Input::Challenged);
                Ok(Granted::Challenge(challenge))
            }
            End::Failed(failure) => {
                let error = failure.error.clone();
                core.apply(slot, Input::Failed(failure));
                if self.outdated {
                    core.apply(slot, Input::Outdated);
                }
                Err(error)
            }
            End::Superseded { sent: false } => {
                Err(self.superseded().with_outcome(ExchangeOutcome::NotSent))
            }
            End::Superseded { sent: true } | End::Orphaned(_) => Err(self.superseded()),
        }
    }

    /// Answers the caller, then completes the flight. The machine was stepped before: whoever
    /// hears of the end finds it published.
    fn finish<T: Outcome>(&mut self, outcome: Result<T, Error>) {
        // The provider is asked for a renewal while the guard still stands.
        let landing = self.landing();
        self.guard.answer(outcome);
        self.guard.end(landing);
        self.steps.at(CrashPoint::Replied);
    }

    fn superseded(&self) -> Error {
        log_session!(warn, self.slot.id(), "another process was faster");
        self.core.apply(&self.slot, Input::Superseded);
        Error::new(ErrorKind::Superseded)
    }

    /// What the waiters get: all the same.
    fn landing(&self) -> Landing {
        self.guard.landing(self.base, self.slot.renewable().max(self.renewable))
    }

    async fn stored<T>(
        &self,
        statement: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Failure> {
        let answer = within(&*self.core.clock, self.core.policy.store_wait, statement).await;
        answer.unwrap_or_else(|| Err(StoreError::new(StoreErrorKind::Slow))).map_err(|failed| {
            Failure {
                class: Class::Harmless,
                error: unstored(failed),
                wait: std::time::Duration::ZERO,
            }
        })
    }

    /// `sent` is when the request left, if one may have.
    fn failure(&self, intent: Intent, failed: ExchangeError, sent: Option<Now>) -> Failure {
        let wait = failed.retry_after().unwrap_or_default();
        let limits = self.client.gate.limits();
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
                (Class::Unclassified { healthy_at: self.healthy_at }, wait)
            }
            FailureClass::InvalidClient => (Class::Misconfigured, wait.max(limits.probe)),
            FailureClass::Misconfigured => (Class::Harmless, wait),
        };
        Failure { class, error: failed.into_error(), wait }
    }

    fn retry(&self, sent: Now) -> Retry {
        retry(&self.core, self.rotation, sent)
    }
}

/// When a lost answer may be asked for again, by what the server does to used tokens.
fn retry(core: &Core, rotation: Rotation, sent: Now) -> Retry {
    match rotation {
        Rotation::Static => Retry::AtOnce,
        Rotation::Idempotent(grace) | Rotation::Fork(grace) | Rotation::NewestOnly(grace) => {
            // The grace began after we sent, and the retry must arrive before it ends.
            let spent = core.now().boot.since(sent.boot);
            let margin = core.policy.repeat_floor;
            if spent.saturating_add(margin) < grace { Retry::AtOnce } else { Retry::Late }
        }
        Rotation::Strict => Retry::Late,
    }
}

pub(super) fn unstored(failed: StoreError) -> Error {
    Error::new(ErrorKind::Store).with_outcome(ExchangeOutcome::NotSent).with_source(failed)
}

fn lost(why: &'static str) -> ExchangeError {
    ExchangeError::new(FailureClass::Ambiguous).with_source(why)
}

fn shut_out(shut: Shut, now: Now) -> Failure {
    let Shut { error, until, paced } = shut;
    let class = if error.kind() == ErrorKind::Misconfigured {
        Class::Misconfigured
    } else if paced {
        Class::HeldBack
    } else {
        Class::Harmless
    };
    Failure { class, error, wait: until.since(now.boot) }
}

/// Credentials are sent to nobody but who issued them.
fn foreign() -> Failure {
    let error = Error::new(ErrorKind::Misconfigured)
        .about("the session was issued by another authority or to another client")
        .with_outcome(ExchangeOutcome::NotSent);
    Failure { class: Class::Harmless, error, wait: std::time::Duration::ZERO }
}

fn elsewhere(until: BootTime, now: Now) -> Failure {
    let error = Error::new(ErrorKind::RetryLater)
        .about("another process has claimed the session")
        .with_outcome(ExchangeOutcome::NotSent);
    Failure { class: Class::Harmless, error, wait: until.since(now.boot) }
}
