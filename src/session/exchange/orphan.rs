//! Credentials that came too late: they live at the server, and their session is another's by now,
//! or nobody's.

use std::sync::Arc;

use super::close;
use crate::clock::within;
use crate::event::EventKind;
use crate::log::log_session;
use crate::provider::{RevocationReach, Revoked};
use crate::session::core::Core;
use crate::session::slot::Slot;
use crate::store::{Commit, Intent, Phase, Record};

/// Credentials that the store refused, because the session has others or has ended.
pub(super) struct Orphan(Arc<Commit>);

impl Orphan {
    pub(super) fn new(commit: &Arc<Commit>) -> Self {
        Self(Arc::clone(commit))
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
pub(super) async fn end(core: &Core, slot: &Slot, orphan: &Orphan) {
    let ended = revoke(core, slot, orphan);
    match within(&*core.clock, core.policy.exchange_budget, ended).await {
        Some(Fate::Drop | Fate::Revoke) => {}
        Some(Fate::Report) | None => core.event(slot, EventKind::Orphaned),
    }
}

/// What became of it.
async fn revoke(core: &Core, slot: &Slot, orphan: &Orphan) -> Fate {
    let fate = look(core, slot, orphan).await;
    if fate != Fate::Revoke {
        return fate;
    }
    let credentials = &orphan.0.credentials;
    let asking = match close::ready(core, slot, credentials).await {
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

fn report(slot: &Slot, untold: &crate::error::Error) -> Fate {
    log_session!(warn, slot.id(), error = %untold, "a late answer is not revoked");
    Fate::Report
}

async fn look(core: &Core, slot: &Slot, orphan: &Orphan) -> Fate {
    let client = slot.site.client();
    let reach =
        client.map_or(RevocationReach::Unknown, |client| client.provider.revocation_reach());
    match core.store.load(slot.id()).await {
        Ok(Some(found)) => fate(&found, &orphan.0, reach),
        // Forgotten, and of what is forgotten the server is not told.
        Ok(None) => Fate::Report,
        Err(unread) => {
            log_session!(warn, slot.id(), error = %unread, "a late answer's record");
            Fate::Report
        }
    }
}

fn fate(found: &Record, orphan: &Commit, reach: RevocationReach) -> Fate {
    let before = found.lease.map_or(found.phase, |lease| lease.before);
    let ended = before == Phase::Closed;
    let of_its_grant = orphan.intent == Intent::Refresh && found.epoch == orphan.epoch;
    match (ended, found.phase) {
        (true, Phase::Closed) => Fate::Revoke,
        (false, _) if of_its_grant => Fate::Drop,
        // Another grant made the session, or is about to.
        _ if reach == RevocationReach::OneGrant => Fate::Revoke,
        _ => Fate::Report,
    }
}
