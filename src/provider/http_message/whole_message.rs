//! HTTP messages that are in memory as a whole.

use bytes::Bytes;
use http::{Request, Response};

/// A request with its whole body.
pub(in crate::provider) type HttpRequest = Request<Bytes>;
/// A response with its whole body.
pub(in crate::provider) type HttpResponse = Response<Bytes>;
