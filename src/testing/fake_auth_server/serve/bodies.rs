//! Bodies that no decent server sends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::testing::fake_auth_server::running::RunningServer;

/// Ends with an error after `sent`, at which hyper closes the connection.
pub(super) fn torn(sent: Bytes) -> Body {
    let error = stream::once(async {
        // hyper writes what it has when the body has no more for now; an error at once would
        // take the first half with it.
        tokio::task::yield_now().await;
        Err(io::Error::from(io::ErrorKind::ConnectionAborted))
    });
    Body::from_stream(stream::iter([Ok(sent)]).chain(error))
}

pub(super) fn huge() -> Body {
    let rest = stream::iter(std::iter::repeat_n(Bytes::from_static(&HUGE_CHUNK), HUGE_CHUNKS));
    let start = stream::iter([Bytes::from_static(br#"{"access_token":""#)]);
    Body::from_stream(start.chain(rest).map(io::Result::Ok))
}

pub(super) fn slow(body: Bytes, pause: Duration, running: Arc<RunningServer>) -> Body {
    let length = body.len();
    Body::from_stream(stream::iter(0..length).then(move |index| {
        let byte = body.slice(index..=index);
        let running = Arc::clone(&running);
        async move {
            if index > 0 {
                running.sleep(pause).await;
            }
            io::Result::Ok(byte)
        }
    }))
}

static HUGE_CHUNK: [u8; 1 << 16] = [b'a'; 1 << 16];

/// 64 MiB together: above every sane limit, and below what hurts the test of a client without one.
const HUGE_CHUNKS: usize = 1 << 10;
