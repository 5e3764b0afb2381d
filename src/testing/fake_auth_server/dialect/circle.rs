//! Circle's headless authorization: tokens for members by an app token, and a refresh token that
//! is never replaced. Statuses and messages are those of the vendor's `OpenAPI` document.

use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{Dialect, RequestContext, Route, jwt_lookalike};
use crate::clock::{BootTime, Now};
use crate::testing::fake_auth_server::authority::{Authority, Holder, Policy};
use crate::testing::fake_auth_server::counts::Endpoint;
use crate::testing::fake_auth_server::fake_response::{FakeResponse, members};
use crate::testing::fake_auth_server::fake_rotation::FakeRotation;
use crate::testing::fake_auth_server::incoming_request::IncomingRequest;
use crate::testing::fake_auth_server::server_state::ServerState;

mod control;

/// The app token, and the members of its community.
#[derive(Default)]
pub(in super::super) struct CircleServer {
    /// `None` accepts every app token.
    app_token: Option<String>,
    /// If empty, everybody is a member.
    members: Vec<Member>,
    keeps_access_tokens: bool,
    /// `None` stands for [`COMMUNITY`].
    community: Option<u64>,
}

struct Member {
    id: u64,
    email: String,
    sso_user_id: String,
}

impl Dialect for CircleServer {
    fn route(&self, request: &IncomingRequest) -> Result<Route, StatusCode> {
        let (method, route) = match request.path.as_str() {
            "/api/v1/headless/auth_token" => {
                (Method::POST, Route::to(Endpoint::AuthToken, Self::create))
            }
            "/api/v1/headless/access_token/refresh" => {
                let presented = request.json().and_then(|json| text(&json, "refresh_token"));
                let route = Route::to(Endpoint::RefreshToken, Self::refresh);
                (Method::PATCH, route.refreshing(presented))
            }
            "/api/v1/headless/access_token/revoke" => {
                (Method::POST, Route::to(Endpoint::RevokeAccessToken, Self::revoke_access))
            }
            "/api/v1/headless/refresh_token/revoke" => {
                (Method::POST, Route::to(Endpoint::Revoke, Self::revoke_refresh))
            }
            path if path == "/resource" || path.starts_with("/api/headless/v1/") => {
                (Method::GET, Route::to(Endpoint::Resource, Self::resource))
            }
            _ => return Err(StatusCode::NOT_FOUND),
        };
        if request.method == method { Ok(route) } else { Err(StatusCode::METHOD_NOT_ALLOWED) }
    }

    fn error(&self, _: &IncomingRequest, message: &str) -> Value {
        error_json(message).into()
    }

    /// Circle never replaces a refresh token.
    fn adjust_policy(&self, policy: &mut Policy) {
        policy.rotation = FakeRotation::None;
        policy.refresh_lifetime.get_or_insert(A_MONTH);
    }

    fn is_active(&self, token: &str, authority: &Authority, now: BootTime) -> bool {
        jwt_lookalike::is_active(token, authority, now)
    }
}

/// A success, or status and message.
type Outcome<T = FakeResponse> = Result<T, CircleError>;

/// A status, and a message.
struct CircleError(StatusCode, &'static str);

impl CircleServer {
    fn create(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let body = self.body(context)?;
        let RequestContext { server, now, .. } = context;
        let id = self.member(&body).ok_or(CircleError(StatusCode::NOT_FOUND, UNKNOWN_MEMBER))?;
        let holder = Holder { user: Some(id.to_string()), client: String::new(), scope: None };
        let issued = server.authority.grant(holder, now.boot);
        let mut body = self.access_members(&issued.pair.access, server, *now);
        if let Some(refresh) = issued.pair.refresh {
            let described = server.authority.describe(&refresh, now.boot);
            let ends = described.and_then(|found| found.expires).map(|end| time(*now, end));
            body.extend(ends.map(|end| ("refresh_token_expires_at".to_owned(), end.into())));
            body.insert("refresh_token".to_owned(), (&*refresh).into());
        }
        body.insert("community_member_id".to_owned(), id.into());
        body.insert("community_id".to_owned(), self.community().into());
        Ok(FakeResponse::ok(body))
    }

    fn refresh(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let body = self.body(context)?;
        let RequestContext { server, now, .. } = context;
        let token = text(&body, "refresh_token").ok_or(MISSING)?;
        if server.authority.is_expired(&token, now.boot) {
            let message = "The refresh token is expired. Please generate/get new auth token.";
            return Err(CircleError(StatusCode::UNAUTHORIZED, message));
        }
        let kept = server.authority.current_access(&token, now.boot);
        let access = match kept.filter(|_| self.keeps_access_tokens) {
            Some(access) => {
                server.authority.totals.refreshes += 1;
                access
            }
            None => {
                let issued = server.authority.refresh(&token, "", None, now.boot);
                issued.map_err(|_| UNKNOWN_REFRESH_TOKEN)?.pair.access
            }
        };
        Ok(FakeResponse::ok(self.access_members(&access, server, *now)))
    }

    fn revoke_access(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let body = self.body(context)?;
        let RequestContext { server, now, .. } = context;
        let token = text(&body, "access_token").ok_or(MISSING)?;
        let token = jwt_lookalike::unwrap(&token);
        let unknown = "The access token not found.";
        let unknown = || CircleError(StatusCode::UNPROCESSABLE_ENTITY, unknown);
        if server.authority.describe(token, now.boot).is_none_or(|found| !found.is_access) {
            return Err(unknown());
        }
        server.authority.revoke(token, "").map_err(|_| unknown())?;
        Ok(FakeResponse::empty(StatusCode::NO_CONTENT))
    }

    fn revoke_refresh(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let body = self.body(context)?;
        let RequestContext { server, now, .. } = context;
        let token = text(&body, "refresh_token").ok_or(MISSING)?;
        if server.authority.is_expired(&token, now.boot) {
            return Err(CircleError(StatusCode::UNAUTHORIZED, "The refresh token is expired."));
        }
        if server.authority.describe(&token, now.boot).is_none_or(|found| found.is_access) {
            return Err(UNKNOWN_REFRESH_TOKEN);
        }
        server.authority.end_refresh(&token);
        Ok(FakeResponse::empty(StatusCode::NO_CONTENT))
    }

    fn resource(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let RequestContext { server, request, now } = context;
        let token = jwt_lookalike::unwrap(request.bearer().unwrap_or_default());
        let described = server.authority.describe(token, now.boot);
        if let Some(found) = described.filter(|found| found.is_access) {
            return Ok(FakeResponse::ok(members([("user", json!(found.holder.user))])));
        }
        let message = match server.authority.is_expired_access(token, now.boot) {
            true => "The access token is expired.",
            false => "The access token is invalid.",
        };
        Err(CircleError(StatusCode::UNAUTHORIZED, message))
    }

    /// The members of a request with the right app token.
    fn body(&self, context: &RequestContext<'_>) -> Outcome<Map<String, Value>> {
        let presented = context.request.bearer();
        let expected = self.app_token.as_deref();
        let is_right = presented.is_some_and(|token| expected.is_none_or(|app| app == token));
        if !is_right {
            let message = "Your account could not be authenticated.";
            return Err(CircleError(StatusCode::UNAUTHORIZED, message));
        }
        context.request.json().ok_or(MISSING)
    }

    /// The members of a response that describe an access token.
    fn access_members(&self, token: &str, server: &ServerState, now: Now) -> Map<String, Value> {
        let described = server.authority.describe(token, now.boot);
        let member: Option<u64> = described
            .as_ref()
            .and_then(|found| found.holder.user.as_deref())
            .and_then(|id| id.parse().ok());
        let ends = described.and_then(|found| found.expires).unwrap_or(now.boot);
        let claims = json!({
            "community_id": self.community(),
            "community_member_id": member,
            "exp": unix(now, ends),
        });
        let mut body = members([("access_token", jwt_lookalike::wrap(token, &claims).into())]);
        let shown = server.expires_in.replacement_for(time(now, ends).into());
        body.extend(shown.map(|end| ("access_token_expires_at".to_owned(), end)));
        body
    }

    fn community(&self) -> u64 {
        self.community.unwrap_or(COMMUNITY)
    }

    /// The id of the member that the request names. If it names more than one id, the SSO user id
    /// counts before the member id, and that before the email.
    fn member(&self, body: &Map<String, Value>) -> Option<u64> {
        let (sso, email) = (text(body, "sso_user_id"), text(body, "email"));
        let id = body.get("community_member_id").and_then(Value::as_u64);
        if self.members.is_empty() {
            return sso.or(email).map(|_| ANYBODY).or(id);
        }
        let is = |member: &&Member| match (&sso, id, &email) {
            (Some(sso), _, _) => member.sso_user_id == *sso,
            (None, Some(id), _) => member.id == id,
            (None, None, Some(email)) => member.email.eq_ignore_ascii_case(email),
            (None, None, None) => false,
        };
        self.members.iter().find(is).map(|member| member.id)
    }
}

impl From<CircleError> for FakeResponse {
    fn from(CircleError(status, message): CircleError) -> Self {
        Self::refusal(status, message, error_json(message))
    }
}

fn error_json(message: &str) -> Map<String, Value> {
    members([
        ("success", false.into()),
        ("message", message.into()),
        ("error_details", Value::Null),
    ])
}

fn text(members: &Map<String, Value>, name: &str) -> Option<String> {
    members.get(name)?.as_str().map(str::to_owned)
}

fn since_epoch(now: Now, at: BootTime) -> Duration {
    now.wall_at(at).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn unix(now: Now, at: BootTime) -> u64 {
    since_epoch(now, at).as_secs()
}

/// RFC 3339, to the millisecond.
fn time(now: Now, at: BootTime) -> String {
    let since = since_epoch(now, at);
    // "Fri, 15 May 2015 15:34:21 GMT"
    let http = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
    let words: Vec<_> = http.split(' ').collect();
    let [_, day, month, year, clock, _] = words[..] else { return http };
    let month = "JanFebMarAprMayJunJulAugSepOctNovDec".find(month).unwrap_or_default() / 3 + 1;
    format!("{year}-{month:02}-{day}T{clock}.{:03}Z", since.subsec_millis())
}

const MISSING: CircleError = CircleError(StatusCode::NOT_FOUND, "Oops! Missing parameter.");

const UNKNOWN_REFRESH_TOKEN: CircleError =
    CircleError(StatusCode::NOT_FOUND, "Refresh token not found.");

const UNKNOWN_MEMBER: &str = "Community member not found. Please provide a valid SSO User ID, \
                              community member ID, or email.";

/// How long a refresh token serves.
const A_MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

const COMMUNITY: u64 = 5;

/// The id of every member, as long as none is named.
const ANYBODY: u64 = 77;
