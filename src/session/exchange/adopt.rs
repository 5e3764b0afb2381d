//! Adopting: as a grant, but for the server.

use std::sync::Arc;

use super::turn::{Moved, Turn, Wants};
use super::{End, Exchange, revocation, save};
use crate::error::{Error, ErrorKind};
use crate::session::flight::Landing;
use crate::session::job::Text;
use crate::session::machine::{Failure, Input};
use crate::session::outcome::{Adopted, Take};
use crate::session::restore;
use crate::store::{Commit, Intent, Outcome, Statement};

impl Exchange {
    /// Takes tokens that exist already. Runs to its end, even if actors crash and callers are
    /// dropped.
    pub(crate) async fn adopt(mut self, tokens: Text, take: Take) {
        self.guard.begin();
        match take {
            Take::Import => {
                let outcome = self.import(tokens).await;
                self.leave(outcome);
            }
            Take::IfVacant | Take::Replace => {
                revocation::tell_before(&self.core, &self.slot).await;
                let moved = match take {
                    Take::Replace => Moved::Follow,
                    Take::IfVacant | Take::Import => Moved::Yield,
                };
                let (end, yielded) = self.establish(tokens, moved).await;
                let there = yielded && take == Take::IfVacant;
                let outcome = if there { Ok(Adopted::AlreadyThere) } else { outcome(&end) };
                drop(self.step(end));
                self.finish(outcome);
            }
        }
        save::pay(&self.core, &self.slot).await;
        let (core, slot) = (Arc::clone(&self.core), Arc::clone(&self.slot));
        drop(self);
        core.let_go(slot);
    }

    /// Saved and published as what a grant gave, or owed. Also whether another process had made a
    /// session already.
    async fn establish(&mut self, tokens: Text, moved: Moved) -> (End, bool) {
        let credentials = self.client.provider.bind(*tokens);
        match self.turn(Intent::Establish, moved, Wants::Adoption).await {
            Ok(Some(Turn { at, attempt, .. })) => {
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
        let claimed = self.turn(Intent::Establish, Moved::Yield, Wants::Import).await;
        let Some(turn) = claimed.map_err(|failed| failed.error)? else {
            return Ok(Adopted::AlreadyThere);
        };
        let Self { core, slot, .. } = &*self;
        let Turn { at: now, attempt, .. } = turn;
        let counters = (self.epoch + 1, self.base + 1);
        let held = restore::held(&self.client, credentials, counters, now);
        let ends = restore::ends(&held, now.boot, core.rules(slot).ahead);
        let (intent, epoch, credentials) = (Intent::Establish, self.epoch, held.credentials);
        let commit = Statement::Commit(Commit { intent, epoch, attempt, credentials, ends });
        match self.stored(core.store.apply(slot.id(), commit)).await {
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
        self.core.apply(&self.slot, Input::Left);
        self.guard.answer(outcome);
        self.guard.end(Landing::Again);
    }
}

fn outcome(end: &End) -> Result<Adopted, Error> {
    match end {
        End::Active(_) => Ok(Adopted::Yes),
        // Whoever adopts has the tokens still, and they are not ours to be ended.
        End::Superseded { .. } | End::Orphaned(_) | End::Challenge(_) => {
            Err(Error::new(ErrorKind::Superseded))
        }
        End::Failed(Failure { error, .. }, _) => Err(error.clone()),
    }
}
