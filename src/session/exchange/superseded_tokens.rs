//! Superseded tokens: the server has issued them, but another process has closed, forgotten or
//! replaced their session meanwhile.

use std::sync::Arc;

use super::revocation;
use crate::clock::timeout;
use crate::event::EventKind;
use crate::log::log_session;
use crate::provider::{RevocationReach, Revoked};
use crate::session::context::Context;
use crate::session::from_record;
use crate::session::machine::Settled;
use crate::session::slot::Slot;
use crate::session::slot::Unsaved;
use crate::store::{Commit, Intent, Phase, Record, Stored};

/// Credentials that the store refused, because the session has newer ones or was closed.
pub(super) struct SupersededTokens {
    unsaved: Arc<Unsaved>,
    found: Option<Stored>,
}

impl SupersededTokens {
    /// `found` is the record that the store has instead.
    pub(super) fn new(unsaved: &Arc<Unsaved>, found: Option<Stored>) -> Self {
        Self { unsaved: Arc::clone(unsaved), found }
    }

    /// The record that the store has instead.
    pub(super) fn into_found(self) -> Option<Stored> {
        self.found
    }

    /// The state of that record; `None` if the session's client is not known any more.
    pub(super) fn found(&self, context: &Context, slot: &Slot) -> Option<(u64, Settled)> {
        let client = slot.tenant_client.client()?;
        Some(from_record::found(context, &client, self.found.clone()))
    }
}

/// What to do with superseded tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disposition {
    /// The session uses the same grant: a revocation would end the session.
    Drop,
    /// Revoke them at the server.
    Revoke,
    /// Leave them valid at the server, and publish an event.
    Report,
}

/// Revokes superseded tokens at the server if that cannot end the present session; otherwise
/// publishes an event that they are still valid.
pub(super) async fn revoke_or_report(
    context: &Context,
    slot: &Arc<Slot>,
    superseded: &SupersededTokens,
) {
    // Only once and within one budget: a revocation that is sent later could hit the tokens of a
    // grant that has begun meanwhile.
    let ended = revoke(context, slot, superseded);
    match timeout(&*context.clock, context.policy.attempt_budget, ended).await {
        Some(Disposition::Drop | Disposition::Revoke) => {}
        Some(Disposition::Report) | None => context.event(slot, EventKind::TokensSuperseded),
    }
}

/// Gives `Revoke` if the server has revoked the tokens.
async fn revoke(context: &Context, slot: &Arc<Slot>, superseded: &SupersededTokens) -> Disposition {
    let before_permit = disposition_now(context, slot, superseded).await;
    if before_permit != Disposition::Revoke {
        return before_permit;
    }
    let credentials = &superseded.unsaved.commit.credentials;
    let request = match revocation::admit(context, slot, credentials, None).await {
        Ok(request) => request,
        Err(error) => return report(context, slot, &error),
    };
    // Check again: another process may have begun a grant while this one waited for the permit,
    // and the revocation could end its new session.
    let with_permit = disposition_now(context, slot, superseded).await;
    if with_permit != Disposition::Revoke {
        return with_permit;
    }
    match request.send(context, slot, credentials).await {
        Ok(Revoked::AtServer) => Disposition::Revoke,
        Ok(Revoked::NotSupported) => Disposition::Report,
        Err(error) => report(context, slot, &error),
    }
}

fn report(context: &Context, slot: &Arc<Slot>, error: &crate::error::Error) -> Disposition {
    log_session!(
        context.log_limit(),
        warn,
        slot.id(),
        "could not revoke superseded tokens at the server",
        cause = %error
    );
    Disposition::Report
}

async fn disposition_now(
    context: &Context,
    slot: &Arc<Slot>,
    superseded: &SupersededTokens,
) -> Disposition {
    let client = slot.tenant_client.client();
    let reach =
        client.map_or(RevocationReach::Unknown, |client| client.provider.revocation_reach());
    match context.store.load(slot.id()).await {
        Ok(Some(found)) => disposition(&found.record, &superseded.unsaved.commit, reach),
        // The session was forgotten, and `forget` sends nothing to the server.
        Ok(None) => Disposition::Report,
        Err(error) => {
            log_session!(
                context.log_limit(),
                warn,
                slot.id(),
                "could not load the session's record",
                cause = %error
            );
            Disposition::Report
        }
    }
}

fn disposition(found: &Record, superseded: &Commit, reach: RevocationReach) -> Disposition {
    let ended = found.phase == Phase::Closed;
    let of_its_grant = superseded.intent == Intent::Refresh && found.epoch == superseded.epoch;
    let granting = found.lease.is_some_and(|lease| lease.intent == Intent::Establish);
    match (ended, granting) {
        (true, false) => Disposition::Revoke,
        (false, _) if of_its_grant => Disposition::Drop,
        // The session has another grant, or is about to get one: a revocation must not reach it.
        _ if reach == RevocationReach::OneGrant => Disposition::Revoke,
        _ => Disposition::Report,
    }
}
