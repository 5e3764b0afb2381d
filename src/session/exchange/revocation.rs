//! Telling the server that a session has ended.

use std::sync::Arc;
use std::time::Duration;

use super::Guard;
use crate::clock::within;
use crate::error::{Error, ErrorKind};
use crate::log::log_session;
use crate::provider::client::Client;
use crate::provider::gate::{Drawn, Permit};
use crate::provider::{ExchangeError, FailureClass, Revoked};
use crate::session::core::Core;
use crate::session::flight::Landing;
use crate::session::machine::{Closed, Input, Settled, Trouble};
use crate::session::outcome::Revocation;
use crate::session::restore;
use crate::session::slot::Slot;
use crate::store::{
    Attempt, Claim, Done, Intent, Outcome, Settle, SettleTo, Statement, StoreError, Stored,
    TakeOver,
};
use crate::task::Foreign;
use crate::token::Credentials;

/// Tells the server of a session that was closed before, unless another process does.
pub(crate) async fn revoke(mut guard: Guard, permit: Drawn) {
    guard.begin();
    let (core, slot) = (Arc::clone(&guard.core), Arc::clone(&guard.slot));
    match claim(&core, &slot).await {
        Ok(Ok(attempt)) => drop(tell(&core, &slot, attempt, Some(permit)).await),
        Ok(Err(found)) => {
            let client = slot.site.client();
            let found = client.map(|client| restore::found(&core, &client, *found));
            core.apply(&slot, Input::Conflict { found });
        }
        Err(failed) => {
            if let Some(closed) = closed_of(&slot) {
                untold(&core, &slot, &closed, failed);
            }
        }
    }
    guard.end(Landing::Again);
}

/// The claim under which the server is told; or the record, where there is nothing to be told any
/// more or another process tells it.
async fn claim(core: &Core, slot: &Arc<Slot>) -> Result<Claimed, Error> {
    let claimed = apply_claim(core, slot).await?;
    let other = claimed.as_ref().err().and_then(|found| (**found).as_ref());
    let silent = other.filter(|found| restore::lease_left(found).is_zero());
    if let Some(lease) = silent.and_then(|found| found.record.lease) {
        // To tell the server twice is harmless, so nobody is waited for who fell silent.
        let (claim, hold) = (lease.claim, Duration::ZERO);
        let take_over =
            Statement::TakeOver(TakeOver { claim, hold, hold_of_dead: hold, hold_back: hold });
        stored(core, slot, take_over).await?;
        return apply_claim(core, slot).await;
    }
    Ok(claimed)
}

/// The attempt, or the record where another process was faster.
type Claimed = Result<Attempt, Box<Option<Stored>>>;

async fn apply_claim(core: &Core, slot: &Arc<Slot>) -> Result<Claimed, Error> {
    let (epoch, generation) = slot.look(|state| state.counters());
    let (id, replaces, _) = slot.begin_claim(core.now());
    let (owner, lease, intent) = (core.owner, core.policy.lease, Intent::Revoke);
    let epoch = Some(epoch);
    let claim = Claim { id, replaces, owner, intent, epoch, generation, lease };
    let outcome = stored(core, slot, Statement::Claim(claim)).await?;
    slot.claim_answered(id, outcome.has_claim(id));
    Ok(match outcome {
        Outcome::Done(Done { version, fence, .. }) => {
            core.apply(slot, Input::Wrote { version });
            Ok(Attempt { base: generation, fence, claim: id })
        }
        Outcome::Conflict(found) => Err(Box::new(found)),
        Outcome::Leased(found) | Outcome::Wait { found, .. } => Err(Box::new(Some(found))),
    })
}

async fn stored(core: &Core, slot: &Slot, statement: Statement) -> Result<Outcome, Error> {
    core.await_store(core.store.apply(slot.id(), statement)).await.map_err(StoreError::into_error)
}

/// Tells the server what it is owed before a new grant takes the session's place: later it could
/// hit the new one. Tried once; what cannot be told then is never told.
pub(super) async fn tell_before(core: &Core, slot: &Arc<Slot>) {
    let Some(credentials) = closed_of(slot).and_then(|closed| closed.outbox) else { return };
    if let Err(untold) = ask(core, slot, &credentials, None).await {
        log_session!(warn, slot.id(), error = %untold, "a revocation is given up");
    }
}

/// Tells the server what the outbox holds; the schedule tries again if it cannot be told.
pub(super) async fn tell(
    core: &Core,
    slot: &Arc<Slot>,
    attempt: Attempt,
    permit: Option<Drawn>,
) -> Revocation {
    let Some(closed) = closed_of(slot) else { return Revocation::LocalOnly };
    let Some(credentials) = &closed.outbox else { return Revocation::LocalOnly };
    let ending = match ask(core, slot, credentials, permit).await {
        Ok(Revoked::AtServer) => Revocation::AtServer,
        Ok(Revoked::NotSupported) => Revocation::LocalOnly,
        Err(failed) => {
            let ending = untold(core, slot, &closed, failed);
            let retry_at = slot.look(|state| state.settled.as_ref()?.earliest_retry());
            let retry_in = retry_at.map(|at| at.since(core.now().boot));
            settle(core, slot, (closed.epoch, attempt), (SettleTo::Before, retry_in)).await;
            return ending;
        }
    };
    // Forgotten only now: a crash before this tells the server again, which is harmless.
    settle(core, slot, (closed.epoch, attempt), (SettleTo::Revoked, None)).await;
    core.apply(slot, Input::Told);
    ending
}

fn closed_of(slot: &Slot) -> Option<Closed> {
    slot.look(|state| state.settled.as_ref().and_then(Settled::closed).cloned())
}

async fn settle(
    core: &Core,
    slot: &Arc<Slot>,
    (epoch, attempt): (u64, Attempt),
    (to, retry_in): (SettleTo, Option<Duration>),
) {
    let (due_in, failures) = (retry_in, None);
    let settle = Settle { epoch, attempt, to, retry_in, due_in, failures };
    let settle = Statement::Settle(settle);
    match stored(core, slot, settle).await {
        Ok(settled) => {
            slot.claim_ended(attempt.claim);
            if let Outcome::Done(Done { version, .. }) = settled {
                core.apply(slot, Input::Wrote { version });
            }
        }
        Err(_) => log_session!(warn, slot.id(), "the end of a revocation is not written"),
    }
}

/// Leaves it to the schedule to tell the server.
pub(super) fn untold(core: &Core, slot: &Arc<Slot>, closed: &Closed, failed: Error) -> Revocation {
    let trouble = Trouble::after(closed.trouble.as_ref(), failed, &core.moment(slot));
    core.apply(slot, Input::Untold { trouble });
    Revocation::Queued
}

async fn ask(
    core: &Core,
    slot: &Arc<Slot>,
    credentials: &Credentials,
    permit: Option<Drawn>,
) -> Result<Revoked, Error> {
    ready(core, slot, credentials, permit).await?.ask(core, slot, credentials).await
}

/// A turn at the server, to tell it of an end.
pub(super) struct Asking {
    client: Arc<Client>,
    permit: Permit,
}

pub(super) async fn ready(
    core: &Core,
    slot: &Arc<Slot>,
    credentials: &Credentials,
    permit: Option<Drawn>,
) -> Result<Asking, Error> {
    let Some(client) = slot.site.client() else {
        return Err(Error::new(ErrorKind::RetryLater).about("the session's provider is not known"));
    };
    if !client.issued(credentials) {
        return Err(super::foreign().error);
    }
    let permit = client.gate.enter_beside(&*core.clock, Some(slot.id()), permit).await;
    let permit = permit.map_err(|shut| shut.error)?;
    Ok(Asking { client, permit })
}

impl Asking {
    pub(super) async fn ask(
        self,
        core: &Core,
        slot: &Arc<Slot>,
        credentials: &Credentials,
    ) -> Result<Revoked, Error> {
        let Self { client, permit } = self;
        let wire = client.wire(&core.clock, Some(slot.id()), &core.policy);
        let provider = &*client.provider;
        let exchange = async {
            provider.prepare(&wire).await?;
            provider.revoke(&wire, credentials).await
        };
        let exchange = Foreign::new(Box::pin(exchange));
        // Revocation is idempotent (RFC 7009 section 2.2), so it may be dropped at its budget.
        let ended = within(&*core.clock, core.policy.attempt_budget, exchange).await;
        drop(permit);
        match ended {
            Some(Some(answer)) => answer.map_err(ExchangeError::into_error),
            Some(None) | None => Err(ExchangeError::new(FailureClass::Ambiguous).into_error()),
        }
    }
}
