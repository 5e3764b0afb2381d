//! Circle's headless authorization: tokens for members by an app token, and a refresh token that
//! is never replaced. Statuses and messages are those of the vendor's `OpenAPI` document.

use std::time::SystemTime;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{Handle, Route, jwt};
use crate::clock::{BootTime, Now};
use crate::testing::fake_auth_server::FakeAuthServer;
use crate::testing::fake_auth_server::authority::Holder;
use crate::testing::fake_auth_server::counts::Endpoint;
use crate::testing::fake_auth_server::reply::{Reply, members};
use crate::testing::fake_auth_server::request::Call;
use crate::testing::fake_auth_server::shared::State;

/// Who may ask, and for whom.
#[derive(Default)]
pub(in super::super) struct Site {
    /// None lets every app token in.
    app_token: Option<String>,
    /// None of them: anybody is a member.
    members: Vec<Member>,
    keeps_access_tokens: bool,
    /// None is [`COMMUNITY`].
    community: Option<u64>,
}

struct Member {
    id: u64,
    email: String,
    sso_user_id: String,
}

/// Circle.
impl FakeAuthServer {
    /// The app token; others are refused from now on.
    pub fn set_app_token(&self, token: &str) {
        self.shared.update(|state| state.sites.circle.app_token = Some(token.to_owned()));
    }

    /// The community that the app token is of, from now on.
    pub fn set_community(&self, id: u64) {
        self.shared.update(|state| state.sites.circle.community = Some(id));
    }

    /// A member of the community. As soon as one is named, others are unknown.
    pub fn add_member(&self, id: u64, email: &str, sso_user_id: &str) {
        let (email, sso_user_id) = (email.to_owned(), sso_user_id.to_owned());
        let member = Member { id, email, sso_user_id };
        self.shared.update(|state| state.sites.circle.members.push(member));
    }

    /// Whether a refresh answers with the access token that there is, and its end, as long as that
    /// serves.
    pub fn keep_access_tokens(&self, keep: bool) {
        self.shared.update(|state| state.sites.circle.keeps_access_tokens = keep);
    }
}

pub(super) fn route(call: &Call) -> Result<Route, StatusCode> {
    let (method, endpoint, handle): (_, _, Handle) = match call.path.as_str() {
        "/api/v1/headless/auth_token" => (Method::POST, Endpoint::AuthToken, create),
        "/api/v1/headless/access_token/refresh" => (Method::PATCH, Endpoint::RefreshToken, refresh),
        "/api/v1/headless/access_token/revoke" => {
            (Method::POST, Endpoint::RevokeAccessToken, revoke_access)
        }
        "/api/v1/headless/refresh_token/revoke" => (Method::POST, Endpoint::Revoke, revoke),
        path if path == "/resource" || path.starts_with("/api/headless/v1/") => {
            (Method::GET, Endpoint::Resource, resource)
        }
        _ => return Err(StatusCode::NOT_FOUND),
    };
    if call.method != method {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let presented = || text(&call.json()?, "refresh_token");
    let presented = (endpoint == Endpoint::RefreshToken).then(presented).flatten();
    Ok(Route::to(endpoint, handle).refreshing(presented))
}

pub(super) fn error(message: &str) -> Value {
    json!({ "success": false, "message": message, "error_details": null })
}

/// A success, or status and message.
type Outcome = Result<Reply, (StatusCode, &'static str)>;

fn create(state: &mut State, call: &Call, now: Now) -> Reply {
    reply(asked(state, call).and_then(|asked| state.create(&asked, now)))
}

fn refresh(state: &mut State, call: &Call, now: Now) -> Reply {
    reply(asked(state, call).and_then(|asked| state.renew_access(&asked, now)))
}

fn revoke_access(state: &mut State, call: &Call, now: Now) -> Reply {
    reply(asked(state, call).and_then(|asked| state.revoke_access(&asked, now)))
}

fn revoke(state: &mut State, call: &Call, now: Now) -> Reply {
    reply(asked(state, call).and_then(|asked| state.revoke_refresh(&asked, now)))
}

fn resource(state: &mut State, call: &Call, now: Now) -> Reply {
    let token = jwt::unwrap(call.bearer().unwrap_or_default());
    let described = state.authority.describe(token, now.boot).filter(|found| found.is_access);
    let user = described.map(|found| Reply::ok(members([("user", json!(found.holder.user))])));
    let message = match state.authority.is_expired_access(token, now.boot) {
        true => "The access token is expired.",
        false => "The access token is invalid.",
    };
    reply(user.ok_or((StatusCode::UNAUTHORIZED, message)))
}

fn reply(outcome: Outcome) -> Reply {
    outcome.unwrap_or_else(|(status, message)| {
        let body = members([
            ("success", false.into()),
            ("message", message.into()),
            ("error_details", Value::Null),
        ]);
        Reply::refusal(status, message, body)
    })
}

/// The members of a request with the right app token.
fn asked(state: &State, call: &Call) -> Result<Map<String, Value>, (StatusCode, &'static str)> {
    let expected = state.sites.circle.app_token.as_deref();
    let known = call.bearer().is_some_and(|token| expected.is_none_or(|app| app == token));
    if !known {
        return Err((StatusCode::UNAUTHORIZED, "Your account could not be authenticated."));
    }
    call.json().ok_or(MISSING)
}

impl State {
    fn create(&mut self, asked: &Map<String, Value>, now: Now) -> Outcome {
        let unknown = "Community member not found. Please provide a valid SSO User ID, community \
                       member ID, or email.";
        let id = self.sites.circle.member(asked).ok_or((StatusCode::NOT_FOUND, unknown))?;
        let holder = Holder { user: Some(id.to_string()), client: String::new(), scope: None };
        let issued = self.authority.grant(holder, now.boot);
        let mut body = self.access(&issued.pair.access, now);
        if let Some(refresh) = issued.pair.refresh {
            let ends = self.authority.describe(&refresh, now.boot).and_then(|found| found.expires);
            let ends = ends.map(|end| time(now, end));
            body.extend(ends.map(|end| ("refresh_token_expires_at".to_owned(), end.into())));
            body.insert("refresh_token".to_owned(), (&*refresh).into());
        }
        body.insert("community_member_id".to_owned(), id.into());
        body.insert("community_id".to_owned(), self.sites.circle.community().into());
        Ok(Reply::ok(body))
    }

    fn renew_access(&mut self, asked: &Map<String, Value>, now: Now) -> Outcome {
        let token = text(asked, "refresh_token").ok_or(MISSING)?;
        if self.authority.is_expired(&token, now.boot) {
            let message = "The refresh token is expired. Please generate/get new auth token.";
            return Err((StatusCode::UNAUTHORIZED, message));
        }
        let unknown = |_| (StatusCode::NOT_FOUND, "Refresh token not found.");
        let kept = self.authority.current_access(&token, now.boot);
        let access = match kept.filter(|_| self.sites.circle.keeps_access_tokens) {
            Some(access) => {
                self.authority.totals.refreshes += 1;
                access
            }
            None => {
                let issued = self.authority.refresh(&token, "", None, now.boot);
                issued.map_err(unknown)?.pair.access
            }
        };
        Ok(Reply::ok(self.access(&access, now)))
    }

    fn revoke_access(&mut self, asked: &Map<String, Value>, now: Now) -> Outcome {
        let token = text(asked, "access_token").ok_or(MISSING)?;
        let token = jwt::unwrap(&token);
        let unknown = (StatusCode::UNPROCESSABLE_ENTITY, "The access token not found.");
        if self.authority.describe(token, now.boot).is_none_or(|found| !found.is_access) {
            return Err(unknown);
        }
        self.authority.revoke(token, "").map_err(|_| unknown)?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    fn revoke_refresh(&mut self, asked: &Map<String, Value>, now: Now) -> Outcome {
        let token = text(asked, "refresh_token").ok_or(MISSING)?;
        if self.authority.is_expired(&token, now.boot) {
            return Err((StatusCode::UNAUTHORIZED, "The refresh token is expired."));
        }
        if self.authority.describe(&token, now.boot).is_none_or(|found| found.is_access) {
            return Err((StatusCode::NOT_FOUND, "Refresh token not found."));
        }
        self.authority.end_refresh(&token);
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    /// The members of an answer that say of an access token.
    fn access(&self, token: &str, now: Now) -> Map<String, Value> {
        let described = self.authority.describe(token, now.boot);
        let member: Option<u64> = described
            .as_ref()
            .and_then(|found| found.holder.user.as_deref())
            .and_then(|id| id.parse().ok());
        let ends = described.and_then(|found| found.expires).unwrap_or(now.boot);
        let claims = json!({
            "community_id": self.sites.circle.community(),
            "community_member_id": member,
            "exp": unix(now, ends),
        });
        let mut body = members([("access_token", jwt::wrap(token, &claims).into())]);
        let said = self.expires_in.instead_of(time(now, ends).into());
        body.extend(said.map(|end| ("access_token_expires_at".to_owned(), end)));
        body
    }
}

impl Site {
    fn community(&self) -> u64 {
        self.community.unwrap_or(COMMUNITY)
    }

    /// The id of the member that is asked for. If more than one id is given, the first of these
    /// counts.
    fn member(&self, asked: &Map<String, Value>) -> Option<u64> {
        let (sso, email) = (text(asked, "sso_user_id"), text(asked, "email"));
        let id = asked.get("community_member_id").and_then(Value::as_u64);
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

fn text(members: &Map<String, Value>, name: &str) -> Option<String> {
    members.get(name)?.as_str().map(str::to_owned)
}

fn since_epoch(now: Now, at: BootTime) -> std::time::Duration {
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
    let [_, day, month, year, clock, _] = words[..] else {
        return http;
    };
    let month = "JanFebMarAprMayJunJulAugSepOctNovDec".find(month).unwrap_or_default() / 3 + 1;
    format!("{year}-{month:02}-{day}T{clock}.{:03}Z", since.subsec_millis())
}

const MISSING: (StatusCode, &str) = (StatusCode::NOT_FOUND, "Oops! Missing parameter.");

const COMMUNITY: u64 = 5;

/// The id of every member, as long as none is named.
const ANYBODY: u64 = 77;
