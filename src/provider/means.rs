//! What all providers of one supervisor are given to work with.

use crate::ticket::Tickets;
use crate::transport::Transport;

/// The way to servers, and what challenges are sealed with.
pub(crate) struct Means {
    pub(crate) transport: Transport,
    pub(crate) tickets: Tickets,
}
