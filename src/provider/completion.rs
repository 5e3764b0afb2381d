//! The last step of a request that needs the time.

use std::sync::Arc;
use std::time::SystemTime;

use super::http_message::HttpRequest;
use crate::error::Result;

/// Completes a request when it is sent, because only the sender knows the time. The request has it
/// among its extensions.
#[derive(Clone)]
pub(super) struct Completion(Arc<Complete>);

type Complete = dyn Fn(HttpRequest, SystemTime) -> Result<HttpRequest> + Send + Sync;

impl Completion {
    pub(super) fn new(
        complete: impl Fn(HttpRequest, SystemTime) -> Result<HttpRequest> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(complete))
    }

    /// The request as it is sent at `now`.
    pub(super) fn apply(mut request: HttpRequest, now: SystemTime) -> Result<HttpRequest> {
        match request.extensions_mut().remove::<Self>() {
            Some(Self(complete)) => complete(request, now),
            None => Ok(request),
        }
    }
}
