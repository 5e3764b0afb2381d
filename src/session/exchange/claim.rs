//! The claim of an exchange: the permit, the provider's preparation, then the claim in the store.
//! If another process has claimed the session, the exchange waits for it, so that the refresh of
//! that process serves this one too.

use std::sync::Arc;
use std::time::Duration;

use super::failure::{claimed_elsewhere, no_room, not_admitted};
use super::{Exchange, save, superseded_tokens};
use crate::client::admission::{Entrant, ExchangeKind, Lane, Permit};
use crate::clock::{BootTime, Now, timeout};
use crate::crash::CrashPoint;
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::journal::{JournalFault, Room};
use crate::log::log_session;
use crate::policy::{CLAIM_POLL, CLAIM_POLL_CAP};
use crate::provider::Rotation;
use crate::session::from_record::{self, Holds};
use crate::session::machine::{Class, ExternalChange, Failure, Input, State};
use crate::store::{
    Attempt, Claim, ClaimId, Done, Intent, Lease, Outcome, Phase, Renew, Statement, Stored,
    TakeOver,
};

/// A claim that the store has granted, and the permit to send.
pub(super) struct Claimed {
    /// When the claim was requested: its lease began no earlier.
    pub(super) at: Now,
    pub(super) attempt: Attempt,
    pub(super) permit: Option<Permit>,
    /// Room in the journal for the answer, if there is a journal.
    pub(super) room: Option<Room>,
}

/// What to do if the store has another record than expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnConflict {
    /// Give the claim up: another process has already done the work.
    Yield,
    /// Claim the new record: the exchange replaces any session.
    ClaimAgain,
}

/// The purpose of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimPurpose {
    /// The exchange sends a request to the server.
    Exchange,
    /// The caller has the tokens.
    Adoption,
    /// One of many adoptions. It does not wait for other processes; the importer comes back.
    Import,
}

/// What to do after waiting for another process.
enum NextStep {
    Claim,
    /// Load the record again.
    Read,
}

impl Exchange {
    /// Waits for a permit, if the exchange sends a request, and until no other process has a claim
    /// on the session; then claims the session. Gives `None` if the store has another record than
    /// expected and `on_conflict` is to yield.
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
            // Save first: the store compares the claim with the generation that it has.
            self.save_unsaved().await?;
            // The permit comes before the claim: the wait for it may be long, and would use up the
            // lease while other processes wait for this claim.
            let permit = match need {
                ClaimPurpose::Exchange => Some(self.admit().await?),
                ClaimPurpose::Adoption | ClaimPurpose::Import => None,
            };
            // The room comes before the claim: if the disk is full, nothing may be sent, because
            // the answer could not be kept. It comes after the permit, because the wait for that
            // may be long, and other exchanges need the room.
            let room = match &permit {
                Some(_) => self.reserve_room().await?,
                None => None,
            };
            let (id, at, outcome) = self.write_claim(intent, room.is_some()).await?;
            match outcome {
                Outcome::Done(Done { epoch, generation, fence, .. }) => {
                    (self.epoch, self.base) = (epoch, generation);
                    self.found = None;
                    let attempt = Attempt { base: generation, fence, claim: id };
                    return Ok(Some(Claimed { at, attempt, permit, room }));
                }
                refused @ (Outcome::Conflict(_) | Outcome::Leased(_) | Outcome::Wait { .. }) => {
                    // Drop both before the wait for another process: that process may hang, and
                    // other sessions need them.
                    drop((permit, room));
                    if !self.should_claim_again(refused, (intent, on_conflict), last).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Saves unsaved credentials. If another process has closed or replaced the session, they are
    /// superseded tokens, which are revoked or reported.
    async fn save_unsaved(&self) -> Result<(), Failure> {
        let Self { context, slot, .. } = self;
        if let Some(late) = self.stored(save::before_claim(context, slot)).await? {
            // Before the claim: a revocation may use up the lease, and must not hit a new grant.
            superseded_tokens::revoke_or_report(context, slot, &late).await;
        }
        Ok(())
    }

    async fn admit(&mut self) -> Result<Permit, Failure> {
        let scheduled_permit = self.scheduled_permit.take();
        let (admission, clock) = (&self.client.admission, &*self.context.clock);
        let entrant = Entrant { session: self.slot.id(), lane: self.lane() };
        let waits = (self.guard.joined(), || self.context.claim_probe(&self.client));
        let permit = match admission.enter(clock, entrant, scheduled_permit, waits).await {
            Ok(permit) => permit,
            Err(rejected) => return Err(not_admitted(rejected, self.context.now())),
        };
        // After the wait for the permit, which may have been long.
        self.unless_paused()?;
        // After the permit, because it may send requests; before the claim, because it may take
        // long and would use up the lease.
        self.prepare(&self.client).await?;
        self.steps.at(CrashPoint::BeforeClaim);
        Ok(permit)
    }

    /// Reserves room in the journal for the answer; `None` if there is no journal.
    async fn reserve_room(&self) -> Result<Option<Room>, Failure> {
        let Self { context, slot, .. } = self;
        let Some(journal) = &context.journal else { return Ok(None) };
        let room = timeout(&*context.clock, context.policy.store_timeout, journal.reserve()).await;
        match room.unwrap_or(Err(JournalFault::Slow)) {
            Ok(room) => Ok(Some(room)),
            Err(fault) => {
                log_session!(
                    context.log_limit(),
                    warn,
                    slot.id(),
                    "the journal has no room for an answer, so nothing is sent",
                    cause = %fault
                );
                Err(no_room(fault))
            }
        }
    }

    fn lane(&self) -> Lane {
        match self.kind {
            ExchangeKind::Grant => Lane::SignIn,
            ExchangeKind::Own => {
                let again = self.slot.with_state(State::is_tried_again);
                Lane::Own { again, scheduled: self.scheduled }
            }
        }
    }

    /// Claims the session. Uses the id of the last claim again if the store did not answer it.
    async fn write_claim(
        &self,
        intent: Intent,
        journal: bool,
    ) -> Result<(ClaimId, Now, Outcome), Failure> {
        let Self { context, slot, .. } = self;
        let now = context.now();
        // The slot keeps the id before the store gets it: if this task panics or the store does
        // not answer, the next exchange claims under the same id instead of being refused.
        let (id, replaces, asked) = slot.begin_claim(now);
        let (owner, lease) = (context.owner, context.policy.lease);
        let (epoch, generation) = (self.known, self.base);
        let claim = Claim { id, replaces, owner, intent, epoch, generation, lease, journal };
        let mut outcome = self.written(Statement::Claim(claim)).await?;
        if matches!(outcome, Outcome::Done(_)) && asked.boot < now.boot {
            // An earlier request may have written this claim, so its lease may be nearly over.
            // Renew it, or another process takes over while this one sends.
            outcome = self.written(Statement::Renew(Renew { claim: id, lease })).await?;
        }
        // After the renewal: if that gets no answer, the next exchange asks under this id again.
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
                if self.context.now().boot < last
                    && !self.is_later(found.as_ref().map(|found| found.record.epoch)) =>
            {
                let found = found.map(|found| found.record);
                let found = found.filter(|record| record.was_established());
                self.known = found.as_ref().map(|record| record.epoch);
                self.base = found.map_or(0, |record| record.generation);
                // Note the change: memory no longer agrees with the record, which is loaded when
                // this exchange has ended.
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
                // The store returns the new record when the session is claimed again.
                NextStep::Read => Ok(on_conflict == OnConflict::ClaimAgain),
            },
        }
    }

    /// Waits for a back-off that is nearly over: the store's clock may be a little behind. True if
    /// it is over. A longer back-off is loaded with the record.
    async fn is_over(&self, left: Duration) -> bool {
        let soon = left <= CLAIM_POLL_CAP;
        if soon {
            self.context.clock.sleep(left).await;
        }
        soon
    }

    /// Waits until the claim of another process has ended, or its lease is over.
    async fn wait_for_lease(
        &mut self,
        mut found: Stored,
        intent: Intent,
        last: BootTime,
    ) -> Result<NextStep, Failure> {
        let (context, slot) = (Arc::clone(&self.context), Arc::clone(&self.slot));
        let claim = found.record.lease.map(|lease| lease.claim);
        let mut pause = CLAIM_POLL;
        while let Some(lease) = found.record.lease.filter(|lease| Some(lease.claim) == claim) {
            let now = context.now();
            let left = from_record::lease_left(&found);
            // Before the deadline is checked: an import does not wait, but may take over.
            if left.is_zero() {
                let waited = self.take_over(&found, lease, intent).await;
                self.found = Some(Some(found));
                return waited;
            }
            if now.boot >= last {
                return Err(claimed_elsewhere(left));
            }
            context.clock.sleep(pause).await;
            pause = CLAIM_POLL_CAP.min(pause * 2);
            match self.stored(context.store.load(slot.id())).await? {
                Some(again) => found = again,
                None => return Ok(NextStep::Read),
            }
        }
        let waited = self.after_lease(&found);
        self.found = Some(Some(found));
        waited
    }

    /// The next step after the exchange of another process. If that has just failed, this exchange
    /// fails too: otherwise each process would ask the server at once, one after the other.
    fn after_lease(&self, found: &Stored) -> Result<NextStep, Failure> {
        let known = found.record.was_established().then_some(found.record.epoch);
        let same = (known, found.record.generation) == (self.known, self.base);
        if !same || found.record.phase != Phase::Active {
            return Ok(NextStep::Read);
        }
        match found.retry_in() {
            Some(wait) => {
                let error = Error::new(ErrorKind::RetryLater)
                    .about("another process tried to refresh the session, and failed")
                    .with_outcome(ExchangeOutcome::NotSent);
                Err(Failure { class: Class::Harmless, error, wait })
            }
            None => Ok(NextStep::Claim),
        }
    }

    /// Takes over the claim of a holder whose lease is over.
    async fn take_over(
        &self,
        found: &Stored,
        lease: Lease,
        intent: Intent,
    ) -> Result<NextStep, Failure> {
        let Self { context, slot, .. } = self;
        let both_refresh = (intent, lease.intent) == (Intent::Refresh, Intent::Refresh);
        if both_refresh && !slot.with_state(State::is_tried_in_doubt) {
            // The holder's refresh may still be under way. Load the record before any take-over:
            // the session is then in doubt, and this refresh waits until the retry is safe.
            return Ok(NextStep::Read);
        }
        // The grant of a poll is good for one use, as a refresh token of strict rotation is: the holder
        // may have used it, and the server may end its tokens if the grant comes again.
        let both_poll = self.last_epoch.is_some() && lease.intent == Intent::Establish;
        let Holds { alive: hold, dead: hold_of_dead, journal: hold_of_journal } = match lease.intent
        {
            Intent::Refresh if both_refresh => from_record::holds(context, self.rotation),
            Intent::Establish if both_poll => from_record::holds(context, Rotation::Strict),
            Intent::Refresh | Intent::Establish | Intent::Revoke => Default::default(),
        };
        // A grant does not wait for the holder's refresh, because it sends no refresh token. If the
        // grant fails, the next refresh must still wait: the store keeps the rest of that time.
        let granting = lease.intent == Intent::Refresh && !both_refresh;
        let hold_back = match granting {
            true => from_record::held_back(context, self.rotation, found, &lease),
            false => Duration::ZERO,
        };
        let claim = lease.claim;
        let take_over = TakeOver { claim, hold, hold_of_dead, hold_of_journal, hold_back };
        let take_over = context.store.apply(slot.id(), Statement::TakeOver(take_over));
        match self.stored(take_over).await? {
            // The caller polls again later.
            Outcome::Wait { left, .. } if both_poll => Err(claimed_elsewhere(left)),
            Outcome::Wait { .. } => Ok(NextStep::Read),
            Outcome::Done(_) | Outcome::Conflict(_) | Outcome::Leased(_) => Ok(NextStep::Claim),
        }
    }
}
