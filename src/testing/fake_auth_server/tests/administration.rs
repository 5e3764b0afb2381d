//! Counts, waiting, the administrator, and the end.

use std::sync::Arc;

use super::*;

#[tokio::test]
async fn requests_are_counted_by_endpoint_and_by_outcome() {
    let server = FakeAuthServer::start().await.unwrap();
    let peer = Peer::new(&server);
    let tokens = peer.login().await;
    peer.token(&[("grant_type", "client_credentials")]).await;
    peer.token(&[("grant_type", "magic")]).await;
    let renewed = Tokens::of(&peer.refresh(&tokens.refresh).await);
    peer.refresh("unknown").await;
    server.fail_next(Endpoint::RefreshToken, Fault::CloseBeforeProcessing);
    peer.refresh_request(&renewed.refresh).send().await.unwrap_err();
    peer.visit(&renewed.access).await;
    peer.visit("unknown").await;

    let counts = server.counts();
    let tally = |requests, granted, refused| Tally { requests, granted, refused };
    assert_eq!(counts.token, tally(6, 3, 2));
    assert_eq!(counts.password, tally(1, 1, 0));
    assert_eq!(counts.client_credentials, tally(1, 1, 0));
    assert_eq!(counts.authorization_code, Tally::default());
    assert_eq!(counts.refresh_token, tally(3, 1, 1));
    assert_eq!(counts.resource, tally(2, 1, 1));
    let errors = [("invalid_grant", 1), ("invalid_token", 1), ("unsupported_grant_type", 1)];
    assert!(counts.errors.iter().map(|(code, n)| (code.as_str(), *n)).eq(errors));
    // One, and another after that which was closed.
    assert_eq!(counts.connections, 2);
    assert_eq!((counts.refreshes, counts.presented_twice), (1, 0));
    assert_eq!(server.times_presented(&renewed.refresh), 1);
    assert_eq!(server.times_presented("unknown"), 1);
    assert_eq!(server.count(Endpoint::Token), 6);
}

#[tokio::test]
async fn a_token_that_arrives_again_is_noticed_even_if_it_was_not_processed() {
    let server = FakeAuthServer::start().await.unwrap();
    let peer = Peer::new(&server);
    let token = peer.login().await.refresh;
    server.fail_next(Endpoint::Token, Fault::StatusAfterCommit(500));
    for _ in 0..3 {
        peer.refresh(&token).await;
    }
    assert_eq!((server.presented_twice(), server.times_presented(&token)), (1, 3));
}

#[tokio::test]
async fn waiting_for_a_count_ends_with_the_request_that_makes_it_true() {
    let server = FakeAuthServer::start().await.unwrap();
    let peer = Peer::new(&server);
    server.wait_for_count(Endpoint::Token, 0).await;
    let requests = async {
        for _ in 0..3 {
            peer.login().await;
        }
    };
    tokio::join!(server.wait_for_count(Endpoint::Password, 3), requests);
    assert_eq!(server.count(Endpoint::Password), 3);
}

#[tokio::test]
async fn the_administrator_ends_grants_and_tokens() {
    let server = FakeAuthServer::start().await.unwrap();
    let peer = Peer::new(&server);
    let form = [("grant_type", "password"), ("username", "bob"), ("password", "ok")];
    let (alice, bob) = (peer.login().await, Tokens::of(&peer.token(&form).await));
    server.kill_access_tokens();
    assert_eq!((peer.visit(&alice.access).await, peer.visit(&bob.access).await), (401, 401));
    assert_eq!(server.live_grants(), 2);

    server.revoke_user("alice");
    assert_eq!(peer.refresh(&alice.refresh).await, refusal(400, "invalid_grant"));
    let bob = Tokens::of(&peer.refresh(&bob.refresh).await);
    server.kill_all_grants();
    assert_eq!(peer.visit(&bob.access).await, 401);
    assert_eq!((server.live_grants(), server.grants_revoked()), (0, 2));
    assert_eq!(server.reuses_detected(), 0);
}

#[tokio::test]
async fn lifetimes_and_secrets_change_while_the_server_runs() {
    let server = FakeAuthServer::builder().client("app", "old").start().await.unwrap();
    let peer = Peer::new(&server);
    let login = async || {
        let (name, value) = basic("app", "old");
        answer(peer.login_request().header(name, value)).await
    };
    server.set_access_lifetime(SECOND * 5);
    assert_eq!(login().await.1["expires_in"], 5);
    server.set_client_secret("app", "new");
    assert_eq!(login().await, refusal(401, "invalid_client"));
    server.set_client_secret("app", "old");
    assert_eq!(login().await.0, 200);
}

#[tokio::test]
async fn stopping_answers_what_is_held_and_closes_the_port() {
    let server = FakeAuthServer::start().await.unwrap();
    let url = server.url().to_owned();
    server.fail_next(Endpoint::Token, Fault::HoldUntilReleased);
    let request = Peer::new(&server).login_request();
    let ((status, _), ()) = tokio::join!(answer(request), async {
        server.held(1).await;
        server.stop().await;
    });
    assert_eq!(status, 200);
    let error = reqwest::get(url).await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
}

#[tokio::test]
async fn dropping_the_handle_closes_idle_connections_and_the_port() {
    let server = FakeAuthServer::start().await.unwrap();
    let url = server.url().to_owned();
    let peer = Peer::new(&server);
    peer.login().await;
    let http = peer.http;
    let running = Arc::downgrade(&server.running);
    drop(server);
    while running.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
    http.get(url).send().await.unwrap_err();
}

#[tokio::test]
async fn a_connection_that_its_client_has_closed_leaves_nothing_behind() {
    let server = FakeAuthServer::start().await.unwrap();
    let stays = Peer::new(&server);
    stays.login().await;
    // Every connection has its own handles of the running server.
    let before = Arc::strong_count(&server.running);
    Peer::new(&server).login().await;
    while Arc::strong_count(&server.running) > before {
        tokio::task::yield_now().await;
    }
    stays.login().await;
    assert_eq!(server.counts().connections, 2);
}
