//! Stops exchanges when the server rejects the client, and chooses the probe that tries again.

mod shared_stop;

use std::time::Duration;

use super::{Entrant, Lane, Rejected};
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind, ExchangeOutcome, ProviderCode};
use crate::key::{SessionId, Tenant};
use crate::policy::CLIENTS_POLL;
use crate::provider::ExchangeError;

/// Whether the server rejects the client.
///
/// The first rejection stops the refreshes of the tenant whose request was rejected, because a
/// server may reject a client for one tenant only. If the server rejects a second tenant's request,
/// or only one tenant uses the client, the client is stopped for all tenants. In each interval, one
/// exchange is let through as the probe.
#[derive(Default)]
pub(super) struct ClientStop {
    rejected: Option<RejectedClient>,
    users: Users,
    /// Whether the store says which process may probe.
    shared: bool,
    apart: Apart,
    unsent: Option<Unsent>,
    /// Counts the answers that changed `unsent`.
    answers: u64,
    /// How many sign-ins wait for the probe's time or end.
    pub(super) waiting_sign_ins: usize,
}

/// Whether the stops of other processes hold here. They do not for some time after this client has
/// replaced another one, because the others may still have the former secret.
#[derive(Clone, Copy, Default)]
enum Apart {
    #[default]
    No,
    /// The client has just replaced another one.
    Begins,
    Until(BootTime),
}

/// What the server's newest answer says of the client, and the store does not know yet.
#[derive(Clone, Copy)]
enum Unsent {
    /// The server rejected the client. `seen`: the version that the store had after that.
    Rejection { seen: Option<u64> },
    /// The server accepted the client. `stop`: the version of the stop that this ends. `None` if
    /// the store may not know that stop.
    Acceptance { stop: Option<u64> },
}

struct RejectedClient {
    /// The tenant whose request was rejected; `None` if there were several, or the call belonged to
    /// no session.
    tenant: Option<Tenant>,
    error: Error,
    probe_at: BootTime,
    /// A probe runs.
    probing: bool,
    /// The session of the last probe. If another session was rejected since then, that one probes
    /// first.
    last_probe: Option<SessionId>,
    others_kept_out: bool,
    /// The version of the stop in the store. `None` if the store does not know it yet.
    version: Option<u64>,
    /// Until then this process may send a probe, because the store granted it.
    granted_until: Option<BootTime>,
}

/// The tenants whose sessions have used the client.
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

    /// When the next probe may be sent, if the client is stopped for one tenant or for all.
    pub(super) fn probe_at(&self) -> Option<BootTime> {
        self.rejected.as_ref().map(|rejected| rejected.probe_at)
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

    /// Whether the exchange may run, as far as is known now.
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
            // Another session should probe: if this one is dead, its probes never succeed.
            Err(rejected.rejected(again_at, now))
        } else if waiting && !sign_in {
            Err(rejected.rejected(now.after(interval), now))
        } else {
            Ok(())
        }
    }

    /// As [`check`](Self::check). If the client is stopped, this exchange becomes the probe.
    pub(super) fn pass(
        &mut self,
        entrant: Entrant<'_>,
        now: BootTime,
        interval: Duration,
    ) -> Result<(), Rejected> {
        self.check(entrant, now, interval)?;
        let shared = self.shared;
        if let Some(rejected) = self.stopped(entrant) {
            if shared && !rejected.is_granted(now) {
                // The claim was used by another exchange, or was never asked for.
                return Err(rejected.rejected(now.after(CLIENTS_POLL), now));
            }
            rejected.granted_until = None;
            // The other exchanges wait for the probe's report.
            rejected.probe_at = now.after(interval);
            rejected.probing = true;
            rejected.last_probe = Some(entrant.session.clone());
            rejected.others_kept_out = false;
        }
        Ok(())
    }

    /// Until when no scheduled refresh of any session is admitted. A sign-in waits at most
    /// `timeout` for the probe that is left to it.
    pub(super) fn all_kept_out_until(&self, now: BootTime, timeout: Duration) -> Option<BootTime> {
        let rejected = self.rejected.as_ref().filter(|rejected| self.stops_all(rejected))?;
        if now < rejected.probe_at {
            // Also while the probe runs, because its report decides.
            return Some(rejected.probe_at);
        }
        (self.waiting_sign_ins > 0).then(|| now.after(timeout))
    }

    /// As [`check`](Self::check), for a call that is never the probe.
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

    /// Notes that the exchange of this session has ended. It may have been the probe.
    pub(super) fn ended(&mut self, session: Option<&SessionId>) {
        if let Some(rejected) = &mut self.rejected {
            rejected.probing &= rejected.last_probe.as_ref() != session;
        }
    }

    /// Notes that the server rejected the client in a request of this tenant.
    pub(super) fn reject(
        &mut self,
        tenant: Option<&Tenant>,
        failed: &ExchangeError,
        probe_at: BootTime,
    ) {
        if tenant.is_none() && matches!(self.users, Users::Several) {
            // The call belonged to no session, so it is not known for which tenant the server
            // rejects the client.
            return;
        }
        self.note_unsent(Unsent::Rejection { seen: None });
        self.apart = Apart::No;
        let error = rejected_client(failed.code.clone());
        let Some(former) = &mut self.rejected else {
            self.rejected = Some(RejectedClient::new(tenant.cloned(), error, probe_at));
            return;
        };
        if former.tenant.as_ref() != tenant {
            former.tenant = None;
        }
        former.probe_at = probe_at;
        former.probing = false;
        former.granted_until = None;
        former.error = error;
    }

    /// Notes that the server accepted the client for this tenant. If the client is stopped for one
    /// tenant only, answers to other tenants do not end that stop.
    pub(super) fn accept(&mut self, tenant: Option<&Tenant>) {
        let Some(rejected) = &self.rejected else { return };
        if self.stops_all(rejected) || rejected.tenant.as_ref() == tenant {
            let stop = rejected.version;
            self.rejected = None;
            self.note_unsent(Unsent::Acceptance { stop });
        }
    }

    fn stops_all(&self, rejected: &RejectedClient) -> bool {
        rejected.tenant.is_none() || !matches!(self.users, Users::Several)
    }

    /// The rejection that keeps this exchange out unless it is the probe.
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
    fn new(tenant: Option<Tenant>, error: Error, probe_at: BootTime) -> Self {
        Self {
            tenant,
            error,
            probe_at,
            probing: false,
            last_probe: None,
            others_kept_out: false,
            version: None,
            granted_until: None,
        }
    }

    fn is_granted(&self, now: BootTime) -> bool {
        self.granted_until.is_some_and(|until| now < until)
    }

    fn rejected(&self, until: BootTime, now: BootTime) -> Rejected {
        let error = self.error.clone().with_retry_after(until.since(now));
        Rejected { error, until, paced: false }
    }
}

impl ExchangeError {
    /// Whether the server judged the grant, which it does only after it has accepted the client. A
    /// 403 without a code may come from a firewall.
    pub(super) fn judges_grant(&self) -> bool {
        self.status != Some(403) || self.code.is_some()
    }
}

/// The error that every caller gets while the client is stopped.
fn rejected_client(code: Option<ProviderCode>) -> Error {
    Error::new(ErrorKind::Misconfigured)
        .about(
            "the server rejected the client; correct the client id or the client secret; the \
             crate tries the client again at intervals",
        )
        .with_code(code)
        .with_outcome(ExchangeOutcome::NotSent)
}
