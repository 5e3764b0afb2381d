//! What a provider is handed to talk to its server, and what dialects share in reading answers.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::error::Category;
use url::Url;
use zeroize::Zeroizing;

use super::{ExchangeError, FailureClass};
use crate::clock::{BootTime, Clock, Now};
use crate::error::{Error, ErrorKind, Refusal};
use crate::key::SessionId;
use crate::policy::{LONGEST_LIFE, SHORTEST_LIFE};
use crate::secret::Secret;
use crate::token::PermissionToken;
use crate::transport::{self, Transport};

/// The wire of one exchange: the way to the server, within the exchange's budget.
pub struct Wire<'a> {
    transport: &'a Transport,
    clock: &'a dyn Clock,
    session: &'a SessionId,
    budget: Budget,
    begun: Now,
    /// When the latest request was sent: lifetimes count from there, not from the answer.
    sent: Mutex<Option<Now>>,
}

/// How long an exchange may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) ends: BootTime,
    pub(crate) repeat_floor: Duration,
    pub(crate) longest_retry_after: Duration,
}

impl<'a> Wire<'a> {
    pub(crate) fn new(
        transport: &'a Transport,
        clock: &'a dyn Clock,
        session: &'a SessionId,
        budget: Budget,
    ) -> Self {
        let begun = clock.now();
        Self { transport, clock, session, budget, begun, sent: Mutex::new(None) }
    }

    /// The session that the exchange is for.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        self.session
    }

    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// Redirects are not followed. The second and every later request of an exchange is sent only
    /// while the budget has [`Policy::repeat_floor`](crate::policy::Policy::repeat_floor) left.
    ///
    /// # Errors
    ///
    /// [`FailureClass::NotSent`], [`FailureClass::Untrusted`] or [`FailureClass::Ambiguous`],
    /// by how far the request got.
    ///
    /// # Cancel safety
    ///
    /// A dropped request may have been processed.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ExchangeError> {
        let now = self.clock.now();
        let left = self.budget.ends.since(now.boot);
        let repeat = self.sent.lock().is_some();
        if left.is_zero() || (repeat && left < self.budget.repeat_floor) {
            let late = Error::new(ErrorKind::RetryLater).about("no time left in the budget");
            return Err(ExchangeError::new(FailureClass::NotSent).with_source(late));
        }
        *self.sent.lock() = Some(now);
        Ok(self.transport.send(request, left).await?)
    }

    /// When a token ends that was issued in the answer to the latest request and lives for so
    /// many seconds. Cut to between [`SHORTEST_LIFE`] and [`LONGEST_LIFE`].
    #[must_use]
    pub fn expires_in(&self, seconds: f64) -> SystemTime {
        let life = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(LONGEST_LIFE);
        let sent = self.sent().wall;
        sent.checked_add(life.clamp(SHORTEST_LIFE, LONGEST_LIFE)).unwrap_or(sent)
    }

    /// When the latest request was sent; when the exchange began, if none was.
    pub(crate) fn sent(&self) -> Now {
        self.sent.lock().unwrap_or(self.begun)
    }

    /// What a status other than 2xx means where the body says nothing better. `Retry-After` is
    /// read here (RFC 9110 section 10.2.3).
    #[must_use]
    pub fn unsuccessful(&self, answer: &Response<Bytes>) -> ExchangeError {
        let wait = self.retry_after(answer);
        let class = match answer.status() {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => FailureClass::NotProcessed,
            StatusCode::TOO_MANY_REQUESTS => FailureClass::Throttled,
            StatusCode::SERVICE_UNAVAILABLE if wait.is_some() => FailureClass::NotProcessed,
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                FailureClass::Misconfigured
            }
            // Never followed: a 307 would take the refresh token to another host.
            status if status.is_redirection() => FailureClass::Misconfigured,
            _ => FailureClass::Ambiguous,
        };
        ExchangeError::new(class).with_status(answer.status()).with_retry_after(wait)
    }

    /// What an answer means that brings no token, by its OAuth 2.0 error code (RFC 6749 section
    /// 5.2) where that says something, and else by its status. `invalid_grant` is what that code
    /// says of what was sent: of a refresh token [`FailureClass::Rejected`], of a grant
    /// [`FailureClass::Refused`].
    #[must_use]
    pub fn refusal(&self, answer: &Response<Bytes>, invalid_grant: FailureClass) -> ExchangeError {
        let failed = self.unsuccessful(answer);
        let Some(code) = error_code(answer.body()) else {
            let class = by_code_or_status(answer.status(), None, failed.class);
            return ExchangeError { class, ..failed };
        };
        let named = class_of_code(&code, invalid_grant);
        let class = by_code_or_status(answer.status(), named, failed.class);
        ExchangeError { class, ..failed }.with_code(&code)
    }

    /// How long the server wants to be left alone: seconds or a date; garbage is nothing, and no
    /// wait is longer than the provider's limits allow.
    #[must_use]
    pub fn retry_after(&self, answer: &Response<Bytes>) -> Option<Duration> {
        let text = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        let wait = match text.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => {
                let at = httpdate::parse_http_date(text).ok()?;
                at.duration_since(self.clock.now().wall).unwrap_or_default()
            }
        };
        Some(wait.min(self.budget.longest_retry_after))
    }
}

impl fmt::Debug for Wire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("session", self.session).finish_non_exhaustive()
    }
}

/// What a provider is handed to put a token on a request.
pub struct Signing<'a> {
    token: &'a PermissionToken,
    token_secret: Option<&'a Secret>,
    now: SystemTime,
}

impl<'a> Signing<'a> {
    pub(crate) fn new(
        token: &'a PermissionToken,
        token_secret: Option<&'a Secret>,
        now: SystemTime,
    ) -> Self {
        Self { token, token_secret, now }
    }

    /// The token to be put on the request.
    #[must_use]
    pub fn token(&self) -> &PermissionToken {
        self.token
    }

    /// The token secret (RFC 5849 section 1.1), where the dialect has one.
    #[must_use]
    pub fn token_secret(&self) -> Option<&Secret> {
        self.token_secret
    }

    /// The time of day, for a signature's timestamp.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.now
    }

    /// Puts the token's own header on the request, in place of one of that name.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the token has no header, because it has characters that none can carry.
    pub fn put_header(&self, request: &mut http::request::Parts) -> Result<(), Error> {
        let Some((name, value)) = self.token.header() else {
            return Err(Error::new(ErrorKind::InvalidInput)
                .about("the token has characters that no header can carry"));
        };
        request.headers.insert(name.clone(), value.clone());
        Ok(())
    }
}

impl fmt::Debug for Signing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signing").field("token", self.token).finish_non_exhaustive()
    }
}

/// The code of an OAuth 2.0 error answer (RFC 6749 section 5.2), if it is one.
fn error_code(body: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Members<'b> {
        #[serde(borrow)]
        error: Cow<'b, str>,
    }
    let Members { error } = members(body).ok()?;
    Some(error)
}

/// What a code says by itself; nothing if it is not known here.
fn class_of_code(code: &str, invalid_grant: FailureClass) -> Option<FailureClass> {
    Some(match code {
        // The second and third are GitHub's words for it.
        "invalid_grant" | "bad_refresh_token" | "bad_verification_code" => invalid_grant,
        "access_denied" => FailureClass::Refused(Refusal::NotPermitted),
        "invalid_request" => FailureClass::InvalidRequest,
        "invalid_client"
        | "incorrect_client_credentials"
        | "unauthorized_client"
        | "invalid_scope"
        | "invalid_target"
        | "unsupported_grant_type"
        // RFC 9449 is not spoken here.
        | "use_dpop_nonce"
        | "invalid_dpop_proof" => FailureClass::Misconfigured,
        "temporarily_unavailable" | "slow_down" => FailureClass::NotProcessed,
        "server_error" => FailureClass::Ambiguous,
        _ => return None,
    })
}

/// Which of the two is believed.
fn by_code_or_status(
    status: StatusCode,
    code: Option<FailureClass>,
    by_status: FailureClass,
) -> FailureClass {
    let final_status = status.is_redirection()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS]
            .contains(&status);
    match code {
        _ if final_status => by_status,
        // What a broken gateway says of a grant is no verdict on it: an answer may exist.
        Some(class) if status.is_server_error() && class != FailureClass::NotProcessed => by_status,
        Some(class) => class,
        None if status == StatusCode::UNAUTHORIZED => FailureClass::Misconfigured,
        None => by_status,
    }
}

/// Reads the JSON object in an answer's body.
///
/// Give `T` no `Debug` if it holds secrets, and have them read into a [`Secret`], whose text is
/// copied from the body to memory that is wiped.
///
/// # Errors
///
/// [`FailureClass::Ambiguous`] if the body is anything else: the server may have done what it was
/// asked. The cause is the place of the fault and never the text.
pub fn object<'b, T: Deserialize<'b>>(answer: &'b Response<Bytes>) -> Result<T, ExchangeError> {
    members(answer.body()).map_err(|unusable| {
        let failed = ExchangeError::new(FailureClass::Ambiguous).with_status(answer.status());
        failed.with_source(unusable)
    })
}

/// An answer that cannot be used for a reason of its content. It may have been a success.
pub(crate) fn unusable(answer: &Response<Bytes>, words: &'static str) -> ExchangeError {
    let failed = ExchangeError::new(FailureClass::Ambiguous).with_status(answer.status());
    failed.with_source(Unusable { words, line: 0, column: 0 })
}

fn members<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Unusable> {
    // Derived code takes an array for an object whose names were left out.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Unusable { words: "the answer is no JSON object", line: 0, column: 0 });
    }
    serde_json::from_slice(body).map_err(|error| Unusable::from(&error))
}

/// What is wrong with a body, and where. A parser's own message quotes what it read, and that may
/// be a token.
#[derive(Debug)]
struct Unusable {
    words: &'static str,
    /// Zero where the fault has no place.
    line: usize,
    column: usize,
}

impl From<&serde_json::Error> for Unusable {
    fn from(error: &serde_json::Error) -> Self {
        let words = match error.classify() {
            Category::Syntax | Category::Io => "the answer is no JSON",
            Category::Eof => "the answer is cut short",
            Category::Data => "the answer has members that cannot be used",
        };
        Self { words, line: error.line(), column: error.column() }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words)?;
        match self.line {
            0 => Ok(()),
            line => write!(f, " (line {line}, column {})", self.column),
        }
    }
}

impl std::error::Error for Unusable {}

/// A URL to which credentials may be sent: `https`, or `http` to a loopback address, which the
/// transport must allow; no user name in it and no fragment.
pub(crate) fn endpoint(text: &str) -> Result<Url, Error> {
    let invalid = || Error::new(ErrorKind::InvalidInput).about("the endpoint's URL");
    let url = Url::parse(text).map_err(|cause| invalid().with_source(cause))?;
    transport::check_endpoint(&url).map_err(|refused| invalid().with_source(refused))?;
    match url.fragment() {
        Some(_) => Err(invalid().with_source("it has a fragment")),
        None => Ok(url),
    }
}

/// An `application/x-www-form-urlencoded` body that is wiped when the request is done.
#[must_use]
pub fn form<'v>(fields: impl IntoIterator<Item = (&'static str, &'v str)>) -> Bytes {
    // Room for every byte to be escaped, so that the text never moves and leaves a copy behind.
    let fields: Vec<_> = fields.into_iter().collect();
    let room = fields.iter().map(|(name, value)| name.len() + escaped_room(value) + 2).sum();
    let mut body = Zeroizing::new(String::with_capacity(room));
    for (name, value) in fields {
        if !body.is_empty() {
            body.push('&');
        }
        body.push_str(name);
        body.push('=');
        escape(value, &mut body);
    }
    Bytes::from_owner(body)
}

/// Appends `text` as a form's value; `to` has [`escaped_room`] for it.
pub(crate) fn escape(text: &str, to: &mut String) {
    to.extend(url::form_urlencoded::byte_serialize(text.as_bytes()));
}

/// The most bytes that `text` has once it is escaped.
pub(crate) fn escaped_room(text: &str) -> usize {
    3 * text.len()
}

#[cfg(test)]
mod tests {
    use futures_util::future::join;

    use super::*;
    use crate::provider::fixture::{Bench, START};
    use crate::transport::peer::Peer;

    const SECOND: Duration = Duration::from_secs(1);

    fn post(peer: &Peer) -> Request<Bytes> {
        Request::post(peer.url("/token")).body(Bytes::from_static(b"canary")).unwrap()
    }

    fn waiting(retry_after: &str) -> Response<Bytes> {
        let answer = Response::builder().status(503).header(header::RETRY_AFTER, retry_after);
        answer.body(Bytes::new()).unwrap()
    }

    #[test]
    fn a_form_escapes_names_and_values_as_the_url_standard_says() {
        let body = form([("grant_type", "password"), ("password", "a b&c=d+é")]);
        assert_eq!(&body[..], b"grant_type=password&password=a+b%26c%3Dd%2B%C3%A9");
        assert!(form([]).is_empty());
    }

    #[test]
    fn a_wait_is_seconds_or_a_date_and_no_longer_than_is_obeyed() {
        let bench = Bench::new();
        let date = |seconds| httpdate::fmt_http_date(Bench::at(seconds));
        let past = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + START - SECOND);
        let ten_years = 10 * 365 * 24 * 3600;
        for (text, seconds) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("600", Some(600)),
            ("601", Some(600)),
            (&ten_years.to_string(), Some(600)),
            (&u64::MAX.to_string(), Some(600)),
            (&date(0), Some(0)),
            (&date(30), Some(30)),
            ("Friday, 15-Jan-27 08:00:30 GMT", Some(30)),
            ("Fri Jan 15 08:00:30 2027", Some(30)),
            (&date(ten_years), Some(600)),
            (&past, Some(0)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("", None),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
            ("7 s", None),
            ("Fri, 32 Jan 2027 08:00:30 GMT", None),
        ] {
            let wait = bench.wire().retry_after(&waiting(text));
            assert_eq!(wait, seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(bench.wire().retry_after(&Response::new(Bytes::new())), None);
        let mut bytes = waiting("7");
        let text = http::HeaderValue::from_bytes(b"7\xff").unwrap();
        bytes.headers_mut().insert(header::RETRY_AFTER, text);
        assert_eq!(bench.wire().retry_after(&bytes), None);
    }

    #[test]
    fn a_date_is_held_against_the_time_of_the_answer() {
        let bench = Bench::new();
        let wire = bench.wire();
        bench.clock.advance(10 * SECOND);
        let answer = waiting(&httpdate::fmt_http_date(Bench::at(30)));
        assert_eq!(wire.retry_after(&answer), Some(20 * SECOND));
    }

    #[test]
    fn a_stated_lifetime_is_kept_between_the_shortest_and_the_longest() {
        let bench = Bench::new();
        let start = Bench::at(0);
        for (seconds, life) in [
            (60.0, 60 * SECOND),
            (1.5, Duration::from_millis(1500)),
            (0.4, SHORTEST_LIFE),
            (0.0, SHORTEST_LIFE),
            (-0.0, SHORTEST_LIFE),
            (-3600.0, SHORTEST_LIFE),
            (f64::NAN, SHORTEST_LIFE),
            (f64::NEG_INFINITY, SHORTEST_LIFE),
            (f64::MIN_POSITIVE, SHORTEST_LIFE),
            (LONGEST_LIFE.as_secs_f64() + 1.0, LONGEST_LIFE),
            (1e300, LONGEST_LIFE),
            (f64::MAX, LONGEST_LIFE),
            (f64::INFINITY, LONGEST_LIFE),
        ] {
            assert_eq!(bench.wire().expires_in(seconds), start + life, "{seconds}");
        }
    }

    #[tokio::test]
    async fn a_lifetime_counts_from_when_the_latest_request_was_sent() {
        let (bench, peer) = (Bench::new(), Peer::start().await);
        let wire = bench.wire();
        bench.clock.advance(SECOND);
        assert_eq!(wire.expires_in(60.0), Bench::at(60), "nothing was sent yet");
        for sent in [1, 3] {
            let slow = async {
                let seen = peer.json(200, "{}").await;
                bench.clock.advance(2 * SECOND);
                seen
            };
            let (answer, _) = join(wire.send(post(&peer)), slow).await;
            answer.unwrap();
            assert_eq!(wire.expires_in(60.0), Bench::at(sent + 60));
        }
    }

    #[tokio::test]
    async fn a_second_request_is_sent_only_while_there_is_time_for_its_answer() {
        let (bench, peer) = (Bench::new(), Peer::start().await);
        let wire = bench.wire();
        // The first may be late; the floor is for repeats.
        bench.clock.advance(5 * SECOND);
        for _ in 0..2 {
            let (answer, _) = join(wire.send(post(&peer)), peer.json(200, "{}")).await;
            answer.unwrap();
        }
        bench.clock.advance(Duration::from_millis(1));
        let failed = wire.send(post(&peer)).await.unwrap_err();
        assert_eq!(failed.class(), FailureClass::NotSent);
        // It was not sent, so lifetimes still count from the one before.
        assert_eq!(wire.expires_in(60.0), Bench::at(65));
    }

    #[tokio::test]
    async fn a_first_request_is_sent_within_the_budget_and_not_after_it() {
        let (bench, peer) = (Bench::new(), Peer::start().await);
        let (wire, late) = (bench.wire(), bench.wire());
        bench.clock.advance(9 * SECOND);
        let (answer, _) = join(wire.send(post(&peer)), peer.json(200, "{}")).await;
        answer.unwrap();
        bench.clock.advance(SECOND);
        let failed = late.send(post(&peer)).await.unwrap_err();
        assert_eq!(failed.class(), FailureClass::NotSent);
    }

    #[tokio::test]
    async fn a_request_that_got_no_answer_counts_as_sent() {
        let (bench, peer) = (Bench::new(), Peer::start().await);
        let wire = bench.wire();
        bench.clock.advance(2 * SECOND);
        let (answer, _) = join(wire.send(post(&peer)), peer.answer("HTTP/1.1 20")).await;
        assert_eq!(answer.unwrap_err().class(), FailureClass::Ambiguous);
        assert_eq!(wire.expires_in(60.0), Bench::at(62));
        bench.clock.advance(4 * SECOND);
        assert_eq!(wire.send(post(&peer)).await.unwrap_err().class(), FailureClass::NotSent);
    }
}
