//! Closing: durably first, then at the server, for as long as that takes.

use std::sync::Arc;

use super::orphan::{self, Orphan};
use super::{Guard, save, unstored};
use crate::clock::within;
use crate::error::{Error, ErrorKind};
use crate::log::log_session;
use crate::provider::client::Client;
use crate::provider::gate::Permit;
use crate::provider::{ExchangeError, FailureClass, Revoked};
use crate::session::core::Core;
use crate::session::flight::Landing;
use crate::session::machine::{Closed, Input, Start, Trouble};
use crate::session::message::Ending;
use crate::session::slot::Slot;
use crate::store::{self, StoreError, StoreErrorKind};
use crate::task::Foreign;
use crate::token::Credentials;

/// How often a close follows what other processes make of its session meanwhile. Defaults to 4:
/// each time is a refresh or a sign-in somewhere else.
const CLOSE_TRIES: u32 = 4;

/// Closes a session for a caller, who hears how it ended.
pub(crate) async fn close(mut guard: Guard) {
    let (core, slot) = (Arc::clone(&guard.core), Arc::clone(&guard.slot));
    let mut orphan = None;
    let ending = match durably(&core, &slot, &mut orphan).await {
        Ok(closed) => match core.apply(&slot, Input::ClosedDurably { closed }) {
            Some(Start::Revoke) => Ok(tell(&core, &slot).await),
            _ => Ok(Ending::LocalOnly),
        },
        Err(failed) => Err(failed),
    };
    guard.answer(ending);
    if let Some(orphan) = &orphan {
        orphan::end(&core, &slot, orphan).await;
    }
    guard.end(Landing::Again);
}

/// Tells the server of a session that was closed before.
pub(crate) async fn revoke(mut guard: Guard) {
    tell(&guard.core, &guard.slot).await;
    guard.end(Landing::Again);
}

/// Tells the server what it is owed before a new grant takes the session's place: later it could
/// hit the new one. Tried once; what cannot be told then is never told.
pub(super) async fn tell_before(core: &Core, slot: &Slot) {
    let closed = slot.look(|state| state.rest().and_then(|rest| rest.closed().cloned()));
    let Some(credentials) = closed.and_then(|closed| closed.outbox) else { return };
    if let Err(untold) = ask(core, slot, &credentials).await {
        log_session!(warn, slot.id(), error = %untold, "a revocation is given up");
    }
}

/// Writes the tombstone. A session that cannot be closed durably is not closed at all: a crash
/// would bring it back, and its user was told that it is gone.
async fn durably(core: &Core, slot: &Slot, orphan: &mut Option<Orphan>) -> Result<Closed, Error> {
    let rest = slot.look(|state| state.rest().map(|rest| rest.into_owned()));
    let (mut epoch, mut generation) = rest.as_ref().map_or((0, 0), |rest| rest.counters());
    let mut outbox = rest.and_then(|rest| rest.credentials().cloned());
    for _ in 0..CLOSE_TRIES {
        let close = async {
            if let Some(late) = save::first(core, slot).await? {
                *orphan = Some(late);
            }
            core.store.close(slot.id(), store::Close { generation, at: core.now() }).await
        };
        let closed = within(&*core.clock, core.policy.store_wait, close).await;
        match closed.unwrap_or_else(|| Err(StoreError::new(StoreErrorKind::Slow))) {
            Ok(store::Closed::Done { generation }) => {
                return Ok(Closed { epoch, generation, outbox, trouble: None, unrenewed: None });
            }
            // Another process was faster, and what it got is to be closed as well.
            Ok(store::Closed::Moved(Some(found))) => {
                (epoch, generation, outbox) = (found.epoch, found.generation, found.credentials);
            }
            Ok(store::Closed::Moved(None)) => break,
            Err(failed) => {
                core.apply(slot, Input::CloseFailed);
                return Err(unstored(failed));
            }
        }
    }
    core.apply(slot, Input::Superseded);
    Err(Error::new(ErrorKind::Superseded))
}

/// Tells the server what the outbox holds; the schedule tries again if it cannot be told.
async fn tell(core: &Core, slot: &Slot) -> Ending {
    let closed = slot.look(|state| state.rest().and_then(|rest| rest.closed().cloned()));
    let Some(closed) = closed else { return Ending::LocalOnly };
    let Some(credentials) = &closed.outbox else { return Ending::LocalOnly };
    let ending = match ask(core, slot, credentials).await {
        Ok(Revoked::AtServer) => Ending::AtServer,
        Ok(Revoked::NotSupported) => Ending::LocalOnly,
        Err(failed) => return untold(core, slot, &closed, failed),
    };
    // Forgotten only now: a crash before this tells the server again, which is harmless.
    let emptied = core.store.outbox(slot.id(), closed.generation);
    let emptied = within(&*core.clock, core.policy.store_wait, emptied).await;
    if let Some(Err(_)) | None = emptied {
        log_session!(warn, slot.id(), "the outbox is not emptied");
    }
    core.apply(slot, Input::Told);
    ending
}

/// Leaves it to the schedule to tell the server.
pub(super) fn untold(core: &Core, slot: &Slot, closed: &Closed, failed: Error) -> Ending {
    let trouble = Trouble::after(closed.trouble.as_ref(), failed, &core.moment(slot));
    core.apply(slot, Input::Untold { trouble });
    Ending::Queued
}

async fn ask(core: &Core, slot: &Slot, credentials: &Credentials) -> Result<Revoked, Error> {
    ready(core, slot, credentials).await?.ask(core, slot, credentials).await
}

/// A turn at the server, to tell it of an end.
pub(super) struct Asking {
    client: Arc<Client>,
    permit: Permit,
}

pub(super) async fn ready(
    core: &Core,
    slot: &Slot,
    credentials: &Credentials,
) -> Result<Asking, Error> {
    let Some(client) = slot.site.client() else {
        return Err(Error::new(ErrorKind::RetryLater).about("the session's provider is not known"));
    };
    if !client.issued(credentials) {
        return Err(super::foreign().error);
    }
    let permit =
        client.gate.enter_beside(&*core.clock, Some(slot.id())).await.map_err(|shut| shut.error)?;
    Ok(Asking { client, permit })
}

impl Asking {
    pub(super) async fn ask(
        self,
        core: &Core,
        slot: &Slot,
        credentials: &Credentials,
    ) -> Result<Revoked, Error> {
        let Self { client, permit } = self;
        let wire = client.wire(&*core.clock, Some(slot.id()), &core.policy);
        let provider = &*client.provider;
        let exchange = async {
            provider.prepare(&wire).await?;
            provider.revoke(&wire, credentials).await
        };
        let exchange = Foreign::new(Box::pin(exchange));
        // Revocation is idempotent (RFC 7009 section 2.2), so it may be dropped at its budget.
        let ended = within(&*core.clock, core.policy.exchange_budget, exchange).await;
        drop(permit);
        match ended {
            Some(Some(answer)) => answer.map_err(ExchangeError::into_error),
            Some(None) | None => Err(ExchangeError::new(FailureClass::Ambiguous).into_error()),
        }
    }
}
