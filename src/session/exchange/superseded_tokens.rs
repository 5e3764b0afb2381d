//! Credentials that came too late: they live at the server, and their session is another's by now,
//! or nobody's.

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

/// Credentials that the store refused, because the session has others or has ended.
pub(super) struct SupersededTokens {
    unsaved: Arc<Unsaved>,
    found: Option<Stored>,
}

impl SupersededTokens {
    /// `found` is the record that the store has in their place.
    pub(super) fn new(unsaved: &Arc<Unsaved>, found: Option<Stored>) -> Self {
        Self { unsaved: Arc::clone(unsaved), found }
    }

    /// The record in their place.
    pub(super) fn into_found(self) -> Option<Stored> {
        self.found
    }

    /// What the session has in their place; none if its provider is not known any more.
    pub(super) fn found(&self, context: &Context, slot: &Slot) -> Option<(u64, Settled)> {
        let client = slot.tenant_client.client()?;
        Some(from_record::found(context, &client, self.found.clone()))
    }
}

/// What is to become of an orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disposition {
    /// Of the grant that the session lives by: to revoke it would end the session.
    Drop,
    /// To be ended at the server.
    Revoke,
    /// To be left alive there, and told.
    Report,
}

/// Ends an orphan at the server, where that cannot hurt whoever has the session now, or tells that
/// it lives there. Tried once: later it could hit a grant that is still to come.
pub(super) async fn revoke_or_report(
    context: &Context,
    slot: &Arc<Slot>,
    superseded: &SupersededTokens,
) {
    let ended = revoke(context, slot, superseded);
    match timeout(&*context.clock, context.policy.attempt_budget, ended).await {
        Some(Disposition::Drop | Disposition::Revoke) => {}
        Some(Disposition::Report) | None => context.event(slot, EventKind::TokensSuperseded),
    }
}

/// What became of it.
async fn revoke(context: &Context, slot: &Arc<Slot>, superseded: &SupersededTokens) -> Disposition {
    let fate = disposition_now(context, slot, superseded).await;
    if fate != Disposition::Revoke {
        return fate;
    }
    let credentials = &superseded.unsaved.commit.credentials;
    let request = match revocation::admit(context, slot, credentials, None).await {
        Ok(request) => request,
        Err(error) => return report(slot, &error),
    };
    // Again: a grant may have begun while this one waited for its turn.
    let fate = disposition_now(context, slot, superseded).await;
    if fate != Disposition::Revoke {
        return fate;
    }
    match request.send(context, slot, credentials).await {
        Ok(Revoked::AtServer) => Disposition::Revoke,
        Ok(Revoked::NotSupported) => Disposition::Report,
        Err(error) => report(slot, &error),
    }
}

fn report(slot: &Arc<Slot>, error: &crate::error::Error) -> Disposition {
    log_session!(warn, slot.id(), %error, "a late answer is not revoked");
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
        Ok(Some(found)) => fate(&found.record, &superseded.unsaved.commit, reach),
        // Forgotten, and of what is forgotten the server is not told.
        Ok(None) => Disposition::Report,
        Err(error) => {
            log_session!(warn, slot.id(), error = %error, "a late answer's record");
            Disposition::Report
        }
    }
}

fn fate(found: &Record, superseded: &Commit, reach: RevocationReach) -> Disposition {
    let ended = found.phase == Phase::Closed;
    let of_its_grant = superseded.intent == Intent::Refresh && found.epoch == superseded.epoch;
    let granting = found.lease.is_some_and(|lease| lease.intent == Intent::Establish);
    match (ended, granting) {
        (true, false) => Disposition::Revoke,
        (false, _) if of_its_grant => Disposition::Drop,
        // Another grant made the session, or is about to.
        _ if reach == RevocationReach::OneGrant => Disposition::Revoke,
        _ => Disposition::Report,
    }
}
