//! The bounds of the transport that nobody can set, each with the reason for its value.

use std::time::Duration;

/// How long a connection may take, DNS and TLS included. 3 s because a server that is there is
/// reached within one lost packet (1 s) and one more, and a request that was not sent costs
/// nothing but this time.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the look-up of a name may take. 2 s because name servers answer in milliseconds, and a
/// second of [`CONNECT_TIMEOUT`] is left for the connection.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the name servers have for each of two tries. 900 ms, so that a lost packet is sent
/// again within [`LOOKUP_TIMEOUT`].
pub const LOOKUP_TRY: Duration = Duration::from_millis(900);

/// How many names are looked up at the same time; with one more, the oldest look-up fails. 256
/// because each holds two sockets, and a backend that has just started looks up no more hosts at
/// once. Callers of the same name share one look-up.
pub const LOOKUPS_AT_ONCE: usize = 256;

/// How long the addresses of this machine are cached. 10 s because an interface is brought up
/// by hand or by a container's start, and reading them costs a system call.
pub const OWN_ADDRESSES_KEPT: Duration = Duration::from_secs(10);

/// How long an unused connection is kept. 4 s because Node, Apache and uvicorn close theirs after
/// 5 s by default, and a request on a connection that the server closes at that moment ends in
/// doubt, which may cost a sign-in where the server rotates strictly; a burst of refreshes still
/// shares its handshakes.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// The longest body that is read. 256 KiB because a token response has a few KiB, and the metadata
/// of a large server some tens. Bytes are counted as they arrive, because `Content-Length` may lie.
pub const MAX_BODY_BYTES: usize = 256 * 1024;
