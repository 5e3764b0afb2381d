use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::{join_all, select_all};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::clock::Clock;
use crate::transport::peer::send;
use crate::transport::{SendError, Transport, TransportConfig};

/// A name server that has 127.0.0.1 for every name below `good.example`, says that no other name
/// of `example` is there but those below `slow.example`, and of those nothing at all.
pub(in crate::transport) struct NameServer {
    pub(in crate::transport) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NameServer {
    #[expect(clippy::disallowed_methods, reason = "the test's own, which ends with it")]
    pub(in crate::transport) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                counted.fetch_add(1, Ordering::Relaxed);
                if let Some(answer) = answer(&question[..length]) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        Self { address, asked, task }
    }

    fn lookups(&self) -> Lookups {
        Lookups::new(Some(vec![self.address]))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// The answer in wire format (RFC 1035 section 4.1).
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let labels = question[12..].split(|byte| *byte == 0).next()?;
    let end = 12 + labels.len() + 1;
    let has = |label: &str| labels.windows(label.len()).any(|part| part == label.as_bytes());
    if has("slow") {
        return None;
    }
    let wants_v4 = question[end..end + 2] == [0, 1];
    let (code, answers) = match has("good") {
        true => (0, u8::from(wants_v4)),
        false => (3, 0),
    };
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
    answer.extend(&question[12..end + 4]);
    if answers == 1 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}

#[tokio::test]
async fn a_name_has_the_addresses_that_the_name_server_says() {
    let server = NameServer::start().await;
    let lookups = server.lookups();
    let found = lookups.look_up("GOOD.example").await.unwrap();
    assert_eq!(*found, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    assert_eq!(lookups.look_up("none.example").await, Err(Unresolved::NoAddress));
    lookups.look_up("").await.unwrap_err();
    // Without a name server the file of hosts still says where this machine is.
    let local = Lookups::new(Some(Vec::new())).look_up("localhost").await.unwrap();
    assert!(local.iter().all(IpAddr::is_loopback), "{local:?}");
    Lookups::new(Some(Vec::new())).look_up("good.example").await.unwrap_err();
}

#[tokio::test]
async fn nothing_is_kept_of_an_answer() {
    let server = NameServer::start().await;
    let lookups = server.lookups();
    lookups.look_up("good.example").await.unwrap();
    let once = server.asked();
    lookups.look_up("good.example").await.unwrap();
    assert_eq!(server.asked(), 2 * once);
}

#[tokio::test]
async fn callers_who_ask_for_one_name_share_one_look_up() {
    let server = NameServer::start().await;
    let lookups = server.lookups();
    let all: Vec<_> = (0..64).map(|_| lookups.look_up("good.example")).collect();
    assert_eq!(lookups.running.lock().by_name.len(), 1);
    assert!(join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(server.asked(), 2, "once for each of two types");
    assert_eq!(lookups.running.lock().by_name.len(), 0);
}

#[tokio::test]
async fn a_look_up_that_nobody_answers_ends_at_its_time_out_also_for_those_who_come_late() {
    let server = NameServer::start().await;
    let lookups = server.lookups();
    let (begun, clock) = (SystemClock::new().now().boot, SystemClock::new());
    let early = lookups.look_up("slow.example");
    let late = async {
        clock.sleep(LOOKUP_TIMEOUT / 2).await;
        lookups.look_up("slow.example").await
    };
    let ends = futures_util::future::join(early, late).await;
    assert_eq!(ends, (Err(Unresolved::NoAnswer), Err(Unresolved::NoAnswer)));
    let took = clock.now().boot.since(begun);
    assert!(took >= LOOKUP_TRY && took < LOOKUP_TIMEOUT + LOOKUP_TRY, "{took:?}");
    let asked = server.asked();
    assert!(
        (4..=16).contains(&asked),
        "two tries for each of two types, some packets twice: {asked}"
    );
}

#[tokio::test]
async fn a_look_up_ends_with_the_last_caller_who_waits_for_it() {
    let server = NameServer::start().await;
    let lookups = server.lookups();
    let (one, other) = (lookups.look_up("slow.example"), lookups.look_up("slow.example"));
    let (answer, ..) = select_all([one.boxed(), async { Err(Unresolved::GivenUp) }.boxed()]).await;
    assert_eq!(answer, Err(Unresolved::GivenUp), "dropped");
    assert_eq!(lookups.running.lock().by_name.len(), 1);
    drop(other);
    assert_eq!(lookups.running.lock().by_name.len(), 0);
}

#[tokio::test]
async fn with_one_look_up_too_many_the_oldest_fails_and_no_other() {
    let server = NameServer::start().await;
    let lookups = server.lookups();
    let slow: Vec<_> =
        (0..LOOKUPS_AT_ONCE).map(|n| lookups.look_up(&format!("{n}.slow.example"))).collect();
    assert!(slow.iter().all(|lookup| lookup.clone().now_or_never().is_none()));
    lookups.look_up("good.example").await.unwrap();
    let remove_on_drop = |lookup: &Lookup| lookup.clone().now_or_never();
    assert_eq!(remove_on_drop(&slow[0]), Some(Err(Unresolved::GivenUp)));
    assert!(slow[1..].iter().all(|lookup| remove_on_drop(lookup).is_none()));
}

fn get(url: &str) -> http::Request<bytes::Bytes> {
    http::Request::get(url).body(bytes::Bytes::new()).unwrap()
}

/// There is one thread for blocking work. The system's resolver would hold it for each silent name.
#[test]
fn four_tenants_with_silent_name_servers_keep_no_other_tenant_and_no_thread_waiting() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let names = NameServer::start().await;
        let config = TransportConfig::default().name_servers([names.address]);
        let transport = Transport::new(&config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let clock = SystemClock::new();

        let slow: Vec<_> =
            (0..256).map(|n| get(&format!("https://{}.slow.example/{n}", n / 64))).collect();
        let slow = slow.into_iter().map(|request| send(&transport, request));
        let healthy = async {
            // After all of the others.
            tokio::task::yield_now().await;
            let begun = clock.now().boot;
            let url = format!("https://good.example:{port}/");
            let sent = send(&transport, get(&url));
            let accepted = async { drop(listener.accept().await.unwrap()) };
            let (sent, ()) = futures_util::future::join(sent, accepted).await;
            assert!(matches!(sent, Err(SendError::NotSent(_))), "no TLS here: {sent:?}");
            // The host's own blocking work goes on.
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            clock.now().boot.since(begun)
        };
        let (failed, took) = futures_util::future::join(join_all(slow), healthy).await;
        assert!(took < LOOKUP_TRY, "{took:?}");
        assert!(failed.iter().all(|failed| matches!(failed, Err(SendError::NotSent(_)))));
    });
}

#[tokio::test]
async fn the_addresses_of_a_name_are_judged_when_it_is_connected_to() {
    let names = NameServer::start().await;
    let config = TransportConfig::default().name_servers([names.address]).public_addresses_only();
    let transport = Transport::new(&config).unwrap();
    let request = get("https://good.example/");
    let sent = send(&transport, request).await;
    assert!(matches!(sent, Err(SendError::Address(super::super::Refused::NotPublic))), "{sent:?}");
}
