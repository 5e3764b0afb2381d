//! The dialects that the server can speak, by name.

use super::dialect::Dialect;
use super::dialect::circle::CircleServer;
use super::dialect::extra_horizon::ExtraHorizonServer;
use super::dialect::ioffice::IOfficeServer;
use super::dialect::oauth2::OAuth2Server;
use super::dialect::spatium::SpatiumServer;

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
    /// that serves for a month and is never replaced, with any rotation.
    Circle,
    /// iOFFICE (Eptura Workplace): `/login.html`, `/external/api/oauth2/` with `auth`, `token`,
    /// `tokeninfo` ([`Introspect`](super::Endpoint::Introspect)) and `revoke`, and the API's
    /// `/external/api/rest/v2/users/me`. Codes end after five minutes; the redirect has no state.
    IOffice,
    /// Extra Horizon, both OAuth 1.0 and OAuth 2.0.
    ExtraHorizon,
}

impl FakeDialect {
    /// The dialect, with an empty state.
    pub(super) fn open(self) -> Box<dyn Dialect> {
        match self {
            Self::OAuth2 => Box::new(OAuth2Server),
            Self::Spatium => Box::<SpatiumServer>::default(),
            Self::Circle => Box::<CircleServer>::default(),
            Self::IOffice => Box::<IOfficeServer>::default(),
            Self::ExtraHorizon => Box::<ExtraHorizonServer>::default(),
        }
    }
}
