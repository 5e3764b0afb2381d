//! An exchange's turn: the permit, what has to be asked for first, and the claim. What another
//! process has claimed is waited for, so that its refresh serves this process too.

use std::sync::Arc;
use std::time::Duration;

use super::{Exchange, elsewhere, save, shut_out, superseded_tokens};
use crate::client::admission::{Entrant, Exchanged, Lane, Permit};
use crate::clock::{BootTime, Now};
use crate::crash::CrashPoint;
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::policy::{CLAIM_LOOK, CLAIM_LOOK_CAP};
use crate::session::from_record;
use crate::session::machine::{Class, ExternalChange, Failure, Input, State};
use crate::store::{
    Attempt, Claim, ClaimId, Done, Intent, Lease, Outcome, Phase, Renew, Statement, Stored,
    TakeOver,
};

/// A claim that is written, and the right to send.
pub(super) struct Claimed {
    /// When the claim was first asked for: its lease began no earlier.
    pub(super) at: Now,
    pub(super) attempt: Attempt,
    pub(super) permit: Option<Permit>,
}

/// What is to be done if the store has something else than was thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnConflict {
    /// Nothing: what is there is what was wanted.
    Yield,
    /// The same on what is there now, because it is replaced whatever it is.
    ClaimAgain,
}

/// Who wants a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimPurpose {
    /// Somebody who will ask the server.
    Exchange,
    /// Somebody who has the tokens.
    Adoption,
    /// The same, who has many and comes back rather than wait.
    Import,
}

/// What became of waiting for another process.
enum NextStep {
    /// It is this one's turn.
    Claim,
    /// The record is to be read again.
    Read,
}

impl Exchange {
    /// Waits for the provider's gate, if its server is to be asked, and until no other process
    /// works on the session; then writes the intent. None if the store has something else than was
    /// thought, and that is what was wanted.
    ///
    /// No permit is held while another process is waited for: it may hang, and others need the
    /// permits.
    pub(super) async fn claim(
        &mut self,
        intent: Intent,
        on_conflict: OnConflict,
        need: ClaimPurpose,
    ) -> Result<Option<Claimed>, Failure> {
        let patience = match need {
            ClaimPurpose::Exchange | ClaimPurpose::Adoption => self.context.policy.call_timeout,
            ClaimPurpose::Import => Duration::ZERO,
        };
        let last = self.context.now().boot.after(patience);
        loop {
            self.save_unsaved().await?;
            // Everything slow that needs no claim comes before the claim.
            let permit = match need {
                ClaimPurpose::Exchange => Some(self.admit().await?),
                ClaimPurpose::Adoption | ClaimPurpose::Import => None,
            };
            let (id, at, outcome) = self.write_claim(intent).await?;
            match outcome {
                Outcome::Done(Done { epoch, generation, fence, .. }) => {
                    (self.epoch, self.base) = (epoch, generation);
                    self.found = None;
                    let attempt = Attempt { base: generation, fence, claim: id };
                    return Ok(Some(Claimed { at, attempt, permit }));
                }
                refused @ (Outcome::Conflict(_) | Outcome::Leased(_) | Outcome::Wait { .. }) => {
                    drop(permit);
                    if !self.should_claim_again(refused, (intent, on_conflict), last).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Saves what is owed. What comes back was closed or begun anew by another process, and is told
    /// of before there is a claim, whose time it would take.
    async fn save_unsaved(&self) -> Result<(), Failure> {
        let Self { context, slot, .. } = self;
        if let Some(late) = self.stored(save::before_claim(context, slot)).await? {
            superseded_tokens::revoke_or_report(context, slot, &late).await;
        }
        Ok(())
    }

    async fn admit(&mut self) -> Result<Permit, Failure> {
        let scheduled_permit = self.scheduled_permit.take();
        let (admission, clock) = (&self.client.admission, &*self.context.clock);
        let entrant = Entrant { session: self.slot.id(), lane: self.lane() };
        let permit =
            match admission.enter(clock, entrant, scheduled_permit, self.guard.joined()).await {
                Ok(permit) => permit,
                Err(rejected) => return Err(shut_out(rejected, self.context.now())),
            };
        self.prepare(&self.client).await?;
        self.steps.at(CrashPoint::BeforeClaim);
        Ok(permit)
    }

    fn lane(&self) -> Lane {
        match self.exchanged {
            Exchanged::Grant => Lane::SignIn,
            Exchanged::Own => {
                let again = self.slot.with_state(State::is_tried_again);
                Lane::Own { again, scheduled: self.scheduled }
            }
        }
    }

    /// Under the id of the last claim, if it is not known whether that one was written.
    async fn write_claim(&self, intent: Intent) -> Result<(ClaimId, Now, Outcome), Failure> {
        let Self { context, slot, .. } = self;
        let now = context.now();
        let (id, replaces, asked) = slot.begin_claim(now);
        let (owner, lease) = (context.owner, context.policy.lease);
        let (epoch, generation) = (self.known, self.base);
        let claim = Claim { id, replaces, owner, intent, epoch, generation, lease };
        let mut outcome = self.written(Statement::Claim(claim)).await?;
        if matches!(outcome, Outcome::Done(_)) && asked.boot < now.boot {
            // Asked for before, and perhaps written then: its lease is counted from now again.
            outcome = self.written(Statement::Renew(Renew { claim: id, lease })).await?;
        }
        slot.claim_answered(id, outcome.has_claim(id));
        Ok((id, now, outcome))
    }

    async fn written(&self, statement: Statement) -> Result<Outcome, Failure> {
        let Self { context, slot, .. } = self;
        let outcome = self.stored(context.store.apply(slot.id(), statement)).await?;
        if let Outcome::Done(Done { version, .. }) = outcome {
            context.apply(slot, Input::Wrote { version });
        }
        Ok(outcome)
    }

    /// Whether to claim again after a claim that was not granted.
    async fn should_claim_again(
        &mut self,
        refused: Outcome,
        (intent, on_conflict): (Intent, OnConflict),
        last: BootTime,
    ) -> Result<bool, Failure> {
        match (refused, on_conflict) {
            (Outcome::Conflict(found), OnConflict::ClaimAgain)
                if self.context.now().boot < last =>
            {
                let found = found.map(|found| found.record);
                let found = found.filter(|record| record.was_established());
                self.known = found.as_ref().map(|record| record.epoch);
                self.base = found.map_or(0, |record| record.generation);
                // Read when this has ended: what is in hand is not what is there.
                self.context.apply(&self.slot, Input::ExternalChange(ExternalChange::UNKNOWN));
                Ok(true)
            }
            (Outcome::Conflict(found), _) => {
                self.found = Some(found);
                Ok(false)
            }
            (Outcome::Done(_), _) => Ok(false),
            (Outcome::Wait { left, found }, _) => {
                self.found = Some(Some(found));
                Ok(self.is_over(left).await)
            }
            (Outcome::Leased(found), _) => match self.wait_for_lease(found, intent, last).await? {
                NextStep::Claim => Ok(true),
                // Whoever follows finds it in the answer to its claim.
                NextStep::Read => Ok(on_conflict == OnConflict::ClaimAgain),
            },
        }
    }

    /// Waits for a back-off that is as good as over: the store's clock may be a moment behind. Any
    /// other is read with the record.
    async fn is_over(&self, left: Duration) -> bool {
        let soon = left <= CLAIM_LOOK_CAP;
        if soon {
            self.context.clock.sleep(left).await;
        }
        soon
    }

    /// Waits until another process's claim has ended, or its holder is silent.
    async fn wait_for_lease(
        &mut self,
        mut found: Stored,
        intent: Intent,
        last: BootTime,
    ) -> Result<NextStep, Failure> {
        let (context, slot) = (Arc::clone(&self.context), Arc::clone(&self.slot));
        let claim = found.record.lease.map(|lease| lease.claim);
        let mut pause = CLAIM_LOOK;
        while let Some(lease) = found.record.lease.filter(|lease| Some(lease.claim) == claim) {
            let now = context.now();
            let left = from_record::lease_left(&found);
            if left.is_zero() {
                let waited = self.take_over(&found, lease, intent).await;
                self.found = Some(Some(found));
                return waited;
            }
            if now.boot >= last {
                return Err(elsewhere(left));
            }
            context.clock.sleep(pause).await;
            pause = CLAIM_LOOK_CAP.min(pause * 2);
            match self.stored(context.store.load(slot.id())).await? {
                Some(again) => found = again,
                None => return Ok(NextStep::Read),
            }
        }
        let waited = self.after_lease(&found);
        self.found = Some(Some(found));
        waited
    }

    /// What another process's exchange left. A failure of a moment ago is this process's too: each
    /// would ask the server at once, one after the other.
    fn after_lease(&self, found: &Stored) -> Result<NextStep, Failure> {
        let known = found.record.was_established().then_some(found.record.epoch);
        let same = (known, found.record.generation) == (self.known, self.base);
        if !same || found.record.phase != Phase::Active {
            return Ok(NextStep::Read);
        }
        match found.retry_in() {
            Some(wait) => {
                let error = Error::new(ErrorKind::RetryLater)
                    .about("another process tried and failed")
                    .with_outcome(ExchangeOutcome::NotSent);
                Err(Failure { class: Class::Harmless, error, wait })
            }
            None => Ok(NextStep::Claim),
        }
    }

    /// Ends the claim of a holder that is silent. A refresh of its own that may still be out is
    /// held back for, which begins with reading the record: the session is then in doubt.
    async fn take_over(
        &self,
        found: &Stored,
        lease: Lease,
        intent: Intent,
    ) -> Result<NextStep, Failure> {
        let Self { context, slot, .. } = self;
        let both_refresh = (intent, lease.intent) == (Intent::Refresh, Intent::Refresh);
        if both_refresh && !slot.with_state(State::is_tried_in_doubt) {
            return Ok(NextStep::Read);
        }
        let (hold, hold_of_dead) = match lease.intent {
            Intent::Refresh if both_refresh => from_record::holds(context, self.rotation),
            Intent::Refresh | Intent::Establish | Intent::Revoke => Default::default(),
        };
        // A grant is not held back, but a refresh that comes before its commit is.
        let granting = lease.intent == Intent::Refresh && !both_refresh;
        let hold_back = match granting {
            true => from_record::held_back(context, self.rotation, found, &lease),
            false => Duration::ZERO,
        };
        let take_over = TakeOver { claim: lease.claim, hold, hold_of_dead, hold_back };
        let take_over = context.store.apply(slot.id(), Statement::TakeOver(take_over));
        match self.stored(take_over).await? {
            Outcome::Wait { .. } => Ok(NextStep::Read),
            Outcome::Done(_) | Outcome::Conflict(_) | Outcome::Leased(_) => Ok(NextStep::Claim),
        }
    }
}
