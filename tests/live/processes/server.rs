//! The servers that the crash tests use, behind one interface.

use session_warden::testing::{FakeAuthServer, FakeRotation};

use super::database::StoreKind;
use super::orders::{GRACE, Rotates};
use crate::oidc_peer::{OidcPeer, Options};
use crate::wsgi_peer::{Kind, WsgiPeer};

/// A store and a server.
pub type At = (StoreKind, Server);

/// Servers of other authors, one whose refresh tokens can be used once and one with a grace, and the
/// fake server of this crate.
pub enum Server {
    Strict(Box<OidcPeer>),
    Grace(Box<WsgiPeer>),
    Ours(FakeAuthServer, Rotates),
}

/// The refreshes that a server has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub asked: u64,
    /// With a token that had come before.
    pub again: u64,
    pub grants_revoked: u64,
}

/// With every grant active.
pub fn seen(asked: u64, again: u64) -> Seen {
    Seen { asked, again, grants_revoked: 0 }
}

impl Server {
    pub async fn strict() -> Self {
        let options = Options { access_ttl_s: 600, refresh_ttl_s: 3600, ..Options::default() };
        Self::Strict(Box::new(OidcPeer::start(options).await))
    }

    /// It accepts a spent token again for [`GRACE`], with the same answer.
    pub async fn grace() -> Self {
        let kind = Kind::DjangoOauthToolkit { grace_s: GRACE.as_secs() as u32 };
        Self::Grace(Box::new(WsgiPeer::start(kind, 600).await))
    }

    /// If it has a grace, it accepts a spent token again for [`GRACE`].
    pub async fn ours(rotates: Rotates) -> Self {
        let rotation = match rotates {
            Rotates::Strict => FakeRotation::Strict,
            Rotates::Idempotent => FakeRotation::Idempotent(GRACE),
            Rotates::Fork => FakeRotation::Fork(GRACE),
        };
        let server = FakeAuthServer::builder().rotation(rotation).start().await;
        Self::Ours(server.expect("a port is free"), rotates)
    }

    pub fn rotates(&self) -> Rotates {
        match self {
            Self::Strict(_) => Rotates::Strict,
            Self::Grace(_) => Rotates::Idempotent,
            Self::Ours(_, rotates) => *rotates,
        }
    }

    /// Which a grant asks for.
    pub fn scope(&self) -> &'static str {
        match self {
            // For its API, which is of OpenID Connect.
            Self::Strict(_) => "openid offline_access",
            Self::Grace(_) => "read",
            Self::Ours(..) => "",
        }
    }

    /// Whether a refresh ends the former access token at once.
    pub fn ends_access_tokens(&self) -> bool {
        matches!(self, Self::Grace(_))
    }

    pub fn issuer(&self) -> String {
        match self {
            Self::Grace(peer) => peer.issuer().to_owned(),
            Self::Strict(peer) => peer.issuer().to_owned(),
            Self::Ours(server, _) => server.issuer(),
        }
    }

    /// Responds with 200 only to a valid access token.
    pub fn api(&self) -> String {
        match self {
            Self::Strict(peer) => format!("{}/me", peer.issuer()),
            Self::Grace(peer) => format!("{}/me", peer.issuer()),
            Self::Ours(server, _) => format!("{}/resource", server.url()),
        }
    }

    pub async fn seen(&self) -> Seen {
        match self {
            Self::Strict(peer) => {
                let counts = peer.counts().await;
                let asked = counts.refreshes + counts.refresh_errors;
                let (again, grants_revoked) = (counts.presented_again, counts.grants_revoked);
                Seen { asked, again, grants_revoked }
            }
            Self::Grace(peer) => {
                let counts = peer.counts().await;
                let asked = counts.refreshes + counts.refresh_errors;
                Seen { asked, again: counts.presented_again, grants_revoked: 0 }
            }
            Self::Ours(server, _) => {
                let counts = server.counts();
                let (again, grants_revoked) = (counts.presented_twice, counts.grants_revoked);
                Seen { asked: counts.refresh_token.requests, again, grants_revoked }
            }
        }
    }
}
