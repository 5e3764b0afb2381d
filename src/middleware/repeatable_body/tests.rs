use std::convert::Infallible;
use std::future::poll_fn;

use futures_util::FutureExt;
use futures_util::stream;
use http_body_util::{BodyExt, Empty, Full, StreamBody};

use super::*;

const EDGE: usize = REPEATED_BODY_BYTES;

/// A body of these frames, whose length is not known before.
fn streamed(frames: Vec<Frame<Bytes>>) -> impl Body<Data = Bytes, Error = Infallible> {
    StreamBody::new(stream::iter(frames.into_iter().map(Ok)))
}

fn data(length: usize) -> Frame<Bytes> {
    Frame::data(Bytes::from(vec![7; length]))
}

/// Reads the body to its end, and returns its data and its trailers.
fn read<B: Body>(body: B) -> (Bytes, Option<HeaderMap>)
where
    B::Error: fmt::Debug,
{
    let read = body.collect().now_or_never().unwrap().unwrap();
    let trailers = read.trailers().cloned();
    (read.to_bytes(), trailers)
}

#[test]
fn a_body_within_the_bound_is_given_once_more_with_its_trailers() {
    let mut trailers = HeaderMap::new();
    trailers.insert("checksum", "1".parse().unwrap());
    let frames = || vec![data(1), data(EDGE - 1), Frame::trailers(trailers.clone())];
    let (body, repeat) = RepeatableBody::new(streamed(frames()));
    assert_eq!(read(body), (Bytes::from(vec![7; EDGE]), Some(trailers.clone())));
    let again: RepeatableBody<Empty<Bytes>> = repeat.body().unwrap();
    assert_eq!(again.size_hint().exact(), Some(EDGE as u64));
    assert_eq!(read(again), (Bytes::from(vec![7; EDGE]), Some(trailers)));
}

#[test]
fn a_body_that_is_too_long_is_not_kept() {
    for body in [vec![data(EDGE), data(1)], vec![data(EDGE + 1)]] {
        let (body, repeat) = RepeatableBody::new(streamed(body));
        assert_eq!(read(body).0.len(), EDGE + 1);
        assert!(repeat.body::<Empty<Bytes>>().is_none());
        assert!(repeat.0.lock().frames.data.is_empty());
    }
    let (body, repeat) = RepeatableBody::new(Full::new(Bytes::from(vec![7; EDGE + 1])));
    assert_eq!(body.size_hint().exact(), Some(EDGE as u64 + 1));
    read(body);
    assert!(repeat.body::<Empty<Bytes>>().is_none());
}

#[test]
fn a_body_that_has_not_ended_is_not_given_again() {
    let (mut body, repeat) = RepeatableBody::new(streamed(vec![data(1), data(1)]));
    drop(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never().unwrap());
    assert!(repeat.body::<Empty<Bytes>>().is_none());
    drop(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never().unwrap());
    assert!(repeat.body::<Empty<Bytes>>().is_none(), "more may come");
    assert!(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never().unwrap().is_none());
    assert!(repeat.body::<Empty<Bytes>>().is_some());
}

#[test]
fn a_body_whose_length_is_known_needs_no_poll_after_its_data() {
    for body in [Full::new(Bytes::from("abc")), Full::new(Bytes::new())] {
        let length = body.size_hint().exact();
        let (mut body, repeat) = RepeatableBody::new(body);
        assert_eq!(body.size_hint().exact(), length);
        if !body.is_end_stream() {
            drop(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never().unwrap());
        }
        assert!(body.is_end_stream());
        let again: RepeatableBody<Full<Bytes>> = repeat.body().unwrap();
        assert_eq!(again.size_hint().exact(), length);
        assert_eq!(read(again).0.len() as u64, length.unwrap());
    }
}

#[test]
fn a_body_that_fails_is_not_given_again() {
    let failing = stream::iter([Ok(data(1)), Err("broken")]);
    let (mut body, repeat) = RepeatableBody::new(StreamBody::new(failing));
    for _ in 0..2 {
        drop(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never().unwrap());
    }
    assert!(repeat.body::<Empty<Bytes>>().is_none());
}

#[test]
fn empty_frames_are_not_kept() {
    let (body, repeat) = RepeatableBody::new(streamed(vec![data(0), data(1), data(0)]));
    assert_eq!(read(body).0.len(), 1);
    assert_eq!(repeat.0.lock().frames.data.len(), 1);
    assert_eq!(read(repeat.body::<Empty<Bytes>>().unwrap()).0.len(), 1);
}
