//! The end of a claim that brought no new credentials.

use std::time::Duration;

use super::Exchange;
use crate::clock::BootTime;
use crate::log::log_session;
use crate::session::from_record;
use crate::session::machine::{self, Class, Failure, Input, Settled, State, StepContext};
use crate::store::{Attempt, Done, Failures, Intent, Outcome, Settle, SettleTo, Statement};

/// The content that a settle writes to the record after a claim without new credentials.
pub(super) struct Left {
    to: SettleTo,
    retry_in: Option<Duration>,
    due_in: Option<Duration>,
    failures: Option<Box<Failures>>,
}

impl Left {
    /// Takes times and failures from `settled`, as another process is to read them.
    fn of(
        settled: Option<&Settled>,
        (to, retry_at): (SettleTo, Option<BootTime>),
        at: &StepContext,
    ) -> Self {
        let left = |time: Option<BootTime>| time.map(|time| time.since(at.now.boot));
        let due_at = settled.and_then(|settled| machine::record_wake(settled, &at.policy));
        let failures = settled.and_then(from_record::failures);
        Self { to, retry_in: left(retry_at), due_in: left(due_at), failures }
    }
}

impl Exchange {
    /// The state that the machine will have after this failure, and the time of its next try. The
    /// record must have both, or the next process would retry a session in doubt at once.
    pub(super) fn settles_to(&self, intent: Intent, failure: &Failure, at: &StepContext) -> Left {
        let state = self.slot.with_state(State::clone);
        let (state, _) = machine::step(state, Input::Failed(failure.clone()), at);
        let settled = state.settled.as_ref();
        // A client that the server refuses is admission's matter: the session has no back-off.
        let own = failure.class != Class::Misconfigured;
        let retry_at = settled.filter(|_| own).and_then(Settled::earliest_retry);
        let to = match (intent, failure.class, settled) {
            (Intent::Establish, Class::Ambiguous(_), _) => SettleTo::BeforeSuspect,
            (Intent::Refresh, _, Some(Settled::InDoubt(..))) => SettleTo::InDoubt,
            (Intent::Refresh, _, Some(Settled::Lost(lost))) => SettleTo::Lost(lost.reason),
            (Intent::Establish | Intent::Refresh | Intent::Revoke, _, _) => SettleTo::Before,
        };
        Left::of(settled, (to, retry_at), at)
    }

    /// The content of a settle after a claim that changed nothing.
    pub(super) fn left_as_before(&self) -> Left {
        let at = self.context.step_context(&self.slot);
        let before = (SettleTo::Before, None);
        self.slot.with_state(|state| Left::of(state.settled.as_ref(), before, &at))
    }

    /// Settles the claim in the store. If the store has another record, it is kept as `found`.
    pub(super) async fn settle(&mut self, attempt: Attempt, left: Left) {
        let Self { context, slot, epoch, .. } = &*self;
        let (epoch, Left { to, retry_in, due_in, failures }) = (*epoch, left);
        let settle = Statement::Settle(Settle { epoch, attempt, to, retry_in, due_in, failures });
        match self.stored(context.store.apply(slot.id(), settle)).await {
            Ok(outcome) => {
                // Only after the store has answered: until then the claim may be in the record,
                // and the next claim must name it in order to replace it.
                slot.claim_ended(attempt.claim);
                match outcome {
                    Outcome::Done(Done { version, .. }) => {
                        context.apply(slot, Input::Wrote { version });
                    }
                    Outcome::Conflict(found) => self.found = Some(found),
                    Outcome::Leased(found) | Outcome::Wait { found, .. } => {
                        self.found = Some(Some(found));
                    }
                }
            }
            Err(unsettled) => {
                log_session!(
                    context.log_limit(),
                    warn,
                    slot.id(),
                    "could not end the claim",
                    cause = ?unsettled.error
                );
            }
        }
    }
}
