//! Faults, which a test injects.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::counts::Endpoint;

/// A fault that happens to one request. See the example of
/// [`FakeAuthServer`](super::FakeAuthServer).
///
/// With the faults "not processed", the server does not process the request: it uses up and issues
/// no token. With the faults "processed", the server processes the request: if it rotates refresh
/// tokens, the refresh token is used up. Then the server spoils or loses the response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Not processed: the server closes the connection without a response.
    CloseBeforeProcessing,
    /// Not processed until [`release`](super::FakeAuthServer::release). Then the server processes
    /// the request, even if the client has closed the connection.
    HoldBeforeProcessing,
    /// Not processed: the server responds with this status.
    Status {
        /// The status code. The server sends 500 if HTTP has no such code.
        code: u16,
        /// The `Retry-After` header.
        retry_after: Option<String>,
        /// The body. Its content type is JSON if it begins with a brace.
        body: Option<String>,
    },
    /// Not processed: the server responds with an error in the form of RFC 6749, or of its dialect.
    OAuthError {
        /// The status code. The server sends 500 if HTTP has no such code.
        status: u16,
        /// The value of `error`, or of the member that the dialect has in its place.
        code: String,
    },
    /// Not processed: the server redirects to this URL with 307.
    RedirectTo(String),

    /// Processed at once. The server sends the real response after this time on its clock.
    Delay(Duration),
    /// Processed at once. The server sends the real response after
    /// [`release`](super::FakeAuthServer::release).
    HoldUntilReleased,
    /// Processed. Then the server closes the connection without a response.
    DropAfterCommit,
    /// Processed. Then the server responds with this status and no body, like a gateway that has
    /// lost the real response.
    StatusAfterCommit(u16),
    /// Processed. Then the server responds with 200 and these bytes as a JSON body.
    BodyAfterCommit(Vec<u8>),
    /// Processed. Then the server responds with 200 and a body that is not JSON, with the content
    /// type of JSON.
    Malformed,
    /// Processed. Then the server responds with 200 and JSON whose members have wrong types.
    WrongTypes,
    /// Processed. Then the server responds with 200 and an HTML page.
    Html,
    /// Processed. Then the server responds with 200 and no body.
    Empty200,
    /// Processed. Then the server sends the real response without its access token.
    NoAccessToken,
    /// Processed. Then the server sends half of the real response, and closes the connection.
    TornBody,
    /// Processed. Then the server responds with 200 and sends 64 MiB that begin like a real
    /// response. It stops when the client closes the connection.
    HugeBody,
    /// Processed. Then the server sends the real response byte by byte, with this pause between two
    /// bytes, on its clock.
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
