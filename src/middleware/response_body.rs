//! The body of a response whose beginning the middleware has read.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use crate::policy::BODY_PREFIX_BYTES;

/// The body of a response. It has the same frames as the body of the inner service, with trailers
/// and errors. See the example of [`SessionLayer`](crate::middleware::tower::SessionLayer).
pub struct ResponseBody<B: Body> {
    /// The frames that the middleware has read ahead.
    read: VecDeque<Result<Frame<Bytes>, B::Error>>,
    rest: Pin<Box<B>>,
    /// The inner body has ended. It must not be polled again.
    ended: bool,
}

impl<B: Body> ResponseBody<B> {
    pub(super) fn new(body: B) -> Self {
        Self { read: VecDeque::new(), rest: Box::pin(body), ended: false }
    }

    /// Reads the beginning of the body and returns it: [`BODY_PREFIX_BYTES`], or a frame more. The
    /// reader of this body gets it too.
    pub(super) async fn read_prefix(&mut self) -> Vec<u8> {
        let (mut prefix, mut counted) = (Vec::new(), 0);
        while counted < BODY_PREFIX_BYTES {
            let Some(frame) = poll_fn(|cx| self.poll_rest(cx)).await else { break };
            let data = frame.as_ref().ok().and_then(Frame::data_ref).cloned();
            self.read.push_back(frame);
            // After an error or the trailers nothing comes.
            let Some(data) = data else { break };
            prefix.extend_from_slice(&data);
            // An empty frame counts too, because a server may send them without end.
            counted += data.len().max(1);
        }
        prefix.truncate(BODY_PREFIX_BYTES);
        prefix
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(poll_bytes(self.rest.as_mut(), cx));
        self.ended = frame.is_none();
        Poll::Ready(frame)
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.read.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => self.poll_rest(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && (self.ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let length = |frame: &Result<Frame<Bytes>, B::Error>| {
            frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64
        };
        let read: u64 = self.read.iter().map(length).sum();
        let rest = if self.ended { SizeHint::with_exact(0) } else { self.rest.size_hint() };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint
    }
}

// The frames that were read do not move when this moves.
impl<B: Body> Unpin for ResponseBody<B> {}

impl<B: Body> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("read", &self.read.len()).finish_non_exhaustive()
    }
}

/// The next frame of a body, with its data in one piece.
pub(super) fn poll_bytes<B: Body>(
    body: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
    let frame = ready!(body.poll_frame(cx));
    Poll::Ready(frame.map(|frame| {
        frame.map(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
    }))
}

#[cfg(test)]
mod tests;
