//! Adoption: the session takes tokens that exist already, as from a grant, but asks no server.

use std::sync::Arc;

use super::claim::{ClaimPurpose, Claimed, OnConflict};
use super::{End, Exchange, revocation, save};
use crate::error::{Error, ErrorKind};
use crate::session::from_record;
use crate::session::job::Text;
use crate::session::machine::{Failure, Input};
use crate::session::outcome::{AdoptMode, Adopted};
use crate::session::single_flight::FlightOutcome;
use crate::store::{Commit, Intent, Outcome, Statement};

impl Exchange {
    /// Takes tokens that exist already. Runs to the end, even if actors crash and callers are
    /// dropped.
    pub(crate) async fn adopt(mut self, tokens: Text, take: AdoptMode) {
        self.guard.begin();
        match take {
            AdoptMode::Import => {
                let outcome = self.import(tokens).await;
                self.leave(outcome);
            }
            AdoptMode::IfVacant | AdoptMode::Replace => {
                // Before the claim: a later revocation could hit the tokens that are adopted.
                revocation::revoke_before_grant(&self.context, &self.slot).await;
                let on_conflict = match take {
                    AdoptMode::Replace => OnConflict::ClaimAgain,
                    AdoptMode::IfVacant | AdoptMode::Import => OnConflict::Yield,
                };
                let (end, yielded) = self.establish(tokens, on_conflict).await;
                let there = yielded && take == AdoptMode::IfVacant;
                let outcome = if there { Ok(Adopted::AlreadyThere) } else { outcome(&end) };
                drop(self.step(end));
                self.finish(outcome);
            }
        }
        save::until_saved(&self.context, &self.slot).await;
        let (context, slot) = (Arc::clone(&self.context), Arc::clone(&self.slot));
        // The exchange holds the slot, and the registry removes only a slot that nobody holds.
        drop(self);
        context.let_go(slot);
    }

    /// Saves and publishes the tokens as those of a grant, or keeps them unsaved. The flag is true
    /// if another process has established the session already.
    async fn establish(&mut self, tokens: Text, on_conflict: OnConflict) -> (End, bool) {
        let credentials = self.client.provider.bind(*tokens);
        match self.claim(Intent::Establish, on_conflict, ClaimPurpose::Adoption).await {
            Ok(Some(Claimed { at, attempt, .. })) => {
                // Without the journal: the caller still has the tokens.
                let end = self.issued(Intent::Establish, (attempt, None), credentials, at).await;
                (end, false)
            }
            Ok(None) => (End::Superseded { sent: false }, true),
            Err(failed) => (self.fails(failed), false),
        }
    }

    /// Saves the tokens; the next caller of the session loads them. They are never kept unsaved:
    /// the importer still has them, and an import into a store that is down would fill the memory.
    async fn import(&mut self, tokens: Text) -> Result<Adopted, Error> {
        let credentials = self.client.provider.bind(*tokens).into();
        let claimed = self.claim(Intent::Establish, OnConflict::Yield, ClaimPurpose::Import).await;
        let Some(claimed) = claimed.map_err(|failed| failed.error)? else {
            return Ok(Adopted::AlreadyThere);
        };
        let Self { context, slot, .. } = &*self;
        let Claimed { at: now, attempt, .. } = claimed;
        let counters = (self.epoch + 1, self.base + 1);
        let held = from_record::held(&self.client, credentials, counters, now);
        let ends = from_record::ends(&held, now.boot, context.policy(slot).ahead);
        let (intent, epoch, credentials) = (Intent::Establish, self.epoch, held.credentials);
        let commit = Statement::Commit(Commit { intent, epoch, attempt, credentials, ends });
        match self.stored(context.store.apply(slot.id(), commit)).await {
            Ok(Outcome::Done(_)) => {
                slot.claim_ended(attempt.claim);
                Ok(Adopted::Yes)
            }
            Ok(Outcome::Conflict(_)) => Err(Error::new(ErrorKind::Superseded)),
            Ok(Outcome::Leased(_) | Outcome::Wait { .. }) => Err(Error::new(ErrorKind::RetryLater)),
            Err(failed) => {
                // Settle before the caller may try again: the claim would hold up the next import.
                // If the commit was written after all, it has ended the claim, and this changes
                // nothing.
                let left = self.left_as_before();
                self.settle(attempt, left).await;
                Err(failed.error)
            }
        }
    }

    /// Drops the session's state from memory, so that the next caller loads the record.
    fn leave(&mut self, outcome: Result<Adopted, Error>) {
        // Step before the answer: the importer may use the session at once, and the state in
        // memory still says that it is vacant.
        self.context.apply(&self.slot, Input::Left);
        self.guard.answer(outcome);
        self.guard.end(FlightOutcome::AskAgain);
    }
}

fn outcome(end: &End) -> Result<Adopted, Error> {
    match end {
        End::Active(_) => Ok(Adopted::Yes),
        // The caller still has the tokens, so the crate does not revoke them.
        End::Superseded { .. } | End::TokensSuperseded(_) | End::Challenge(_) => {
            Err(Error::new(ErrorKind::Superseded))
        }
        End::Failed(Failure { error, .. }, _) | End::RefreshTokenOnly(error) => Err(error.clone()),
    }
}
