//! What all providers of one supervisor are given to work with.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::log::LogLimit;
use crate::policy::FAULT_PACE;
use crate::ticket::Tickets;
use crate::transport::{ApiClient, Transport};

/// The way to servers and to APIs, what challenges are sealed with, and the limit of log lines.
#[derive(Clone)]
pub(crate) struct Resources {
    pub(crate) transport: Arc<Transport>,
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) log_limit: Arc<LogLimit>,
    pub(crate) replicas: Arc<Replicas>,
    /// Only sessions that send requests with reqwest read it.
    #[cfg_attr(not(feature = "reqwest"), allow(dead_code))]
    pub(crate) api_client: Arc<ApiClient>,
}

/// How many supervisors share the store, and with it their clients, as the store said last.
#[derive(Default)]
pub(crate) struct Replicas(AtomicUsize);

impl Replicas {
    /// Notes what the store said. `None` if it shares nothing about clients.
    pub(crate) fn set(&self, holders: Option<usize>) {
        let count = holders.map_or(0, |holders| holders.max(1));
        self.0.store(count, Ordering::Relaxed);
    }

    /// Whether the store shares what is known of clients.
    pub(crate) fn share_clients(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// The part of a limit that is this supervisor's.
    pub(crate) fn part_of(&self, limit: usize) -> usize {
        (limit / self.count()).max(1)
    }

    /// While retries are paced, this supervisor starts one in this time.
    pub(crate) fn pace(&self) -> Duration {
        FAULT_PACE.saturating_mul(u32::try_from(self.count()).unwrap_or(u32::MAX))
    }

    /// At least 1.
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed).max(1)
    }
}

#[cfg(test)]
impl Resources {
    /// With a transport that reaches loopback addresses, and keys of its own.
    pub(crate) fn of_a_test(clock: Arc<dyn crate::clock::Clock>) -> Self {
        let config = crate::transport::TransportConfig::default().allow_loopback_http();
        let transport = Transport::new(&config).unwrap();
        Self {
            api_client: transport.api_client(None).into(),
            transport: transport.into(),
            tickets: Tickets::new(crate::seal::KeyRing::generate().unwrap(), 8).into(),
            log_limit: LogLimit::new(clock).into(),
            replicas: Arc::default(),
        }
    }
}
