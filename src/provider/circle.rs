//! Circle's headless authorization: tokens for the members of a community, by an app token.
//!
//! Sources: the vendor's `OpenAPI` document "Headless Auth API v1"
//! (<https://api-headless.circle.so/api/headless_auth/swagger.yaml>, "the API" below), that of the
//! "Headless Member API V1", and <https://api.circle.so/apis/headless>.
//!
//! ```
//! use session_warden::error::{ErrorKind, LostReason};
//! use session_warden::provider::circle::{
//!     Circle, CircleAttributes, CircleRevokeAccessToken, CircleRevokeRefreshToken, Member,
//! };
//! use session_warden::testing::{FakeAuthServer, FakeDialect};
//! use session_warden::transport::TransportConfig;
//! use session_warden::{SessionKey, Supervisor};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = FakeAuthServer::builder().dialect(FakeDialect::Circle).start().await?;
//! server.set_app_token("app-token");
//! server.add_member(77, "ada@example.com", "sso-77");
//! let supervisor = Supervisor::builder()
//!     .transport(TransportConfig::default().allow_loopback_http())
//!     .provider("circle", Circle::new("app-token").host(server.url())?)
//!     .start()
//!     .await?;
//! let sessions = supervisor.sessions::<Circle>("circle")?;
//! let session = sessions.session(SessionKey::new("community", "member-77")?);
//!
//! // The member's id is enough: the app token vouches for the member.
//! let first = session.ensure(Member::Email("ada@example.com".to_owned())).await?;
//! let CircleAttributes { community_member_id, .. } = session.attributes().await?;
//! assert_eq!(community_member_id, 77);
//!
//! // The session goes on with another access token.
//! session.call(CircleRevokeAccessToken).await?;
//! assert!(!server.is_active(first.expose_secret()));
//! assert!(session.permission_token().await?.generation() > first.generation());
//!
//! // Without its refresh token, the session ends when its access token expires.
//! session.call(CircleRevokeRefreshToken).await?;
//! assert!(session.permission_token().await.is_ok());
//! let lost = session.refresh().await.unwrap_err();
//! assert_eq!(lost.kind(), ErrorKind::SignInAgain(LostReason::TokensDeleted));
//! # Ok(())
//! # }
//! ```

mod grant;
mod operation;
mod request;
mod response;
mod settings;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

pub use self::grant::Member;
pub use self::operation::{CircleRevokeAccessToken, CircleRevokeRefreshToken};
use self::response::RequestKind;
use self::settings::Texts;
use super::api_origins;
use super::http_message::Members;
use super::{
    Exchanged, HttpSender, IdentityChanged, Issued, Provider, Rejection, Revoked, Rotation,
    http_message,
};
use crate::secret::Secret;
use crate::token::{Placement, Tokens};

/// A client of Circle's headless authorization, with a community's app token.
///
/// A refresh gives another access token, and never another refresh token. The refresh token is
/// valid for a month after its issue. When it has expired, the session obtains new tokens
/// automatically for the same member with the app token. See the [example of the module](self).
///
/// ```
/// use session_warden::provider::circle::Circle;
///
/// let circle = Circle::new("canary");
/// assert!(!format!("{circle:?}").contains("canary"));
///
/// let own = Circle::new("canary").host("community.example.com")?.auto_renew(false);
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone)]
#[doc(alias = "headless")]
pub struct Circle {
    /// The server's origin.
    authority: Url,
    /// The whole value of the `Authorization` header.
    app_token: Secret,
    sso_field: String,
    auto_renew: bool,
    texts: Texts,
}

impl Circle {
    /// A client of `app.circle.so` with a community's app token of the type "Headless Auth".
    #[must_use]
    pub fn new(app_token: impl Into<Secret>) -> Self {
        Self {
            authority: default_authority(),
            app_token: app_token.into().prefixed("Bearer "),
            sso_field: "sso_user_id".to_owned(),
            auto_renew: true,
            texts: Texts::default(),
        }
    }
}

impl fmt::Debug for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circle")
            .field("authority", &self.authority.as_str())
            .field("sso_field", &self.sso_field)
            .field("auto_renew", &self.auto_renew)
            .finish_non_exhaustive()
    }
}

/// The attributes of a session. See the [example of the module](self).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CircleAttributes {
    /// The id of the community; 0 if the server did not send it.
    #[serde(default)]
    pub community_id: u64,
    /// The member's id at Circle; 0 if the server did not send it.
    #[serde(default)]
    pub community_member_id: u64,
    /// The member that the session is for. The session obtains new tokens for the same member.
    pub member: Member,
}

impl Provider for Circle {
    type Grant = Member;
    type Challenge = Infallible;
    type Attributes = CircleAttributes;

    fn authority_url(&self) -> &Url {
        &self.authority
    }

    /// The API is at the origin of the server.
    fn api_origins(&self) -> Vec<String> {
        api_origins::of_server(&self.authority)
    }

    fn configured_urls(&self) -> Vec<Url> {
        vec![self.authority_url().clone()]
    }

    /// The same for all communities: a community is identified by its app token alone, which may be
    /// replaced.
    fn client_id(&self) -> &'static str {
        "headless"
    }

    /// A refresh token is valid until it expires ("the API": a refresh gives none).
    fn refresh_token_rotation(&self) -> Rotation {
        Rotation::Static
    }

    fn placement(&self) -> Option<Placement> {
        Some(Placement::bearer())
    }

    /// `POST /api/v1/headless/auth_token`.
    async fn establish(&self, sender: &HttpSender<'_>, grant: Member) -> Exchanged<Issued<Self>> {
        let body = match &grant {
            Member::Id(id) => http_message::json_body(&Members(&[("community_member_id", id)])),
            Member::Email(address) => http_message::json_body(&Members(&[("email", address)])),
            Member::SsoId(id) => http_message::json_body(&Members(&[(&*self.sso_field, id)])),
        };
        let request = self.request(Method::POST, "auth_token", body?)?;
        let response = sender.send(request).await?;
        let (community_id, community_member_id) = (0, 0);
        let known = CircleAttributes { community_id, community_member_id, member: grant };
        self.tokens(sender, &response, known, RequestKind::Create).map(Issued::Tokens)
    }

    /// `PATCH /api/v1/headless/access_token/refresh`. The server may send the same access token
    /// with the same expiry, as long as it is valid.
    async fn refresh(
        &self,
        sender: &HttpSender<'_>,
        refresh_token: &Secret,
        held: &Tokens<CircleAttributes>,
    ) -> Exchanged<Tokens<CircleAttributes>> {
        let body =
            http_message::json_body(&Members(&[("refresh_token", refresh_token.expose_secret())]))?;
        let request = self.request(Method::PATCH, "access_token/refresh", body)?;
        let response = sender.send(request).await?;
        self.tokens(sender, &response, held.attributes().clone(), RequestKind::Refresh)
    }

    /// Revokes the refresh token. The access token stays valid for an hour at most.
    async fn revoke(
        &self,
        sender: &HttpSender<'_>,
        held: &Tokens<CircleAttributes>,
    ) -> Exchanged<Revoked> {
        let Some(refresh_token) = held.refresh_token() else { return Ok(Revoked::NotSupported) };
        let response = sender.send(self.revocation(refresh_token)?).await?;
        response::refresh_revoked(sender, &response).map(|()| Revoked::AtServer)
    }

    /// A member's number identifies it only within its community.
    fn merge_attributes(
        &self,
        known: &CircleAttributes,
        issued: CircleAttributes,
    ) -> Result<CircleAttributes, IdentityChanged> {
        let same = |what, known: u64, issued: u64| {
            let id = |id: u64| Some(id).filter(|id| *id != 0);
            let id = IdentityChanged::unless_same(what, &id(known), id(issued))?;
            Ok(id.unwrap_or_default())
        };
        Ok(CircleAttributes {
            community_id: same("community", known.community_id, issued.community_id)?,
            community_member_id: same(
                "member",
                known.community_member_id,
                issued.community_member_id,
            )?,
            member: issued.member,
        })
    }

    fn renewal_grant(&self, held: Option<&Tokens<CircleAttributes>>) -> Option<Member> {
        let held = held.filter(|_| self.auto_renew)?;
        Some(held.attributes().member.clone())
    }

    fn rejection_reads_body(&self, response: &http::response::Parts) -> bool {
        response.status == StatusCode::UNAUTHORIZED
    }

    fn rejection(&self, response: &http::response::Parts, body_prefix: &[u8]) -> Rejection {
        response::rejection(response, body_prefix)
    }
}

#[expect(clippy::expect_used, reason = "the address is a constant")]
fn default_authority() -> Url {
    Url::parse("https://app.circle.so/").expect("a URL")
}
