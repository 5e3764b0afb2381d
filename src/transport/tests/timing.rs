//! When a request counts as sent, and how long its answer may take.

use tokio::net::TcpListener;

use super::*;
use crate::clock::Clock;
use crate::testing::ManualClock;

const SECOND: Duration = Duration::from_secs(1);

const TIMES: Times = Times { attempt: Duration::from_secs(10), answer: Duration::from_secs(60) };

fn send_state(clock: &ManualClock) -> Arc<SendState> {
    SendState::new(Arc::new(clock.clone()), None)
}

/// One that may be sent for a second more.
fn urgent(clock: &ManualClock) -> Arc<SendState> {
    SendState::new(Arc::new(clock.clone()), Some(clock.now().boot.after(SECOND)))
}

fn empty(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

/// A request without content whose header says so, as some vendors ask for.
fn stated(url: &str) -> Request<Bytes> {
    Request::post(url).header("content-length", "0").body(Bytes::new()).unwrap()
}

#[tokio::test]
async fn a_request_is_sent_when_the_connection_takes_it_and_keeps_its_length() {
    for (request, length) in [
        (post as fn(&str) -> _, Some("content-length: 20\r\n")),
        (stated, Some("content-length: 0\r\n")),
        (empty, None),
    ] {
        let (peer, transport, clock) = (Peer::start().await, local(), ManualClock::new());
        let send_state = send_state(&clock);
        assert_eq!(send_state.sent(), None);
        let sent = transport.send(request(&peer.url("/")), &send_state, TIMES, || {});
        let (answer, seen) = join(sent, peer.json(200, "{}")).await;
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
        assert_eq!(send_state.sent(), Some(clock.now()));
        match length {
            Some(length) => assert!(seen.contains(length), "{seen}"),
            None => assert!(!seen.contains("content-length"), "{seen}"),
        }
        assert!(!seen.contains("transfer-encoding"), "{seen}");
    }
}

/// The connection is made, and by then it is too late.
#[tokio::test]
async fn of_a_request_that_may_not_be_sent_any_more_no_byte_is_sent() {
    for request in [post as fn(&str) -> _, stated, empty] {
        let (peer, transport, clock) = (Peer::start().await, local(), ManualClock::new());
        let send_state = urgent(&clock);
        let sent = transport.send(request(&peer.url("/")), &send_state, TIMES, || {});
        let connected = async {
            // Before the connection's own task has run.
            clock.suspend(2 * SECOND);
            peer.until_closed().await
        };
        let (answer, seen) = join(sent, connected).await;
        let fault = answer.unwrap_err();
        assert!(matches!(fault, SendError::Withheld(Withheld::ClaimEnds)), "{fault:?}");
        assert_eq!((send_state.sent(), String::from_utf8_lossy(&seen).as_ref()), (None, ""));
    }
}

#[tokio::test]
async fn a_request_that_comes_too_late_makes_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let clock = ManualClock::new();
    let send_state = urgent(&clock);
    clock.suspend(2 * SECOND);
    let fault = local().send(post(&url), &send_state, TIMES, || {}).await.unwrap_err();
    assert!(matches!(fault, SendError::Withheld(Withheld::ClaimEnds)), "{fault:?}");
    assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none());
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_a_request_that_was_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let (transport, clock) =
        (Transport::new(&TransportConfig::default()).unwrap(), ManualClock::new());
    let send_state = send_state(&clock);
    let sent = transport.send(post(&url), &send_state, TIMES, || {});
    let passing = async {
        // The handshake goes on for as long as the connection is held.
        let held = listener.accept().await.unwrap();
        clock.advance(TIMES.attempt).await;
        held
    };
    let (answer, _held) = join(sent, passing).await;
    let fault = answer.unwrap_err();
    assert!(matches!(fault, SendError::Withheld(Withheld::TooLate)), "{fault:?}");
    assert_eq!(send_state.sent(), None);
}

#[tokio::test]
async fn a_slow_answer_is_read_to_its_end_until_its_time_is_over() {
    for (pause, whole) in [(29 * SECOND, true), (31 * SECOND, false)] {
        let (peer, transport, clock) = (Peer::start().await, local(), ManualClock::new());
        let send_state = send_state(&clock);
        let sent = transport.send(post(&peer.url("/")), &send_state, TIMES, || {});
        let trickle = async {
            let (mut stream, _) = peer.accept().await;
            clock.advance(pause).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{").await.unwrap();
            clock.advance(pause).await;
            stream.write_all(b"}").await.unwrap();
            stream
        };
        let (answer, _stream) = join(sent, trickle).await;
        match answer {
            Ok(answer) => assert!(whole && &answer.body()[..] == b"{}", "{pause:?}"),
            Err(fault) => assert!(matches!(fault, SendError::Unanswered) && !whole, "{fault:?}"),
        }
    }
}
