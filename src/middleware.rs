//! Middleware: puts a session's token on the requests that a program sends to APIs.
//!
//! Each adapter checks that the request goes to an API origin of the provider
//! ([`Registration::api_origins`](crate::provider::Registration::api_origins)), gets the token, and
//! puts it on the request. If the API rejects the token, the session refreshes it, and the adapter
//! sends the request once more. Requests whose tokens are rejected at the same time share one
//! refresh. The guide's chapter
//! [`middleware`](crate::guide::middleware) says which adapter to use, and what each does with
//! bodies, redirects and streams.
//!
#![cfg_attr(
    feature = "tower",
    doc = "- [`tower`]: a layer for services of tower, hyper and tonic."
)]
#![cfg_attr(feature = "reqwest", doc = "- [`reqwest`]: methods of a session that send requests.")]
#![cfg_attr(
    feature = "reqwest-middleware",
    doc = "- [`reqwest_middleware`]: middleware for the crate of that name."
)]

mod authorizer;
mod origin_redirects;
#[cfg(feature = "tower")]
mod repeatable_body;
#[cfg(feature = "reqwest")]
pub mod reqwest;
#[cfg(feature = "reqwest-middleware")]
pub mod reqwest_middleware;
mod reqwest_sending;
mod response_body;
mod session_choice;
#[cfg(feature = "tower")]
pub mod tower;

use self::authorizer::Authorizer;
pub use self::authorizer::CallerHeader;
pub use self::origin_redirects::redirect_policy;
#[cfg(feature = "tower")]
pub use self::repeatable_body::RepeatableBody;
pub use self::response_body::ResponseBody;
pub use self::session_choice::SessionChoice;

/// What became of a request whose token the API rejected. The middleware puts it into the extensions
/// of the response. A response without it is the answer to the only request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resend {
    /// The request was sent once more, with another token. This is the second answer.
    Resent,
    /// The request was not sent again, because its body cannot be repeated. This is the first answer.
    /// The body of an `http::Request` is longer than
    /// [`REPEATED_BODY_BYTES`](crate::policy::REPEATED_BODY_BYTES), or was not sent completely when
    /// the answer came. The body of a `reqwest::Request` is a stream.
    BodyNotRepeatable,
}
