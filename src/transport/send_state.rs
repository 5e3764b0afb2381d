//! Tracks whether a request may still be sent, and when its last byte was sent.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;

use crate::clock::{BootTime, Clock, Now};

/// The state of one request. Shared by the connection's own task, which takes the body, and the
/// task that waits for the answer.
pub(crate) struct SendState {
    clock: Arc<dyn Clock>,
    /// The time after which the request must not be sent.
    until: Option<BootTime>,
    step: watch::Sender<Step>,
}

/// How far the request got. Each step but the first is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// No connection has taken a byte of it yet.
    Waiting,
    /// The connection took all of it.
    Sent(Now),
    /// No connection will take a byte of it.
    Withheld(Withheld),
}

/// Why a request was not sent although its server could be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Withheld {
    #[error("too little time is left of the session's claim")]
    ClaimEnds,
    #[error("no connection could be made in time")]
    TooLate,
    #[error("the attempt has failed")]
    Failed,
}

impl SendState {
    pub(crate) fn new(clock: Arc<dyn Clock>, until: Option<BootTime>) -> Arc<Self> {
        Arc::new(Self { clock, until, step: watch::Sender::new(Step::Waiting) })
    }

    /// When the last byte was sent, if it was.
    pub(crate) fn sent(&self) -> Option<Now> {
        match *self.step.borrow() {
            Step::Sent(at) => Some(at),
            Step::Waiting | Step::Withheld(_) => None,
        }
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Whether it is too late to send the request.
    pub(super) fn is_too_late(&self, now: Now) -> bool {
        self.until.is_some_and(|until| now.boot > until)
    }

    /// Waits until the request is sent or withheld.
    pub(super) async fn decided(&self) {
        // Cannot fail, because the sender lives as long as `self`.
        let _ = self.step.subscribe().wait_for(|step| *step != Step::Waiting).await;
    }

    /// Withholds the request unless it is sent already. Returns why it is withheld, or `None` if it
    /// was sent.
    pub(super) fn withhold(&self, why: Withheld) -> Option<Withheld> {
        self.decide(Step::Withheld(why)).err()
    }

    /// Called when the connection is about to take the whole request. Checks the time and takes the
    /// step at once, so that no request is sent after its claim has ended.
    fn begin(&self) -> Result<Now, Withheld> {
        let now = self.clock.now();
        let withheld = Step::Withheld(Withheld::ClaimEnds);
        self.decide(if self.is_too_late(now) { withheld } else { Step::Sent(now) })
    }

    /// Takes the step if none was taken, and returns the step that stands. Compare and set are one
    /// operation: the connection may send while the other task withholds, and only one of them may
    /// win. A sent request that is taken for withheld would be sent again.
    fn decide(&self, to: Step) -> Result<Now, Withheld> {
        self.step.send_if_modified(|step| {
            let waiting = *step == Step::Waiting;
            if waiting {
                *step = to;
            }
            waiting
        });
        match *self.step.borrow() {
            Step::Sent(at) => Ok(at),
            Step::Withheld(why) => Err(why),
            // Cannot happen, because a step was just taken.
            Step::Waiting => Err(Withheld::Failed),
        }
    }

    /// The body of the request in one piece, so that the connection takes the last byte with the
    /// first.
    pub(super) fn body(self: &Arc<Self>, bytes: Bytes, headers: &mut HeaderMap) -> TimedBody {
        let states_length = bytes.is_empty() && headers.remove(header::CONTENT_LENGTH).is_some();
        TimedBody { bytes, states_length, send_state: Arc::clone(self) }
    }
}

/// A body that notes when it is sent, and fails if it must not be sent any more.
///
/// hyper takes the first piece in the same poll in which it writes the head to its buffer, and
/// writes nothing to the connection before that. If the body fails then, nothing is sent, not even
/// the head. An empty body has no piece. hyper asks once whether the body is empty, immediately
/// before it writes the head, and that is the moment of sending. An empty body that must not be
/// sent claims to have one byte, so that hyper asks for the byte and gets the failure.
pub(super) struct TimedBody {
    bytes: Bytes,
    /// The body is empty, and a header of the request said so.
    states_length: bool,
    send_state: Arc<SendState>,
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Withheld;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Withheld>>> {
        let this = self.get_mut();
        Poll::Ready(match this.send_state.begin() {
            Ok(_) => {
                let bytes = mem::take(&mut this.bytes);
                (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)))
            }
            Err(withheld) => Some(Err(withheld)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty() && self.send_state.begin().is_ok() && !self.states_length
    }

    fn size_hint(&self) -> SizeHint {
        let withheld = matches!(*self.send_state.step.borrow(), Step::Withheld(_));
        let length = if withheld { self.bytes.len().max(1) } else { self.bytes.len() };
        SizeHint::with_exact(length as u64)
    }
}
