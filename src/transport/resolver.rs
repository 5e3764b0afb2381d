//! Resolves names without blocking a thread. The system's `getaddrinfo` blocks one for as long as a
//! name server is silent, and cannot be cancelled.

#[cfg(test)]
pub(super) mod tests;

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::read_system_conf;
use parking_lot::Mutex;
use reqwest::dns::{Addrs, Resolve, Resolving};
use tokio_util::sync::CancellationToken;

use super::address_policy::AddressPolicy;
use super::{LOOKUP_TIMEOUT, LOOKUP_TRY, LOOKUPS_AT_ONCE};
use crate::clock::{SystemClock, timeout};

/// The resolver of one transport. Connections go to the very addresses that were checked, so that a
/// second answer of the name server cannot replace them.
pub(super) struct Resolver {
    pub(super) lookups: Lookups,
    pub(super) address_policy: Arc<AddressPolicy>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> Resolving {
        let (lookup, address_policy) =
            (self.lookups.look_up(name.as_str()), Arc::clone(&self.address_policy));
        Box::pin(async move {
            let found = lookup.await?;
            for address in &*found {
                address_policy.address(*address)?;
            }
            let found: Vec<_> = found.iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Why a name has no address. It contains nothing of a name server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unresolved {
    #[error("the host's name has no address")]
    NoAddress,
    #[error("the name servers failed or timed out")]
    NoAnswer,
    #[error("too many look-ups of names at the same time")]
    GivenUp,
}

type Answer = Result<Arc<[IpAddr]>, Unresolved>;
pub(super) type Lookup = Shared<BoxFuture<'static, Answer>>;

/// The running look-ups. A look-up is dropped with the last request that waits for it, so that none
/// outlives the permits of its requests.
pub(super) struct Lookups {
    name_servers: NameServers,
    running: Arc<Mutex<Running>>,
}

#[derive(Default)]
struct Running {
    begun: u64,
    by_name: HashMap<String, RunningLookup>,
}

struct RunningLookup {
    number: u64,
    lookup: WeakShared<BoxFuture<'static, Answer>>,
    give_up: CancellationToken,
}

impl Lookups {
    /// Asks `servers`, or the system's name servers if there are none.
    pub(super) fn new(servers: Option<Vec<SocketAddr>>) -> Self {
        Self { name_servers: NameServers::new(servers), running: Arc::default() }
    }

    /// Joins a running look-up of this name, or starts one.
    pub(super) fn look_up(&self, name: &str) -> Lookup {
        let name = name.to_ascii_lowercase();
        let mut running = self.running.lock();
        if let Some(lookup) = running.by_name.get(&name).and_then(|one| one.lookup.upgrade()) {
            return lookup;
        }
        running.begun += 1;
        let number = running.begun;
        let (give_up, asked) = (CancellationToken::new(), self.name_servers.look_up(&name));
        let remove_on_drop =
            RemoveOnDrop { running: Arc::clone(&self.running), name: name.clone(), number };
        let given_up = give_up.clone();
        let lookup = async move {
            let (_remove_on_drop, clock) = (remove_on_drop, SystemClock::new());
            tokio::select! {
                biased;
                () = given_up.cancelled() => Err(Unresolved::GivenUp),
                answer = timeout(&clock, LOOKUP_TIMEOUT, asked) => {
                    answer.unwrap_or(Err(Unresolved::NoAnswer))
                }
            }
        };
        let lookup = lookup.boxed().shared();
        let oldest = running.evict_oldest();
        if let Some(weak) = lookup.downgrade() {
            running.by_name.insert(name, RunningLookup { number, lookup: weak, give_up });
        }
        // Before the cancel, which wakes tasks that lock the list.
        drop(running);
        if let Some(oldest) = oldest {
            oldest.cancel();
        }
        lookup
    }
}

impl Running {
    /// Takes the oldest look-up off the list if the list is full. Name servers answer in
    /// milliseconds, so the oldest of so many waits for one that is silent. The silent names of a
    /// tenant must not keep other tenants' names waiting.
    fn evict_oldest(&mut self) -> Option<CancellationToken> {
        if self.by_name.len() < LOOKUPS_AT_ONCE {
            return None;
        }
        let oldest = self.by_name.iter().min_by_key(|(_, one)| one.number);
        let name = oldest.map(|(name, _)| name.clone())?;
        self.by_name.remove(&name).map(|one| one.give_up)
    }
}

/// Takes a look-up off the list when it ends or is dropped, unless another has its name by then.
struct RemoveOnDrop {
    running: Arc<Mutex<Running>>,
    name: String,
    number: u64,
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        if running.by_name.get(&self.name).is_some_and(|one| one.number == self.number) {
            running.by_name.remove(&self.name);
        }
    }
}

/// Asks name servers. It caches no answers, so that a fail-over is seen at once, and no tenant can
/// fill a cache that others share.
struct NameServers {
    servers: Option<Vec<SocketAddr>>,
    current: Mutex<(FileTimes, Option<TokioResolver>)>,
}

/// When the system's files from which a resolver is built were changed last.
type FileTimes = [Option<SystemTime>; 2];

impl NameServers {
    fn new(servers: Option<Vec<SocketAddr>>) -> Self {
        let current = Mutex::new((file_times(), resolver(servers.as_deref())));
        Self { servers, current }
    }

    fn look_up(&self, name: &str) -> impl Future<Output = Answer> + Send + use<> {
        let (resolver, name) = (self.current(), Name::from_ascii(name));
        async move {
            let resolver = resolver.ok_or(Unresolved::NoAnswer)?;
            let name = name.map_err(|_| Unresolved::NoAddress)?;
            match AssertUnwindSafe(resolver.lookup_ip(name)).catch_unwind().await {
                Ok(Ok(found)) => Ok(found.iter().collect()),
                Ok(Err(failed)) if failed.is_no_records_found() => Err(Unresolved::NoAddress),
                Ok(Err(_)) | Err(_) => Err(Unresolved::NoAnswer),
            }
        }
    }

    /// The resolver for the present files. As in glibc, a changed file takes effect at once.
    fn current(&self) -> Option<TokioResolver> {
        let mut current = self.current.lock();
        let now = file_times();
        if current.0 != now {
            *current = (now, resolver(self.servers.as_deref()));
        }
        current.1.clone()
    }
}

fn file_times() -> FileTimes {
    ["/etc/resolv.conf", "/etc/hosts"].map(|path| fs::metadata(path).ok()?.modified().ok())
}

fn resolver(servers: Option<&[SocketAddr]>) -> Option<TokioResolver> {
    let (config, options) = match servers {
        Some(servers) => {
            let servers = servers.iter().map(name_server).collect();
            (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default())
        }
        // Without any name server, names in the hosts file are still found.
        None => read_system_conf().unwrap_or_else(|_| {
            let none = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            (none, ResolverOpts::default())
        }),
    };
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let mut options = options;
    options.timeout = LOOKUP_TRY;
    options.attempts = 1;
    options.cache_size = 0;
    options.max_active_requests = 2 * LOOKUPS_AT_ONCE;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    *builder.options_mut() = options;
    builder.build().ok()
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}
