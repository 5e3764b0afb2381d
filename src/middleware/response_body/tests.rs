use std::pin::pin;
use std::task::Waker;

use futures_util::{FutureExt, StreamExt, stream};
use http::HeaderMap;
use http_body_util::{BodyExt, Full, StreamBody};

use super::*;

type Frames = Vec<Result<Frame<Bytes>, &'static str>>;

fn data(text: &'static str) -> Result<Frame<Bytes>, &'static str> {
    Ok(Frame::data(Bytes::from(text)))
}

fn shown(frame: Result<Frame<Bytes>, &'static str>) -> String {
    match frame {
        Ok(frame) if frame.is_data() => {
            String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
        }
        Ok(_) => "trailers".to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

/// Reads the prefix, and then all frames.
fn looked_at(frames: Frames) -> (Vec<u8>, Vec<String>) {
    let mut body = ResponseBody::new(StreamBody::new(stream::iter(frames)));
    let prefix = body.read_prefix().now_or_never().unwrap();
    let frames = http_body_util::BodyStream::new(body).map(shown).collect::<Vec<_>>();
    (prefix, frames.now_or_never().unwrap())
}

#[test]
fn the_reader_gets_each_frame_as_it_came() {
    let frames =
        || vec![data("{\"error\":"), data("\"dead\"}"), Ok(Frame::trailers(HeaderMap::new()))];
    let (prefix, read) = looked_at(frames());
    assert_eq!(prefix, b"{\"error\":\"dead\"}");
    assert_eq!(read, ["{\"error\":", "\"dead\"}", "trailers"]);
}

#[test]
fn an_error_of_the_body_comes_where_it_was() {
    let (prefix, read) = looked_at(vec![data("a"), Err("broken"), data("b")]);
    assert_eq!(prefix, b"a");
    assert_eq!(read, ["a", "error: broken", "b"]);
}

#[test]
fn no_more_than_the_bound_is_read_ahead() {
    let whole = "x".repeat(BODY_PREFIX_BYTES);
    let frames: Frames = vec![
        Ok(Frame::data(Bytes::from(whole[..BODY_PREFIX_BYTES - 1].to_owned()))),
        data("abc"),
        data("rest"),
    ];
    let mut body = ResponseBody::new(StreamBody::new(stream::iter(frames)));
    let prefix = body.read_prefix().now_or_never().unwrap();
    assert_eq!(prefix.len(), BODY_PREFIX_BYTES);
    assert_eq!(body.read.len(), 2, "the third frame stays with the sender");
    let read = body.collect().now_or_never().unwrap().unwrap().to_bytes();
    assert_eq!(read.len(), BODY_PREFIX_BYTES + 6);
}

#[test]
fn the_length_stays_known() {
    let mut body = ResponseBody::new(Full::new(Bytes::from("hello")));
    assert_eq!(body.size_hint().exact(), Some(5));
    let _ = body.read_prefix().now_or_never().unwrap();
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(5), false));
    let mut frame = pin!(body.frame());
    let polled = frame.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Some(Ok(_)))));
}

#[test]
fn a_body_that_has_ended_is_not_polled_again() {
    // A stream of this kind panics if it is polled after its end.
    let once = stream::unfold(Some("all"), |rest| async move { Some((data(rest?), None)) });
    let mut body = ResponseBody::new(StreamBody::new(Box::pin(once)));
    assert_eq!(body.read_prefix().now_or_never().unwrap(), b"all");
    assert!(!body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(3));
    for frame in [Some("all".to_owned()), None, None] {
        let read = body.frame().now_or_never().unwrap();
        assert_eq!(read.map(shown), frame);
    }
    assert!(body.is_end_stream());
}

#[test]
fn empty_frames_without_end_are_not_read_without_end() {
    let empties = stream::repeat_with(|| data(""));
    let mut body = ResponseBody::new(StreamBody::new(empties));
    assert_eq!(body.read_prefix().now_or_never().unwrap(), b"");
    assert_eq!(body.read.len(), BODY_PREFIX_BYTES);
}
