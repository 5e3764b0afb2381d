//! Verifies oAuth1 signatures, on its own and not with the crate's signer.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::StatusCode;
use serde_json::Value;
use sha1::Sha1;
use url::form_urlencoded;

use super::server_data::ExtraHorizonServer;
use super::service_error::{error_json, service_error};
use crate::testing::fake_auth_server::dialect::RequestContext;
use crate::testing::fake_auth_server::fake_response::FakeResponse;
use crate::testing::fake_auth_server::incoming_request::IncomingRequest;

/// A signature that is right.
pub(super) struct Signed {
    pub(super) consumer: String,
    /// The user of the token, and the index of the token among all, if there is one.
    pub(super) token: Option<(String, usize)>,
}

/// How far a client's clock may be off. The vendor does not publish it.
const SKEW: Duration = Duration::from_secs(300);

/// The secret of every consumer, as long as none is named.
const ANYBODYS_SECRET: &str = "secret";

impl ExtraHorizonServer {
    /// The consumer that signed the request, and the token, if it has one.
    pub(super) fn verify_signature(
        &mut self,
        context: &RequestContext<'_>,
    ) -> Result<Signed, Box<FakeResponse>> {
        let RequestContext { server, request, now } = context;
        let unauthorized = |number| Box::new(service_error(StatusCode::UNAUTHORIZED, number));
        let header = request.authorization("oauth").and_then(fields);
        let header = header.ok_or_else(|| unauthorized(101))?;
        let field = |name: &str| header.get(name).map(String::as_str).unwrap_or_default();
        let consumer = field("oauth_consumer_key");
        let named = server.accounts.secret_of(consumer);
        let secret = match named {
            _ if !server.accounts.names_clients() => ANYBODYS_SECRET,
            Some(secret) => secret.unwrap_or_default(),
            None => return Err(unauthorized(107)),
        };
        let token = Some(field("oauth_token")).filter(|token| !token.is_empty());
        let held = token.map(|token| {
            let found = self.tokens.iter().position(|held| held.token == token);
            found.and_then(|at| self.tokens.get(at).map(|held| (at, held)))
        });
        let held = match held {
            Some(Some((at, held))) if held.consumer == consumer => Some((at, held)),
            Some(_) => return Err(unauthorized(108)),
            None => None,
        };
        let key =
            [secret, held.map_or("", |(_, held)| held.secret.as_str())].map(encoded).join("&");
        if field("oauth_signature_method") != "HMAC-SHA1"
            || !["", "1.0"].contains(&field("oauth_version"))
            || field("oauth_signature") != signature(request, &header, &key)
        {
            return Err(unauthorized(109));
        }
        in_time(field("oauth_timestamp"), now.wall)?;
        let token = held.map(|(at, held)| (held.user.clone(), at));
        let once = ["oauth_consumer_key", "oauth_token", "oauth_timestamp", "oauth_nonce"];
        let once = once.map(|name| field(name).to_owned());
        let consumer = consumer.to_owned();
        if once.last().is_none_or(String::is_empty) || !self.seen.insert(once) {
            return Err(unauthorized(110));
        }
        if let Some(held) = token.as_ref().and_then(|(_, at)| self.tokens.get_mut(*at)) {
            held.last_used = now.wall;
        }
        Ok(Signed { consumer, token })
    }
}

fn in_time(timestamp: &str, wall: SystemTime) -> Result<(), Box<FakeResponse>> {
    let unauthorized = |message: &str| {
        let mut json = error_json(109);
        json.insert("message".to_owned(), Value::from(message));
        Box::new(FakeResponse::refusal(StatusCode::UNAUTHORIZED, "109", json))
    };
    let now = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let Ok(signed_at) = timestamp.parse().map(Duration::from_secs) else {
        return Err(unauthorized("The oauth_timestamp is invalid"));
    };
    if signed_at + SKEW < now {
        let words = "The oauth_timestamp is too far in the past. Please correct your time";
        return Err(unauthorized(words));
    }
    if signed_at > now + SKEW {
        let words = "The oauth_timestamp is too far in the future. Please correct your time";
        return Err(unauthorized(words));
    }
    Ok(())
}

/// The parameters of the header; none if one is there twice, or is not quoted.
fn fields(header: &str) -> Option<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    for field in header.split(',') {
        let (name, value) = field.trim().split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        // A plus sign is no space here.
        let value = format!("x={}", value.replace('+', "%2B"));
        let value = form_urlencoded::parse(value.as_bytes()).map(|(_, value)| value.into_owned());
        if fields.insert(name.to_owned(), value.collect()).is_some() {
            return None;
        }
    }
    Some(fields)
}

fn signature(request: &IncomingRequest, header: &BTreeMap<String, String>, key: &str) -> String {
    let own = header.iter().filter(|(name, _)| *name != "oauth_signature" && *name != "realm");
    let own = own.map(|(name, value)| (name.clone(), value.clone()));
    let query = request.query.as_deref().unwrap_or_default();
    let query = form_urlencoded::parse(query.as_bytes());
    // npm `qs`, which the server is said to use, takes the brackets away.
    let query =
        query.map(|(name, value)| (name.trim_end_matches("[]").to_owned(), value.into_owned()));
    let mut pairs: Vec<_> =
        own.chain(query).map(|(name, value)| (encoded(&name), encoded(&value))).collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let url = format!("http://{}{}", request.header("host").unwrap_or_default(), request.path);
    let base = [request.method.as_str(), &encoded(&url), &encoded(&pairs.join("&"))].join("&");
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(key.as_bytes()) else { return String::new() };
    mac.update(base.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            encoded + char::from(byte).encode_utf8(&mut [0; 4])
        }
        _ => encoded + &format!("%{byte:02X}"),
    })
}
