//! Extra Horizon's authentication service, as its API description 2.0.4 and its SDK 8.14.1 have it:
//! oAuth1 and oAuth2 side by side.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Route;
use crate::clock::BootTime;
use crate::testing::FakeAuthServer;
use crate::testing::fake_auth_server::counts::Endpoint;
use crate::testing::fake_auth_server::reply::{Reply, members};
use crate::testing::fake_auth_server::request::Call;

mod login;
mod oauth1;
mod oauth2;
mod records;
mod signature;

/// What is kept beside grants and tokens.
#[derive(Default)]
pub(in super::super) struct Site {
    tokens: Vec<Token>,
    records: Vec<records::Record>,
    sso: HashMap<String, Sso>,
    /// Users with a second factor, and the code that is right.
    factors: HashMap<String, String>,
    challenges: HashMap<String, Challenge>,
    attempts: HashMap<String, Attempts>,
    /// What was signed before: consumer, token, timestamp and nonce.
    seen: HashSet<[String; 4]>,
    made: u64,
}

/// An oAuth1 token.
struct Token {
    id: String,
    user: String,
    consumer: String,
    token: String,
    secret: String,
    created: SystemTime,
    last_used: SystemTime,
}

struct Sso {
    user: String,
    expires: BootTime,
}

/// A login that waits for its second factor.
struct Challenge {
    user: String,
    client: String,
    expires: BootTime,
    failures: u32,
    /// Before when no other attempt is looked at.
    not_before: BootTime,
}

/// Logins that failed.
#[derive(Default)]
struct Attempts {
    failures: u32,
    frozen_until: Option<BootTime>,
}

/// The vendor publishes none of these two; the first is between those of its samples.
const MFA_LIFE: Duration = Duration::from_secs(600);
const SSO_LIFE: Duration = Duration::from_secs(300);

pub(super) fn route(call: &Call) -> Result<Route, StatusCode> {
    let rest = call.path.strip_prefix("/auth/v2").unwrap_or_default();
    let parts: Vec<_> = rest.split('/').skip(1).collect();
    match (&call.method, parts.as_slice()) {
        (&Method::GET, _) if call.path == "/users/v1/me" => {
            Ok(Route::to(Endpoint::Resource, |state, call, now| state.exh_me(call, now)))
        }
        (&Method::POST, ["oauth1", "tokens"]) => Ok(oauth1::password()),
        (&Method::POST, ["oauth1", "tokens", "mfa"]) => Ok(oauth1::second_factor()),
        (&Method::POST, ["oauth1", "ssoTokens", "generate"]) => Ok(oauth1::generate_sso()),
        (&Method::POST, ["oauth1", "ssoTokens", "consume"]) => Ok(oauth1::consume_sso()),
        (&Method::GET, ["oauth1", "tokens"]) => Ok(oauth1::list()),
        (&Method::DELETE, ["oauth1", "tokens", _]) => Ok(oauth1::delete()),
        (&Method::POST, ["oauth2", "tokens"]) => Ok(oauth2::token(call)),
        (&Method::POST, ["oidc", "providers", _, "oAuth2Login"]) => Ok(oauth2::oidc()),
        (&Method::GET, ["oauth2", "tokens" | "refreshTokens"]) => Ok(records::list()),
        (&Method::DELETE, ["oauth2", "tokens" | "refreshTokens", _]) => Ok(records::delete()),
        (_, ["oauth1" | "oauth2", "tokens", ..]) => Err(StatusCode::METHOD_NOT_ALLOWED),
        _ => Err(StatusCode::NOT_FOUND),
    }
}

/// A number is an error of the service, and anything else one of RFC 6749.
pub(super) fn error(code: &str) -> Value {
    match code.parse::<u16>() {
        Ok(number) => Value::Object(fault(number)),
        Err(_) => json!({ "error": code, "description": "canary" }),
    }
}

impl Site {
    pub(in super::super) fn end_tokens(&mut self, ends: impl Fn(&str) -> bool) {
        self.tokens.retain(|token| !ends(&token.user));
        self.sso.retain(|_, sso| !ends(&sso.user));
        self.challenges.retain(|_, challenge| !ends(&challenge.user));
    }

    pub(in super::super) fn has_token(&self, token: &str) -> bool {
        self.tokens.iter().any(|held| held.token == token)
    }

    /// 24 hexadecimal characters that were not given before.
    fn new_id(&mut self) -> String {
        self.made += 1;
        id_of(&format!("record {}", self.made))
    }
}

/// 40 hexadecimal characters that nobody guesses.
fn new_secret() -> String {
    hex(&Sha256::digest(format!("{:?}", std::array::from_fn::<_, 4, _>(|_| fastrand::u64(..)))), 40)
}

/// The id of a user or an application: always the same of the same name.
fn id_of(name: &str) -> String {
    hex(&Sha256::digest(name), 24)
}

fn hex(bytes: &[u8], length: usize) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .chars()
        .take(length)
        .collect()
}

/// RFC 3339 with milliseconds.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Howard Hinnant's civil_from_days.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// An error of the service.
fn refused(status: StatusCode, number: u16) -> Reply {
    Reply::refusal(status, &number.to_string(), fault(number))
}

fn fault(number: u16) -> Map<String, Value> {
    let (name, message) = words(number);
    members([("code", number.into()), ("name", name.into()), ("message", message.into())])
}

/// Names and texts of the API description; those that it has not are ours.
fn words(number: u16) -> (&'static str, &'static str) {
    match number {
        10 => ("NO_PERMISSION_EXCEPTION", "No permission"),
        16 => ("RESOURCE_UNKNOWN_EXCEPTION", "Requested resource is unknown"),
        101 => (
            "APPLICATION_NOT_AUTHENTICATED_EXCEPTION",
            "The X-Forwarded-Application header is required",
        ),
        103 => (
            "APPLICATION_UNKOWN_EXCEPTION",
            "The X-Forwarded-Application is not a valid application",
        ),
        104 => ("USER_NOT_AUTHENTICATED_EXCEPTION", "User is not authenticated"),
        106 => ("AUTHENTICATION_EXCEPTION", "This password email combination is unknown"),
        107 => ("OAUTH_KEY_EXCEPTION", "The consumer key is unknown"),
        108 => ("OAUTH_TOKEN_EXCEPTION", "The consumer key and token combination is unknown"),
        109 => ("OAUTH_SIGNATURE_EXCEPTION", "The oAuth signature is invalid"),
        110 => (
            "DUPLICATE_REQUEST_EXCEPTION",
            "A request with identical parameters was already received",
        ),
        115 => ("AUTHORIZATION_UNKNOWN_EXCEPTION", "The associated authorization is unknown"),
        117 => ("ACCESS_TOKEN_UNKNOWN_EXCEPTION", "The access token is unknown"),
        118 => ("ACCESS_TOKEN_EXPIRED_EXCEPTION", "The access token is expired"),
        119 => ("REFRESH_TOKEN_UNKNOWN_EXCEPTION", "The refresh token is unknown"),
        120 => ("REFRESH_TOKEN_EXPIRED_EXCEPTION", "The refresh token is expired"),
        121 => ("UNSUPPORTED_GRANT_EXCEPTION", "Invalid grant type provided"),
        124 => ("OAUTH2_CLIENT_SECRET_EXCEPTION", "Client is not authorized"),
        129 => ("MFA_REQUIRED_EXCEPTION", "Multifactor authentication is required for this user"),
        130 => ("INVALID_MFA_CODE_EXCEPTION", "The supplied MFA code is incorrect"),
        131 => {
            ("INVALID_MFA_TOKEN_EXCEPTION", "The supplied MFA token is not (or no longer) valid")
        }
        134 => (
            "MFA_REATTEMPT_DELAY_EXCEPTION",
            "The MFA authentication attempt was too soon after a failed attempt",
        ),
        139 => ("OIDC_INVALID_AUTHORIZATION_CODE_EXCEPTION", "The code is not valid"),
        211 => ("LOGIN_TIMEOUT_EXCEPTION", "Login attempt too fast"),
        212 => {
            ("LOGIN_FREEZE_EXCEPTION", "Login timeout in progress, too many failed login attempts")
        }
        213 => (
            "TOO_MANY_FAILED_ATTEMPTS_EXCEPTION",
            "Account is locked due to too many failed login attempts",
        ),
        _ => ("SERVER_EXCEPTION", "There was an internal server error, please try again!"),
    }
}

/// At [`FakeDialect::ExtraHorizon`](super::FakeDialect).
impl FakeAuthServer {
    /// Gives a user a second factor, for which only `code` is right; `None` takes it away.
    ///
    /// Its method has the id `5ec0ndfac70r5ec0ndfac70r`.
    pub fn set_second_factor(&self, user: &str, code: Option<&str>) {
        self.shared.update(|state| {
            let factors = &mut state.sites.extra_horizon.factors;
            match code {
                Some(code) => factors.insert(user.to_owned(), code.to_owned()),
                None => factors.remove(user),
            }
        });
    }
}

/// The id of every user's method.
const METHOD: &str = "5ec0ndfac70r5ec0ndfac70r";
