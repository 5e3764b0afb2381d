//! A dialect of the server: which requests it takes, and how it processes them.
//!
//! A dialect owns the state that only it needs. Faults, counts, time, grants and accounts are the
//! same for all dialects, and know none of them by name.

use std::any::Any;

use http::StatusCode;
use serde_json::Value;

use super::authority::{Authority, Policy};
use super::counts::Endpoint;
use super::fake_response::FakeResponse;
use super::incoming_request::IncomingRequest;
use super::server_state::ServerState;
use crate::clock::{BootTime, Now};

#[cfg(feature = "circle")]
pub(super) mod circle;
#[cfg(feature = "extra-horizon")]
pub(super) mod extra_horizon;
#[cfg(feature = "ioffice")]
pub(super) mod ioffice;
mod jwt_lookalike;
pub(super) mod oauth2;
#[cfg(feature = "spatium")]
pub(super) mod spatium;

/// What the server speaks, with the state of that.
pub(super) trait Dialect: Any + Send {
    /// The route of a request, or the status of a request that has none: 404 or 405.
    fn route(&self, request: &IncomingRequest) -> Result<Route, StatusCode>;

    /// The body of an error response with this code, in the form of the dialect.
    fn error(&self, request: &IncomingRequest, code: &str) -> Value;

    /// Changes the policy of the server to what the dialect fixes.
    fn adjust_policy(&self, _policy: &mut Policy) {}

    /// The body of a response whose members have wrong types.
    fn wrong_types(&self, response: FakeResponse) -> String {
        response.with_wrong_types().body()
    }

    /// Whether an access or refresh token serves.
    fn is_active(&self, token: &str, authority: &Authority, now: BootTime) -> bool {
        authority.describe(token, now).is_some()
    }

    /// Ends what the dialect itself keeps for the users that `ends` picks.
    fn end_users(&mut self, _ends: &dyn Fn(&str) -> bool) {}
}

/// A request, and what the dialect needs to process it.
pub(super) struct RequestContext<'a> {
    pub(super) server: &'a mut ServerState,
    pub(super) request: &'a IncomingRequest,
    pub(super) now: Now,
}

/// The endpoint of a request, and the handler of the dialect.
pub(super) struct Route {
    pub(super) endpoint: Endpoint,
    /// The refresh token of a request to refresh.
    pub(super) refresh_token: Option<String>,
    handler: Box<Handler>,
}

type Handler =
    dyn Fn(&mut dyn Dialect, &mut RequestContext<'_>) -> FakeResponse + Send + Sync + 'static;

impl Route {
    /// A route to this handler of the dialect `D`.
    pub(super) fn to<D: Dialect, R: Into<FakeResponse> + 'static>(
        endpoint: Endpoint,
        handler: fn(&mut D, &mut RequestContext<'_>) -> R,
    ) -> Self {
        let handler: Box<Handler> = Box::new(move |dialect, context| {
            let dialect: &mut dyn Any = dialect;
            match dialect.downcast_mut() {
                Some(dialect) => handler(dialect, context).into(),
                // The server passes a route to the dialect that made it.
                None => FakeResponse::empty(StatusCode::INTERNAL_SERVER_ERROR),
            }
        });
        Self { endpoint, refresh_token: None, handler }
    }

    /// The request presents this refresh token.
    pub(super) fn refreshing(mut self, refresh_token: Option<String>) -> Self {
        self.refresh_token = refresh_token;
        self
    }

    /// Processes the request. A response that [is refused](FakeResponse::refused) counts as such,
    /// and every other one as granted.
    pub(super) fn handle(
        &self,
        dialect: &mut dyn Dialect,
        context: &mut RequestContext<'_>,
    ) -> FakeResponse {
        (self.handler)(dialect, context)
    }
}
