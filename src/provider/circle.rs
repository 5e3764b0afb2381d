//! Circle's headless authorization: tokens for the members of a community, by an app token.
//!
//! Sources: the vendor's `OpenAPI` document "Headless Auth API v1"
//! (<https://api-headless.circle.so/api/headless_auth/swagger.yaml>, "the API" below), that of the
//! "Headless Member API V1", and <https://api.circle.so/apis/headless>.

mod answer;
mod operation;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use serde::{Deserialize, Serialize};
use url::Url;

use self::answer::Call;
pub use self::operation::{RevokeAccessToken, RevokeRefreshToken};
use super::wire::Members;
use super::{
    ExchangeError, IdentityChanged, Issued, Provider, Rejection, Revoked, Rotation,
    UnattendedGrant, Wire, wire,
};
use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secret;
use crate::token::{Placement, Tokens};

/// A client of Circle's headless authorization, with a community's app token.
///
/// A refresh gives another access token and never another refresh token, which lives for a month
/// from the day it was made. When that is over the session makes itself anew for the same member,
/// with the app token: no user is needed.
///
/// ```
/// use session_warden::provider::circle::Circle;
///
/// let circle = Circle::new("canary");
/// assert!(!format!("{circle:?}").contains("canary"));
///
/// let own = Circle::new("canary").host("community.example.com")?.remint(false);
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
    remint: bool,
    texts: Texts,
}

/// What the server's messages say, in lower case: there are no codes.
#[derive(Clone)]
struct Texts {
    refresh_token_expired: String,
    refresh_token_unknown: String,
    member_unknown: String,
}

impl Circle {
    /// A client of `app.circle.so` with the app token "Headless Auth" of a community.
    #[must_use]
    pub fn new(app_token: impl Into<Secret>) -> Self {
        Self {
            authority: default_site(),
            app_token: app_token.into().prefixed("Bearer "),
            sso_field: "sso_user_id".to_owned(),
            remint: true,
            texts: Texts {
                refresh_token_expired: "refresh token is expired".to_owned(),
                refresh_token_unknown: "refresh token not found".to_owned(),
                member_unknown: "member not found".to_owned(),
            },
        }
    }

    /// The server's host, or the origin of its URL. Defaults to `app.circle.so`, as in the API; a
    /// community's own domain is in use too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is neither a host name nor an `https` URL (or an `http` one
    /// to a loopback address) without path and query.
    pub fn host(mut self, host: &str) -> Result<Self> {
        let url = if host.contains("://") { host.to_owned() } else { format!("https://{host}") };
        let url = wire::endpoint(&url)?;
        if url.path() != "/" || url.query().is_some() {
            return Err(Error::new(ErrorKind::InvalidInput).about("the host has more to it"));
        }
        self.authority = url;
        Ok(self)
    }

    /// What the member's id of the single sign-on is called. Defaults to `sso_user_id`, as in the
    /// API; the vendor's quick start says `sso_id`.
    #[must_use]
    pub fn sso_field(mut self, name: impl Into<String>) -> Self {
        self.sso_field = name.into();
        self
    }

    /// Whether a session whose refresh token has died makes itself anew for the same member.
    /// Defaults to `true`, because the app token is all that it takes. What the backend itself
    /// ended, by [`revoke`](crate::session::Session::revoke) or [`RevokeRefreshToken`], stays
    /// ended.
    #[must_use]
    pub fn remint(mut self, remint: bool) -> Self {
        self.remint = remint;
        self
    }

    /// What a message has in it that says that the refresh token has expired; any other 401 blames
    /// the app token. Upper and lower case are the same. Defaults to `refresh token is expired`, as
    /// in the API.
    #[must_use]
    pub fn refresh_token_expired_text(mut self, text: &str) -> Self {
        self.texts.refresh_token_expired = text.to_lowercase();
        self
    }

    /// What a message has in it that says that there is no such refresh token; any other 404 blames
    /// the host. Defaults to `refresh token not found`, as in the API.
    #[must_use]
    pub fn refresh_token_unknown_text(mut self, text: &str) -> Self {
        self.texts.refresh_token_unknown = text.to_lowercase();
        self
    }

    /// What a message has in it that says that there is no such member. Defaults to `member not
    /// found`, as in the API.
    #[must_use]
    pub fn member_unknown_text(mut self, text: &str) -> Self {
        self.texts.member_unknown = text.to_lowercase();
        self
    }

    /// A request with the app token, to a path below `/api/v1/headless`.
    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Bytes>> {
        let unusable = || {
            Error::new(ErrorKind::Misconfigured)
                .about("the app token has characters that no header can carry")
        };
        let mut bearer = HeaderValue::from_maybe_shared(self.app_token.shared_bytes())
            .map_err(|_| unusable())?;
        bearer.set_sensitive(true);
        Request::builder()
            .method(method)
            .uri(format!("{}api/v1/headless/{path}", self.authority))
            .header(header::AUTHORIZATION, bearer)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|cause| Error::new(ErrorKind::Misconfigured).with_source(cause))
    }
}

impl fmt::Debug for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circle")
            .field("authority", &self.authority.as_str())
            .field("sso_field", &self.sso_field)
            .field("remint", &self.remint)
            .finish_non_exhaustive()
    }
}

/// A member of the community, by whichever id the application knows. Members are never created.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "the API has these three")]
pub enum Member {
    /// By Circle's own id.
    #[doc(alias = "community_member_id")]
    #[doc(alias = "getMemberAPITokenFromCommunityMemberId")]
    Id(u64),
    /// By e-mail address.
    #[doc(alias = "getMemberAPITokenFromEmail")]
    Email(String),
    /// By the id of the single sign-on.
    #[doc(alias = "sso_user_id")]
    #[doc(alias = "getMemberAPITokenFromSSOId")]
    SsoId(String),
}

impl UnattendedGrant<Circle> for Member {}

/// What is kept beside the tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attributes {
    /// The community; 0 if the server did not say.
    #[serde(default)]
    pub community_id: u64,
    /// The member's id at Circle; 0 if the server did not say.
    #[serde(default)]
    pub community_member_id: u64,
    /// For whom the session was made, and is made anew.
    pub member: Member,
}

impl Provider for Circle {
    type Grant = Member;
    type Challenge = Infallible;
    type Attributes = Attributes;

    fn authority_url(&self) -> &Url {
        &self.authority
    }

    /// The same for all: a community is known by its app token alone, which may be replaced.
    fn client_id(&self) -> &'static str {
        "headless"
    }

    /// A refresh token serves until its end ("the API": a refresh answers with none).
    fn refresh_token_rotation(&self) -> Rotation {
        Rotation::Static
    }

    fn placement(&self) -> Option<Placement> {
        Some(Placement::bearer())
    }

    /// `POST /api/v1/headless/auth_token`.
    async fn establish(
        &self,
        wire: &Wire<'_>,
        grant: Member,
    ) -> Result<Issued<Self>, ExchangeError> {
        let body = match &grant {
            Member::Id(id) => wire::json(&Members(&[("community_member_id", id)])),
            Member::Email(address) => wire::json(&Members(&[("email", address)])),
            Member::SsoId(id) => wire::json(&Members(&[(&*self.sso_field, id)])),
        };
        let request = self.request(Method::POST, "auth_token", body?)?;
        let answer = wire.send(request).await?;
        let (community_id, community_member_id) = (0, 0);
        let known = Attributes { community_id, community_member_id, member: grant };
        self.tokens(wire, &answer, known, Call::Create).map(Issued::Tokens)
    }

    /// `PATCH /api/v1/headless/access_token/refresh`. The same access token with the same end may
    /// come back, as long as it serves.
    async fn refresh(
        &self,
        wire: &Wire<'_>,
        refresh_token: &Secret,
        held: &Tokens<Attributes>,
    ) -> Result<Tokens<Attributes>, ExchangeError> {
        let body = wire::json(&Members(&[("refresh_token", refresh_token.expose_secret())]))?;
        let request = self.request(Method::PATCH, "access_token/refresh", body)?;
        let answer = wire.send(request).await?;
        self.tokens(wire, &answer, held.attributes().clone(), Call::Refresh)
    }

    /// Revokes the refresh token. The access token serves on, for an hour at most.
    async fn revoke(
        &self,
        wire: &Wire<'_>,
        held: &Tokens<Attributes>,
    ) -> Result<Revoked, ExchangeError> {
        let Some(refresh_token) = held.refresh_token() else {
            return Ok(Revoked::NotSupported);
        };
        let answer = wire.send(self.revocation(refresh_token)?).await?;
        answer::refresh_revoked(wire, &answer).map(|()| Revoked::AtServer)
    }

    /// A member's number says something in its community alone.
    fn merge_attributes(
        &self,
        known: &Attributes,
        issued: Attributes,
    ) -> Result<Attributes, IdentityChanged> {
        let same = |what, known: u64, issued: u64| {
            let id = |id: u64| Some(id).filter(|id| *id != 0);
            let id = IdentityChanged::unless_same(what, &id(known), id(issued))?;
            Ok(id.unwrap_or_default())
        };
        Ok(Attributes {
            community_id: same("community", known.community_id, issued.community_id)?,
            community_member_id: same(
                "member",
                known.community_member_id,
                issued.community_member_id,
            )?,
            member: issued.member,
        })
    }

    fn renewal_grant(&self, held: Option<&Tokens<Attributes>>) -> Option<Member> {
        let held = held.filter(|_| self.remint)?;
        Some(held.attributes().member.clone())
    }

    fn rejection(&self, response: &http::response::Parts, body_prefix: &[u8]) -> Rejection {
        answer::rejection(response, body_prefix)
    }
}

#[expect(clippy::expect_used, reason = "the address is a constant")]
fn default_site() -> Url {
    Url::parse("https://app.circle.so/").expect("a URL")
}
