//! The check of one session that is due.

use std::sync::Arc;
use std::time::Duration;

use super::wait_queue_of;
use crate::client::provider_entry::ProviderEntry;
use crate::error::{Error, ErrorKind, LostReason};
use crate::key::SessionId;
use crate::log::log_session;
use crate::session::context::Context;
use crate::session::load;
use crate::session::machine::{Due, ExternalChange, Input, Settled, State, record_wake};
use crate::session::schedule::{CheckResult, Schedule, WaitQueue};
use crate::session::slot::{Slot, quarantined_error};
use crate::store::{Lose, Outcome, Reschedule, Statement, StoreError, Stored};

/// What remains to be done after a check.
enum Remaining {
    Nothing,
    /// An exchange is due.
    Exchange,
}

/// How often a check starts over because another process has just changed the record.
const CHECKS_AGAIN: u32 = 4;

/// An entry that was taken from the schedule. If it is dropped before [`end`](Self::end), the check
/// counts as failed.
pub(super) struct TakenEntry<'a> {
    context: &'a Context,
    schedule: &'a Schedule,
    id: &'a SessionId,
    checked: CheckResult,
}

impl<'a> TakenEntry<'a> {
    pub(super) fn new(context: &'a Context, schedule: &'a Schedule, id: &'a SessionId) -> Self {
        Self { context, schedule, id, checked: CheckResult::Failed }
    }

    pub(super) fn end(mut self, checked: CheckResult) {
        self.checked = checked;
    }
}

impl Drop for TakenEntry<'_> {
    fn drop(&mut self) {
        let Self { context, schedule, id, checked } = self;
        let pause =
            |tries| context.now().boot.after(context.policy.backoff.wait(tries, fastrand::f64()));
        schedule.checked(id, *checked, pause);
    }
}

/// The check of one session.
pub(super) struct Check<'a> {
    context: &'a Arc<Context>,
    provider: &'a Arc<ProviderEntry>,
    schedule: &'a Schedule,
    id: SessionId,
    /// The session's record was due in the store.
    polled: bool,
}

impl<'a> Check<'a> {
    pub(super) fn new(
        (context, provider): (&'a Arc<Context>, &'a Arc<ProviderEntry>),
        id: SessionId,
        polled: bool,
    ) -> Option<Self> {
        let schedule = context.registry.schedule(&provider.name)?;
        Some(Self { context, provider, schedule, id, polled })
    }

    /// Checks the session, or lets it wait if the source must first be asked for its client.
    /// Returns the wait queue that needs a task to serve it, if there is one.
    pub(super) async fn run(&self) -> Option<WaitQueue> {
        match wait_queue_of(self.provider, &self.id) {
            WaitQueue::Source => self.wait_in(WaitQueue::Source, self.taken()),
            WaitQueue::Client | WaitQueue::ClientOf(_) => self.check().await,
        }
    }

    /// Checks the session. If an exchange is due, the session then waits for a permit.
    pub(super) async fn check(&self) -> Option<WaitQueue> {
        let taken = self.taken();
        match self.do_due().await {
            Ok(Remaining::Nothing) => taken.end(CheckResult::Done),
            Ok(Remaining::Exchange) => {
                return self.wait_in(wait_queue_of(self.provider, &self.id), taken);
            }
            Err(error) => {
                log_session!(
                    self.context.log_limit(),
                    debug,
                    &self.id,
                    "a scheduled check of the session failed",
                    cause = %error
                );
            }
        }
        None
    }

    fn taken(&self) -> TakenEntry<'_> {
        TakenEntry::new(self.context, self.schedule, &self.id)
    }

    fn wait_in(&self, wait_queue: WaitQueue, taken: TakenEntry<'_>) -> Option<WaitQueue> {
        if !self.schedule.has_room(&wait_queue) {
            taken.end(CheckResult::LeftToStore);
            return None;
        }
        taken.end(CheckResult::Queued);
        self.schedule.queue(&wait_queue, &self.id).then_some(wait_queue)
    }

    /// Does or records what is due, except exchanges.
    async fn do_due(&self) -> Result<Remaining, Error> {
        let Self { context, id, .. } = self;
        let (slot, was_there) = context.registry.obtain_for_schedule(id)?;
        let found = self.check_slot(&slot).await;
        // `arm` ignores a time that it has already seen, and the session may be due again at the
        // same time.
        context.rearm(&slot);
        context.registry.release_for_schedule(slot, was_there);
        found
    }

    async fn check_slot(&self, slot: &Arc<Slot>) -> Result<Remaining, Error> {
        let context = self.context;
        // The check fails and is repeated after a pause, until the session is resumed.
        context.paused.check(slot.id())?;
        context.apply(slot, Input::Tick);
        if !self.polled && slot.is_disposable() {
            // The session held only failures that have been forgotten by now.
            return Ok(Remaining::Nothing);
        }
        let now = context.now().boot;
        slot.end_quarantine(now);
        if let Some(until) = slot.quarantined(now) {
            return Err(quarantined_error(until.since(now)));
        }
        for _ in 0..CHECKS_AGAIN {
            load::ready(context, slot).await?;
            context.apply(slot, Input::Tick);
            match slot.due(&context.policy(slot), context.now().boot) {
                Due::Exchange => return Ok(Remaining::Exchange),
                Due::Nothing => {
                    self.reschedule(slot).await?;
                    return Ok(Remaining::Nothing);
                }
                Due::Announce { left, next } => self.announce(slot, left, next).await?,
                Due::Lost(reason) => self.record_loss(slot, reason).await?,
            }
        }
        Err(Error::new(ErrorKind::RetryLater)
            .about("other processes changed the session's record again and again during this call"))
    }

    /// Publishes that the refresh token ends soon, unless another process already has.
    async fn announce(
        &self,
        slot: &Arc<Slot>,
        left: Duration,
        due_in: Option<Duration>,
    ) -> Result<(), Error> {
        let version = slot.with_state(|state| state.version);
        let announced = Reschedule { version, announced: true, due_in };
        let done = self.write(slot, Statement::Reschedule(announced)).await?;
        if let Some(version) = done {
            self.context.apply(slot, Input::Announced { version, left });
        }
        Ok(())
    }

    /// Records a loss that this process found, and publishes it, unless another process already
    /// has.
    async fn record_loss(&self, slot: &Arc<Slot>, reason: LostReason) -> Result<(), Error> {
        let (epoch, generation) = slot.with_state(|state| state.counters());
        let lose = Statement::Lose(Lose { epoch, generation, reason });
        if let Some(version) = self.write(slot, lose).await? {
            self.context.apply(slot, Input::LossRecorded { version, reason });
        }
        Ok(())
    }

    /// Moves the due time of a record that is due although nothing has to be done.
    async fn reschedule(&self, slot: &Arc<Slot>) -> Result<(), Error> {
        let context = self.context;
        let issuer_mismatch = |state: &State| {
            let held = state.settled.as_ref().and_then(Settled::serving);
            held.is_some_and(|held| held.issuer_mismatch)
        };
        if !self.polled || slot.is_busy() || slot.with_state(issuer_mismatch) {
            // The record keeps its due time while its credentials belong to another issuer.
            return Ok(());
        }
        let found = context
            .await_store(context.store.load(slot.id()))
            .await
            .map_err(StoreError::into_error)?;
        let (now, policy) = (context.now().boot, context.policy(slot));
        let version = slot.with_state(|state| state.version);
        let is_due = |found: &Stored| {
            let free = found.record.version == version && found.record.lease.is_none();
            free && found.due_in() == Some(Duration::ZERO)
        };
        if !found.as_ref().is_some_and(is_due) {
            return Ok(());
        }
        let wake = slot.with_state(|state| record_wake(state.settled.as_ref()?, &policy));
        let due_in = wake.map(|at| at.since(now));
        let later = Reschedule { version, announced: false, due_in };
        if let Some(version) = self.write(slot, Statement::Reschedule(later)).await? {
            context.apply(slot, Input::Wrote { version });
        }
        Ok(())
    }

    /// Returns the version that was written; `None` if another process was faster, whose record
    /// then counts.
    async fn write(&self, slot: &Arc<Slot>, statement: Statement) -> Result<Option<u64>, Error> {
        let context = self.context;
        let written = context.store.apply(slot.id(), statement);
        match context.await_store(written).await.map_err(StoreError::into_error)? {
            Outcome::Done(done) => Ok(Some(done.version)),
            Outcome::Conflict(_) | Outcome::Leased(_) | Outcome::Wait { .. } => {
                context.apply(slot, Input::ExternalChange(ExternalChange::UNKNOWN));
                Ok(None)
            }
        }
    }
}
