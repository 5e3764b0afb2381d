//! Log lines, and the limit for lines of one kind.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::Span;

use crate::clock::{BootTime, Clock};
use crate::key::ProviderName;
use crate::measurements::{Measurements, Unmeasured};
use crate::policy::{LOG_BURST, LOG_KINDS, LOG_PAUSE};

/// Logs a line of at most [`LOG_BURST`] of its kind, and later one in each [`LOG_PAUSE`]. A kind is
/// one message for one provider. The field `suppressed` says how many lines of the kind were left
/// out before this one.
macro_rules! log_limited {
    ($limit:expr, $level:ident, $provider:expr, $message:expr $(, $($field:tt)+)?) => {{
        let provider: Option<&$crate::key::ProviderName> = $provider;
        if let Some(suppressed) = $limit.admit(provider, $message) {
            let provider = provider.map($crate::key::ProviderName::as_str);
            let parent = $crate::log::current_span().id();
            tracing::$level!(parent: parent, provider, $($($field)+,)? suppressed, "{}", $message)
        }
    }};
}

/// The same about a session. Provider, tenant and token id are separate fields, because one text of
/// all three could name two sessions.
macro_rules! log_session {
    ($limit:expr, $level:ident, $id:expr, $message:expr $(, $($field:tt)+)?) => {{
        let id: &$crate::key::SessionId = $id;
        $crate::log::log_limited!(
            $limit,
            $level,
            Some(id.provider()),
            $message,
            tenant = id.key().tenant().as_str(),
            token_id = id.key().token_id()
            $(, $($field)+)?
        )
    }};
}

pub(crate) use {log_limited, log_session};

/// The span of the calling code; none if that is the span in which ractor runs an actor. It names an
/// actor by a number, which says nothing to a reader of the log.
pub(crate) fn current_span() -> Span {
    let span = Span::current();
    let is_of_ractor = span.metadata().is_some_and(|of| of.target().starts_with("ractor"));
    if is_of_ractor { Span::none() } else { span }
}

/// Counts the log lines of each kind, so that an outage that concerns many sessions does not fill
/// the log.
pub(crate) struct LogLimit {
    clock: Arc<dyn Clock>,
    measurements: Arc<dyn Measurements>,
    kinds: Mutex<HashMap<Kind, Lines>>,
}

type Kind = (Option<ProviderName>, &'static str);

/// The lines of one kind.
#[derive(Clone, Copy)]
struct Lines {
    /// How many may be logged now.
    left: u32,
    /// When one more may be logged.
    next: BootTime,
    suppressed: u64,
}

impl LogLimit {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, measurements: Arc::new(Unmeasured), kinds: Mutex::default() }
    }

    /// Counts the lines that are left out.
    pub(crate) fn measured(self, measurements: Arc<dyn Measurements>) -> Self {
        Self { measurements, ..self }
    }

    /// Whether a line may be logged. Gives the number of lines that were left out before it; the
    /// inner `None` if there were none.
    pub(crate) fn admit(
        &self,
        provider: Option<&ProviderName>,
        message: &'static str,
    ) -> Option<Option<u64>> {
        let admitted = self.count(provider, message);
        if admitted.is_none() {
            self.measurements.log_line_suppressed();
        }
        admitted
    }

    fn count(&self, provider: Option<&ProviderName>, message: &'static str) -> Option<Option<u64>> {
        let now = self.clock.now().boot;
        let mut kinds = self.kinds.lock();
        if kinds.len() >= LOG_KINDS {
            kinds.retain(|_, lines| now < lines.next);
        }
        if kinds.len() >= LOG_KINDS {
            kinds.clear();
        }
        let fresh = Lines { left: LOG_BURST, next: now, suppressed: 0 };
        kinds.entry((provider.cloned(), message)).or_insert(fresh).admit(now)
    }
}

impl Lines {
    fn admit(&mut self, now: BootTime) -> Option<Option<u64>> {
        if self.left == 0 && now >= self.next {
            self.left = 1;
        }
        if self.left == 0 {
            self.suppressed += 1;
            return None;
        }
        self.left -= 1;
        self.next = now.after(LOG_PAUSE);
        let suppressed = std::mem::take(&mut self.suppressed);
        Some((suppressed > 0).then_some(suppressed))
    }
}

#[cfg(test)]
mod tests;
