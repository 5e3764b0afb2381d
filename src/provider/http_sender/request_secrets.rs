//! The secrets of a request, and their removal from a text in which the server may repeat them.

mod folded_text;
mod json_strings;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use zeroize::Zeroizing;

use self::folded_text::FoldedText;
use crate::provider::http_message::{form, is_of_type, percent};

/// A shorter secret cannot be masked: it may be a part of any word.
const SHORTEST_MASKED: usize = 4;

/// So many characters in a row of a longer secret are masked: servers cut tokens that they repeat.
const PIECE: usize = 8;

/// What no request needs to hide: names of members of a body or a query.
const PUBLIC: &[&str] = &[
    "actor_token_type",
    "audience",
    "client_assertion_type",
    "client_id",
    "code_challenge_method",
    "grant_type",
    "oauth_consumer_key",
    "oauth_signature_method",
    "oauth_timestamp",
    "oauth_version",
    "redirect_uri",
    "requested_token_type",
    "resource",
    "response_type",
    "scope",
    "subject_token_type",
    "token_type_hint",
];

/// What names a user, who may have a short name. It is masked, and a short name hides nothing.
const USER_NAMES: &[&str] = &["email", "login_hint", "username"];

/// Headers that no request needs to hide, unless they are marked sensitive.
const PUBLIC_HEADERS: &[&str] = &[
    "accept",
    "accept-language",
    "content-length",
    "content-type",
    "host",
    "user-agent",
    "x-client-id",
    "x-grant-type",
    "x-redirect-uri",
    "x-scope",
];

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The secrets of one request, as they are looked for in a text.
pub(super) struct RequestSecrets {
    /// As they are, and with all escapes decoded.
    forms: [Masks; 2],
}

impl RequestSecrets {
    /// None if a secret is too short to be masked, or the request has a body of a type that is not
    /// known here: then the text may hold a secret.
    pub(super) fn of(uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let mut found = Found::default();
        for (name, value) in headers {
            found.header(name, value);
        }
        found.form(uri.query().unwrap_or_default().as_bytes())?;
        let body = body.trim_ascii();
        if is_of_type(headers, "application/json") && !body.is_empty() {
            json_strings::each(body, &mut |name, text| found.member(name, text)).ok()?;
        } else if is_of_type(headers, form::FORM) || body.is_empty() {
            found.form(body)?;
        } else {
            return None;
        }
        let forms = [false, true].map(|decodes| Masks::of(&found.values, decodes));
        (!found.has_short).then_some(Self { forms })
    }

    /// The first characters of the text, at most `most`, with `mask` in the place of each secret.
    pub(super) fn masked(&self, text: &str, mask: &str, most: usize) -> String {
        let mut hidden = vec![false; text.len()];
        for (masks, decodes) in self.forms.iter().zip([false, true]) {
            masks.mark(&FoldedText::new(text, decodes), &mut hidden);
        }
        let mut shown = String::new();
        let mut is_masked = false;
        for (at, c) in text.char_indices() {
            let is_hidden = hidden.get(at) == Some(&true);
            match (is_hidden, is_masked) {
                (true, true) => {}
                (true, false) => shown.push_str(mask),
                (false, _) => shown.push(c),
            }
            is_masked = is_hidden;
            if shown.len() > most * 4 + mask.len() {
                break;
            }
        }
        shown.chars().take(most).collect()
    }
}

/// What was found in a request.
#[derive(Default)]
struct Found {
    values: Vec<Zeroizing<String>>,
    /// Whether a secret is too short to be masked.
    has_short: bool,
}

impl Found {
    fn secret(&mut self, text: &str) {
        let is_short = FoldedText::new(text, true).characters() < SHORTEST_MASKED;
        self.has_short |= is_short && !text.is_empty();
        self.name(text);
    }

    /// A text that is masked if it is long enough.
    fn name(&mut self, text: &str) {
        self.values.push(Zeroizing::new(text.to_owned()));
    }

    /// A member of a body or a query.
    fn member(&mut self, name: &str, text: &str) {
        if USER_NAMES.contains(&name) {
            self.name(text);
        } else if !PUBLIC.contains(&name) {
            self.secret(text);
        }
    }

    /// The members of a form or a query; None if one of them cannot be read.
    fn form(&mut self, fields: &[u8]) -> Option<()> {
        std::str::from_utf8(&percent::decoded(fields)).ok()?;
        for (name, text) in form::fields(fields) {
            self.member(&name, &text);
        }
        Some(())
    }

    fn header(&mut self, name: &HeaderName, value: &HeaderValue) {
        let bytes = value.as_bytes();
        // A server may take the bytes for UTF-8 or for Latin-1.
        let latin = (!bytes.is_ascii()).then(|| latin(bytes));
        let texts = [std::str::from_utf8(bytes).ok(), latin.as_ref().map(|text| text.as_str())];
        for text in texts.into_iter().flatten() {
            if [header::AUTHORIZATION, header::PROXY_AUTHORIZATION].contains(name) {
                self.credentials(text);
            } else if value.is_sensitive() {
                self.secret(text);
            } else if !PUBLIC_HEADERS.contains(&name.as_str()) {
                self.name(text);
            }
        }
    }

    /// The credentials of an `Authorization` header (RFC 9110 section 11.6.2).
    fn credentials(&mut self, text: &str) {
        let (scheme, credentials) = text.split_once(' ').unwrap_or(("", text));
        let credentials = credentials.trim();
        if scheme.eq_ignore_ascii_case("OAuth") {
            // RFC 5849 section 3.5.1.
            for pair in credentials.split(',') {
                let (name, value) = pair.split_once('=').unwrap_or(("", pair));
                self.member(name.trim(), value.trim().trim_matches('"'));
            }
            return;
        }
        self.secret(credentials);
        if scheme.eq_ignore_ascii_case("Basic") {
            self.user_and_password(credentials);
        }
    }

    /// User and password (RFC 7617), which a client of OAuth 2.0 escapes (RFC 6749 section 2.3.1).
    fn user_and_password(&mut self, encoded: &str) {
        let mut bytes = Zeroizing::new(Vec::with_capacity(encoded.len()));
        if BASE64.decode_vec(encoded, &mut bytes).is_err() {
            return;
        }
        let pair = match std::str::from_utf8(&bytes) {
            Ok(pair) => Zeroizing::new(pair.to_owned()),
            Err(_) => latin(&bytes),
        };
        let (user, password) = pair.split_once(':').unwrap_or(("", &pair));
        self.name(user);
        self.secret(password);
        if let Ok(password) = std::str::from_utf8(&percent::decoded(password.as_bytes())) {
            self.secret(password);
        }
    }
}

/// Bytes of Latin-1 as text.
fn latin(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    text.extend(bytes.iter().map(|byte| char::from(*byte)));
    text
}

/// The secrets in one form.
struct Masks {
    /// All pieces of the longer ones, sorted.
    pieces: Zeroizing<Vec<[u8; PIECE]>>,
    /// The shorter ones as a whole.
    whole: Vec<FoldedText>,
}

impl Masks {
    fn of(values: &[Zeroizing<String>], decodes: bool) -> Self {
        let folded = values.iter().map(|value| FoldedText::new(value, decodes));
        let folded = folded.filter(|value| value.characters() >= SHORTEST_MASKED);
        let (long, whole): (Vec<_>, Vec<_>) =
            folded.partition(|value| value.bytes().len() >= PIECE);
        // The full capacity at once: growing would leave a copy behind that is not wiped.
        let room = long.iter().map(|value| value.bytes().len()).sum();
        let mut pieces = Zeroizing::new(Vec::with_capacity(room));
        for value in &long {
            let windows = value.bytes().windows(PIECE);
            pieces.extend(windows.filter_map(|piece| <[u8; PIECE]>::try_from(piece).ok()));
        }
        pieces.sort_unstable();
        Self { pieces, whole }
    }

    /// Marks where the text holds a secret.
    fn mark(&self, text: &FoldedText, hidden: &mut [bool]) {
        for (at, piece) in text.bytes().windows(PIECE).enumerate() {
            if self.pieces.binary_search_by(|known| known[..].cmp(piece)).is_ok() {
                text.mark(at..at + PIECE, hidden);
            }
        }
        for secret in &self.whole {
            let length = secret.bytes().len();
            for (at, part) in text.bytes().windows(length).enumerate() {
                if part == secret.bytes() {
                    text.mark(at..at + length, hidden);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const MASK: &str = "[redacted]";

    fn secrets_of(request: http::request::Builder, body: &[u8]) -> Option<RequestSecrets> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        RequestSecrets::of(&parts.uri, &parts.headers, body)
    }

    #[track_caller]
    fn assert_masked(request: http::request::Builder, body: &[u8], text: &str, expected: &str) {
        let shown = secrets_of(request, body).unwrap().masked(text, MASK, 200);
        assert_eq!(shown, expected, "{text}");
    }

    fn form() -> http::request::Builder {
        Request::post("https://as.example/token").header("content-type", form::FORM)
    }

    fn json() -> http::request::Builder {
        Request::post("/login").header("content-type", "application/json; charset=utf-8")
    }

    fn sensitive(bytes: &[u8]) -> HeaderValue {
        let mut value = HeaderValue::from_bytes(bytes).unwrap();
        value.set_sensitive(true);
        value
    }

    #[test]
    fn values_of_public_parameters_and_short_user_names_stay() {
        let body = b"grant_type=refresh_token&scope=openid&client_id=backend&username=ada&empty=";
        let text = "refresh_token openid backend ada";
        assert_masked(form(), body, text, text);
        let body = br#"{"grant_type":"password","username":"adalovelace","keep":true,"n":42}"#;
        assert_masked(json(), body, "password of adalovelace 42", "password of [redacted] 42");
    }

    #[test]
    fn a_part_of_a_secret_is_masked_from_the_length_of_a_piece_on() {
        let body = b"refresh_token=abcdefghijklmnop";
        for (text, expected) in [
            ("no abcdefghijklmnop", "no [redacted]"),
            ("no abcdefgh...", "no [redacted]..."),
            ("no xijklmnop", "no x[redacted]"),
            ("no abcdefghxijklmnop", "no [redacted]x[redacted]"),
            ("no ABCD EFGH\\IJ", "no [redacted]"),
            ("no abcdefg", "no abcdefg"),
        ] {
            assert_masked(form(), body, text, expected);
        }
    }

    #[test]
    fn a_shorter_secret_is_masked_as_a_whole_and_the_shortest_ones_mask_everything() {
        assert_masked(form(), b"code=1234", "no 1234, 123", "no [redacted], 123");
        assert_masked(form(), b"code=a%2Fb%26", "no A%2fb%26, a/b&", "no [redacted], [redacted]");
        for body in [&b"code=123"[..], b"code=%C3%A4%C3%B6", b"code=++++%20"] {
            assert!(secrets_of(form(), body).is_none());
        }
        assert!(secrets_of(json(), br#"{"pin":"123"}"#).is_none());
        assert!(secrets_of(form().header("x-token", sensitive(b"abc")), b"").is_none());
        assert!(secrets_of(form().header("authorization", "Basic YTpi"), b"").is_none());
    }

    #[test]
    fn every_string_of_a_json_body_is_masked_however_deep_it_is() {
        let body =
            br#"{"a":[{"password":"p\"ss\u00e9w\u006frd"}],"pins":["4711"],"number":123456}"#;
        let text = r#"{"password":"p\"sséword"}, 4711, 123456"#;
        let expected = r#"{"password":"[redacted]"}, [redacted], [redacted]"#;
        assert_masked(json(), body, text, expected);
    }

    #[test]
    fn a_body_that_cannot_be_read_masks_everything() {
        for body in [&b"{"[..], b"[1", b"{}x"] {
            assert!(secrets_of(json(), body).is_none());
        }
        assert!(secrets_of(form(), b"a=%ff").is_none());
        assert!(secrets_of(Request::get("/?a=%ff"), b"").is_none());
        assert!(secrets_of(Request::post("/"), b"a=b").is_none());
        let xml = Request::post("/").header("content-type", "application/xml");
        assert!(secrets_of(xml, b"<a/>").is_none());
        assert!(secrets_of(Request::get("/"), b"").is_some());
    }

    #[test]
    fn credentials_of_headers_are_masked_encoded_and_decoded() {
        let basic = || Request::get("/").header("authorization", "basic YmFja2VuZDpzJTJCZWNyZXQ");
        assert_masked(basic(), b"", "YmFja2VuZDpzJTJCZWNyZXQ=", "[redacted]=");
        assert_masked(
            basic(),
            b"",
            "backend, s%2Becret, s+ecret",
            "[redacted], [redacted], [redacted]",
        );
        let bearer = Request::get("/").header("authorization", "Bearer abcdefghij");
        assert_masked(bearer, b"", "the Bearer token abcdefghij", "the Bearer token [redacted]");
        let oauth =
            "OAuth oauth_nonce=\"abcd1234\", oauth_token=\"a%2Fbcd\", oauth_version=\"1.0\"";
        let oauth = Request::get("/").header("authorization", oauth);
        assert_masked(
            oauth,
            b"",
            "oauth_token a/bcd, abcd1234",
            "oauth_token [redacted], [redacted]",
        );
    }

    #[test]
    fn sensitive_and_unknown_headers_are_masked_and_common_ones_are_not() {
        let request = Request::get("/")
            .header("accept", "application/json")
            .header("x-client-id", "backend")
            .header("x-api-key", "key-4711")
            .header("x-api-version", "3")
            .header("x-auth-password", sensitive(b"gr\xfc\xdfgott"));
        let text = "application/json backend key-4711 3 grüßgott";
        let expected = "application/json backend [redacted] 3 [redacted]";
        assert_masked(request, b"", text, expected);
        let utf8 = Request::get("/").header("x-client-id", sensitive("schlüssel".as_bytes()));
        assert_masked(utf8, b"", "schlüssel", "[redacted]");
    }

    #[test]
    fn a_secret_is_masked_whatever_is_around_it_and_nothing_panics() {
        let config =
            proptest::test_runner::Config { failure_persistence: None, ..Default::default() };
        proptest::proptest!(config, |(before: String, secret in "\\PC{4,20}", after: String)| {
            let body = crate::provider::http_message::form_body([("token", secret.as_str())]);
            let text = format!("{before}{secret}{after}");
            if let Some(secrets) = secrets_of(form(), &body) {
                let shown = secrets.masked(&text, MASK, 1000);
                proptest::prop_assert!(shown.contains(MASK), "{shown}");
                proptest::prop_assert!(MASK.contains(&secret) || !shown.contains(&secret));
            }
        });
    }
}
