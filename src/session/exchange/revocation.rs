//! The revocation of a closed session's tokens at the server.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use super::failure;
use super::observation::{Observation, ObservedKind};
use crate::client::Client;
use crate::client::admission::{Permit, ScheduledPermit};
use crate::clock::timeout;
use crate::error::{Error, ErrorKind};
use crate::log::log_session;
use crate::provider::{ExchangeError, FailureClass, Revoked};
use crate::session::context::Context;
use crate::session::machine::{BackoffState, Closed, Input, Settled};
use crate::session::outcome::Revocation;
use crate::session::single_flight::ExchangeId;
use crate::session::slot::Slot;
use crate::store::{Attempt, Done, Outcome, Settle, SettleTo, Statement, StoreError};
use crate::task::CatchPanic;
use crate::token::Credentials;

pub(super) async fn stored(
    context: &Context,
    slot: &Slot,
    statement: Statement,
) -> Result<Outcome, Error> {
    context
        .await_store(context.store.apply(slot.id(), statement))
        .await
        .map_err(StoreError::into_error)
}

/// Sends a queued revocation before a new grant replaces the session: later it could hit the tokens
/// of that grant. Tries once; if the revocation fails, it is dropped.
pub(super) async fn revoke_before_grant(context: &Context, slot: &Arc<Slot>) {
    let Some(credentials) = closed_of(slot).and_then(|closed| closed.outbox) else { return };
    if let Err(error) = send_revocation(context, slot, &credentials, None).await {
        log_session!(
            context.log_limit(),
            warn,
            slot.id(),
            "a queued revocation failed, and is dropped",
            cause = %error
        );
    }
}

/// Revokes the tokens in the outbox at the server. If that fails, the schedule tries again.
pub(super) async fn revoke_at_server(
    context: &Context,
    slot: &Arc<Slot>,
    attempt: Attempt,
    permit: Option<ScheduledPermit>,
) -> Revocation {
    let Some(closed) = closed_of(slot) else { return Revocation::LocalOnly };
    let Some(credentials) = &closed.outbox else { return Revocation::LocalOnly };
    let ending = match send_revocation(context, slot, credentials, permit).await {
        Ok(Revoked::AtServer) => Revocation::AtServer,
        Ok(Revoked::NotSupported) => Revocation::LocalOnly,
        Err(failed) => {
            // Step first: the step decides when to try again, and the settle writes that time to
            // the record, so that other processes do not try earlier.
            let ending = revocation_failed(context, slot, &closed, failed);
            let retry_at = slot.with_state(|state| state.settled.as_ref()?.earliest_retry());
            let retry_in = retry_at.map(|at| at.since(context.now().boot));
            settle(context, slot, (closed.epoch, attempt), (SettleTo::Before, retry_in)).await;
            return ending;
        }
    };
    // Settle after the response: the record keeps the tokens until then. After a crash before this
    // line the revocation is sent again, which is harmless; the other order could lose it.
    settle(context, slot, (closed.epoch, attempt), (SettleTo::Revoked, None)).await;
    context.apply(slot, Input::Revoked);
    ending
}

pub(super) fn closed_of(slot: &Slot) -> Option<Closed> {
    slot.with_state(|state| state.settled.as_ref().and_then(Settled::closed).cloned())
}

async fn settle(
    context: &Context,
    slot: &Arc<Slot>,
    (epoch, attempt): (u64, Attempt),
    (to, retry_in): (SettleTo, Option<Duration>),
) {
    let (due_in, failures) = (retry_in, None);
    let settle = Settle { epoch, attempt, to, retry_in, due_in, failures };
    let settle = Statement::Settle(settle);
    match stored(context, slot, settle).await {
        Ok(settled) => {
            // Only after the store has answered: until then the claim may be in the record, and the
            // next claim must name it in order to replace it.
            slot.claim_ended(attempt.claim);
            if let Outcome::Done(Done { version, .. }) = settled {
                context.apply(slot, Input::Wrote { version });
            }
        }
        Err(_) => log_session!(
            context.log_limit(),
            warn,
            slot.id(),
            "could not save that a revocation ended"
        ),
    }
}

/// Leaves the revocation to the schedule, after a back-off.
pub(super) fn revocation_failed(
    context: &Context,
    slot: &Arc<Slot>,
    closed: &Closed,
    failed: Error,
) -> Revocation {
    let backoff = BackoffState::after(closed.backoff.as_ref(), failed, &context.step_context(slot));
    context.apply(slot, Input::RevocationFailed { backoff });
    Revocation::Queued
}

async fn send_revocation(
    context: &Context,
    slot: &Arc<Slot>,
    credentials: &Credentials,
    permit: Option<ScheduledPermit>,
) -> Result<Revoked, Error> {
    admit(context, slot, credentials, permit).await?.send(context, slot, credentials).await
}

/// A revocation that was admitted: the client to send with, and its permit.
pub(super) struct RevocationRequest {
    client: Arc<Client>,
    permit: Permit,
}

pub(super) async fn admit(
    context: &Context,
    slot: &Arc<Slot>,
    credentials: &Credentials,
    permit: Option<ScheduledPermit>,
) -> Result<RevocationRequest, Error> {
    context.paused.check(slot.id())?;
    let Some(client) = slot.tenant_client.client() else {
        return Err(Error::new(ErrorKind::RetryLater)
            .about("the session's provider could not be resolved yet"));
    };
    if !client.issued(credentials) {
        return Err(failure::issuer_mismatch().error);
    }
    let permit = client.admission.enter_untracked(&*context.clock, Some(slot.id()), permit).await;
    let permit = permit.map_err(|rejected| rejected.error)?;
    // Again after the wait for the permit, which may have been long: nothing may leave once
    // `Supervisor::pause` has returned.
    context.paused.check(slot.id())?;
    Ok(RevocationRequest { client, permit })
}

impl RevocationRequest {
    pub(super) async fn send(
        self,
        context: &Context,
        slot: &Arc<Slot>,
        credentials: &Credentials,
    ) -> Result<Revoked, Error> {
        let Self { client, permit } = self;
        let sender = client.sender(&context.clock, Some(slot.id()), &context.policy);
        let provider = &*client.provider;
        let exchange = async {
            provider.prepare(&sender).await?;
            // The provider may have taken long to prepare.
            context
                .paused
                .check(slot.id())
                .map_err(|paused| ExchangeError::new(FailureClass::NotSent).with_source(paused))?;
            provider.revoke(&sender, credentials).await
        };
        let exchange = CatchPanic::new(Box::pin(exchange));
        let mut observation = Observation::new(ExchangeId::random());
        let span = observation.begin(context, slot.id(), ObservedKind::Revoke);
        observation.attempt();
        // Revocation is idempotent (RFC 7009 section 2.2), so this request may be dropped when its
        // time is over. A refresh may not: see `Exchange::run_provider`.
        let ended = timeout(&*context.clock, context.policy.attempt_budget, exchange);
        let ended = ended.instrument(span).await;
        drop(permit);
        let lost = || Err(ExchangeError::new(FailureClass::Ambiguous));
        let answer =
            ended.flatten().unwrap_or_else(lost).inspect_err(|failed| observation.failed(failed));
        observation.end("success", context.now());
        answer.map_err(ExchangeError::into_error)
    }
}
