//! Spatium's authorization service: envelopes, sessions by token id, security tokens. Where the
//! vendor's documents are silent it is as strict as it could be.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{Dialect, RequestContext, Route, jwt_lookalike};
use crate::clock::{BootTime, Now};
use crate::testing::fake_auth_server::authority::{Authority, Holder, Issued};
use crate::testing::fake_auth_server::counts::Endpoint;
use crate::testing::fake_auth_server::fake_response::{FakeResponse, members};
use crate::testing::fake_auth_server::incoming_request::IncomingRequest;
use crate::testing::fake_auth_server::server_state::ServerState;

mod control;

/// Sessions, and what opens them.
#[derive(Default)]
pub(in super::super) struct SpatiumServer {
    /// The user who passed the factor, by security token. A token serves once.
    security_tokens: HashMap<String, String>,
    /// If empty, the server accepts every key.
    keys: HashSet<String>,
    /// The grant of each session, by its token id.
    sessions: HashMap<String, usize>,
    /// Responses repeat another id than the request's.
    confuses_requests: bool,
}

impl Dialect for SpatiumServer {
    fn route(&self, request: &IncomingRequest) -> Result<Route, StatusCode> {
        let path = request.path.strip_prefix("/authorization/v1").unwrap_or(&request.path);
        let (method, route) = match path {
            "/api/security-factor/credentials" => {
                (Method::POST, Route::to(Endpoint::SecurityFactor, Self::factor))
            }
            "/api/permission/issue-by-factors" => {
                (Method::POST, Route::to(Endpoint::IssueByFactors, Self::by_factors))
            }
            "/api/permission/issue-by-key" => {
                (Method::POST, Route::to(Endpoint::IssueByKey, Self::by_key))
            }
            "/api/permission/refresh" => {
                let presented = request.json().and_then(|json| text(&json, REFRESH_TOKEN));
                let route = Route::to(Endpoint::RefreshToken, Self::refresh);
                (Method::POST, route.refreshing(presented))
            }
            "/resource" => (Method::GET, Route::to(Endpoint::Resource, Self::resource)),
            _ => return Err(StatusCode::NOT_FOUND),
        };
        if request.method == method { Ok(route) } else { Err(StatusCode::METHOD_NOT_ALLOWED) }
    }

    /// The vendor documents no error.
    fn error(&self, request: &IncomingRequest, code: &str) -> Value {
        json!({ "requestId": request.header("request-id"), "error": code })
    }

    fn is_active(&self, token: &str, authority: &Authority, now: BootTime) -> bool {
        jwt_lookalike::is_active(token, authority, now)
    }
}

/// The `data` of a success, or status and `error`.
type Outcome = Result<Map<String, Value>, (StatusCode, &'static str)>;

impl SpatiumServer {
    fn factor(&mut self, context: &mut RequestContext<'_>) -> FakeResponse {
        let outcome = body(context).and_then(|body| self.pass_factor(&body, context));
        self.enveloped(context, outcome)
    }

    fn by_factors(&mut self, context: &mut RequestContext<'_>) -> FakeResponse {
        let outcome = body(context).and_then(|body| self.issue_by_factors(&body, context));
        self.enveloped(context, outcome)
    }

    fn by_key(&mut self, context: &mut RequestContext<'_>) -> FakeResponse {
        let outcome = body(context).and_then(|body| self.issue_by_key(&body, context));
        self.enveloped(context, outcome)
    }

    fn refresh(&mut self, context: &mut RequestContext<'_>) -> FakeResponse {
        let outcome = body(context).and_then(|body| renew(&body, context));
        self.enveloped(context, outcome)
    }

    fn resource(&mut self, context: &mut RequestContext<'_>) -> FakeResponse {
        let token = jwt_lookalike::unwrap(context.request.bearer().unwrap_or_default());
        let described = context.server.authority.describe(token, context.now.boot);
        let user = described
            .filter(|found| found.is_access)
            .map(|found| members([("user", json!(found.holder.user))]));
        let outcome = user.ok_or((StatusCode::UNAUTHORIZED, "permission_token_invalid"));
        self.enveloped(context, outcome)
    }

    fn enveloped(&self, context: &RequestContext<'_>, outcome: Outcome) -> FakeResponse {
        let id = match self.confuses_requests {
            true => json!("0b0b0b0b-1111-4222-8333-444444444444"),
            false => json!(context.request.header("request-id")),
        };
        match outcome {
            Ok(data) => FakeResponse::ok(members([("requestId", id), ("data", data.into())]))
                .access_token_at(&["data", "permissionToken", "permissionToken"]),
            Err((status, error)) => {
                let json = members([("requestId", id), ("error", error.into())]);
                FakeResponse::refusal(status, error, json)
            }
        }
    }

    fn pass_factor(
        &mut self,
        body: &Map<String, Value>,
        context: &mut RequestContext<'_>,
    ) -> Outcome {
        let both = text(body, "username").zip(text(body, "password"));
        let (user, password) = both.ok_or(INVALID_REQUEST)?;
        if !context.server.accounts.is_password(&user, &password) {
            return Err((StatusCode::UNAUTHORIZED, "credentials_invalid"));
        }
        let token = context.server.authority.new_token().to_string();
        self.security_tokens.insert(token.clone(), user);
        Ok(members([("securityToken", token.into())]))
    }

    fn issue_by_factors(
        &mut self,
        body: &Map<String, Value>,
        context: &mut RequestContext<'_>,
    ) -> Outcome {
        let tokens = texts(body, "securityTokens").filter(|tokens| !tokens.is_empty());
        let tokens = tokens.ok_or(INVALID_REQUEST)?;
        let known = &self.security_tokens;
        let users: Option<HashSet<_>> = tokens.iter().map(|token| known.get(token)).collect();
        let user = users
            .filter(|users| users.len() == 1)
            .and_then(|users| users.into_iter().next().cloned());
        let user = user.ok_or((StatusCode::UNAUTHORIZED, "security_token_invalid"))?;
        let session = session(body)?;
        tokens.iter().for_each(|token| drop(self.security_tokens.remove(token)));
        Ok(self.issue(user, session, context))
    }

    fn issue_by_key(
        &mut self,
        body: &Map<String, Value>,
        context: &mut RequestContext<'_>,
    ) -> Outcome {
        let key = text(body, "merchantKey").ok_or(INVALID_REQUEST)?;
        if !self.keys.is_empty() && !self.keys.contains(&key) {
            return Err((StatusCode::UNAUTHORIZED, "merchant_key_invalid"));
        }
        // The authority gives refresh tokens to users alone, and here a merchant has one too.
        Ok(self.issue(MERCHANT.to_owned(), session(body)?, context))
    }

    /// A session in the place of the one with this id.
    fn issue(
        &mut self,
        user: String,
        (id, permissions): (String, String),
        context: &mut RequestContext<'_>,
    ) -> Map<String, Value> {
        let holder = Holder { user: Some(user), client: String::new(), scope: Some(permissions) };
        let authority = &mut context.server.authority;
        let (grant, issued) = authority.new_grant(holder, context.now.boot);
        if let Some(former) = self.sessions.insert(id, grant) {
            authority.end_grant(former);
        }
        pair(&issued, context.server, context.now)
    }
}

/// The members of a valid request.
fn body(context: &RequestContext<'_>) -> Outcome {
    let request = context.request;
    let has_id = request.header("request-id").is_some_and(|id| uuid::Uuid::try_parse(id).is_ok());
    request.json().filter(|_| has_id).ok_or(INVALID_REQUEST)
}

fn renew(body: &Map<String, Value>, context: &mut RequestContext<'_>) -> Outcome {
    let RequestContext { server, now, .. } = context;
    let token = text(body, REFRESH_TOKEN).ok_or(INVALID_REQUEST)?;
    let issued = server.authority.refresh(jwt_lookalike::unwrap(&token), "", None, now.boot);
    let refused = |_| (StatusCode::UNAUTHORIZED, "permission_refresh_token_invalid");
    Ok(pair(&issued.map_err(refused)?, server, *now))
}

/// Both tokens, each with its end, in the response and in the token itself.
fn pair(issued: &Issued, server: &ServerState, now: Now) -> Map<String, Value> {
    let access = (&*issued.pair.access, "permissionToken");
    let refresh = issued.pair.refresh.as_deref().map(|token| (token, REFRESH_TOKEN));
    let tokens = [Some(access), refresh].into_iter().flatten();
    tokens
        .map(|(token, name)| {
            (name.to_owned(), token_object(token, name, issued.scope.as_deref(), (server, now)))
        })
        .collect()
}

/// The object of one token: the token with its claims, and its end.
fn token_object(
    token: &str,
    name: &str,
    permissions: Option<&str>,
    (server, now): (&ServerState, Now),
) -> Value {
    let described = server.authority.describe(token, now.boot);
    let user = described.as_ref().and_then(|found| found.holder.user.as_deref());
    let user = user.filter(|user| *user != MERCHANT);
    let permissions: Vec<_> = permissions.unwrap_or_default().split_whitespace().collect();
    let expires = described.as_ref().and_then(|found| found.expires);
    let expires = expires.map(|end| unix(now, end));
    let mut claims = claims(user, &permissions, unix(now, now.boot));
    let shown = expires.and_then(|end| server.expires_in.replacement_for(end.into()));
    if let (Some(end), Some(claims)) = (expires, claims.as_object_mut()) {
        claims.insert("exp".to_owned(), end.into());
    }
    let token = jwt_lookalike::wrap(token, &claims);
    let mut members = members([(name, token.into()), ("issuer", "authorization-service".into())]);
    members.extend(shown.map(|end| ("expiresAt".to_owned(), end)));
    Value::from(members)
}

/// The claims of a token that does not end.
fn claims(user: Option<&str>, permissions: &[&str], issued_at: u64) -> Value {
    json!({
        "magic": "permissionTokenSchema",
        "accountId": user,
        "merchantId": "11111111-2222-4333-8444-555555555555",
        "permissions": permissions,
        "iat": issued_at,
        "iss": "authorization-service",
    })
}

/// The id and the permissions, with spaces between them, of a request for a session.
fn session(body: &Map<String, Value>) -> Result<(String, String), (StatusCode, &'static str)> {
    let both = text(body, "tokenId").zip(texts(body, "permissions"));
    let both = both.map(|(id, permissions)| (id, permissions.join(" ")));
    both.ok_or(INVALID_REQUEST)
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

const INVALID_REQUEST: (StatusCode, &str) = (StatusCode::BAD_REQUEST, "invalid_request");

const REFRESH_TOKEN: &str = "permissionRefreshToken";

/// The holder of a session that was issued for a key.
const MERCHANT: &str = "merchant";
