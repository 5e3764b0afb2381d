//! The failures that an exchange finds itself, and how soon a lost response may be retried.

use std::time::Duration;

use crate::client::admission::Rejected;
use crate::clock::Now;
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::journal::JournalFault;
use crate::provider::{ExchangeError, FailureClass, Rotation};
use crate::session::context::Context;
use crate::session::machine::{self, Class, Failure, Retry};

/// When a refresh whose response was lost may be sent again. The server's rotation decides it.
pub(super) fn retry(context: &Context, rotation: Rotation, sent: Now) -> Retry {
    match rotation {
        Rotation::Static => Retry::AtOnce,
        Rotation::Idempotent(grace) | Rotation::Fork(grace) | Rotation::NewestOnly(grace) => {
            // The server's grace began after `sent`, and the retry must arrive before it ends.
            let spent = context.now().boot.since(sent.boot);
            let margin = context.policy.min_repeat_time;
            if spent.saturating_add(margin) < grace { Retry::AtOnce } else { Retry::Late }
        }
        Rotation::Strict => Retry::Late,
    }
}

pub(super) fn lost(why: &'static str) -> ExchangeError {
    ExchangeError::new(FailureClass::Ambiguous).with_source(why)
}

pub(super) fn not_admitted(rejected: Rejected, now: Now) -> Failure {
    let Rejected { error, until, paced } = rejected;
    let class = if error.kind() == ErrorKind::Misconfigured {
        Class::Misconfigured
    } else if paced {
        Class::HeldBack
    } else {
        Class::Harmless
    };
    Failure { class, error, wait: until.since(now.boot) }
}

pub(super) fn issuer_mismatch() -> Failure {
    let error = machine::issuer_mismatch().with_outcome(ExchangeOutcome::NotSent);
    Failure { class: Class::Harmless, error, wait: Duration::ZERO }
}

pub(super) fn claimed_elsewhere(wait: Duration) -> Failure {
    let error = Error::new(ErrorKind::RetryLater)
        .about("another process is refreshing or establishing the session")
        .with_outcome(ExchangeOutcome::NotSent);
    Failure { class: Class::Harmless, error, wait }
}

pub(super) fn no_room(fault: JournalFault) -> Failure {
    let error = Error::new(ErrorKind::RetryLater)
        .about(
            "the journal has no room for the server's answer; free space on its disk, or wait until \
             the store works again",
        )
        .with_source(fault)
        .with_outcome(ExchangeOutcome::NotSent);
    Failure { class: Class::Harmless, error, wait: Duration::ZERO }
}
