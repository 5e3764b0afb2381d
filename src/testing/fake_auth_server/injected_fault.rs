//! What can go wrong, and when it does.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::counts::Endpoint;

/// Something that happens to one request instead of an ordinary answer.
///
/// The first group is *not processed*: no token is used up or issued. The second is *processed*:
/// on a server that rotates, the refresh token is used up, and only the answer suffers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Not processed: the connection is closed without an answer.
    CloseBeforeProcessing,
    /// Not processed until [`release`](super::FakeAuthServer::release): the request waits in a
    /// queue. It is processed then even if the client has gone.
    HoldBeforeProcessing,
    /// Not processed: an answer with this status.
    Status {
        /// The status code; one that HTTP does not have is sent as 500.
        code: u16,
        /// The `Retry-After` header.
        retry_after: Option<String>,
        /// The body; sent as JSON if it begins with a brace.
        body: Option<String>,
    },
    /// Not processed: an error answer in the form of RFC 6749, or of the server's dialect.
    OAuthError {
        /// The status code; one that HTTP does not have is sent as 500.
        status: u16,
        /// The value of `error`, or what the dialect has in its place.
        code: String,
    },
    /// Not processed: 307 to this place.
    RedirectTo(String),

    /// Processed at once; the real answer is sent after this time on the server's clock.
    Delay(Duration),
    /// Processed at once; the real answer is sent after
    /// [`release`](super::FakeAuthServer::release).
    HoldUntilReleased,
    /// Processed, then the connection is closed without an answer.
    DropAfterCommit,
    /// Processed, then an answer with this status and no body, as from a gateway that lost the
    /// real one.
    StatusAfterCommit(u16),
    /// Processed, then 200 and this as a JSON body.
    BodyAfterCommit(Vec<u8>),
    /// Processed, then 200 and something which is not JSON, but is called so.
    Malformed,
    /// Processed, then 200 and members of the wrong types.
    WrongTypes,
    /// Processed, then 200 and an HTML page.
    Html,
    /// Processed, then 200 without a body.
    Empty200,
    /// Processed, then the real answer without its access token.
    NoAccessToken,
    /// Processed, then half of the real answer, and the connection is closed.
    TornBody,
    /// Processed, then 200 and 64 MiB that begin like an answer. The sending stops when the
    /// client closes the connection.
    HugeBody,
    /// Processed, then the real answer byte by byte, with this pause on the server's clock
    /// between any two.
    SlowBody(Duration),
}

/// Which faults are to come.
#[derive(Default)]
pub(super) struct Faults {
    queued: HashMap<Endpoint, VecDeque<Fault>>,
    always: HashMap<Endpoint, Fault>,
}

impl Faults {
    pub(super) fn queue(&mut self, endpoint: Endpoint, times: usize, fault: Fault) {
        let queue = self.queued.entry(endpoint).or_default();
        queue.extend(std::iter::repeat_n(fault, times));
    }

    pub(super) fn set_always(&mut self, endpoint: Endpoint, fault: Option<Fault>) {
        match fault {
            Some(fault) => self.always.insert(endpoint, fault),
            None => self.always.remove(&endpoint),
        };
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The fault of the next request: queued ones first, and those of the grant type before
    /// those of all token requests.
    pub(super) fn next(&mut self, endpoint: Endpoint) -> Option<Fault> {
        let both = [Some(endpoint), endpoint.parent()];
        let queued = both
            .iter()
            .flatten()
            .find_map(|endpoint| self.queued.get_mut(endpoint).and_then(VecDeque::pop_front));
        queued.or_else(|| {
            both.iter().flatten().find_map(|endpoint| self.always.get(endpoint).cloned())
        })
    }
}
