//! The dialects that the server can speak, by name.

use super::dialect::Dialect;
#[cfg(feature = "circle")]
use super::dialect::circle::CircleServer;
#[cfg(feature = "extra-horizon")]
use super::dialect::extra_horizon::ExtraHorizonServer;
#[cfg(feature = "ioffice")]
use super::dialect::ioffice::IOfficeServer;
use super::dialect::oauth2::OAuth2Server;
#[cfg(feature = "spatium")]
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
    #[cfg(feature = "spatium")]
    Spatium,
    /// Circle's headless authorization: tokens for members by an app token, and a refresh token
    /// that serves for a month and is never replaced, with any rotation.
    #[cfg(feature = "circle")]
    Circle,
    /// iOFFICE (Eptura Workplace): `/login.html`, `/external/api/oauth2/` with `auth`, `token`,
    /// `tokeninfo` ([`Introspect`](super::Endpoint::Introspect)) and `revoke`, and the API's
    /// `/external/api/rest/v2/users/me`. Codes end after five minutes; the redirect has no state.
    #[cfg(feature = "ioffice")]
    IOffice,
    /// Extra Horizon, both OAuth 1.0 and OAuth 2.0.
    #[cfg(feature = "extra-horizon")]
    ExtraHorizon,
}

impl FakeDialect {
    /// The dialect, with an empty state.
    pub(super) fn open(self) -> Box<dyn Dialect> {
        match self {
            Self::OAuth2 => Box::new(OAuth2Server),
            #[cfg(feature = "spatium")]
            Self::Spatium => Box::<SpatiumServer>::default(),
            #[cfg(feature = "circle")]
            Self::Circle => Box::<CircleServer>::default(),
            #[cfg(feature = "ioffice")]
            Self::IOffice => Box::<IOfficeServer>::default(),
            #[cfg(feature = "extra-horizon")]
            Self::ExtraHorizon => Box::<ExtraHorizonServer>::default(),
        }
    }
}
