//! How retries are paced when many sessions get the same answer that names nobody.

use crate::clock::BootTime;
use crate::error::ProviderCode;
use crate::key::SessionId;
use crate::policy::{FAULT_KINDS, FAULT_PACE, FAULT_SESSIONS, FAULT_SPAN};
use crate::provider::{ExchangeError, FailureClass};

/// The answers since the last success that name nobody. A success forgets them all.
#[derive(Default)]
pub(super) struct Pace {
    faults: Vec<Fault>,
    /// When the next retry may go out; none while retries are not paced.
    next: Option<BootTime>,
}

/// One kind of answer, and the sessions that got it lately.
struct Fault {
    status: Option<u16>,
    code: Option<ProviderCode>,
    met: Vec<(SessionId, BootTime)>,
}

impl Pace {
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
        let fault = self.fault(failed);
        fault.met.retain(|(met, at)| met != session && now.since(*at) < FAULT_SPAN);
        fault.met.push((session.clone(), now));
        if fault.met.len() >= FAULT_SESSIONS {
            // Enough to pace by; more need not be remembered.
            fault.met.remove(0);
            self.next.get_or_insert(now.after(FAULT_PACE));
        }
    }

    #[cfg(test)]
    pub(super) fn kinds(&self) -> usize {
        self.faults.len()
    }

    fn fault(&mut self, failed: &ExchangeError) -> &mut Fault {
        let same = |fault: &Fault| (fault.status, &fault.code) == (failed.status, &failed.code);
        let place = self.faults.iter().position(same).unwrap_or_else(|| {
            if self.faults.len() >= FAULT_KINDS {
                self.faults.remove(0);
            }
            let (status, code) = (failed.status, failed.code.clone());
            self.faults.push(Fault { status, code, met: Vec::new() });
            self.faults.len() - 1
        });
        &mut self.faults[place]
    }
}
