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
use super::fake_server_shape::FakeServerShape;

/// The protocol that a [`FakeAuthServer`](super::FakeAuthServer) speaks. See the example of
/// [`FakeAuthServerBuilder`](super::FakeAuthServerBuilder).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FakeDialect {
    /// OAuth 2.0, as in the standard, or of another [shape](super::FakeServerShape).
    #[default]
    OAuth2,
    /// Spatium's authorization service, also below the path `/authorization/v1`. A session has a
    /// token id, and a new session replaces the former session with the same id. A [security
    /// token](super::FakeAuthServer::security_token) can be used once. The tokens look like JWTs.
    #[cfg(feature = "spatium")]
    Spatium,
    /// Circle's headless authorization: the client gets tokens for members by an app token. A
    /// refresh token is valid for a month, and no setting of the rotation replaces it.
    #[cfg(feature = "circle")]
    Circle,
    /// iOFFICE (Eptura Workplace): `/login.html`, `/external/api/oauth2/` with `auth`, `token`,
    /// `tokeninfo` ([`Introspect`](super::Endpoint::Introspect)) and `revoke`, and the API's
    /// `/external/api/rest/v2/users/me`. A code expires after five minutes.
    #[cfg(feature = "ioffice")]
    IOffice,
    /// Extra Horizon, both OAuth 1.0 and OAuth 2.0.
    #[cfg(feature = "extra-horizon")]
    ExtraHorizon,
}

impl FakeDialect {
    /// The dialect, with an empty state. Only that of OAuth 2.0 has a shape.
    pub(super) fn open(self, shape: FakeServerShape) -> Box<dyn Dialect> {
        match self {
            Self::OAuth2 => Box::new(OAuth2Server::new(shape)),
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
