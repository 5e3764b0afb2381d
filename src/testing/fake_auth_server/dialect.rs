//! What the server speaks: each dialect turns a request into an endpoint and a reply. Faults,
//! counters and time are the same for all.

use http::StatusCode;
use serde_json::Value;

use super::counts::Endpoint;
use super::reply::Reply;
use super::request::Call;
use super::shared::State;
use crate::clock::Now;

mod circle;
mod extra_horizon;
mod ioffice;
pub(super) mod jwt;
mod oauth2;
mod spatium;

/// What the server speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FakeDialect {
    /// OAuth 2.0 as the standard has it.
    #[default]
    OAuth2,
    /// Spatium's authorization service: sessions by token id, of which a new one replaces the
    /// former; [security tokens](super::FakeAuthServer::security_token) that serve once; tokens
    /// that look like JWTs. Also below `/authorization/v1`.
    Spatium,
    /// Circle's headless authorization: tokens for members by an app token, and a refresh token
    /// that serves for a month and is never replaced, whatever rotation is set.
    Circle,
    /// iOFFICE (Eptura Workplace): `/login.html`, `/external/api/oauth2/` with `auth`, `token`,
    /// `tokeninfo` ([`Introspect`](Endpoint::Introspect)) and `revoke`, and the API's
    /// `/external/api/rest/v2/users/me`. Codes end after five minutes; the redirect has no state.
    IOffice,
    /// Extra Horizon, both OAuth 1.0 and OAuth 2.0.
    ExtraHorizon,
}

/// Where a request goes.
pub(super) struct Route {
    pub(super) endpoint: Endpoint,
    /// The refresh token of a request to refresh.
    pub(super) refresh_token: Option<String>,
    /// Processes the request.
    pub(super) handle: Handle,
}

/// A reply that [is refused](Reply::refused) counts as such, and any other as granted.
pub(super) type Handle = fn(&mut State, &Call, Now) -> Reply;

/// What each dialect keeps beside grants and tokens.
#[derive(Default)]
pub(super) struct Sites {
    pub(super) circle: circle::Site,
    pub(super) extra_horizon: extra_horizon::Site,
    pub(super) ioffice: ioffice::Site,
    pub(super) spatium: spatium::Site,
}

impl FakeDialect {
    /// Where a request goes, or the status that says that it goes nowhere: 404 or 405.
    pub(super) fn route(self, call: &Call) -> Result<Route, StatusCode> {
        match self {
            Self::OAuth2 => oauth2::route(call),
            Self::Spatium => spatium::route(call),
            Self::Circle => circle::route(call),
            Self::IOffice => ioffice::route(call),
            Self::ExtraHorizon => extra_horizon::route(call),
        }
    }

    /// The body of an error answer in the dialect's form, which says `code`.
    pub(super) fn error(self, call: &Call, code: &str) -> Value {
        match self {
            Self::OAuth2 => oauth2::error(code),
            Self::Spatium => spatium::error(call, code),
            Self::Circle => circle::error(code),
            Self::IOffice => ioffice::error(code),
            Self::ExtraHorizon => extra_horizon::error(code),
        }
    }
}

impl Route {
    pub(super) fn to(endpoint: Endpoint, handle: Handle) -> Self {
        Self { endpoint, refresh_token: None, handle }
    }

    /// The request presents this refresh token.
    pub(super) fn refreshing(mut self, refresh_token: Option<String>) -> Self {
        self.refresh_token = refresh_token;
        self
    }
}
