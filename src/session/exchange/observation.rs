//! What operators see of one exchange: its span and its metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tracing::Span;
use tracing::field::Empty;

use super::Payload;
use crate::clock::{BootTime, Now};
use crate::error::{ErrorKind, Refusal};
use crate::key::SessionId;
use crate::log::current_span;
use crate::measurements::{EndedExchange, Measurements};
use crate::provider::{ExchangeError, FailureClass};
use crate::session::context::Context;
use crate::session::machine::Failure;
use crate::session::single_flight::ExchangeId;

/// The outcome of an exchange whose task panicked, or whose runtime ended.
const ABORTED: &str = "aborted";

/// The outcome of a poll for a login that the user has not approved yet.
const PENDING: &str = "pending";

/// Observes one exchange, from its request to its end. It has a span of its own, which follows from
/// the span of the caller that started it: the exchange may outlive that caller.
pub(super) struct Observation {
    caller: Span,
    exchange: ExchangeId,
    span: Span,
    /// `None` until the exchange begins, and after its end.
    running: Option<Running>,
    attempts: AtomicU32,
}

struct Running {
    measurements: Arc<dyn Measurements>,
    session: SessionId,
    kind: ObservedKind,
    began: BootTime,
    outcome: Option<&'static str>,
    status: Option<u16>,
}

/// The kind of an observed exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObservedKind {
    Establish,
    Refresh,
    /// A grant that needs no user.
    Renew,
    Revoke,
}

impl ObservedKind {
    pub(super) fn of(payload: &Payload) -> Self {
        match payload {
            Payload::Refresh => Self::Refresh,
            Payload::Grant(_) => Self::Establish,
            Payload::Renewal(_) => Self::Renew,
        }
    }

    /// The name in spans and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Establish => "establish",
            Self::Refresh => "refresh",
            Self::Renew => "renew",
            Self::Revoke => "revoke",
        }
    }
}

impl Observation {
    /// Call this in the task of the caller. `exchange` is the id of the flight, with which the
    /// spans of waiting callers name this exchange.
    pub(super) fn new(exchange: ExchangeId) -> Self {
        let (caller, span) = (current_span(), Span::none());
        Self { caller, exchange, span, running: None, attempts: AtomicU32::new(0) }
    }

    /// Begins the span, in which the exchange must run.
    pub(super) fn begin(
        &mut self,
        context: &Context,
        session: &SessionId,
        kind: ObservedKind,
    ) -> Span {
        let span = tracing::info_span!(
            parent: None,
            "session_warden.exchange",
            provider = session.provider().as_str(),
            tenant = session.key().tenant().as_str(),
            token_id = session.key().token_id(),
            exchange = %self.exchange,
            kind = kind.name(),
            attempt = Empty,
            outcome = Empty,
            status = Empty,
            duration_ms = Empty
        );
        span.follows_from(&self.caller);
        // Not kept longer, because a span that is held does not close.
        self.caller = Span::none();
        self.running = Some(Running {
            measurements: Arc::clone(&context.measurements),
            session: session.clone(),
            kind,
            began: context.now().boot,
            outcome: None,
            status: None,
        });
        self.span = span.clone();
        span
    }

    /// Notes that a request of this exchange may leave.
    pub(super) fn attempt(&self) {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        self.span.record("attempt", attempt);
    }

    /// Notes why the server gave nothing.
    pub(super) fn failed(&mut self, failed: &ExchangeError) {
        if let Some(running) = &mut self.running {
            let pending = FailureClass::Refused(Refusal::LoginPending);
            let class = failed.class();
            // A poll that the user has not answered is no failure that an operator looks for.
            running.outcome = Some(if class == pending { PENDING } else { class.name() });
            running.status = failed.status();
        }
    }

    /// Notes why no request was sent, unless the cause is already known.
    pub(super) fn held_back(&mut self, failure: &Failure) {
        let name = match failure.error.kind() {
            ErrorKind::Store => "store",
            ErrorKind::Capacity => "capacity",
            ErrorKind::NotEstablished
            | ErrorKind::SignInAgain(_)
            | ErrorKind::RetryLater
            | ErrorKind::Refused(_)
            | ErrorKind::Misconfigured
            | ErrorKind::InvalidInput
            | ErrorKind::Superseded
            | ErrorKind::Deadline
            | ErrorKind::ShuttingDown => "held_back",
        };
        if let Some(running) = &mut self.running {
            running.outcome.get_or_insert(name);
        }
    }

    /// Ends the observation. `outcome` counts unless a failure was noted before.
    pub(super) fn end(&mut self, outcome: &'static str, now: Now) {
        let Some(running) = self.running.take() else { return };
        let outcome = running.outcome.unwrap_or(outcome);
        let took = now.boot.since(running.began);
        self.span.record("outcome", outcome);
        self.span.record("duration_ms", u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        if let Some(status) = running.status {
            self.span.record("status", status);
        }
        // An exchange that was held back takes no time, and would hide how long the others take.
        let is_sent = self.attempts.load(Ordering::Relaxed) > 0;
        running.measure(outcome, is_sent.then_some(took));
    }
}

impl Running {
    fn measure(&self, outcome: &'static str, took: Option<Duration>) {
        let (session, kind) = (&self.session, self.kind.name());
        let ended = EndedExchange { session, kind, outcome, took };
        self.measurements.exchange_ended(&ended);
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.span.record("outcome", ABORTED);
            running.measure(ABORTED, None);
        }
    }
}
