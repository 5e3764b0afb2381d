//! Adopting: as a grant, but for the server.

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
    /// Takes tokens that exist already. Runs to its end, even if actors crash and callers are
    /// dropped.
    pub(crate) async fn adopt(mut self, tokens: Text, take: AdoptMode) {
        self.guard.begin();
        match take {
            AdoptMode::Import => {
                let outcome = self.import(tokens).await;
                self.leave(outcome);
            }
            AdoptMode::IfVacant | AdoptMode::Replace => {
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
        drop(self);
        context.let_go(slot);
    }

    /// Saved and published as what a grant gave, or owed. Also whether another process had made a
    /// session already.
    async fn establish(&mut self, tokens: Text, on_conflict: OnConflict) -> (End, bool) {
        let credentials = self.client.provider.bind(*tokens);
        match self.claim(Intent::Establish, on_conflict, ClaimPurpose::Adoption).await {
            Ok(Some(Claimed { at, attempt, .. })) => {
                (self.issued(Intent::Establish, attempt, credentials, at).await, false)
            }
            Ok(None) => (End::Superseded { sent: false }, true),
            Err(failed) => (self.fails(failed), false),
        }
    }

    /// Saved, and read back by whoever needs it. Never owed: whoever imports has the tokens still,
    /// and a store that is down must not fill the memory with them.
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
                // It may be written all the same; then there is no claim any more to be settled.
                let left = self.left_as_before();
                self.settle(attempt, left).await;
                Err(failed.error)
            }
        }
    }

    /// Leaves the session to its record. Nobody goes on believing that it is vacant.
    fn leave(&mut self, outcome: Result<Adopted, Error>) {
        self.context.apply(&self.slot, Input::Left);
        self.guard.answer(outcome);
        self.guard.end(FlightOutcome::AskAgain);
    }
}

fn outcome(end: &End) -> Result<Adopted, Error> {
    match end {
        End::Active(_) => Ok(Adopted::Yes),
        // Whoever adopts has the tokens still, and they are not ours to be ended.
        End::Superseded { .. } | End::TokensSuperseded(_) | End::Challenge(_) => {
            Err(Error::new(ErrorKind::Superseded))
        }
        End::Failed(Failure { error, .. }, _) => Err(error.clone()),
    }
}
