//! What the supervisors on one store share about a client: the wait that its server asked for,
//! whether the server rejects it, and which supervisor may try it again.

#![expect(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "stores of other crates make and read all of it"
)]

use std::sync::Arc;
use std::time::Duration;

use super::record::{ClaimId, Owner};
use crate::clock::{BootTime, Now};
use crate::key::{ProviderName, Tenant};

/// The key of a client. All supervisors with the same settings have the same key for it. It holds
/// no secret. See the example of [`decide_client`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey {
    /// The provider.
    pub provider: ProviderName,
    /// The tenant, if each tenant has a client of its own. `None` if all tenants share one.
    pub tenant: Option<Tenant>,
    /// 32 hexadecimal digits that differ if the server or the client id differs.
    pub client: Arc<str>,
}

/// What the supervisors share about a client. All times are those of the store's clock. The default
/// is a client of which nothing is known. See the example of [`decide_client`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedClient {
    /// Counts the beginnings and the ends of stops. It stays the same for the whole of a stop, and
    /// never becomes smaller.
    pub version: u64,
    /// The server asked for no requests until then.
    pub throttled_until: Option<BootTime>,
    /// The stop, while the server rejects the client.
    pub stop: Option<SharedStop>,
}

/// Why no supervisor uses a client, and when one may try it again. See the example of
/// [`decide_client`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedStop {
    /// The tenant in whose request the server rejected the client. `None` if there were several, or
    /// if the request belonged to no session.
    pub tenant: Option<Tenant>,
    /// The server's error code: at most 64 ASCII letters, digits and punctuation.
    pub code: Option<String>,
    /// When the next probe may be claimed.
    pub probe_at: BootTime,
    /// The newest probe. It has the time until [`probe_at`](Self::probe_at). After that, another
    /// supervisor can claim the next probe, also if this one has died.
    pub probe: Option<Probe>,
}

/// The probe: the one exchange of all supervisors that tries a stopped client. See the example of
/// [`decide_client`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The id of the claim, which is random. A claim that the store gets twice is granted twice.
    pub claim: ClaimId,
    /// The supervisor that probes.
    pub owner: Owner,
}

/// A change of what is shared about a client. The store may get each change twice. See the example
/// of [`decide_client`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientChange {
    /// Changes nothing: reads what is shared.
    Read,
    /// The server asked for no requests for this time. A longer wait that is shared already stays.
    Throttle {
        /// What is left of the wait.
        wait: Duration,
    },
    /// The server rejected the client.
    Reject {
        /// The [`version`](SharedClient::version) that the supervisor read after the rejection. If
        /// it has changed, this rejection begins no stop: it may have been written before, and the
        /// server may have accepted the client since.
        seen: u64,
        /// The tenant in whose request it did. `None` if there were several, or none.
        tenant: Option<Tenant>,
        /// The server's error code.
        code: Option<String>,
        /// The time until the next probe.
        probe_in: Duration,
    },
    /// The server accepted the client.
    Accept {
        /// The [`version`](SharedClient::version) of the stop that this ends. It ends no later
        /// stop.
        stop: u64,
    },
    /// A supervisor wants to probe the client. The store grants one claim for each interval.
    ClaimProbe {
        /// A random id.
        claim: ClaimId,
        /// The supervisor.
        owner: Owner,
        /// The time for the probe, in which no other claim is granted.
        interval: Duration,
    },
}

/// The result of a change. See the example of [`decide_client`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOutcome {
    /// What is shared after the change.
    pub client: SharedClient,
    /// The store's time.
    pub now: Now,
    /// Whether the change was made, or had been made before. `false` for a rejection or an
    /// acceptance of a stop that is over, and for a claim that is not granted.
    pub done: bool,
}

/// What a store must do for a change: write, and return the outcome. See the example of
/// [`decide_client`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientDecision {
    /// What the supervisor gets.
    pub outcome: ClientOutcome,
    /// The row to write. `None` if it stays as it is.
    pub write: Option<SharedClient>,
}

/// A page of clients, as [`Store::clients`](super::Store::clients) returns it. See the example of
/// [`decide_client`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPage {
    /// Clients that are [held back](SharedClient::is_held_back), in the order of their keys.
    pub clients: Vec<ListedClient>,
    /// The store's time when they were read.
    pub now: Now,
    /// How many supervisors run, as far as the store knows. Each of them uses its part of a
    /// client's [`ProviderLimits`](crate::policy::ProviderLimits).
    pub holders: usize,
    /// When the supervisor should ask again if no client is held back.
    pub next_in: Duration,
}

/// A client in a [`ClientPage`]. See the example of [`decide_client`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedClient {
    /// The client's key.
    pub key: ClientKey,
    /// What is shared about the client.
    pub client: SharedClient,
}

impl SharedClient {
    /// Whether the client is stopped, or the server asked for a wait that is not over.
    #[must_use]
    pub fn is_held_back(&self, now: Now) -> bool {
        self.stop.is_some() || self.throttled_until.is_some_and(|until| now.boot < until)
    }
}

/// Says what a change does to what is shared about a client. `found` is the row in the store, or
/// `None` if there is none. Every store runs this function.
///
/// A store reads the row, runs this function and writes the row in one step: it makes no other
/// change of the same client in between. There is at most one row for each client that was ever
/// held back.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::time::Duration;
///
/// use session_warden::clock::{Clock, Now, SystemClock};
/// use session_warden::key::ProviderName;
/// use session_warden::store::{
///     ClaimId, ClientChange, ClientDecision, ClientKey, ClientOutcome, ClientPage, ListedClient,
///     Owner, Probe, SharedClient, SharedStop, decide_client,
/// };
///
/// /// The table of a store: this is what `Store::client` and `Store::clients` do in a transaction.
/// #[derive(Default)]
/// struct Table(BTreeMap<ClientKey, SharedClient>);
///
/// impl Table {
///     fn client(&mut self, key: &ClientKey, change: ClientChange, now: Now) -> ClientOutcome {
///         let found = self.0.get(key).cloned();
///         let ClientDecision { outcome, write } = decide_client(found, &change, now);
///         if let Some(row) = write {
///             self.0.insert(key.clone(), row);
///         }
///         outcome
///     }
///
///     fn clients(&self, after: Option<&ClientKey>, limit: usize, now: Now) -> ClientPage {
///         let rows = self.0.iter().filter(|(key, _)| Some(*key) > after);
///         let held_back = rows.filter(|(_, client)| client.is_held_back(now)).take(limit);
///         let listed = |(key, client): (&ClientKey, &SharedClient)| ListedClient {
///             key: key.clone(),
///             client: client.clone(),
///         };
///         let (clients, next_in) = (held_back.map(listed).collect(), Duration::from_secs(60));
///         ClientPage { clients, now, holders: 2, next_in }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (provider, client) = (ProviderName::new("acme")?, "0123456789abcdef".into());
/// let key = ClientKey { provider, tenant: None, client };
/// let (mut table, now) = (Table::default(), SystemClock::new().now());
///
/// // The server rejects the client. Of two supervisors, one may probe.
/// let read = table.client(&key, ClientChange::Read, now);
/// let (seen, code) = (read.client.version, Some("invalid_client".to_owned()));
/// let reject = ClientChange::Reject { seen, tenant: None, code, probe_in: Duration::ZERO };
/// assert!(table.client(&key, reject, now).done);
/// let claim = |owner| ClientChange::ClaimProbe {
///     claim: ClaimId(owner),
///     owner: Owner(owner),
///     interval: Duration::from_secs(60),
/// };
/// assert!(table.client(&key, claim(1), now).done);
/// let refused = table.client(&key, claim(2), now);
/// assert!(!refused.done);
/// let SharedStop { probe, .. } = refused.client.stop.expect("the client is stopped");
/// assert_eq!(probe, Some(Probe { claim: ClaimId(1), owner: Owner(1) }));
///
/// // The server accepts the client again.
/// assert_eq!(table.clients(None, 10, now).clients.len(), 1);
/// let accept = ClientChange::Accept { stop: refused.client.version };
/// assert!(table.client(&key, accept, now).done);
/// assert!(table.clients(None, 10, now).clients.is_empty());
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn decide_client(
    found: Option<SharedClient>,
    change: &ClientChange,
    now: Now,
) -> ClientDecision {
    let former = found.unwrap_or_default();
    let mut client = former.clone();
    let done = match change {
        ClientChange::Read => true,
        ClientChange::Throttle { wait } => {
            client.throttled_until = client.throttled_until.max(Some(now.boot.after(*wait)));
            true
        }
        ClientChange::Reject { seen, tenant, code, probe_in } => {
            let probe_at = now.boot.after(*probe_in);
            let (tenant, code) = (tenant.clone(), code.clone());
            let rejection = SharedStop { tenant, code, probe_at, probe: None };
            reject(&mut client, *seen, rejection)
        }
        ClientChange::Accept { stop } => accept(&mut client, *stop),
        ClientChange::ClaimProbe { claim, owner, interval } => {
            let probe = Probe { claim: *claim, owner: *owner };
            claim_probe(&mut client, probe, *interval, now)
        }
    };
    let write = (client != former).then(|| client.clone());
    ClientDecision { outcome: ClientOutcome { client, now, done }, write }
}

/// Begins a stop, or lets a running stop go on until this rejection's next probe.
fn reject(client: &mut SharedClient, seen: u64, rejection: SharedStop) -> bool {
    match &mut client.stop {
        None if client.version != seen => return false,
        None => {
            client.version += 1;
            client.stop = Some(rejection);
        }
        Some(stop) => {
            if stop.tenant != rejection.tenant {
                // The server does not reject the client for one tenant only.
                stop.tenant = None;
            }
            stop.code = rejection.code;
            // A rejection that is sent again late must not bring the next probe forward.
            stop.probe_at = stop.probe_at.max(rejection.probe_at);
        }
    }
    true
}

fn accept(client: &mut SharedClient, stop: u64) -> bool {
    if client.stop.is_none() || client.version != stop {
        return false;
    }
    client.version += 1;
    client.stop = None;
    true
}

fn claim_probe(client: &mut SharedClient, probe: Probe, interval: Duration, now: Now) -> bool {
    let Some(stop) = &mut client.stop else { return false };
    if now.boot < stop.probe_at {
        return stop.probe.is_some_and(|running| running == probe);
    }
    stop.probe = Some(probe);
    stop.probe_at = now.boot.after(interval);
    true
}

#[cfg(test)]
mod tests;
