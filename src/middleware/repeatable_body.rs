//! A request's body that may be sent a second time.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::response_body::poll_bytes;
use crate::policy::REPEATED_BODY_BYTES;

/// The body of a request that the middleware sends. While the inner service reads it, this keeps the
/// frames, up to [`REPEATED_BODY_BYTES`], for the case that the API rejects the token. The frames
/// share their memory with those that are sent. See the example of
/// [`SessionLayer`](crate::middleware::tower::SessionLayer).
pub struct RepeatableBody<B>(Source<B>);

enum Source<B> {
    /// The body of the caller, and what it gave so far.
    Caller { body: Pin<Box<B>>, copy: Arc<Mutex<BodyCopy>> },
    /// The copy of a body that was sent before.
    Repeated(Frames),
}

#[derive(Default)]
struct Frames {
    data: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
}

struct BodyCopy {
    frames: Frames,
    bytes: usize,
    state: CopyState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CopyState {
    /// More may come, unless this many bytes are all.
    Unfinished {
        expected: Option<u64>,
    },
    Whole,
    TooLong,
}

/// Gives the body of a request once more.
pub(super) struct Repeat(Arc<Mutex<BodyCopy>>);

impl<B: Body> RepeatableBody<B> {
    /// The body to send first, and the way to send it again.
    pub(super) fn new(body: B) -> (Self, Repeat) {
        let expected = body.size_hint().exact();
        let state = match expected {
            _ if body.is_end_stream() => CopyState::Whole,
            Some(length) if length > REPEATED_BODY_BYTES as u64 => CopyState::TooLong,
            expected => CopyState::Unfinished { expected },
        };
        let copy = Arc::new(Mutex::new(BodyCopy { frames: Frames::default(), bytes: 0, state }));
        let body = Source::Caller { body: Box::pin(body), copy: Arc::clone(&copy) };
        (Self(body), Repeat(copy))
    }
}

impl Repeat {
    /// The same body again. None if it was too long, or had not been sent as a whole.
    pub(super) fn body<B>(&self) -> Option<RepeatableBody<B>> {
        let mut copy = self.0.lock();
        copy.is_whole().then(|| RepeatableBody(Source::Repeated(std::mem::take(&mut copy.frames))))
    }
}

impl BodyCopy {
    fn is_whole(&self) -> bool {
        match self.state {
            CopyState::Whole => true,
            CopyState::Unfinished { expected } => expected == Some(self.bytes as u64),
            CopyState::TooLong => false,
        }
    }

    fn add(&mut self, frame: &Frame<Bytes>) {
        if self.state == CopyState::TooLong {
            return;
        }
        if let Some(data) = frame.data_ref() {
            self.bytes = self.bytes.saturating_add(data.len());
            // Empty frames would be without a bound, and nobody misses them.
            if !data.is_empty() {
                self.frames.data.push_back(data.clone());
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.frames.trailers = Some(trailers.clone());
        }
        if self.bytes > REPEATED_BODY_BYTES {
            self.state = CopyState::TooLong;
            self.frames = Frames::default();
        }
    }

    fn end(&mut self) {
        if self.state != CopyState::TooLong {
            self.state = CopyState::Whole;
        }
    }
}

impl<B: Body> Body for RepeatableBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.0 {
            Source::Caller { body, copy } => {
                let frame = ready!(poll_bytes(body.as_mut(), cx));
                let mut copy = copy.lock();
                match &frame {
                    Some(Ok(frame)) => copy.add(frame),
                    // A body that failed was not sent as a whole.
                    Some(Err(_)) => copy.state = CopyState::TooLong,
                    None => copy.end(),
                }
                // Hyper does not poll again at the end of a stream.
                if body.is_end_stream() {
                    copy.end();
                }
                Poll::Ready(frame)
            }
            Source::Repeated(frames) => {
                let data = frames.data.pop_front().map(Frame::data);
                let frame = data.or_else(|| frames.trailers.take().map(Frame::trailers));
                Poll::Ready(frame.map(Ok))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Caller { body, .. } => body.is_end_stream(),
            Source::Repeated(frames) => frames.data.is_empty() && frames.trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Caller { body, .. } => body.size_hint(),
            Source::Repeated(frames) => {
                SizeHint::with_exact(frames.data.iter().map(|data| data.len() as u64).sum())
            }
        }
    }
}

// The body of the caller has a place of its own, which does not move.
impl<B> Unpin for RepeatableBody<B> {}

impl<B> fmt::Debug for RepeatableBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepeatableBody").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
