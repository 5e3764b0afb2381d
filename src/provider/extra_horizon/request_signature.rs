//! Signatures of requests (RFC 5849 section 3) with HMAC-SHA1, in the `Authorization` header.
//!
//! The signature covers method, URL and query as they are sent. It does not cover a JSON body:
//! there is no `oauth_body_hash` here, and RFC 5849 section 3.4.1.3.1 includes only forms.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::{Method, header, request};
use sha1::Sha1;
use url::Url;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::provider::http_message::{self, percent};
use crate::seal;
use crate::secret::Secret;

/// The application, and the token that it signs with.
pub(super) struct Signer<'a> {
    pub(super) consumer_key: &'a str,
    pub(super) consumer_secret: &'a str,
    /// Token and token secret; None before the session has a token.
    pub(super) token: Option<(&'a str, &'a str)>,
}

/// The values that make each signature unique.
pub(super) struct NonceAndTime<'a> {
    pub(super) nonce: &'a str,
    /// In whole seconds since 1970.
    pub(super) timestamp: u64,
}

impl Signer<'_> {
    /// Signs `request` with a new nonce. It replaces a signature that the request has.
    ///
    /// It normalizes the URL as an HTTP client does, so that the signed URL is the sent one.
    pub(super) fn sign(
        &self,
        request: &mut request::Parts,
        now: std::time::SystemTime,
    ) -> Result<()> {
        if is_form(&request.headers) {
            return Err(invalid(
                "the request's body is a form, whose fields cannot be signed; send JSON",
            ));
        }
        let url = Url::parse(&request.uri.to_string());
        let url = url.map_err(|cause| {
            invalid(
                "the request's URI is not a whole URL, which the signature needs; give scheme and \
                 host",
            )
            .with_source(cause)
        })?;
        let since = now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        let nonce = nonce()?;
        let once = NonceAndTime { nonce: &nonce, timestamp: since.as_secs() };
        let value = self.header(&request.method, &url, &once);
        let value = http_message::secret_header(&value).map_err(|cause| {
            invalid("the signature does not fit into a header; check the consumer key")
                .with_source(cause)
        })?;
        if request.uri != url.as_str() {
            request.uri = as_uri(&url)?;
        }
        request.headers.insert(header::AUTHORIZATION, value);
        Ok(())
    }

    /// The value of the `Authorization` header (RFC 5849 section 3.5.1), without a realm.
    pub(super) fn header(&self, method: &Method, url: &Url, once: &NonceAndTime<'_>) -> Secret {
        let timestamp = once.timestamp.to_string();
        let signature = self.signature(method, url, once, &timestamp);
        let mut fields = self.fields(once.nonce, &timestamp);
        fields.push(("oauth_signature", &signature));
        fields.sort_unstable();
        let room = fields.iter().map(|(name, value)| name.len() + 3 * value.len() + 5);
        let mut text = Zeroizing::new(String::with_capacity(room.sum::<usize>() + SCHEME.len()));
        text.push_str(SCHEME);
        for (at, (name, value)) in fields.into_iter().enumerate() {
            text.push_str(if at == 0 { "" } else { ", " });
            text.push_str(name);
            text.push_str("=\"");
            encode(value.as_bytes(), &mut |piece| text.push_str(piece));
            text.push('"');
        }
        Secret::from(text.as_str())
    }

    /// RFC 5849 section 3.4.2, in base64.
    fn signature(
        &self,
        method: &Method,
        url: &Url,
        once: &NonceAndTime<'_>,
        timestamp: &str,
    ) -> String {
        let fields = self.fields(once.nonce, timestamp);
        let mut mac = keyed(&self.key());
        base_string(method, url, &fields, &mut |piece| mac.update(piece.as_bytes()));
        STANDARD.encode(mac.finalize().into_bytes())
    }

    /// The key. It has its ampersand also without a token (RFC 5849 section 3.4.2).
    fn key(&self) -> Zeroizing<String> {
        let secret = self.token.map_or("", |(_, secret)| secret);
        let room = 3 * (self.consumer_secret.len() + secret.len()) + 1;
        let mut key = Zeroizing::new(String::with_capacity(room));
        encode(self.consumer_secret.as_bytes(), &mut |piece| key.push_str(piece));
        key.push('&');
        encode(secret.as_bytes(), &mut |piece| key.push_str(piece));
        key
    }

    /// The protocol's parameters, without the signature.
    fn fields<'f>(&'f self, nonce: &'f str, timestamp: &'f str) -> Vec<(&'static str, &'f str)> {
        let mut fields = vec![
            ("oauth_consumer_key", self.consumer_key),
            ("oauth_nonce", nonce),
            ("oauth_signature_method", "HMAC-SHA1"),
            ("oauth_timestamp", timestamp),
            ("oauth_version", "1.0"),
        ];
        fields.extend(self.token.map(|(token, _)| ("oauth_token", token)));
        fields
    }
}

const SCHEME: &str = "OAuth ";

/// Gives the pieces of the signature base string (RFC 5849 section 3.4.1) to `take`.
pub(super) fn base_string(
    method: &Method,
    url: &Url,
    fields: &[(&str, &str)],
    take: &mut impl FnMut(&str),
) {
    encode(method.as_str().to_ascii_uppercase().as_bytes(), take);
    take("&");
    // `Url` leaves out the default port, and writes scheme and host in lower case.
    for part in [url.scheme(), "://", url.host_str().unwrap_or_default()] {
        encode(part.as_bytes(), take);
    }
    if let Some(port) = url.port() {
        encode(format!(":{port}").as_bytes(), take);
    }
    encode(url.path().as_bytes(), take);
    take("&");
    let query = url.query().unwrap_or_default();
    let query = query.split('&').filter(|piece| !piece.is_empty()).map(|piece| {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        (percent::decoded(name.as_bytes()), percent::decoded(value.as_bytes()))
    });
    let own = fields.iter().map(|(name, value)| (wiped(name.as_bytes()), wiped(value.as_bytes())));
    let pairs = query.chain(own).map(|(name, value)| (encoded(&name), encoded(&value)));
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_unstable_by(|(name, value), (other, another)| {
        (name.as_str(), value.as_str()).cmp(&(other.as_str(), another.as_str()))
    });
    for (at, (name, value)) in pairs.iter().enumerate() {
        take(if at == 0 { "" } else { "%26" });
        encode(name.as_bytes(), take);
        take("%3D");
        encode(value.as_bytes(), take);
    }
}

/// Gives the pieces of the encoded text (RFC 5849 section 3.6) to `take`.
pub(super) fn encode(bytes: &[u8], take: &mut impl FnMut(&str)) {
    percent::encoded(bytes).for_each(take);
}

fn encoded(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(3 * bytes.len()));
    encode(bytes, &mut |piece| text.push_str(piece));
    text
}

fn wiped(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(bytes.to_vec())
}

/// The URL that was signed, as the request sends it.
fn as_uri(url: &Url) -> Result<http::Uri> {
    let sent = url.as_str().parse::<http::Uri>();
    sent.map_err(|cause| invalid("the request's URI cannot be read as a URL").with_source(cause))
}

fn keyed(key: &str) -> Hmac<Sha1> {
    // HMAC accepts a key of any length, so this error never occurs.
    let empty = |_| Hmac::new(&hmac::digest::Key::<Hmac<Sha1>>::default());
    Hmac::new_from_slice(key.as_bytes()).unwrap_or_else(empty)
}

/// 32 letters and digits, as in the vendor's SDK.
fn nonce() -> Result<String> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut nonce = String::with_capacity(32);
    while nonce.len() < 32 {
        let random: [u8; 48] = seal::random()?;
        // Bytes above the last multiple of 62 would make some characters more likely.
        let fair = random.iter().filter(|byte| **byte < 248);
        let letters = fair.filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        nonce.extend(letters.map(|letter| char::from(*letter)).take(32 - nonce.len()));
    }
    Ok(nonce)
}

/// Whether RFC 5849 section 3.4.1.3.1 counts the body among the parameters.
fn is_form(headers: &http::HeaderMap) -> bool {
    http_message::is_of_type(headers, http_message::form::FORM)
}

fn invalid(words: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput).about(words)
}
