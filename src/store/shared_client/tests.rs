//! What each change does to each row.

use super::*;
use crate::clock::BootTime;

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(60);

/// One row, and the time of its store.
struct Row {
    client: Option<SharedClient>,
    now: Now,
}

impl Row {
    fn new() -> Self {
        let boot = Duration::from_secs(1000);
        let now = Now::new(std::time::SystemTime::UNIX_EPOCH, BootTime::new(boot), boot);
        Self { client: None, now }
    }

    /// Of a client that is stopped for a tenant, with a probe after the interval.
    fn stopped() -> Self {
        let mut row = Self::new();
        assert!(row.reject(0, Some("a")));
        row
    }

    fn change(&mut self, change: &ClientChange) -> bool {
        let decision = decide_client(self.client.clone(), change, self.now);
        if let Some(client) = &decision.write {
            assert_eq!(*client, decision.outcome.client);
            assert_ne!(self.client.as_ref(), Some(client), "nothing is written without need");
            self.client = Some(client.clone());
        }
        decision.outcome.done
    }

    /// The same change a second time writes nothing, and has the same outcome.
    fn twice(&mut self, change: &ClientChange) -> bool {
        let done = self.change(change);
        let first = self.client.clone();
        assert_eq!((self.change(change), &self.client), (done, &first), "{change:?}");
        done
    }

    fn reject(&mut self, seen: u64, tenant: Option<&str>) -> bool {
        let tenant = tenant.map(|tenant| Tenant::new(tenant).unwrap());
        let code = Some("invalid_client".to_owned());
        self.twice(&ClientChange::Reject { seen, tenant, code, probe_in: INTERVAL })
    }

    fn claim(&mut self, owner: u64) -> bool {
        self.claim_as(owner, owner)
    }

    fn claim_as(&mut self, owner: u64, claim: u64) -> bool {
        let (claim, owner) = (ClaimId(claim), Owner(owner));
        self.twice(&ClientChange::ClaimProbe { claim, owner, interval: INTERVAL })
    }

    fn accept(&mut self, stop: u64) -> bool {
        let change = ClientChange::Accept { stop };
        let done = self.change(&change);
        let first = self.client.clone();
        assert!(!self.change(&change));
        assert_eq!(self.client, first);
        done
    }

    fn passes(&mut self, time: Duration) {
        let boot = self.now.boot.after(time);
        self.now = Now::new(self.now.wall, boot, self.now.monotonic + time);
    }

    fn throttled_for(&self) -> Option<u64> {
        let until = self.client.as_ref()?.throttled_until?;
        Some(until.since(self.now.boot).as_secs())
    }

    fn version(&self) -> u64 {
        self.client.as_ref().map_or(0, |client| client.version)
    }

    fn stop(&self) -> Option<&SharedStop> {
        self.client.as_ref()?.stop.as_ref()
    }

    fn probe_in(&self) -> u64 {
        self.stop().unwrap().probe_at.since(self.now.boot).as_secs()
    }
}

#[test]
fn a_read_makes_no_row() {
    let mut row = Row::new();
    assert!(row.twice(&ClientChange::Read));
    assert_eq!(row.client, None);
}

#[test]
fn of_two_waits_the_longer_one_holds() {
    let mut row = Row::new();
    let throttle = |wait| ClientChange::Throttle { wait: wait * SECOND };
    assert!(row.twice(&throttle(30)));
    assert!(row.twice(&throttle(10)));
    assert_eq!(row.throttled_for(), Some(30));
    row.passes(25 * SECOND);
    assert!(row.twice(&throttle(10)));
    assert_eq!(row.throttled_for(), Some(10));
    assert_eq!(row.version(), 0, "no stop has begun");
    let client = row.client.clone().unwrap();
    assert!(client.is_held_back(row.now));
    row.passes(10 * SECOND);
    assert!(!client.is_held_back(row.now));
}

#[test]
fn a_wait_begins_and_ends_no_stop() {
    let mut row = Row::stopped();
    assert!(row.twice(&ClientChange::Throttle { wait: SECOND }));
    assert_eq!((row.version(), row.stop().is_some()), (1, true));
    assert!(row.accept(1));
    assert_eq!(row.throttled_for(), Some(1));
}

#[test]
fn a_rejection_stops_the_client_for_its_tenant_and_one_of_another_for_all() {
    let mut row = Row::stopped();
    let tenant = |row: &Row| row.stop().unwrap().tenant.clone();
    assert_eq!((row.version(), tenant(&row)), (1, Some(Tenant::new("a").unwrap())));
    assert!(row.reject(1, Some("a")));
    assert!(tenant(&row).is_some());
    assert!(row.reject(1, Some("b")));
    assert!(row.reject(1, Some("a")));
    assert_eq!((row.version(), tenant(&row)), (1, None));
}

#[test]
fn a_rejection_by_a_supervisor_that_has_not_heard_of_the_stop_is_of_that_stop() {
    let mut row = Row::stopped();
    row.passes(10 * SECOND);
    assert!(row.reject(0, Some("a")));
    assert_eq!((row.version(), row.probe_in()), (1, 60));
}

#[test]
fn a_rejection_that_is_sent_late_brings_no_probe_forward() {
    let mut row = Row::stopped();
    let code = None;
    let late = ClientChange::Reject { seen: 0, tenant: None, code, probe_in: SECOND };
    assert!(row.twice(&late));
    assert_eq!(row.probe_in(), 60);
}

#[test]
fn a_rejection_from_before_an_acceptance_stops_nothing() {
    let mut row = Row::stopped();
    assert!(row.accept(1));
    assert_eq!((row.version(), row.stop()), (2, None));
    assert!(!row.reject(0, Some("a")), "the very one that began the stop, sent again");
    assert_eq!((row.version(), row.stop()), (2, None));
    assert!(row.reject(2, Some("a")));
    assert_eq!(row.version(), 3);
}

#[test]
fn an_acceptance_ends_its_own_stop_alone() {
    let mut row = Row::stopped();
    assert!(!row.accept(0));
    assert!(row.accept(1));
    assert!(row.reject(2, None));
    assert!(!row.accept(1));
    assert!(row.stop().is_some());
    assert!(row.accept(3));
}

#[test]
fn in_each_interval_one_supervisor_probes() {
    let mut row = Row::stopped();
    assert!(!row.claim(1), "the rejection is too fresh");
    row.passes(INTERVAL);
    assert!(row.claim(1));
    assert!(!row.claim(2));
    assert!(!row.claim_as(1, 10), "it has probed already");
    row.passes(INTERVAL - SECOND);
    assert!(!row.claim(2));
    row.passes(SECOND);
    assert!(row.claim(2), "the first one may be dead");
    assert!(!row.claim(1), "its claim is over");
    assert_eq!(row.stop().unwrap().probe, Some(Probe { claim: ClaimId(2), owner: Owner(2) }));
}

#[test]
fn a_probe_that_is_rejected_leaves_the_next_interval_to_any() {
    let mut row = Row::stopped();
    row.passes(INTERVAL);
    assert!(row.claim(1));
    row.passes(SECOND);
    assert!(row.reject(1, Some("a")));
    assert_eq!((row.version(), row.probe_in()), (1, 60));
    row.passes(INTERVAL);
    assert!(row.claim(2));
}

#[test]
fn a_client_that_is_not_stopped_is_not_probed() {
    assert!(!Row::new().claim(1));
    let mut row = Row::stopped();
    row.passes(INTERVAL);
    assert!(row.accept(1));
    assert!(!row.claim(1));
}
