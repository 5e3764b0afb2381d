//! A loopback server for unit tests that answers as it is told, well-formed or not.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{SendError, SendState, Times, Transport};
use crate::clock::SystemClock;

pub(crate) struct Peer {
    listener: TcpListener,
}

impl Peer {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listener.local_addr().unwrap())
    }

    /// Takes one connection and reads one request from it.
    pub(crate) async fn accept(&self) -> (TcpStream, String) {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let request = request(&mut stream).await.unwrap();
        (stream, request)
    }

    /// Takes one connection, and gives all that comes on it until the other end closes it.
    pub(crate) async fn until_closed(&self) -> Vec<u8> {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        // A connection that is reset has ended too.
        let _ = stream.read_to_end(&mut bytes).await;
        bytes
    }

    /// Takes one connection, reads one request, sends `answer` as it stands, and closes. Gives
    /// the request.
    pub(crate) async fn answer(&self, answer: impl AsRef<[u8]>) -> String {
        let (mut stream, request) = self.accept().await;
        stream.write_all(answer.as_ref()).await.unwrap();
        stream.shutdown().await.unwrap();
        request
    }

    /// As [`answer`](Self::answer), with a well-formed answer that has this status and body.
    pub(crate) async fn json(&self, status: u16, body: &str) -> String {
        self.answer(json(status, body)).await
    }

    /// The output of `client`, whose first request is answered as by [`json`](Self::json), and each
    /// later one with 404.
    pub(crate) async fn json_then_404<T>(
        &self,
        status: u16,
        body: &str,
        client: impl Future<Output = T>,
    ) -> T {
        let serve = async {
            self.json(status, body).await;
            loop {
                self.json(404, "").await;
            }
        };
        match select(pin!(client), pin!(serve)).await {
            Either::Left((output, _)) => output,
            Either::Right((never, _)) => never,
        }
    }
}

/// Sends a request that nothing keeps back, and has as long as by default.
pub(crate) async fn send(
    transport: &Transport,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, SendError> {
    let send_state = SendState::new(Arc::new(SystemClock::new()), None);
    let (attempt, answer) = (Duration::from_secs(10), Duration::from_secs(60));
    transport.send(request, &send_state, Times { attempt, answer }, || {}).await
}

pub(crate) fn json(status: u16, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}

async fn request(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Ok(text);
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(text);
        }
    }
}
