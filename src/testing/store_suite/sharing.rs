//! What supervisors share about clients. A store whose `Store::clients` returns `None` shares
//! nothing, and passes these cases.

use std::time::Duration;

use super::fixture::{ALICE, BOB, Fixture, HOUR, at_once, is_about};
use crate::key::{ProviderName, Tenant};
use crate::store::{
    ClaimId, ClientChange, ClientKey, ClientOutcome, ClientPage, Owner, Presence, Probe,
    SharedClient, SharedStop,
};

/// A client of a store.
#[derive(Clone)]
struct Client {
    fixture: Fixture,
    key: ClientKey,
}

impl Client {
    /// `None` if the store shares nothing.
    async fn of(fixture: &Fixture) -> Option<Self> {
        page(fixture, None, 1).await?;
        Some(Self { fixture: fixture.clone(), key: key("provider", None, "client") })
    }

    fn named(&self, key: ClientKey) -> Self {
        Self { fixture: self.fixture.clone(), key }
    }

    async fn change(&self, change: ClientChange) -> ClientOutcome {
        self.fixture.store.client(&self.key, change).await.unwrap().unwrap()
    }

    async fn read(&self) -> SharedClient {
        self.change(ClientChange::Read).await.client
    }

    async fn throttle(&self, wait: Duration) {
        assert!(self.change(ClientChange::Throttle { wait }).await.done);
    }

    /// What is left of the wait.
    async fn throttled_for(&self) -> Option<Duration> {
        let ClientOutcome { client, now, .. } = self.change(ClientChange::Read).await;
        Some(client.throttled_until?.since(now.boot))
    }

    /// A rejection in a request of this tenant, whose next probe may come at once.
    async fn reject(&self, seen: u64, tenant: Option<&str>) -> bool {
        let (tenant, code) = (tenant.map(tenant_of), Some("invalid_client".to_owned()));
        let probe_in = Duration::ZERO;
        self.change(ClientChange::Reject { seen, tenant, code, probe_in }).await.done
    }

    async fn accept(&self, stop: u64) -> bool {
        self.change(ClientChange::Accept { stop }).await.done
    }

    async fn claim(&self, probe: Probe, interval: Duration) -> bool {
        let Probe { claim, owner } = probe;
        self.change(ClientChange::ClaimProbe { claim, owner, interval }).await.done
    }
}

pub(super) async fn a_client_of_which_nothing_is_known_is_not_held_back(fixture: Fixture) {
    let Some(client) = Client::of(&fixture).await else { return };
    assert_eq!(client.read().await, SharedClient::default());
    assert!(!client.accept(0).await);
    assert!(!client.claim(probe(ALICE, 1), HOUR).await);
    assert_eq!(client.read().await, SharedClient::default());
    assert_eq!(all(&fixture, 10).await, []);
}

pub(super) async fn of_two_waits_that_a_server_asked_for_the_longer_one_holds(fixture: Fixture) {
    let Some(client) = Client::of(&fixture).await else { return };
    client.throttle(2 * HOUR).await;
    client.throttle(HOUR).await;
    is_about(client.throttled_for().await, 2 * HOUR);
    client.throttle(3 * HOUR).await;
    is_about(client.throttled_for().await, 3 * HOUR);
    assert_eq!(all(&fixture, 10).await, [client.key]);
}

pub(super) async fn a_wait_that_is_over_holds_no_client_back(fixture: Fixture) {
    let Some(client) = Client::of(&fixture).await else { return };
    client.throttle(Duration::ZERO).await;
    assert_eq!(all(&fixture, 10).await, []);
}

pub(super) async fn a_stop_holds_for_its_tenant_until_the_server_accepts_the_client(
    fixture: Fixture,
) {
    let Some(client) = Client::of(&fixture).await else { return };
    assert!(client.reject(0, Some("tenant")).await);
    let SharedClient { version, stop, .. } = client.read().await;
    let Some(SharedStop { tenant, code, probe, .. }) = stop else { panic!("it is not stopped") };
    assert_eq!((version, tenant, probe), (1, Some(tenant_of("tenant")), None));
    assert_eq!(code.as_deref(), Some("invalid_client"));
    assert_eq!(all(&fixture, 10).await, std::slice::from_ref(&client.key));
    assert!(client.accept(version).await);
    let accepted = SharedClient { version: 2, ..SharedClient::default() };
    assert_eq!(client.read().await, accepted);
    assert_eq!(all(&fixture, 10).await, []);
}

pub(super) async fn a_stop_for_two_tenants_is_one_for_all(fixture: Fixture) {
    let Some(client) = Client::of(&fixture).await else { return };
    for tenant in ["one", "other", "one"] {
        assert!(client.reject(0, Some(tenant)).await);
    }
    let SharedClient { version, stop, .. } = client.read().await;
    assert_eq!((version, stop.map(|stop| stop.tenant)), (1, Some(None)));
}

pub(super) async fn a_rejection_or_an_acceptance_that_comes_late_changes_nothing(fixture: Fixture) {
    let Some(client) = Client::of(&fixture).await else { return };
    assert!(client.reject(0, None).await);
    assert!(client.accept(1).await);
    assert!(!client.reject(0, None).await, "it is from before the acceptance");
    assert_eq!(client.read().await.stop, None);
    assert!(client.reject(2, None).await);
    assert!(!client.accept(1).await, "it is from before the stop");
    let SharedClient { version, stop, .. } = client.read().await;
    assert_eq!((version, stop.is_some()), (3, true));
}

pub(super) async fn a_probe_is_granted_once_and_to_the_same_claim_again(fixture: Fixture) {
    let Some(client) = Client::of(&fixture).await else { return };
    assert!(client.reject(0, None).await);
    assert!(client.claim(probe(ALICE, 1), HOUR).await);
    assert!(!client.claim(probe(BOB, 2), HOUR).await);
    assert!(!client.claim(probe(ALICE, 3), HOUR).await);
    assert!(client.claim(probe(ALICE, 1), HOUR).await, "its outcome may have been lost");
    let ClientOutcome { client, now, .. } = client.change(ClientChange::Read).await;
    let stop = client.stop.unwrap();
    assert_eq!(stop.probe, Some(probe(ALICE, 1)));
    is_about(Some(stop.probe_at.since(now.boot)), HOUR);
}

pub(super) async fn a_prober_that_falls_silent_loses_the_probe_after_the_interval(
    fixture: Fixture,
) {
    let Some(client) = Client::of(&fixture).await else { return };
    assert!(client.reject(0, None).await);
    assert!(client.claim(probe(ALICE, 1), Duration::ZERO).await);
    assert!(client.claim(probe(BOB, 2), HOUR).await);
    assert_eq!(client.read().await.stop.and_then(|stop| stop.probe), Some(probe(BOB, 2)));
}

pub(super) async fn of_16_claims_of_a_probe_at_once_one_is_granted(fixture: Fixture) {
    let Some(client) = Client::of(&fixture).await else { return };
    assert!(client.reject(0, None).await);
    let claims = (0..16).map(|number| {
        let client = client.clone();
        async move { client.claim(probe(Owner(number), number), HOUR).await }
    });
    let granted = at_once(claims).await;
    assert_eq!(granted.into_iter().filter(|granted| *granted).count(), 1);
}

pub(super) async fn clients_that_differ_by_little_stay_apart(fixture: Fixture) {
    let Some(client) = Client::of(&fixture).await else { return };
    client.throttle(HOUR).await;
    for other in [
        key("Provider", None, "client"),
        key("provider", None, "client2"),
        key("provider", None, "Client"),
        key("provider", Some("tenant"), "client"),
        key("provider", Some("None"), "client"),
    ] {
        assert_eq!(client.named(other).read().await, SharedClient::default());
    }
}

pub(super) async fn clients_that_are_held_back_are_listed_in_the_order_of_their_keys(
    fixture: Fixture,
) {
    let Some(client) = Client::of(&fixture).await else { return };
    let mut keys = Vec::new();
    for provider in ["b", "a", "B"] {
        for tenant in [Some("t"), None, Some("T"), Some("ü")] {
            keys.extend(["2", "1"].map(|client| key(provider, tenant, client)));
        }
    }
    for (number, key) in keys.iter().enumerate() {
        let client = client.named(key.clone());
        if number % 2 == 0 {
            client.throttle(HOUR).await;
        } else {
            assert!(client.reject(0, None).await);
        }
        let free = ClientKey { client: "free".into(), ..key.clone() };
        client.named(free).throttle(Duration::ZERO).await;
    }
    keys.sort();
    for limit in [1, 5, 1000] {
        assert_eq!(all(&fixture, limit).await, keys, "in pages of {limit}");
    }
}

pub(super) async fn the_supervisors_that_run_are_counted(fixture: Fixture) {
    let holders = async || page(&fixture, None, 1).await.map(|page| page.holders);
    let Some(before) = holders().await else { return };
    for owner in [ALICE, BOB] {
        fixture.store.presence(owner, Presence::Register).await.unwrap();
    }
    assert_eq!(holders().await, Some(before + 2));
    fixture.store.presence(ALICE, Presence::Renew).await.unwrap();
    fixture.store.presence(BOB, Presence::Retire).await.unwrap();
    assert_eq!(holders().await, Some(before + 1));
}

/// The keys of all clients that are held back, read in pages of this size.
async fn all(fixture: &Fixture, limit: usize) -> Vec<ClientKey> {
    let mut keys: Vec<ClientKey> = Vec::new();
    loop {
        let ClientPage { clients, now, .. } = page(fixture, keys.last(), limit).await.unwrap();
        assert!(clients.iter().all(|listed| listed.client.is_held_back(now)));
        let is_last = clients.len() < limit;
        keys.extend(clients.into_iter().map(|listed| listed.key));
        if is_last {
            return keys;
        }
    }
}

async fn page(fixture: &Fixture, after: Option<&ClientKey>, limit: usize) -> Option<ClientPage> {
    let page = fixture.store.clients(after, limit).await.unwrap();
    assert!(page.as_ref().is_none_or(|page| page.clients.len() <= limit));
    page
}

fn key(provider: &str, tenant: Option<&str>, client: &str) -> ClientKey {
    let provider = ProviderName::new(provider).unwrap();
    ClientKey { provider, tenant: tenant.map(tenant_of), client: client.into() }
}

fn tenant_of(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

fn probe(owner: Owner, claim: u64) -> Probe {
    Probe { claim: ClaimId(claim), owner }
}
