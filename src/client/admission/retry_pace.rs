//! How retries are paced when many sessions get the same answer that names nobody.

use crate::clock::BootTime;
use crate::error::ProviderCode;
use crate::key::SessionId;
use crate::policy::{FAULT_KINDS, FAULT_PACE, FAULT_SESSIONS, FAULT_SPAN};
use crate::provider::{ExchangeError, FailureClass};

/// The answers since the last success that name nobody. A success forgets them all.
#[derive(Default)]
pub(super) struct RetryPace {
    kinds: Vec<AnswerKind>,
    /// When the next retry may go out; none while retries are not paced.
    next: Option<BootTime>,
}

/// One kind of answer, and the sessions that got it lately.
struct AnswerKind {
    status: Option<u16>,
    code: Option<ProviderCode>,
    sessions: Vec<(SessionId, BootTime)>,
}

impl RetryPace {
    /// When the next retry may go out, if retries are paced.
    pub(super) fn next(&self) -> Option<BootTime> {
        self.next
    }

    pub(super) fn take(&mut self, now: BootTime) {
        if let Some(next) = &mut self.next {
            *next = now.after(FAULT_PACE);
        }
    }

    /// A refresh of this session failed, perhaps with an answer that names nobody.
    pub(super) fn note(&mut self, failed: &ExchangeError, session: &SessionId, now: BootTime) {
        if !matches!(failed.class(), FailureClass::Unclassified | FailureClass::Misconfigured) {
            return;
        }
        let kind = self.kind(failed);
        kind.sessions.retain(|(sessions, at)| sessions != session && now.since(*at) < FAULT_SPAN);
        kind.sessions.push((session.clone(), now));
        if kind.sessions.len() >= FAULT_SESSIONS {
            // Enough to pace by; more need not be remembered.
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
        let place = self.kinds.iter().position(same).unwrap_or_else(|| {
            if self.kinds.len() >= FAULT_KINDS {
                self.kinds.remove(0);
            }
            let (status, code) = (failed.status, failed.code.clone());
            self.kinds.push(AnswerKind { status, code, sessions: Vec::new() });
            self.kinds.len() - 1
        });
        &mut self.kinds[place]
    }
}
