//! Each fault, as reqwest sees it, and whether the request was processed.

use super::*;

/// A server whose next refresh fails so, and the refresh token to try it with.
async fn failing(fault: Fault) -> (FakeAuthServer, String) {
    let server = FakeAuthServer::start().await.unwrap();
    let token = Peer::new(&server).login().await.refresh;
    server.fail_next(Endpoint::RefreshToken, fault);
    (server, token)
}

/// Asserts whether the refresh token was used up, and that the fault was for once.
async fn assert_processed(server: &FakeAuthServer, token: &str, processed: bool) {
    assert_eq!(server.refreshes(), u64::from(processed));
    assert_eq!(server.is_active(token), !processed);
    let counts = server.counts().refresh_token;
    assert_eq!((counts.requests, counts.granted), (1, u64::from(processed)));
    let again = Peer::new(server).refresh(token).await;
    assert_eq!(again.0, if processed { 400 } else { 200 });
}

#[tokio::test]
async fn a_closed_connection_is_an_error_after_the_send_whether_or_not_it_was_processed() {
    for (fault, processed) in
        [(Fault::CloseBeforeProcessing, false), (Fault::DropAfterCommit, true)]
    {
        let (server, token) = failing(fault).await;
        let error = Peer::new(&server).refresh_request(&token).send().await.unwrap_err();
        assert!(error.is_request() && !error.is_connect() && !error.is_timeout(), "{error:?}");
        assert_processed(&server, &token, processed).await;
    }
}

#[tokio::test]
async fn statuses_come_with_the_headers_and_bodies_that_were_asked_for() {
    let retry_after = Some("120".to_owned());
    let fault = Fault::Status { code: 503, retry_after, body: Some("{\"x\":1}".to_owned()) };
    let (server, token) = failing(fault).await;
    let response = Peer::new(&server).refresh_request(&token).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "120");
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.text().await.unwrap(), "{\"x\":1}");
    assert_processed(&server, &token, false).await;

    let nonsense = Fault::Status { code: 7, retry_after: Some("a\nb".to_owned()), body: None };
    let (server, token) = failing(nonsense).await;
    let response = Peer::new(&server).refresh_request(&token).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("retry-after")), (500, None));

    let (server, token) = failing(Fault::StatusAfterCommit(502)).await;
    let response = Peer::new(&server).refresh_request(&token).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.content_length()), (502, Some(0)));
    assert_processed(&server, &token, true).await;
}

#[tokio::test]
async fn an_oauth_error_is_in_the_form_of_the_standard_and_not_processed() {
    let fault = Fault::OAuthError { status: 400, code: "temporarily_unavailable".to_owned() };
    let (server, token) = failing(fault).await;
    let answer = Peer::new(&server).refresh(&token).await;
    assert_eq!(answer, refusal(400, "temporarily_unavailable"));
    assert!(server.counts().errors.is_empty());
    assert_processed(&server, &token, false).await;
}

#[tokio::test]
async fn a_redirect_names_its_place_and_is_not_processed() {
    let place = "http://127.0.0.1:1/token";
    let (server, token) = failing(Fault::RedirectTo(place.to_owned())).await;
    let response = Peer::new(&server).refresh_request(&token).send().await.unwrap();
    assert_eq!(response.status(), 307);
    assert_eq!(response.headers()["location"], place);
    assert_processed(&server, &token, false).await;
}

#[tokio::test]
async fn spoilt_bodies_are_200_and_processed() {
    let cases = [
        (Fault::Malformed, "application/json", "{\"access_token\": \"abc\", \"token_type\" "),
        (Fault::WrongTypes, "application/json", "{\"access_token\": 12345"),
        (Fault::Html, "text/html", "<!DOCTYPE html>"),
        (Fault::Empty200, "application/json", ""),
        (Fault::BodyAfterCommit(b"{\"a\":1,\"a\":2}".to_vec()), "application/json", "{\"a\":1,"),
        (Fault::NoAccessToken, "application/json", "{\"refresh_token\":"),
    ];
    for (fault, content_type, start) in cases {
        let (server, token) = failing(fault).await;
        let response = Peer::new(&server).refresh_request(&token).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], content_type);
        let body = response.text().await.unwrap();
        assert!(body.starts_with(start) && body.is_empty() == start.is_empty(), "{body}");
        assert!(!body.contains("\"access_token\":\""), "{body}");
        assert_processed(&server, &token, true).await;
    }
}

#[tokio::test]
async fn a_torn_body_begins_well_and_ends_in_an_error() {
    let (server, token) = failing(Fault::TornBody).await;
    let mut response = Peer::new(&server).refresh_request(&token).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let announced = response.content_length().unwrap();
    let mut received = Vec::new();
    let error = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => received.extend_from_slice(&chunk),
            Ok(None) => panic!("the body ended well"),
            Err(error) => break error,
        }
    };
    assert!(error.is_decode() || error.is_body(), "{error:?}");
    assert!(received.starts_with(b"{\"access_token\":"), "{received:?}");
    assert_eq!(received.len() as u64, announced / 2);
    assert_processed(&server, &token, true).await;
}

#[tokio::test]
async fn a_huge_body_goes_on_until_the_client_has_had_enough() {
    let (server, token) = failing(Fault::HugeBody).await;
    let mut response = Peer::new(&server).refresh_request(&token).send().await.unwrap();
    assert_eq!(response.content_length(), None);
    let mut received = 0;
    while received < 2 << 20 {
        received += response.chunk().await.unwrap().unwrap().len();
    }
    drop(response);
    assert_processed(&server, &token, true).await;
}

#[tokio::test]
async fn a_slow_body_comes_byte_by_byte_on_the_servers_clock() {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock.clone()).start().await.unwrap();
    server.fail_next(Endpoint::Token, Fault::SlowBody(SECOND));
    let mut response = Peer::new(&server).login_request().send().await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "{");
    for expected in ["\"", "a", "c"] {
        clock.advance(SECOND).await;
        assert_eq!(response.chunk().await.unwrap().unwrap(), expected);
    }
}

#[tokio::test]
async fn a_delayed_answer_is_processed_at_once_and_sent_when_its_time_comes() {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock.clone()).start().await.unwrap();
    server.fail_next(Endpoint::Token, Fault::Delay(SECOND * 60));
    let peer = Peer::new(&server);
    let ((status, _), ()) = tokio::join!(answer(peer.login_request()), async {
        server.wait_for_count(Endpoint::Password, 1).await;
        assert_eq!((server.live_grants(), clock.sleepers()), (1, 1));
        clock.advance(SECOND * 60).await;
    });
    assert_eq!(status, 200);
}

#[tokio::test]
async fn held_requests_wait_before_or_after_they_are_processed() {
    for (fault, live) in [(Fault::HoldBeforeProcessing, 0), (Fault::HoldUntilReleased, 2)] {
        let server = FakeAuthServer::start().await.unwrap();
        let peer = Peer::new(&server);
        server.fail_next_n(Endpoint::Token, 2, fault);
        let ((first, _), (second, _), ()) =
            tokio::join!(answer(peer.login_request()), answer(peer.login_request()), async {
                server.held(2).await;
                assert_eq!(server.live_grants(), live);
                server.release();
            });
        assert_eq!((first, second, server.live_grants()), (200, 200, 2));
        Peer::new(&server).login().await;
    }
}

/// 1. The request arrives, and is held. 2. Its client gives up and closes the connection. 3. The
/// request is let go, and is processed as if nothing had happened.
#[tokio::test]
async fn a_held_request_is_processed_even_if_its_client_has_gone() {
    let (server, token) = failing(Fault::HoldBeforeProcessing).await;
    {
        let peer = Peer::new(&server);
        tokio::select! {
            _ = peer.refresh(&token) => panic!("answered"),
            () = server.held(1) => {}
        }
    }
    // As long as it takes a server to notice that a client has gone, and more.
    ManualClock::new().advance(SECOND).await;
    assert_eq!(server.refreshes(), 0);
    server.release();
    server.running.wait_until(|state| state.held == 0 && state.counts().refreshes == 1).await;
    assert_processed(&server, &token, true).await;
}

#[tokio::test]
async fn faults_come_in_order_and_those_of_the_grant_type_first() {
    let server = FakeAuthServer::start().await.unwrap();
    let peer = Peer::new(&server);
    let status = |code| Fault::Status { code, retry_after: None, body: None };
    server.fail_always(Endpoint::Token, Some(status(504)));
    server.fail_always(Endpoint::Password, Some(status(503)));
    server.fail_next(Endpoint::Token, status(501));
    server.fail_next_n(Endpoint::Password, 2, status(500));
    let login = async || answer(peer.login_request()).await.0;
    for expected in [500, 500, 501, 503, 503] {
        assert_eq!(login().await, expected);
    }
    server.fail_always(Endpoint::Password, None);
    assert_eq!(login().await, 504);
    assert_eq!(peer.visit("x").await, 401);
    server.fail_next(Endpoint::Resource, status(500));
    server.clear_faults();
    assert_eq!((login().await, peer.visit("x").await), (200, 401));
}
