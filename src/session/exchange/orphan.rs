//! Credentials that came too late: they live at the server, and their session is another's by now,
//! or nobody's.

use std::sync::Arc;

use super::revocation;
use crate::clock::within;
use crate::event::EventKind;
use crate::log::log_session;
use crate::provider::{RevocationReach, Revoked};
use crate::session::core::Core;
use crate::session::machine::Settled;
use crate::session::restore;
use crate::session::slot::Owed;
use crate::session::slot::Slot;
use crate::store::{Commit, Intent, Phase, Record, Stored};

/// Credentials that the store refused, because the session has others or has ended.
pub(super) struct Orphan {
    owed: Arc<Owed>,
    found: Option<Stored>,
}

impl Orphan {
    /// `found` is the record that the store has in their place.
    pub(super) fn new(owed: &Arc<Owed>, found: Option<Stored>) -> Self {
        Self { owed: Arc::clone(owed), found }
    }

    /// The record in their place.
    pub(super) fn into_found(self) -> Option<Stored> {
        self.found
    }

    /// What the session has in their place; none if its provider is not known any more.
    pub(super) fn found(&self, core: &Core, slot: &Slot) -> Option<(u64, Settled)> {
        let client = slot.site.client()?;
        Some(restore::found(core, &client, self.found.clone()))
    }
}

/// What is to become of an orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Of the grant that the session lives by: to revoke it would end the session.
    Drop,
    /// To be ended at the server.
    Revoke,
    /// To be left alive there, and told.
    Report,
}

/// Ends an orphan at the server, where that cannot hurt whoever has the session now, or tells that
/// it lives there. Tried once: later it could hit a grant that is still to come.
pub(super) async fn end(core: &Core, slot: &Arc<Slot>, orphan: &Orphan) {
    let ended = revoke(core, slot, orphan);
    match within(&*core.clock, core.policy.attempt_budget, ended).await {
        Some(Fate::Drop | Fate::Revoke) => {}
        Some(Fate::Report) | None => core.event(slot, EventKind::Orphaned),
    }
}

/// What became of it.
async fn revoke(core: &Core, slot: &Arc<Slot>, orphan: &Orphan) -> Fate {
    let fate = look(core, slot, orphan).await;
    if fate != Fate::Revoke {
        return fate;
    }
    let credentials = &orphan.owed.commit.credentials;
    let asking = match revocation::ready(core, slot, credentials, None).await {
        Ok(asking) => asking,
        Err(untold) => return report(slot, &untold),
    };
    // Again: a grant may have begun while this one waited for its turn.
    let fate = look(core, slot, orphan).await;
    if fate != Fate::Revoke {
        return fate;
    }
    match asking.ask(core, slot, credentials).await {
        Ok(Revoked::AtServer) => Fate::Revoke,
        Ok(Revoked::NotSupported) => Fate::Report,
        Err(untold) => report(slot, &untold),
    }
}

fn report(slot: &Arc<Slot>, untold: &crate::error::Error) -> Fate {
    log_session!(warn, slot.id(), error = %untold, "a late answer is not revoked");
    Fate::Report
}

async fn look(core: &Core, slot: &Arc<Slot>, orphan: &Orphan) -> Fate {
    let client = slot.site.client();
    let reach =
        client.map_or(RevocationReach::Unknown, |client| client.provider.revocation_reach());
    match core.store.load(slot.id()).await {
        Ok(Some(found)) => fate(&found.record, &orphan.owed.commit, reach),
        // Forgotten, and of what is forgotten the server is not told.
        Ok(None) => Fate::Report,
        Err(unread) => {
            log_session!(warn, slot.id(), error = %unread, "a late answer's record");
            Fate::Report
        }
    }
}

fn fate(found: &Record, orphan: &Commit, reach: RevocationReach) -> Fate {
    let ended = found.phase == Phase::Closed;
    let of_its_grant = orphan.intent == Intent::Refresh && found.epoch == orphan.epoch;
    let granting = found.lease.is_some_and(|lease| lease.intent == Intent::Establish);
    match (ended, granting) {
        (true, false) => Fate::Revoke,
        (false, _) if of_its_grant => Fate::Drop,
        // Another grant made the session, or is about to.
        _ if reach == RevocationReach::OneGrant => Fate::Revoke,
        _ => Fate::Report,
    }
}
