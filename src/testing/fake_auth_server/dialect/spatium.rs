//! Spatium's authorization service: envelopes, sessions by token id, security tokens. Where the
//! vendor's documents are silent it is as strict as it could be.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{Handle, Route, jwt};
use crate::clock::{BootTime, Now};
use crate::testing::fake_auth_server::FakeAuthServer;
use crate::testing::fake_auth_server::authority::{Holder, Issued};
use crate::testing::fake_auth_server::counts::Endpoint;
use crate::testing::fake_auth_server::reply::{Reply, members};
use crate::testing::fake_auth_server::request::Call;
use crate::testing::fake_auth_server::shared::State;

/// Sessions, and what opens them.
#[derive(Default)]
pub(in super::super) struct Site {
    /// The user who passed the factor. They serve once.
    security_tokens: HashMap<String, String>,
    /// Empty lets every key in.
    keys: HashSet<String>,
    /// The grant of each session, by its token id.
    sessions: HashMap<String, usize>,
    /// Answers repeat another id than the request's.
    confuses_requests: bool,
}

/// Spatium.
impl FakeAuthServer {
    /// A security token, as if this user had passed a factor. It establishes one session, once.
    #[must_use]
    pub fn security_token(&self, user: &str) -> String {
        self.shared.update(|state| state.security_token(user))
    }

    /// A merchant's key. As soon as one is named, others are refused.
    pub fn add_merchant_key(&self, key: &str) {
        self.shared.update(|state| state.sites.spatium.keys.insert(key.to_owned()));
    }

    /// Whether answers repeat another id than the request's, as if a proxy had mixed them up.
    pub fn confuse_requests(&self, confuse: bool) {
        self.shared.update(|state| state.sites.spatium.confuses_requests = confuse);
    }

    /// The token ids of all sessions that were ever established, in order of the alphabet.
    #[must_use]
    pub fn token_ids(&self) -> Vec<String> {
        let mut ids: Vec<_> =
            self.shared.read(|state| state.sites.spatium.sessions.keys().cloned().collect());
        ids.sort_unstable();
        ids
    }
}

pub(super) fn route(call: &Call) -> Result<Route, StatusCode> {
    let path = call.path.strip_prefix("/authorization/v1").unwrap_or(&call.path);
    let (method, endpoint, handle): (_, _, Handle) = match path {
        "/api/security-factor/credentials" => (Method::POST, Endpoint::SecurityFactor, factor),
        "/api/permission/issue-by-factors" => (Method::POST, Endpoint::IssueByFactors, by_factors),
        "/api/permission/issue-by-key" => (Method::POST, Endpoint::IssueByKey, by_key),
        "/api/permission/refresh" => (Method::POST, Endpoint::RefreshToken, refresh),
        "/resource" => (Method::GET, Endpoint::Resource, resource),
        _ => return Err(StatusCode::NOT_FOUND),
    };
    if call.method != method {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let presented = || text(&call.json()?, "permissionRefreshToken");
    let presented = (endpoint == Endpoint::RefreshToken).then(presented).flatten();
    Ok(Route::to(endpoint, handle).refreshing(presented))
}

/// The vendor documents no error.
pub(super) fn error(call: &Call, code: &str) -> Value {
    json!({ "requestId": call.header("request-id"), "error": code })
}

/// The `data` of a success, or status and `error`.
type Outcome = Result<Map<String, Value>, (StatusCode, &'static str)>;

fn factor(state: &mut State, call: &Call, _: Now) -> Reply {
    let outcome = asked(call).and_then(|asked| state.pass_factor(&asked));
    enveloped(state, call, outcome)
}

fn by_factors(state: &mut State, call: &Call, now: Now) -> Reply {
    let outcome = asked(call).and_then(|asked| state.issue_by_factors(&asked, now));
    enveloped(state, call, outcome)
}

fn by_key(state: &mut State, call: &Call, now: Now) -> Reply {
    let outcome = asked(call).and_then(|asked| state.issue_by_key(&asked, now));
    enveloped(state, call, outcome)
}

fn refresh(state: &mut State, call: &Call, now: Now) -> Reply {
    let outcome = asked(call).and_then(|asked| state.renew(&asked, now));
    enveloped(state, call, outcome)
}

fn resource(state: &mut State, call: &Call, now: Now) -> Reply {
    let token = jwt::unwrap(call.bearer().unwrap_or_default());
    let holder = state.authority.describe(token, now.boot).filter(|found| found.is_access);
    let user = holder.map(|found| members([("user", json!(found.holder.user))]));
    let outcome = user.ok_or((StatusCode::UNAUTHORIZED, "permission_token_invalid"));
    enveloped(state, call, outcome)
}

/// The members of a request, if it is one.
fn asked(call: &Call) -> Result<Map<String, Value>, (StatusCode, &'static str)> {
    let invalid = (StatusCode::BAD_REQUEST, "invalid_request");
    let has_id = call.header("request-id").is_some_and(|id| uuid::Uuid::try_parse(id).is_ok());
    call.json().filter(|_| has_id).ok_or(invalid)
}

fn enveloped(state: &State, call: &Call, outcome: Outcome) -> Reply {
    let id = match state.sites.spatium.confuses_requests {
        true => json!("0b0b0b0b-1111-4222-8333-444444444444"),
        false => json!(call.header("request-id")),
    };
    match outcome {
        Ok(data) => Reply::ok(members([("requestId", id), ("data", data.into())]))
            .access_token_at(&["data", "permissionToken", "permissionToken"]),
        Err((status, error)) => {
            Reply::refusal(status, error, members([("requestId", id), ("error", error.into())]))
        }
    }
}

impl State {
    fn security_token(&mut self, user: &str) -> String {
        let token = self.authority.new_token().to_string();
        self.sites.spatium.security_tokens.insert(token.clone(), user.to_owned());
        token
    }

    fn pass_factor(&mut self, asked: &Map<String, Value>) -> Outcome {
        let both = text(asked, "username").zip(text(asked, "password"));
        let (user, password) = both.ok_or((StatusCode::BAD_REQUEST, "invalid_request"))?;
        if !self.registry.is_password(&user, &password) {
            return Err((StatusCode::UNAUTHORIZED, "credentials_invalid"));
        }
        Ok(members([("securityToken", self.security_token(&user).into())]))
    }

    fn issue_by_factors(&mut self, asked: &Map<String, Value>, now: Now) -> Outcome {
        let tokens = texts(asked, "securityTokens").filter(|tokens| !tokens.is_empty());
        let tokens = tokens.ok_or((StatusCode::BAD_REQUEST, "invalid_request"))?;
        let known = &self.sites.spatium.security_tokens;
        let users: Option<HashSet<_>> = tokens.iter().map(|token| known.get(token)).collect();
        let user = users
            .filter(|users| users.len() == 1)
            .and_then(|users| users.into_iter().next().cloned());
        let user = user.ok_or((StatusCode::UNAUTHORIZED, "security_token_invalid"))?;
        let session = session(asked)?;
        tokens.iter().for_each(|token| drop(self.sites.spatium.security_tokens.remove(token)));
        Ok(self.issue(Some(user), session, now))
    }

    fn issue_by_key(&mut self, asked: &Map<String, Value>, now: Now) -> Outcome {
        let key = text(asked, "merchantKey");
        let key = key.ok_or((StatusCode::BAD_REQUEST, "invalid_request"))?;
        let keys = &self.sites.spatium.keys;
        if !keys.is_empty() && !keys.contains(&key) {
            return Err((StatusCode::UNAUTHORIZED, "merchant_key_invalid"));
        }
        Ok(self.issue(None, session(asked)?, now))
    }

    /// A session in the place of the one with this id.
    fn issue(
        &mut self,
        user: Option<String>,
        (id, permissions): (String, String),
        now: Now,
    ) -> Map<String, Value> {
        // The authority gives refresh tokens to users alone, and here a merchant has one too.
        let user = user.unwrap_or_else(|| MERCHANT.to_owned());
        let holder = Holder { user: Some(user), client: String::new(), scope: Some(permissions) };
        let (grant, issued) = self.authority.new_grant(holder, now.boot);
        if let Some(former) = self.sites.spatium.sessions.insert(id, grant) {
            self.authority.end_grant(former);
        }
        self.pair(&issued, now)
    }

    fn renew(&mut self, asked: &Map<String, Value>, now: Now) -> Outcome {
        let token = text(asked, "permissionRefreshToken");
        let token = token.ok_or((StatusCode::BAD_REQUEST, "invalid_request"))?;
        let issued = self.authority.refresh(jwt::unwrap(&token), "", None, now.boot);
        let refused = |_| (StatusCode::UNAUTHORIZED, "permission_refresh_token_invalid");
        Ok(self.pair(&issued.map_err(refused)?, now))
    }

    /// Both tokens, each with its end, in the answer and in the token itself.
    fn pair(&self, issued: &Issued, now: Now) -> Map<String, Value> {
        let access = (&*issued.pair.access, "permissionToken");
        let refresh = issued.pair.refresh.as_deref().map(|token| (token, "permissionRefreshToken"));
        let named = [Some(access), refresh].into_iter().flatten().map(|(token, name)| {
            let described = self.authority.describe(token, now.boot);
            let user = described.as_ref().and_then(|found| found.holder.user.as_deref());
            let user = user.filter(|user| *user != MERCHANT);
            let permissions = issued.scope.as_deref().unwrap_or_default().split_whitespace();
            let permissions: Vec<_> = permissions.collect();
            let expires = described.as_ref().and_then(|found| found.expires);
            let expires = expires.map(|end| unix(now, end));
            let mut claims = json!({
                "magic": "permissionTokenSchema",
                "accountId": user,
                "merchantId": "11111111-2222-4333-8444-555555555555",
                "permissions": permissions,
                "iat": unix(now, now.boot),
                "iss": "authorization-service",
            });
            let said = expires.and_then(|end| self.expires_in.instead_of(end.into()));
            if let (Some(end), Some(claims)) = (expires, claims.as_object_mut()) {
                claims.insert("exp".to_owned(), end.into());
            }
            let mut members = members([
                (name, jwt::wrap(token, &claims).into()),
                ("issuer", "authorization-service".into()),
            ]);
            members.extend(said.map(|end| ("expiresAt".to_owned(), end)));
            (name.to_owned(), Value::from(members))
        });
        named.collect()
    }
}

/// The id and the permissions, with spaces between them, of a request for a session.
fn session(asked: &Map<String, Value>) -> Result<(String, String), (StatusCode, &'static str)> {
    let both = text(asked, "tokenId").zip(texts(asked, "permissions"));
    let both = both.map(|(id, permissions)| (id, permissions.join(" ")));
    both.ok_or((StatusCode::BAD_REQUEST, "invalid_request"))
}

fn text(members: &Map<String, Value>, name: &str) -> Option<String> {
    members.get(name)?.as_str().map(str::to_owned)
}

fn texts(members: &Map<String, Value>, name: &str) -> Option<Vec<String>> {
    let items = members.get(name)?.as_array()?;
    items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

/// In seconds since 1970.
fn unix(now: Now, at: BootTime) -> u64 {
    now.wall_at(at).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Who has a session that was issued for a key.
const MERCHANT: &str = "merchant";
