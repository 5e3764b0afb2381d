//! Paces retries when many sessions get the same answer that blames neither the client nor a
//! session.

use std::time::Duration;

use super::Rejected;
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind, ExchangeOutcome, ProviderCode};
use crate::key::SessionId;
use crate::policy::{FAULT_KINDS, FAULT_PACE, FAULT_SESSIONS, FAULT_SPAN};
use crate::provider::{ExchangeError, FailureClass};

/// The answers since the last success that blame neither the client nor a session. A success
/// forgets them all.
#[derive(Default)]
pub(super) struct RetryPace {
    kinds: Vec<AnswerKind>,
    /// When the next retry may be sent; `None` while retries are not paced.
    next: Option<BootTime>,
}

/// One kind of answer, and the sessions that got it lately.
struct AnswerKind {
    status: Option<u16>,
    code: Option<ProviderCode>,
    sessions: Vec<(SessionId, BootTime)>,
}

impl RetryPace {
    /// When the next retry may be sent, if retries are paced.
    pub(super) fn next(&self) -> Option<BootTime> {
        self.next
    }

    /// Takes the next retry. There is one in each `pace`.
    pub(super) fn take(&mut self, now: BootTime, pace: Duration) {
        if let Some(next) = &mut self.next {
            *next = now.after(pace);
        }
    }

    /// Notes that a refresh of this session failed.
    pub(super) fn note(&mut self, failed: &ExchangeError, session: &SessionId, now: BootTime) {
        if !matches!(failed.class(), FailureClass::Unclassified | FailureClass::Misconfigured) {
            return;
        }
        let kind = self.kind(failed);
        kind.sessions.retain(|(sessions, at)| sessions != session && now.since(*at) < FAULT_SPAN);
        kind.sessions.push((session.clone(), now));
        if kind.sessions.len() >= FAULT_SESSIONS {
            // Enough sessions to pace by; no more need to be remembered.
            kind.sessions.remove(0);
            self.next.get_or_insert(now.after(FAULT_PACE));
        }
    }

    #[cfg(test)]
    pub(super) fn kinds(&self) -> usize {
        self.kinds.len()
    }

    fn kind(&mut self, failed: &ExchangeError) -> &mut AnswerKind {
        let same = |kind: &AnswerKind| (kind.status, &kind.code) == (failed.status, &failed.code);
        let index = self.kinds.iter().position(same).unwrap_or_else(|| {
            if self.kinds.len() >= FAULT_KINDS {
                self.kinds.remove(0);
            }
            let (status, code) = (failed.status, failed.code.clone());
            self.kinds.push(AnswerKind { status, code, sessions: Vec::new() });
            self.kinds.len() - 1
        });
        &mut self.kinds[index]
    }
}

/// The rejection of an exchange that must wait for its turn among the paced ones.
pub(super) fn paced(until: BootTime) -> Rejected {
    let error = Error::new(ErrorKind::RetryLater)
        .about(
            "the server sends many sessions responses that are not understood, so the crate \
             retries them slowly",
        )
        .with_outcome(ExchangeOutcome::NotSent);
    Rejected { error, until, paced: true }
}
