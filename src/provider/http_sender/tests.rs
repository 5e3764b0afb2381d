use bytes::Bytes;
use futures_util::future::join;
use http::{Request, Response};

use super::*;
use crate::provider::test_bench::{Bench, START};
use crate::transport::peer::Peer;

const SECOND: Duration = Duration::from_secs(1);

fn post(peer: &Peer) -> Request<Bytes> {
    Request::post(peer.url("/token")).body(Bytes::from_static(b"canary")).unwrap()
}

fn waiting(retry_after: &str) -> Response<Bytes> {
    let response = Response::builder().status(503).header(header::RETRY_AFTER, retry_after);
    response.body(Bytes::new()).unwrap()
}

#[test]
fn a_wait_is_seconds_or_a_date_and_no_longer_than_is_obeyed() {
    let bench = Bench::new();
    let date = |seconds| httpdate::fmt_http_date(Bench::at(seconds));
    let past = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + START - SECOND);
    let ten_years = 10 * 365 * 24 * 3600;
    for (text, seconds) in [
        ("7", Some(7)),
        (" 7 ", Some(7)),
        ("0", Some(0)),
        ("600", Some(600)),
        ("601", Some(600)),
        (&ten_years.to_string(), Some(600)),
        (&u64::MAX.to_string(), Some(600)),
        (&date(0), Some(0)),
        (&date(30), Some(30)),
        ("Friday, 15-Jan-27 08:00:30 GMT", Some(30)),
        ("Fri Jan 15 08:00:30 2027", Some(30)),
        (&date(ten_years), Some(600)),
        (&past, Some(0)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("7 s", None),
        ("Fri, 32 Jan 2027 08:00:30 GMT", None),
    ] {
        let wait = bench.sender().retry_after(&waiting(text));
        assert_eq!(wait, seconds.map(Duration::from_secs), "{text}");
    }
    assert_eq!(bench.sender().retry_after(&Response::new(Bytes::new())), None);
    let mut bytes = waiting("7");
    let text = http::HeaderValue::from_bytes(b"7\xff").unwrap();
    bytes.headers_mut().insert(header::RETRY_AFTER, text);
    assert_eq!(bench.sender().retry_after(&bytes), None);
}

#[test]
fn a_date_is_held_against_the_time_of_the_answer() {
    let bench = Bench::new();
    let sender = bench.sender();
    bench.clock.advance(10 * SECOND);
    let response = waiting(&httpdate::fmt_http_date(Bench::at(30)));
    assert_eq!(sender.retry_after(&response), Some(20 * SECOND));
}

#[test]
fn a_stated_lifetime_is_kept_between_the_shortest_and_the_longest() {
    let bench = Bench::new();
    let start = Bench::at(0);
    for (seconds, life) in [
        (60.0, 60 * SECOND),
        (1.5, Duration::from_millis(1500)),
        (0.4, SHORTEST_LIFE),
        (0.0, SHORTEST_LIFE),
        (-0.0, SHORTEST_LIFE),
        (-3600.0, SHORTEST_LIFE),
        (f64::NAN, SHORTEST_LIFE),
        (f64::NEG_INFINITY, SHORTEST_LIFE),
        (f64::MIN_POSITIVE, SHORTEST_LIFE),
        (LONGEST_LIFE.as_secs_f64() + 1.0, LONGEST_LIFE),
        (1e300, LONGEST_LIFE),
        (f64::MAX, LONGEST_LIFE),
        (f64::INFINITY, LONGEST_LIFE),
    ] {
        assert_eq!(bench.sender().expires_in(seconds), start + life, "{seconds}");
    }
}

#[tokio::test]
async fn a_lifetime_counts_from_when_the_latest_request_was_sent() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let sender = bench.sender();
    bench.clock.advance(SECOND);
    assert_eq!(sender.expires_in(60.0), Bench::at(60), "nothing was sent yet");
    for sent in [1, 3] {
        let slow = async {
            let seen = peer.json(200, "{}").await;
            bench.clock.advance(2 * SECOND);
            seen
        };
        let (response, _) = join(sender.send(post(&peer)), slow).await;
        response.unwrap();
        assert_eq!(sender.expires_in(60.0), Bench::at(sent + 60));
    }
}

#[tokio::test]
async fn a_second_request_is_sent_only_while_there_is_time_for_its_answer() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let sender = bench.sender();
    // The first request may be late; the floor is for repeats.
    bench.clock.advance(5 * SECOND);
    for _ in 0..2 {
        let (response, _) = join(sender.send(post(&peer)), peer.json(200, "{}")).await;
        response.unwrap();
    }
    bench.clock.advance(Duration::from_millis(1));
    let failed = sender.send(post(&peer)).await.unwrap_err();
    assert_eq!(failed.class(), FailureClass::NotSent);
    // It was not sent, so lifetimes still count from the one before.
    assert_eq!(sender.expires_in(60.0), Bench::at(65));
}

#[tokio::test]
async fn a_first_request_is_sent_within_the_budget_and_not_after_it() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let (sender, late) = (bench.sender(), bench.sender());
    bench.clock.advance(9 * SECOND);
    let (response, _) = join(sender.send(post(&peer)), peer.json(200, "{}")).await;
    response.unwrap();
    bench.clock.advance(SECOND);
    let failed = late.send(post(&peer)).await.unwrap_err();
    assert_eq!(failed.class(), FailureClass::NotSent);
}

#[tokio::test]
async fn a_request_that_got_no_answer_counts_as_sent() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let sender = bench.sender();
    bench.clock.advance(2 * SECOND);
    let (response, _) = join(sender.send(post(&peer)), peer.answer("HTTP/1.1 20")).await;
    assert_eq!(response.unwrap_err().class(), FailureClass::Ambiguous);
    assert_eq!(sender.expires_in(60.0), Bench::at(62));
    bench.clock.advance(4 * SECOND);
    assert_eq!(sender.send(post(&peer)).await.unwrap_err().class(), FailureClass::NotSent);
}

#[tokio::test]
async fn a_request_whose_connection_is_made_too_late_for_its_claim_is_not_sent() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let now = bench.clock.now().boot;
    for (until, sent) in [(now.after(SECOND), false), (now.after(4 * SECOND), true)] {
        let sender = bench.sender().sending_until(until);
        let (response, seen) = join(sender.send(post(&peer)), async {
            // Before the connection's own task has run.
            bench.clock.advance(2 * SECOND);
            if sent { peer.json(200, "{}").await.into_bytes() } else { peer.until_closed().await }
        })
        .await;
        assert_eq!(
            response.err().map(|failed| failed.class()),
            (!sent).then_some(FailureClass::NotSent)
        );
        assert_eq!(seen.is_empty(), !sent);
    }
}

#[test]
fn a_time_of_day_is_held_against_the_servers_own_clock() {
    let bench = Bench::new();
    let sender = bench.sender();
    let dated = |seconds| {
        let date = httpdate::fmt_http_date(Bench::at(seconds));
        Response::builder().header("date", date).body(Bytes::new()).unwrap()
    };
    let undated = Response::new(Bytes::new());
    assert_eq!(sender.expires_at(&undated, Bench::at(60)), Bench::at(60));
    assert_eq!(sender.expires_at(&dated(0), Bench::at(60)), Bench::at(60));
    assert_eq!(sender.expires_at(&dated(3600), Bench::at(3660)), Bench::at(60));
    assert_eq!(sender.expires_at(&dated(40), Bench::at(30)), Bench::at(0) + SHORTEST_LIFE);
    let odd = Response::builder().header("date", "soon").body(Bytes::new()).unwrap();
    assert_eq!(sender.expires_at(&odd, Bench::at(60)), Bench::at(60));
}
