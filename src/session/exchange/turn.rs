//! An exchange's turn: the permit, what has to be asked for first, and the claim. What another
//! process has claimed is waited for, so that its refresh serves this process too.

use std::time::Duration;

use super::{Exchange, elsewhere, orphan, save, shut_out};
use crate::clock::{BootTime, Now};
use crate::crash::CrashPoint;
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::policy::{CLAIM_LOOK, CLAIM_LOOK_CAP};
use crate::provider::gate::{Entrant, Exchanged, Lane, Permit};
use crate::session::machine::{Class, Failure, State};
use crate::session::restore;
use crate::store::{Attempt, Claim, Claimed, Intent, Lease, Phase, Record, TakeOver};

/// A claim that is written, and the right to send.
pub(super) struct Turn {
    pub(super) at: Now,
    pub(super) attempt: Attempt,
    pub(super) permit: Option<Permit>,
}

/// What is to be done if the store has something else than was thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// Nothing: what is there is what was wanted.
    Yield,
    /// The same on what is there now, because it is replaced whatever it is.
    Follow,
}

/// Who wants a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// Somebody who will ask the server.
    Exchange,
    /// Somebody who has the tokens.
    Adoption,
    /// The same, who has many and comes back rather than wait.
    Import,
}

/// What became of waiting for another process.
enum Waited {
    /// It is this one's turn.
    Claim,
    /// The record is to be read again.
    Read,
}

impl Exchange {
    /// Waits for the provider's gate, if its server is to be asked, and until no other process works
    /// on the session; then writes the intent. None if the store has something else than was thought,
    /// and that is what was wanted.
    ///
    /// No permit is held while another process is waited for: it may hang, and others need the
    /// permits.
    pub(super) async fn turn(
        &mut self,
        intent: Intent,
        moved: Moved,
        wants: Wants,
    ) -> Result<Option<Turn>, Failure> {
        let patience = match wants {
            Wants::Exchange | Wants::Adoption => self.core.policy.wait,
            Wants::Import => Duration::ZERO,
        };
        let last = self.core.now().boot.after(patience);
        loop {
            self.paid().await?;
            // Everything slow that needs no claim comes before the claim.
            let permit = match wants {
                Wants::Exchange => Some(self.ready().await?),
                Wants::Adoption | Wants::Import => None,
            };
            let at = self.core.now();
            match self.claim(intent, at).await? {
                Claimed::Granted { fence } => {
                    let attempt = Attempt { base: self.base, fence };
                    return Ok(Some(Turn { at, attempt, permit }));
                }
                refused @ (Claimed::Moved(_) | Claimed::Leased(_)) => {
                    drop(permit);
                    if !self.goes_on(refused, (intent, moved), last).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Saves what is owed. What comes back was closed or begun anew by another process, and is told
    /// of before there is a claim, whose time it would take.
    async fn paid(&self) -> Result<(), Failure> {
        let Self { core, slot, .. } = self;
        if let Some(late) = self.stored(save::first(core, slot)).await? {
            orphan::end(core, slot, &late).await;
        }
        Ok(())
    }

    async fn ready(&self) -> Result<Permit, Failure> {
        let entrant = Entrant { session: self.slot.id(), lane: self.lane() };
        let permit = match self.client.gate.enter(&*self.core.clock, entrant).await {
            Ok(permit) => permit,
            Err(shut) => return Err(shut_out(shut, self.core.now())),
        };
        self.prepare(&self.client).await?;
        self.steps.at(CrashPoint::BeforeClaim);
        Ok(permit)
    }

    fn lane(&self) -> Lane {
        match self.exchanged {
            Exchanged::Grant => Lane::SignIn,
            Exchanged::Own => {
                let again = self.slot.look(State::is_tried_again);
                Lane::Own { again, scheduled: self.scheduled }
            }
        }
    }

    async fn claim(&self, intent: Intent, at: Now) -> Result<Claimed, Failure> {
        let Self { core, slot, .. } = self;
        let (owner, lease) = (core.owner, core.policy.lease);
        let claim = Claim { owner, intent, epoch: self.epoch, generation: self.base, at, lease };
        self.stored(core.store.claim(slot.id(), claim)).await
    }

    /// Whether to claim again after a claim that was not granted.
    async fn goes_on(
        &mut self,
        refused: Claimed,
        (intent, moved): (Intent, Moved),
        last: BootTime,
    ) -> Result<bool, Failure> {
        match (refused, moved) {
            (Claimed::Moved(found), Moved::Follow) if self.core.now().boot < last => {
                let counters = found.map(|found| (found.epoch, found.generation));
                (self.epoch, self.base) = counters.unwrap_or_default();
                self.outdated = true;
                Ok(true)
            }
            (Claimed::Granted { .. } | Claimed::Moved(_), _) => Ok(false),
            (Claimed::Leased(record), _) => match self.outlast(record, intent, last).await? {
                Waited::Claim => Ok(true),
                // Whoever follows finds it in the answer to its claim.
                Waited::Read => Ok(moved == Moved::Follow),
            },
        }
    }

    /// Waits until another process's claim has ended, or its holder is silent.
    async fn outlast(
        &self,
        mut record: Record,
        intent: Intent,
        last: BootTime,
    ) -> Result<Waited, Failure> {
        let Self { core, slot, .. } = self;
        let fence = record.fence;
        let mut pause = CLAIM_LOOK;
        while let Some(lease) = record.lease.filter(|_| record.fence == fence) {
            let now = core.now();
            if now.boot >= lease.until {
                return self.silent((fence, lease), intent, now).await;
            }
            if now.boot >= last {
                return Err(elsewhere(lease.until, now));
            }
            core.clock.sleep(pause).await;
            pause = CLAIM_LOOK_CAP.min(pause * 2);
            match self.stored(core.store.load(slot.id())).await? {
                Some(found) => record = found,
                None => return Ok(Waited::Read),
            }
        }
        self.ended(&record)
    }

    /// What another process's exchange left. A failure of a moment ago is this process's too: each
    /// would ask the server at once, one after the other.
    fn ended(&self, record: &Record) -> Result<Waited, Failure> {
        let same = (record.epoch, record.generation) == (self.epoch, self.base);
        if !same || record.phase != Phase::Active {
            return Ok(Waited::Read);
        }
        let now = self.core.now();
        let retry_at = record.retry_at.map(|at| now.boot_at(at));
        match retry_at.map(|at| at.since(now.boot)).filter(|wait| *wait > Duration::ZERO) {
            Some(wait) => {
                let error = Error::new(ErrorKind::RetryLater)
                    .about("another process tried and failed")
                    .with_outcome(ExchangeOutcome::NotSent);
                Err(Failure { class: Class::Harmless, error, wait })
            }
            None => Ok(Waited::Claim),
        }
    }

    /// Ends the claim of a holder that is silent. A refresh of its own that may still be out is
    /// held back for, which begins with reading the record: the session is then in doubt.
    async fn silent(
        &self,
        (fence, lease): (u64, Lease),
        intent: Intent,
        at: Now,
    ) -> Result<Waited, Failure> {
        let Self { core, slot, .. } = self;
        if (intent, lease.intent) == (Intent::Refresh, Intent::Refresh) {
            let in_doubt =
                |state: &State| matches!(state, State::Refreshing { doubt: Some(_), .. });
            let held_back = at.boot < restore::held_back(core, self.rotation, &lease);
            if held_back || !slot.look(in_doubt) {
                return Ok(Waited::Read);
            }
        }
        self.stored(core.store.take_over(slot.id(), TakeOver { fence, at, retry_at: None }))
            .await?;
        Ok(Waited::Claim)
    }
}
