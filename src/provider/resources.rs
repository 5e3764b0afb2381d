//! What all providers of one supervisor are given to work with.

use std::sync::Arc;

use crate::log::LogLimit;
use crate::ticket::Tickets;
use crate::transport::{ApiClient, Transport};

/// The way to servers and to APIs, what challenges are sealed with, and the limit of log lines.
#[derive(Clone)]
pub(crate) struct Resources {
    pub(crate) transport: Arc<Transport>,
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) log_limit: Arc<LogLimit>,
    /// Only sessions that send requests with reqwest read it.
    #[cfg_attr(not(feature = "reqwest"), allow(dead_code))]
    pub(crate) api_client: Arc<ApiClient>,
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
        }
    }
}
