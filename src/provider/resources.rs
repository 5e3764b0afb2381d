//! What all providers of one supervisor are given to work with.

use std::sync::Arc;

use crate::ticket::Tickets;
use crate::transport::Transport;

/// The way to servers, and what challenges are sealed with.
pub(crate) struct Resources {
    pub(crate) transport: Arc<Transport>,
    pub(crate) tickets: Arc<Tickets>,
}
