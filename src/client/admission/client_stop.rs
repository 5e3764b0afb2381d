//! What is stopped when the server rejects the client, and who may try whether it still does.

use std::time::Duration;

use super::{Entrant, Lane, Rejected};
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::key::{SessionId, Tenant};
use crate::provider::ExchangeError;

/// A client that the server rejects, or none.
///
/// The first rejection stops the refreshes of the tenant whose request was rejected, because a
/// server may reject a client for one tenant only. If the server rejects a second tenant's request,
/// or only one tenant uses the client, the client is stopped for all tenants. In each interval, one
/// exchange is let through as the probe.
#[derive(Default)]
pub(super) struct ClientStop {
    rejected: Option<RejectedClient>,
    users: Users,
    /// How many sign-ins wait for the probe's time or end.
    pub(super) waiting_sign_ins: usize,
}

struct RejectedClient {
    /// The tenant whose request was rejected; `None` if there were several, or the call belonged to
    /// no session.
    tenant: Option<Tenant>,
    error: Error,
    probe_at: BootTime,
    /// A probe is out.
    probing: bool,
    /// The session of the last probe. A session that was kept out since then probes before it.
    last_probe: Option<SessionId>,
    others_kept_out: bool,
}

/// Whose sessions the client has been used for.
#[derive(Default)]
enum Users {
    #[default]
    Nobody,
    One(Tenant),
    Several,
}

impl ClientStop {
    pub(super) fn is_on(&self) -> bool {
        self.rejected.is_some()
    }

    pub(super) fn is_probing(&self) -> bool {
        self.rejected.as_ref().is_some_and(|rejected| rejected.probing)
    }

    pub(super) fn count_user(&mut self, tenant: &Tenant) {
        match &self.users {
            Users::Nobody => self.users = Users::One(tenant.clone()),
            Users::One(user) if user != tenant => self.users = Users::Several,
            Users::One(_) | Users::Several => {}
        }
    }

    /// Whether the exchange may go on, as far as is known now.
    pub(super) fn check(
        &mut self,
        entrant: Entrant<'_>,
        now: BootTime,
        interval: Duration,
    ) -> Result<(), Rejected> {
        let waiting = self.waiting_sign_ins > 0;
        let Some(rejected) = self.stopped(entrant) else { return Ok(()) };
        let sign_in = entrant.lane == Lane::SignIn;
        let same = rejected.last_probe.as_ref() == Some(entrant.session);
        let again_at = rejected.probe_at.after(interval);
        if now < rejected.probe_at {
            rejected.others_kept_out |= !same;
            Err(rejected.rejected(rejected.probe_at, now))
        } else if same && rejected.others_kept_out && now < again_at {
            // Let another session probe: if this one is dead, its probes never succeed.
            Err(rejected.rejected(again_at, now))
        } else if waiting && !sign_in {
            Err(rejected.rejected(now.after(interval), now))
        } else {
            Ok(())
        }
    }

    /// The same, and takes the probe if the client is stopped.
    pub(super) fn pass(
        &mut self,
        entrant: Entrant<'_>,
        now: BootTime,
        interval: Duration,
    ) -> Result<(), Rejected> {
        self.check(entrant, now, interval)?;
        if let Some(rejected) = self.stopped(entrant) {
            // The others wait for its report.
            rejected.probe_at = now.after(interval);
            rejected.probing = true;
            rejected.last_probe = Some(entrant.session.clone());
            rejected.others_kept_out = false;
        }
        Ok(())
    }

    /// Until when no refresh of the schedule's is let through, whichever session's it is. A sign-in
    /// waits no longer than `turn` for the probe that is left to it.
    pub(super) fn all_kept_out_until(&self, now: BootTime, turn: Duration) -> Option<BootTime> {
        let rejected = self.rejected.as_ref().filter(|rejected| self.stops_all(rejected))?;
        if now < rejected.probe_at {
            // Also while the probe is out, whose report is waited for.
            return Some(rejected.probe_at);
        }
        (self.waiting_sign_ins > 0).then(|| now.after(turn))
    }

    /// For what is never the probe.
    pub(super) fn check_untracked(
        &self,
        session: Option<&SessionId>,
        now: BootTime,
    ) -> Result<(), Rejected> {
        let Some(rejected) = &self.rejected else { return Ok(()) };
        let tenant = session.map(|session| session.key().tenant());
        let concerned = self.stops_all(rejected) || rejected.tenant.as_ref() == tenant;
        if concerned && now < rejected.probe_at {
            return Err(rejected.rejected(rejected.probe_at, now));
        }
        Ok(())
    }

    /// The exchange of this session has ended, which may have been the probe.
    pub(super) fn ended(&mut self, session: Option<&SessionId>) {
        if let Some(rejected) = &mut self.rejected {
            rejected.probing &= rejected.last_probe.as_ref() != session;
        }
    }

    /// The server rejected the client, and said so to this tenant.
    pub(super) fn reject(
        &mut self,
        tenant: Option<&Tenant>,
        failed: &ExchangeError,
        probe_at: BootTime,
    ) {
        if tenant.is_none() && matches!(self.users, Users::Several) {
            // A call for no session: it does not say whose client the server rejects.
            return;
        }
        let Some(former) = &mut self.rejected else {
            let (tenant, error) = (tenant.cloned(), failed.rejected_client());
            self.rejected = Some(RejectedClient {
                tenant,
                error,
                probe_at,
                probing: false,
                last_probe: None,
                others_kept_out: false,
            });
            return;
        };
        if former.tenant.as_ref() != tenant {
            former.tenant = None;
        }
        former.probe_at = probe_at;
        former.probing = false;
        former.error = failed.rejected_client();
    }

    /// The server accepted the client for this tenant. If the client is stopped for one tenant
    /// only, answers to other tenants do not end that stop.
    pub(super) fn accept(&mut self, tenant: Option<&Tenant>) {
        let Some(rejected) = &self.rejected else { return };
        if self.stops_all(rejected) || rejected.tenant.as_ref() == tenant {
            self.rejected = None;
        }
    }

    fn stops_all(&self, rejected: &RejectedClient) -> bool {
        rejected.tenant.is_none() || !matches!(self.users, Users::Several)
    }

    /// What keeps this exchange out unless it is the probe.
    fn stopped(&mut self, entrant: Entrant<'_>) -> Option<&mut RejectedClient> {
        let all = self.rejected.as_ref().is_some_and(|rejected| self.stops_all(rejected));
        let tenant = Some(entrant.session.key().tenant());
        let theirs = |rejected: &RejectedClient| {
            entrant.lane != Lane::SignIn && rejected.tenant.as_ref() == tenant
        };
        self.rejected.as_mut().filter(|rejected| all || theirs(rejected))
    }
}

impl RejectedClient {
    fn rejected(&self, until: BootTime, now: BootTime) -> Rejected {
        let error = self.error.clone().with_retry_after(until.since(now));
        Rejected { error, until, paced: false }
    }
}

impl ExchangeError {
    /// Whether the server looked at the grant, which it does when it has accepted the client. A
    /// bare 403 may be a firewall's.
    pub(super) fn judges_grant(&self) -> bool {
        self.status != Some(403) || self.code.is_some()
    }

    /// What everybody gets while the client is stopped.
    fn rejected_client(&self) -> Error {
        Error::new(ErrorKind::Misconfigured)
            .about("the server rejects the client, which is tried again at intervals")
            .with_code(self.code.clone())
            .with_outcome(ExchangeOutcome::NotSent)
    }
}
