//! The sender through which a provider sends requests to its server.

mod error_description;
mod request_secrets;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{StatusCode, header};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::error_description::SentParts;
use super::completion::Completion;
use super::http_message::{ErrorResponse, HttpRequest, HttpResponse, by_code_or_status};
use super::resources::Resources;
use super::{ExchangeError, Exchanged, FailureClass};
use crate::clock::{BootTime, Clock, Now, timeout};
use crate::crash::{CrashPoint, Steps};
use crate::error::{Endpoint, Error, ErrorKind};
use crate::key::SessionId;
use crate::log::LogLimit;
use crate::policy::{LONGEST_LIFE, SHORTEST_LIFE};
use crate::ticket::{Purpose, Ticket};
use crate::transport::{SendError, SendState, Times};

/// Sends the requests of one exchange to the server, within the time that the exchange has. See
/// [a complete provider](super#a-complete-provider).
pub struct HttpSender<'a> {
    resources: &'a Resources,
    clock: Arc<dyn Clock>,
    session: Option<&'a SessionId>,
    /// What credentials are bound to, and the client's id there.
    issuer: (&'a str, &'a str),
    budget: Budget,
    begun: Now,
    requests: Mutex<Requests>,
    steps: Steps,
}

/// The requests that one sender has sent.
#[derive(Default)]
struct Requests {
    /// The latest request; it may not have been sent yet.
    latest: Option<Arc<SendState>>,
    /// When the last request before it was sent.
    sent: Option<Now>,
}

impl Requests {
    /// When the latest request was sent. Lifetimes count from then and not from the response.
    fn sent(&self) -> Option<Now> {
        self.latest.as_ref().and_then(|sending| sending.sent()).or(self.sent)
    }
}

/// The time limits of an exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Every request must be sent before this.
    pub(crate) ends: BootTime,
    /// No request may be sent after this: too little of the lease is left then, and another process
    /// may take the claim over.
    pub(crate) send_until: Option<BootTime>,
    /// How long the response may take after the request was sent.
    pub(crate) answer: Duration,
    pub(crate) min_repeat_time: Duration,
    pub(crate) longest_retry_after: Duration,
    /// How long a caller may take to answer a challenge.
    pub(crate) challenge: Duration,
}

impl<'a> HttpSender<'a> {
    pub(crate) fn new(
        resources: &'a Resources,
        clock: Arc<dyn Clock>,
        session: Option<&'a SessionId>,
        issuer: (&'a str, &'a str),
        budget: Budget,
    ) -> Self {
        let begun = clock.now();
        let (requests, steps) = (Mutex::default(), Steps::default());
        Self { resources, clock, session, issuer, budget, begun, requests, steps }
    }

    /// Stops at the crash points of `steps`. It is for the requests with the session's credentials,
    /// and not for those of [`Provider::prepare`](super::Provider::prepare).
    pub(crate) fn stepping(self, steps: Steps) -> Self {
        Self { steps, ..self }
    }

    /// Sends nothing after `until`, when too little of the lease is left.
    pub(crate) fn sending_until(mut self, until: BootTime) -> Self {
        self.budget.send_until = Some(until);
        self
    }

    pub(super) fn log_limit(&self) -> &LogLimit {
        &self.resources.log_limit
    }

    /// The session of the exchange; None in a call that needs no session.
    #[must_use]
    pub fn session(&self) -> Option<&SessionId> {
        self.session
    }

    /// The time of day, for a signature's timestamp.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.clock.now().wall
    }

    /// The time since boot, which also counts while the machine is suspended.
    pub(super) fn boot_time(&self) -> BootTime {
        self.clock.now().boot
    }

    /// The output of `future`; None if `wait` passes first.
    pub(super) async fn timeout<T>(
        &self,
        wait: Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        timeout(&*self.clock, wait, future).await
    }

    /// Sends a request and reads the whole response, with any status. The response keeps the
    /// request's endpoint, so that an error made from it can name the endpoint.
    ///
    /// It follows no redirects. It sends the second and every later request of an exchange only
    /// if at least [`Policy::min_repeat_time`](crate::policy::Policy::min_repeat_time) of the
    /// exchange's time is left. It waits for the response for
    /// [`Policy::answer_timeout`](crate::policy::Policy::answer_timeout) after the last byte of the
    /// request was sent.
    ///
    /// # Errors
    ///
    /// [`FailureClass::NotSent`], [`FailureClass::Untrusted`] or [`FailureClass::Ambiguous`],
    /// depending on how far the request got. [`FailureClass::Misconfigured`] if the transport's
    /// rules refuse the address: then nothing is sent.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server may have processed the request.
    pub async fn send(&self, request: HttpRequest) -> Exchanged<HttpResponse> {
        let now = self.clock.now();
        let left = self.budget.ends.since(now.boot);
        let repeat = self.requests.lock().latest.is_some();
        if left.is_zero() || (repeat && left < self.budget.min_repeat_time) {
            let late = Error::new(ErrorKind::RetryLater)
                .about("no time is left for another request within `Policy::attempt_budget`");
            return Err(ExchangeError::new(FailureClass::NotSent).with_source(late));
        }
        let endpoint = Endpoint::of(request.uri());
        let request = Completion::apply(request, now.wall)?;
        let sent = SentParts::of_logged(&request);
        let sending = self.next_request();
        let between = || self.steps.at(CrashPoint::Sent);
        let times = Times { attempt: left, answer: self.budget.answer };
        match self.resources.transport.send(request, &sending, times, between).await {
            Ok(mut response) => {
                response.extensions_mut().insert(endpoint);
                if let Some(sent) = sent {
                    sent.log_description(self.session, &response);
                }
                Ok(response)
            }
            Err(fault) => Err(ExchangeError::from(fault).at(Some(endpoint))),
        }
    }

    fn next_request(&self) -> Arc<SendState> {
        let sending = SendState::new(Arc::clone(&self.clock), self.budget.send_until);
        let mut requests = self.requests.lock();
        requests.sent = requests.sent();
        requests.latest = Some(Arc::clone(&sending));
        sending
    }

    /// When a token expires that has this lifetime, in seconds. The lifetime counts from the time
    /// when the latest request was sent, and is limited to between 1 s and 10 years.
    #[must_use]
    pub fn expires_in(&self, seconds: f64) -> SystemTime {
        let life = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(LONGEST_LIFE);
        let sent = self.sent().wall;
        sent.checked_add(life.clamp(SHORTEST_LIFE, LONGEST_LIFE)).unwrap_or(sent)
    }

    /// When a token expires for which the server gives a time of day. The lifetime is the
    /// difference between that time and the response's `Date` (RFC 9110 section 6.6.1). Both come
    /// from the server's clock, so the clocks of server and backend may differ. The lifetime is
    /// limited as by [`expires_in`](Self::expires_in).
    #[must_use]
    pub fn expires_at(&self, response: &HttpResponse, at: SystemTime) -> SystemTime {
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let left = at.duration_since(date.unwrap_or(self.sent().wall));
        self.expires_in(left.unwrap_or_default().as_secs_f64())
    }

    /// When the last byte of the latest request was sent; if none was sent, when the exchange
    /// began.
    pub(crate) fn sent(&self) -> Now {
        self.requests.lock().sent().unwrap_or(self.begun)
    }

    /// The failure for a status other than 2xx, if the body gives no better reason. It has the
    /// response's `Retry-After` (RFC 9110 section 10.2.3).
    #[must_use]
    pub fn status_error(&self, response: &HttpResponse) -> ExchangeError {
        let wait = self.retry_after(response);
        let class = match response.status() {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => FailureClass::NotProcessed,
            StatusCode::TOO_MANY_REQUESTS => FailureClass::Throttled,
            StatusCode::SERVICE_UNAVAILABLE if wait.is_some() => FailureClass::NotProcessed,
            // Redirects are never followed: a 307 would take the refresh token to another host.
            status if status.is_redirection() || status.is_client_error() => {
                FailureClass::Unclassified
            }
            _ => FailureClass::Ambiguous,
        };
        ExchangeError::of_response(class, response).with_retry_after(wait)
    }

    /// The failure for a response without a token: by its OAuth 2.0 error code (RFC 6749 section
    /// 5.2) if the crate knows the code, else by its status. `invalid_grant` is the class for that
    /// code: [`FailureClass::Rejected`] if the request had a refresh token,
    /// [`FailureClass::Refused`] if it had a grant.
    ///
    /// The code is the member `error` of a JSON object, or the field `error` of a form if the
    /// content type allows a form, or the whole body of a 4xx. A 2xx with that member, or with
    /// `"ok": false`, is a failed request, like a 4xx.
    #[must_use]
    pub fn oauth_error(
        &self,
        response: &HttpResponse,
        invalid_grant: FailureClass,
    ) -> ExchangeError {
        let failed = self.status_error(response);
        let body = ErrorResponse::of(response);
        let named = body.class(response.status(), invalid_grant);
        let silent = if body.failed && response.status().is_success() {
            FailureClass::Unclassified
        } else {
            failed.class
        };
        let class = by_code_or_status(response.status(), named, silent);
        let failed = ExchangeError { class, ..failed };
        match body.code {
            Some(code) => failed.with_code(&code),
            None => failed,
        }
    }

    /// The failure that a response means. `named` is the class for the dialect's own code in the
    /// body. A status that is final, or that a gateway sends, takes precedence over it.
    pub(super) fn classified(
        &self,
        response: &HttpResponse,
        named: Option<FailureClass>,
    ) -> ExchangeError {
        let failed = self.status_error(response);
        let class = by_code_or_status(response.status(), named, failed.class);
        ExchangeError { class, ..failed }
    }

    /// When a challenge in the latest response expires: after `lifetime`, and no later than
    /// [`Policy::challenge_ttl`](crate::policy::Policy::challenge_ttl) allows.
    #[must_use]
    pub fn challenge_ends(&self, lifetime: Option<Duration>) -> SystemTime {
        let most = self.budget.challenge;
        self.sent().wall + lifetime.map_or(most, |lifetime| lifetime.min(most))
    }

    /// Seals the data that is needed to answer a challenge. The ticket is valid only for this
    /// session, and expires after `lifetime` or after
    /// [`Policy::challenge_ttl`](crate::policy::Policy::challenge_ttl), whichever is shorter. The
    /// caller may answer in another request, after a restart, or at another process with the same
    /// key ring. The guide has an
    /// [example of a second factor](crate::guide::providers#a-second-factor).
    ///
    /// # Errors
    ///
    /// [`FailureClass::NotSent`] if `payload` is too large for a ticket, or there is no session.
    pub fn seal<T: Serialize>(&self, payload: &T, lifetime: Option<Duration>) -> Exchanged<Ticket> {
        let session = self.session.ok_or_else(no_session)?;
        let expires = self.challenge_ends(lifetime);
        let (authority, client) = self.issuer;
        let sealed = Sealed { authority, client, payload };
        Ok(self.resources.tickets.issue(Purpose::Challenge, session, expires, &sealed)?)
    }

    /// Returns the data that [`seal`](Self::seal) put into the ticket. A wrong answer does not use
    /// the ticket up, because only the server can count the attempts.
    ///
    /// # Errors
    ///
    /// The caller gets `Refused(ChallengeExpired)` if the ticket has expired, and `InvalidInput` if
    /// it belongs to another session or is not genuine.
    pub fn open<T: DeserializeOwned>(&self, ticket: &Ticket) -> Exchanged<T> {
        let session = self.session.ok_or_else(no_session)?;
        let now = self.clock.now().wall;
        let opened = self.resources.tickets.verify(ticket, Purpose::Challenge, now)?;
        opened.for_session(session)?;
        let (authority, client) = self.issuer;
        let sealed = opened.read::<Unsealed<T>>()?.payload;
        if sealed.authority != authority || sealed.client != client {
            return Err(Error::new(ErrorKind::InvalidInput)
                .about(
                    "the provider's settings have changed since the challenge; begin the login \
                     again",
                )
                .into());
        }
        Ok(sealed.payload)
    }

    /// How long the server asks the client to wait: `Retry-After`, in seconds or as a date. None if
    /// the response has no such header, or the crate cannot read it. The wait is limited by
    /// [`ProviderLimits`](crate::policy::ProviderLimits).
    #[must_use]
    pub fn retry_after(&self, response: &HttpResponse) -> Option<Duration> {
        let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
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

impl fmt::Debug for HttpSender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSender").field("session", &self.session).finish_non_exhaustive()
    }
}

/// What a challenge's ticket holds. Authority and client are in it, so that the answer to one
/// server's challenge never goes to another server.
#[derive(Serialize)]
struct Sealed<'p, T> {
    authority: &'p str,
    client: &'p str,
    payload: &'p T,
}

/// The same, read back.
#[derive(Deserialize)]
struct Unsealed<T> {
    authority: String,
    client: String,
    payload: T,
}

impl From<SendError> for ExchangeError {
    fn from(fault: SendError) -> Self {
        let class = match &fault {
            SendError::NotSent(_) | SendError::Withheld(_) => FailureClass::NotSent,
            SendError::Address(_) => FailureClass::Misconfigured,
            SendError::Untrusted(_) => FailureClass::Untrusted,
            SendError::ClientRefused(_) => FailureClass::InvalidClient,
            SendError::Ambiguous(_) | SendError::Unanswered | SendError::TooLarge => {
                FailureClass::Ambiguous
            }
        };
        Self::new(class).with_source(fault)
    }
}

fn no_session() -> Error {
    Error::new(ErrorKind::InvalidInput)
        .about("a call without a session cannot have a challenge; make the call on a session")
}
