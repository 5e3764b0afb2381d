//! What the backend has paused, as this process knows it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::clock::BootTime;
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::key::{PauseScope, ProviderName, SessionId, Tenant};
use crate::policy::RESUME_SPREAD;

/// The scopes that are paused, and those that were resumed lately. Until the store has been read
/// once, every session counts as paused: it may be, and a request that is sent cannot be undone.
#[derive(Default)]
pub(crate) struct PausedScopes {
    known: ArcSwap<Known>,
    /// How many reads of the store have begun.
    reads: AtomicU64,
    /// Notified when sessions may go on.
    resumed: Notify,
}

/// The number of a read of the store, in the order in which reads begin.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReadNumber(u64);

#[derive(Clone, Default)]
struct Known {
    /// The read that it comes from.
    read: ReadNumber,
    /// Whether the store has said what is paused, or that it keeps no pauses.
    is_read: bool,
    paused: Vec<PauseScope>,
    resumed: Vec<(PauseScope, BootTime)>,
}

impl PausedScopes {
    /// Must come before the store is read.
    pub(crate) fn begin_read(&self) -> ReadNumber {
        ReadNumber(self.reads.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Takes over what this read of the store has shown. Returns whether sessions may go on: a scope
    /// was resumed, or this is the first read.
    ///
    /// A read that began before the one that is known changes nothing: it may have begun before a
    /// pause that this process has written since, and would end that pause here.
    pub(crate) fn set(&self, read: ReadNumber, mut paused: Vec<PauseScope>, now: BootTime) -> bool {
        paused.sort_unstable();
        let mut any = false;
        self.known.rcu(|former| {
            any = false;
            if read < former.read {
                return Known::clone(former);
            }
            let is_recent = |(_, at): &&(PauseScope, BootTime)| now.since(*at) < RESUME_SPREAD;
            let mut resumed: Vec<_> = former.resumed.iter().filter(is_recent).cloned().collect();
            let gone = former.paused.iter().filter(|scope| paused.binary_search(scope).is_err());
            let before = resumed.len();
            resumed.extend(gone.map(|scope| (scope.clone(), now)));
            any = resumed.len() > before || !former.is_read;
            Known { read, is_read: true, paused: paused.clone(), resumed }
        });
        if any {
            self.resumed.notify_waiters();
        }
        any
    }

    /// Takes over that the store keeps no pauses.
    pub(crate) fn set_not_kept(&self) {
        self.set(self.begin_read(), Vec::new(), BootTime::default());
    }

    /// Completes when sessions may go on that could not at the time of this call.
    pub(crate) fn resumed(&self) -> Notified<'_> {
        self.resumed.notified()
    }

    /// Whether the session is paused.
    pub(crate) fn has(&self, id: &SessionId) -> bool {
        let known = self.known.load();
        !known.is_read || known.pauses(id.provider(), id.key().tenant())
    }

    /// Whether all sessions of the provider are paused.
    pub(crate) fn has_provider(&self, provider: &ProviderName) -> bool {
        let is_it =
            |scope: &PauseScope| matches!(scope, PauseScope::Provider(it) if it == provider);
        let known = self.known.load();
        !known.is_read || known.paused.iter().any(is_it)
    }

    /// The error of a session that is paused.
    pub(crate) fn check(&self, id: &SessionId) -> Result<(), Error> {
        self.check_tenant(id.provider(), id.key().tenant())
    }

    /// The error of a call that belongs to no session.
    pub(crate) fn check_tenant(
        &self,
        provider: &ProviderName,
        tenant: &Tenant,
    ) -> Result<(), Error> {
        let known = self.known.load();
        if !known.is_read {
            return Err(not_read());
        }
        if known.pauses(provider, tenant) { Err(paused()) } else { Ok(()) }
    }

    /// When the session may be refreshed first after a resume: all that became due during a long
    /// pause would otherwise come at once. Each session has a time of its own, which is the same at
    /// each call.
    pub(crate) fn resumed_at(&self, id: &SessionId) -> Option<BootTime> {
        let known = self.known.load();
        let resumed = known.resumed.iter().filter(|(scope, _)| scope.has(id)).map(|(_, at)| *at);
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let spread = u64::try_from(RESUME_SPREAD.as_millis()).unwrap_or(u64::MAX).max(1);
        let delay = Duration::from_millis(hasher.finish() % spread);
        resumed.max().map(|at| at.after(delay))
    }
}

impl Known {
    /// Whether the sessions of a tenant at a provider are paused, as far as the store has said.
    fn pauses(&self, provider: &ProviderName, tenant: &Tenant) -> bool {
        // The usual case, without a copy of the names.
        !self.paused.is_empty()
            && [
                PauseScope::Provider(provider.clone()),
                PauseScope::Tenant(tenant.clone()),
                PauseScope::TenantAt(provider.clone(), tenant.clone()),
            ]
            .iter()
            .any(|scope| self.paused.binary_search(scope).is_ok())
    }
}

fn not_read() -> Error {
    Error::new(ErrorKind::RetryLater)
        .about(
            "the store has not said yet what the backend has paused, so nothing is sent; check the \
             store",
        )
        .with_outcome(ExchangeOutcome::NotSent)
}

fn paused() -> Error {
    Error::new(ErrorKind::RetryLater)
        .about(
            "the backend has paused the session (`Supervisor::pause`), so nothing is sent for it",
        )
        .with_outcome(ExchangeOutcome::NotSent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SessionKey;

    fn id(provider: &str, tenant: &str) -> SessionId {
        let key = SessionKey::new(tenant, "device").unwrap();
        SessionId::new(ProviderName::new(provider).unwrap(), key)
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    #[test]
    fn a_session_is_paused_by_its_provider_by_its_tenant_and_by_both() {
        let (provider, tenant) = (ProviderName::new("p").unwrap(), Tenant::new("t").unwrap());
        for (scope, expected) in [
            (PauseScope::Provider(provider.clone()), [true, true, false, false]),
            (PauseScope::Tenant(tenant.clone()), [true, false, true, false]),
            (PauseScope::TenantAt(provider, tenant), [true, false, false, false]),
        ] {
            let paused = PausedScopes::default();
            let read = paused.begin_read();
            assert!(paused.set(read, vec![scope.clone()], at(1)), "the first read");
            let read = paused.begin_read();
            assert!(!paused.set(read, vec![scope.clone()], at(1)), "nothing was resumed");
            let ids = [id("p", "t"), id("p", "u"), id("q", "t"), id("q", "u")];
            assert_eq!(ids.clone().map(|id| paused.has(&id)), expected);
            assert_eq!(ids.clone().map(|id| scope.has(&id)), expected);
            assert!(paused.set(paused.begin_read(), Vec::new(), at(2)));
            assert_eq!(ids.map(|id| paused.resumed_at(&id).is_some()), expected);
        }
    }

    #[test]
    fn after_a_resume_sessions_come_one_after_the_other_and_each_at_its_own_time() {
        let paused = PausedScopes::default();
        paused.set(
            paused.begin_read(),
            vec![PauseScope::Provider(ProviderName::new("p").unwrap())],
            at(0),
        );
        paused.set(paused.begin_read(), Vec::new(), at(100));
        let times: Vec<_> = (0..64)
            .map(|tenant| paused.resumed_at(&id("p", &format!("t-{tenant}"))).unwrap())
            .collect();
        let all = at(100)..at(100).after(RESUME_SPREAD);
        assert!(times.iter().all(|time| all.contains(time)), "{times:?}");
        let half = at(100).after(RESUME_SPREAD / 2);
        let early = times.iter().filter(|time| **time < half).count();
        assert!((16..48).contains(&early), "{early} of 64 in the first half");
        assert_eq!(paused.resumed_at(&id("p", "t-0")), Some(times[0]));
        // Later, the resume is forgotten.
        paused.set(paused.begin_read(), Vec::new(), at(100).after(RESUME_SPREAD));
        assert_eq!(paused.resumed_at(&id("p", "t-0")), None);
    }

    #[test]
    fn until_the_store_has_been_read_every_session_counts_as_paused() {
        let (paused, id) = (PausedScopes::default(), id("p", "t"));
        assert!(paused.has(&id) && paused.has_provider(id.provider()));
        let error = paused.check(&id).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryLater);
        assert_eq!(error.outcome(), Some(ExchangeOutcome::NotSent));
        paused.set_not_kept();
        assert!(!paused.has(&id) && !paused.has_provider(id.provider()));
        paused.check(&id).unwrap();
        assert_eq!(paused.resumed_at(&id), None, "nothing was paused");
    }

    #[test]
    fn a_read_that_began_earlier_changes_nothing_when_it_ends_later() {
        let paused = PausedScopes::default();
        let (early, late) = (paused.begin_read(), paused.begin_read());
        let scope = PauseScope::Provider(ProviderName::new("p").unwrap());
        paused.set(late, vec![scope], at(1));
        assert!(!paused.set(early, Vec::new(), at(2)));
        assert!(paused.has(&id("p", "t")));
    }
}
