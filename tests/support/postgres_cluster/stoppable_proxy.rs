//! A network between a client and a server, which a test interrupts.

use std::io::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::messages::{self, PARSE, QUERY, READY_FOR_QUERY, SYNC};

/// A proxy on loopback in front of a cluster or a PgBouncer. It and its connections end with this
/// value. What it loses it finds in plain text, so not in connections with TLS.
pub struct StoppableProxy {
    address: SocketAddr,
    network: Arc<Network>,
    accepting: AbortHandle,
}

impl StoppableProxy {
    /// A proxy for the server that listens at this address.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("the listener is bound");
        let network = Arc::new(Network {
            server,
            copies: watch::Sender::new(true),
            resets: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
            connections: AtomicU64::new(0),
            early: AtomicU64::new(0),
            wish: Mutex::new(None),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&network)));
        Self { address, network, accepting: accepting.abort_handle() }
    }

    /// The URL of a database of the server, through this proxy.
    pub fn url(&self, database: &str) -> String {
        let server = self.network.server.to_string();
        assert!(database.contains(&server), "{database} is not at {server}");
        database.replace(&server, &self.address.to_string())
    }

    /// From now on, connections stay and no byte arrives, nor the news that a connection ended.
    /// New connections are taken and wait.
    pub fn stop_copying(&self) {
        self.network.copies.send_replace(false);
    }

    /// Copies again, first what has waited.
    pub fn copy_again(&self) {
        self.network.copies.send_replace(true);
    }

    /// Closes each connection on both sides.
    pub fn cut_all(&self) {
        self.network.resets.send_modify(|resets| *resets += 1);
    }

    /// The next message of a client with this text in it, in its capitals or not, reaches the
    /// server, which answers; the connection is cut before a byte of this answer reaches the
    /// client. The message of a prepared statement that has its text is the one that prepares it.
    pub fn cut_next_answer_after(&self, text: &'static str) {
        self.cut_next_answer_to(move |message| messages::has_text(message, text));
    }

    /// The same with the next message that this function chooses. The first byte of a message is
    /// its kind, and the next four are its length.
    pub fn cut_next_answer_to(&self, chooses: impl Fn(&[u8]) -> bool + Send + 'static) {
        self.wish(Lost::Answer, chooses);
    }

    /// The next message of a client with this text in it, in its capitals or not, does not reach
    /// the server: the connection is cut before.
    pub fn cut_before_next(&self, text: &'static str) {
        self.wish(Lost::Message, move |message| messages::has_text(message, text));
    }

    /// Takes back the wish for a cut that has not happened yet.
    pub fn cut_no_more(&self) {
        self.network.wish.lock().take();
    }

    /// How many connections were cut, by whichever of these functions.
    pub fn cuts(&self) -> u64 {
        *self.network.cuts.borrow()
    }

    /// Waits until so many connections were cut.
    pub async fn until_cuts(&self, cuts: u64) {
        let mut seen = self.network.cuts.subscribe();
        seen.wait_for(|seen| *seen >= cuts).await.expect("the sender is ours");
    }

    /// How many connections clients have made.
    pub fn connections(&self) -> u64 {
        self.network.connections.load(Ordering::Relaxed)
    }

    /// How many statements a client has sent before it had the answer to its last one.
    pub fn early_statements(&self) -> u64 {
        self.network.early.load(Ordering::Relaxed)
    }

    fn wish(&self, lost: Lost, chooses: impl Fn(&[u8]) -> bool + Send + 'static) {
        let former = self.network.wish.lock().replace(Wish { lost, chooses: Box::new(chooses) });
        assert!(former.is_none(), "the proxy has not yet cut what was wished before");
    }
}

impl Drop for StoppableProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Network {
    server: SocketAddr,
    copies: watch::Sender<bool>,
    /// Each change cuts all connections.
    resets: watch::Sender<u64>,
    cuts: watch::Sender<u64>,
    connections: AtomicU64,
    early: AtomicU64,
    wish: Mutex<Option<Wish>>,
}

type Chooses = Box<dyn Fn(&[u8]) -> bool + Send>;

/// What is lost once.
struct Wish {
    lost: Lost,
    chooses: Chooses,
}

#[derive(Clone, Copy)]
enum Lost {
    Message,
    Answer,
}

/// How a connection came to its end.
enum End {
    /// One side closed it.
    Closed,
    Cut,
}

impl Network {
    /// Returns as soon as bytes may pass.
    async fn passes(&self) {
        let mut copies = self.copies.subscribe();
        copies.wait_for(|copies| *copies).await.expect("the sender is ours");
    }

    /// Takes the wish if it chooses this message.
    fn lost_with(&self, message: &[u8]) -> Option<Lost> {
        let mut wish = self.wish.lock();
        wish.take_if(|wish| (wish.chooses)(message)).map(|wish| wish.lost)
    }
}

async fn accept(listener: TcpListener, network: Arc<Network>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        network.connections.fetch_add(1, Ordering::Relaxed);
        let (network, mut resets) = (Arc::clone(&network), network.resets.subscribe());
        connections.spawn(async move {
            let end = tokio::select! {
                end = serve(client, &network) => end.unwrap_or(End::Closed),
                _ = resets.changed() => End::Cut,
            };
            // All that held the two sockets is dropped, and they are closed.
            if matches!(end, End::Cut) {
                network.cuts.send_modify(|cuts| *cuts += 1);
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Copies between a client and the server until the connection ends. A side that closes ends both
/// directions, as no client or server of PostgreSQL closes one direction alone.
async fn serve(mut client: TcpStream, network: &Network) -> Result<End> {
    let first = messages::read_first(&mut client).await;
    network.passes().await;
    let (first, mut server) = (first?, TcpStream::connect(network.server).await?);
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    server.write_all(&first).await?;
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    if messages::asks_for_tls(&first) {
        return tokio::select! {
            end = copy(from_client, to_server, network) => end,
            end = copy(from_server, to_client, network) => end,
        };
    }
    let dialog = Dialog::default();
    tokio::select! {
        end = pass_requests(from_client, to_server, network, &dialog) => end,
        end = pass_answers(from_server, to_client, network, &dialog) => end,
    }
}

/// Copies what cannot be read.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, network: &Network) -> Result<End> {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut bytes).await;
        network.passes().await;
        match count? {
            0 => return Ok(End::Closed),
            count => to.write_all(&bytes[..count]).await?,
        }
    }
}

/// Requests and their answers are numbered: the start of a session is 0.
#[derive(Default)]
struct Dialog {
    last_request: AtomicU64,
    /// How many answers have ended.
    answers: AtomicU64,
    /// The number of the answer that is lost; 0 if none is.
    lost_answer: AtomicU64,
}

async fn pass_requests(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    network: &Network,
    dialog: &Dialog,
) -> Result<End> {
    let mut from = BufReader::new(from);
    loop {
        let message = next(&mut from, network).await?;
        let next_request = dialog.last_request.load(Ordering::Relaxed) + 1;
        match network.lost_with(&message) {
            Some(Lost::Message) => return Ok(End::Cut),
            // Before the server has the message, so before the answer can come.
            Some(Lost::Answer) => dialog.lost_answer.store(next_request, Ordering::Relaxed),
            None => {}
        }
        if matches!(message[0], QUERY | PARSE)
            && dialog.answers.load(Ordering::Relaxed) < next_request
        {
            network.early.fetch_add(1, Ordering::Relaxed);
        }
        if matches!(message[0], QUERY | SYNC) {
            dialog.last_request.store(next_request, Ordering::Relaxed);
        }
        to.write_all(&message).await?;
    }
}

async fn pass_answers(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    network: &Network,
    dialog: &Dialog,
) -> Result<End> {
    let mut from = BufReader::new(from);
    let mut number = 0;
    loop {
        let message = next(&mut from, network).await;
        let lost_answer = dialog.lost_answer.load(Ordering::Relaxed);
        if lost_answer != 0 && message.is_err() {
            return Ok(End::Cut);
        }
        let message = message?;
        let is_last = message[0] == READY_FOR_QUERY;
        if lost_answer != 0 && lost_answer == number {
            if is_last {
                return Ok(End::Cut);
            }
            continue;
        }
        number += u64::from(is_last);
        // Before the client has the answer and can send the next statement.
        dialog.answers.store(number, Ordering::Relaxed);
        to.write_all(&message).await?;
    }
}

async fn next(from: &mut (impl AsyncRead + Unpin), network: &Network) -> Result<Vec<u8>> {
    let message = messages::read(from).await;
    network.passes().await;
    message
}
