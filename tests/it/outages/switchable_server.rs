//! A token endpoint that a test switches off and on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What the server does with each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Issues tokens that are valid for two minutes.
    Issues,
    /// Its port accepts no connections.
    Refuses,
    /// Closes each connection after it has read the request.
    Cuts,
    /// Sends this status, with a `Retry-After` in seconds and an `error`, if there are such.
    Fails(u16, Option<u64>, Option<&'static str>),
}

pub struct SwitchableServer {
    address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    issued: Arc<AtomicU64>,
    listening: Listening,
}

enum Listening {
    Yes(JoinHandle<()>),
    /// The socket keeps the port, so that no other program gets it.
    No(TcpSocket),
}

impl SwitchableServer {
    pub fn start() -> Self {
        let socket = bound("127.0.0.1:0".parse().unwrap());
        let address = socket.local_addr().unwrap();
        let (mode, issued) = (Arc::new(Mutex::new(Mode::Issues)), Arc::default());
        let mut server = Self { address, mode, issued, listening: Listening::No(socket) };
        server.listen();
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    pub async fn switch(&mut self, mode: Mode) {
        *self.mode.lock() = mode;
        match (&mut self.listening, mode) {
            (Listening::Yes(task), Mode::Refuses) => {
                task.abort();
                assert!(task.await.unwrap_err().is_cancelled());
                self.listening = Listening::No(bound(self.address));
            }
            (Listening::No(_), Mode::Issues) => self.listen(),
            _ => {}
        }
    }

    fn listen(&mut self) {
        let placeholder = Listening::No(TcpSocket::new_v4().unwrap());
        let Listening::No(socket) = std::mem::replace(&mut self.listening, placeholder) else {
            panic!("it listens already");
        };
        let listener = socket.listen(1024).unwrap();
        let (mode, issued) = (Arc::clone(&self.mode), Arc::clone(&self.issued));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let mode = *mode.lock();
                let number = issued.fetch_add(1, Ordering::Relaxed);
                connections.spawn(respond(stream, mode, number));
                while connections.try_join_next().is_some() {}
            }
        });
        self.listening = Listening::Yes(task);
    }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// Reads one request, and responds. A client that is gone does not matter.
async fn respond(mut stream: TcpStream, mode: Mode, number: u64) {
    let mut request = Vec::new();
    while !is_complete(&String::from_utf8_lossy(&request)) {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let (status, retry_after, body) = match mode {
        Mode::Refuses | Mode::Cuts => return,
        Mode::Issues => {
            let body = format!(
                r#"{{"access_token":"at-{number}","token_type":"bearer","expires_in":120,
                    "refresh_token":"rt-{number}"}}"#
            );
            (200, None, body)
        }
        Mode::Fails(status, retry_after, code) => {
            let code = code.map_or("null".to_owned(), |code| format!("\"{code}\""));
            (status, retry_after, format!(r#"{{"error":{code}}}"#))
        }
    };
    let retry_after = retry_after.map_or(String::new(), |s| format!("retry-after: {s}\r\n"));
    let response = format!(
        "HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\nconnection: close\r\n\
         {retry_after}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    drop(stream.write_all(response.as_bytes()).await);
    drop(stream.shutdown().await);
}

fn is_complete(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}
