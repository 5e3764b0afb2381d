//! Hosts that a redirect or a response names.

use serde::{Deserialize, Serialize};

use super::serde_forms::is_default;
use crate::provider::http_message::JsonPointer;

/// Where the host of a session comes from, if the vendor has several and the redirect of the login,
/// or the token response, names the right one.
///
/// The host replaces the host of the token endpoint, and of each other endpoint with the same
/// origin, for this session. A host that `allowed` does not name is refused before a code or token
/// is sent to it. The session's credentials are bound to it.
///
/// See the example of [`AuthorizationRequest`](super::AuthorizationRequest).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct SessionHost {
    /// The parameter of the redirect that names the host: `accounts.example.eu`, or
    /// `https://accounts.example.eu`.
    #[serde(skip_serializing_if = "is_default")]
    pub callback_parameter: Option<String>,
    /// Where the token response names the host. From then on the session's requests go there.
    #[serde(skip_serializing_if = "is_default")]
    pub response_member: Option<JsonPointer>,
    /// Set this if the server sends only a name, such as `acme`. The crate appends a dot and this
    /// domain, unless the server sends a URL.
    #[serde(skip_serializing_if = "is_default")]
    pub below: Option<String>,
    /// The hosts that may be named: `accounts.example.eu`, or `*.example.com` for every name below
    /// `example.com`. A port other than that of the scheme must be written: `example.com:8443`.
    pub allowed: Vec<String>,
}
