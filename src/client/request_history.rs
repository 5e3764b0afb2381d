//! How the requests of one client have ended lately, and the condition of the server that follows
//! from that.

use std::time::{Duration, SystemTime};

use super::exchange_kind::ExchangeKind;
use crate::clock::{BootTime, Now};
use crate::error::Error;
use crate::health::Condition;
use crate::policy::{REJECTED_IN_A_ROW, UNANSWERED_IN_A_ROW};
use crate::provider::{ExchangeError, FailureClass};

/// The results of the latest requests. A client that replaces another one continues its history.
#[derive(Clone, Default)]
pub(crate) struct RequestHistory {
    pub(crate) condition: Condition,
    /// When the condition last changed.
    pub(crate) since: Option<SystemTime>,
    pub(crate) last_success: Option<SystemTime>,
    pub(crate) last_failure: Option<LastFailure>,
    /// Failures since the last success.
    pub(crate) failures: u64,
    unanswered: u32,
    /// Refreshes that the server answered in a row without a success.
    rejected: u32,
    /// The server rejected the client itself, and not refresh tokens.
    rejects_client: bool,
    /// Since when the server has not worked.
    failing_since: Option<BootTime>,
}

/// The latest failure.
#[derive(Clone)]
pub(crate) struct LastFailure {
    pub(crate) at: SystemTime,
    pub(crate) class: FailureClass,
    /// As callers get it, without its source.
    pub(crate) error: Error,
}

/// A change of the condition.
#[derive(Clone, Debug)]
pub(crate) struct ConditionChange {
    pub(crate) to: Condition,
    /// The failure that changed it; `None` if the server works again.
    pub(crate) cause: Option<Error>,
    /// How long the server has not worked.
    pub(crate) failing_for: Duration,
}

/// What the admission knows of a request beside its result.
pub(super) struct Reported {
    pub(super) at: Now,
    pub(super) kind: ExchangeKind,
    /// The client is stopped because the server rejects it.
    pub(super) stopped: bool,
    pub(super) throttled_until: BootTime,
}

impl RequestHistory {
    /// Notes a result. Returns the new condition if it has changed to one that operators must know.
    pub(super) fn note(
        &mut self,
        reported: &Reported,
        result: Result<(), &ExchangeError>,
    ) -> Option<ConditionChange> {
        let to = match result {
            Ok(()) => self.succeeded(reported),
            Err(failed) if failed.is_of_this_process() => return None,
            Err(failed) => self.failed(reported, failed),
        };
        self.change(to, reported.at)
    }

    fn succeeded(&mut self, reported: &Reported) -> Condition {
        self.last_success = Some(reported.at.wall);
        (self.failures, self.unanswered, self.rejected) = (0, 0, 0);
        let throttled =
            self.condition == Condition::Throttled && reported.at.boot < reported.throttled_until;
        // A client that is stopped for one tenant still succeeds for the others.
        if throttled || reported.stopped { self.condition } else { Condition::Working }
    }

    fn failed(&mut self, reported: &Reported, failed: &ExchangeError) -> Condition {
        let class = failed.class();
        if !matches!(class, FailureClass::Refused(_)) {
            self.failures = self.failures.saturating_add(1);
            let error = failed.caller_error();
            self.last_failure = Some(LastFailure { at: reported.at.wall, class, error });
        }
        let own = reported.kind == ExchangeKind::Own;
        match class {
            FailureClass::InvalidClient => {
                self.rejects_client = true;
                return Condition::Rejecting;
            }
            FailureClass::Throttled => return Condition::Throttled,
            FailureClass::Untrusted => {
                return self.unless_stopped(reported, Condition::Unreachable);
            }
            FailureClass::NotSent | FailureClass::NotProcessed | FailureClass::Ambiguous => {
                self.unanswered = self.unanswered.saturating_add(1);
                if self.unanswered >= UNANSWERED_IN_A_ROW {
                    return self.unless_stopped(reported, Condition::Unreachable);
                }
            }
            FailureClass::Unclassified | FailureClass::Misconfigured => self.rejected(own),
            FailureClass::Rejected | FailureClass::Refused(_) => {
                self.rejected(own && class == FailureClass::Rejected);
                let over = match self.condition {
                    Condition::Unreachable => true,
                    Condition::Rejecting => self.rejects_client && !reported.stopped,
                    Condition::Unknown | Condition::Working | Condition::Throttled => false,
                };
                if over && self.rejected < REJECTED_IN_A_ROW {
                    return Condition::Working;
                }
            }
        }
        if self.rejected >= REJECTED_IN_A_ROW { Condition::Rejecting } else { self.condition }
    }

    /// Notes an answer of a server that can be reached. It counts if it was to a refresh.
    fn rejected(&mut self, counts: bool) {
        self.unanswered = 0;
        self.rejected = self.rejected.saturating_add(u32::from(counts));
    }

    /// While the server rejects the client, only the probes are sent; what they meet besides says
    /// less than the rejection.
    fn unless_stopped(&self, reported: &Reported, to: Condition) -> Condition {
        if reported.stopped { self.condition } else { to }
    }

    fn change(&mut self, to: Condition, at: Now) -> Option<ConditionChange> {
        let before = self.condition;
        if to == before {
            return None;
        }
        (self.condition, self.since) = (to, Some(at.wall));
        if to == Condition::Working {
            self.rejects_client = false;
            let failing_since = self.failing_since.take()?;
            let failing_for = at.boot.since(failing_since);
            return Some(ConditionChange { to, cause: None, failing_for });
        }
        let failing_since = *self.failing_since.get_or_insert(at.boot);
        let cause = self.last_failure.as_ref().map(|failure| failure.error.clone());
        Some(ConditionChange { to, cause, failing_for: at.boot.since(failing_since) })
    }
}

#[cfg(test)]
mod tests;
