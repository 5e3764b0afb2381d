//! What becomes of refresh tokens, server by server.

use super::*;

const GRACE: Duration = Duration::from_secs(30);

async fn server(rotation: FakeRotation) -> (ManualClock, FakeAuthServer) {
    let clock = ManualClock::new();
    let builder = FakeAuthServer::builder().clock(clock.clone()).rotation(rotation);
    (clock, builder.start().await.unwrap())
}

/// Asserts that the only grant is dead.
fn assert_ended(server: &FakeAuthServer, reuses: u64) {
    assert_eq!(server.live_grants(), 0);
    assert_eq!((server.reuses_detected(), server.grants_revoked()), (reuses, 1));
}

#[tokio::test]
async fn a_static_token_serves_for_ever_and_comes_with_no_other() {
    let (_, server) = server(FakeRotation::None).await;
    let peer = Peer::new(&server);
    let tokens = peer.login().await;
    for _ in 0..3 {
        let (status, json) = peer.refresh(&tokens.refresh).await;
        assert_eq!((status, json.get("refresh_token")), (200, None));
        assert_eq!(peer.visit(json["access_token"].as_str().unwrap()).await, 200);
    }
    assert_eq!((server.refreshes(), server.counts().grace_retries), (3, 0));
    assert_eq!((server.presented_twice(), server.times_presented(&tokens.refresh)), (1, 3));
}

#[tokio::test]
async fn a_strict_server_ends_the_grant_when_a_token_comes_again() {
    let (_, server) = server(FakeRotation::Strict).await;
    let peer = Peer::new(&server);
    let (other, first) = (peer.login().await, peer.login().await);
    let second = Tokens::of(&peer.refresh(&first.refresh).await);
    assert_ne!(first, second);
    assert_eq!(peer.visit(&first.access).await, 200);
    assert_eq!(server.live_grants(), 2);

    assert_eq!(peer.refresh(&first.refresh).await, refusal(400, "invalid_grant"));
    for token in [&first.access, &first.refresh, &second.access, &second.refresh] {
        assert!(!server.is_active(token));
    }
    assert_eq!(peer.visit(&second.access).await, 401);
    assert_eq!(peer.refresh(&second.refresh).await, refusal(400, "invalid_grant"));
    // A dead grant does not die again, and the others have nothing to do with it.
    assert_eq!((server.reuses_detected(), server.grants_revoked()), (1, 1));
    assert!(server.is_active(&other.refresh));
}

#[tokio::test]
async fn an_idempotent_server_repeats_its_answer_within_the_grace_time() {
    let (clock, server) = server(FakeRotation::Idempotent(GRACE)).await;
    let peer = Peer::new(&server);
    let first = peer.login().await;
    let second = Tokens::of(&peer.refresh(&first.refresh).await);
    clock.advance(GRACE - SECOND).await;
    let (status, json) = peer.refresh(&first.refresh).await;
    assert_eq!(json["expires_in"], 3600 - 29);
    assert_eq!(Tokens::of(&(status, json)), second);
    assert_eq!((server.refreshes(), server.counts().grace_retries), (1, 1));

    clock.advance(SECOND).await;
    assert_eq!(peer.refresh(&first.refresh).await, refusal(400, "invalid_grant"));
    assert_ended(&server, 1);
}

#[tokio::test]
async fn an_idempotent_server_refuses_the_last_but_one_even_within_the_grace_time() {
    let (_, server) = server(FakeRotation::Idempotent(GRACE)).await;
    let peer = Peer::new(&server);
    let first = peer.login().await;
    let second = Tokens::of(&peer.refresh(&first.refresh).await);
    Tokens::of(&peer.refresh(&second.refresh).await);
    assert_eq!(peer.refresh(&first.refresh).await, refusal(400, "invalid_grant"));
    assert_ended(&server, 1);
}

#[tokio::test]
async fn a_forking_server_gives_another_pair_and_all_of_them_live() {
    let (clock, server) = server(FakeRotation::Fork(GRACE)).await;
    let peer = Peer::new(&server);
    let first = peer.login().await;
    let second = Tokens::of(&peer.refresh(&first.refresh).await);
    let sibling = Tokens::of(&peer.refresh(&first.refresh).await);
    assert_ne!(second, sibling);
    for tokens in [&second, &sibling] {
        assert_eq!(peer.visit(&tokens.access).await, 200);
        Tokens::of(&peer.refresh(&tokens.refresh).await);
    }
    assert_eq!((server.refreshes(), server.counts().grace_retries), (3, 1));

    clock.advance(GRACE).await;
    assert_eq!(peer.refresh(&first.refresh).await, refusal(400, "invalid_grant"));
    assert_ended(&server, 1);
}

#[tokio::test]
async fn a_newest_only_server_gives_another_pair_in_place_of_the_previous() {
    let (_, server) = server(FakeRotation::NewestOnly(GRACE)).await;
    let peer = Peer::new(&server);
    let first = peer.login().await;
    let second = Tokens::of(&peer.refresh(&first.refresh).await);
    let third = Tokens::of(&peer.refresh(&first.refresh).await);
    assert!(!server.is_active(&second.access) && !server.is_active(&second.refresh));
    // Late, not stolen: nothing else happens.
    assert_eq!(peer.refresh(&second.refresh).await, refusal(400, "invalid_grant"));
    assert!(server.is_active(&third.refresh));

    Tokens::of(&peer.refresh(&third.refresh).await);
    assert_eq!(peer.refresh(&first.refresh).await, refusal(400, "invalid_grant"));
    assert_ended(&server, 1);
}

#[tokio::test]
async fn a_newest_only_server_ends_the_grant_after_the_grace_time() {
    let (clock, server) = server(FakeRotation::NewestOnly(GRACE)).await;
    let peer = Peer::new(&server);
    let first = peer.login().await;
    Tokens::of(&peer.refresh(&first.refresh).await);
    clock.advance(GRACE).await;
    assert_eq!(peer.refresh(&first.refresh).await, refusal(400, "invalid_grant"));
    assert_ended(&server, 1);
}

#[tokio::test]
async fn a_refresh_ends_the_old_access_token_if_that_is_the_policy() {
    for rotation in [FakeRotation::None, FakeRotation::Strict] {
        let builder = FakeAuthServer::builder().rotation(rotation).revoke_old_access_token(true);
        let server = builder.start().await.unwrap();
        let peer = Peer::new(&server);
        let first = peer.login().await;
        let second = Tokens::of(&peer.refresh(&first.refresh).await);
        assert_eq!((peer.visit(&first.access).await, peer.visit(&second.access).await), (401, 200));
    }
}

#[tokio::test]
async fn refresh_tokens_end_with_their_lifetime_and_not_with_the_wall_clock() {
    let clock = ManualClock::new();
    let builder =
        FakeAuthServer::builder().clock(clock.clone()).refresh_lifetime(Some(SECOND * 60));
    let server = builder.start().await.unwrap();
    let peer = Peer::new(&server);
    let first = peer.login().await;
    clock.step_wall(1_000_000);
    clock.advance(SECOND * 59).await;
    let second = Tokens::of(&peer.refresh(&first.refresh).await);
    clock.suspend(SECOND * 60);
    assert_eq!(peer.refresh(&second.refresh).await, refusal(400, "invalid_grant"));
    assert_eq!(server.reuses_detected(), 0);
}

#[tokio::test]
async fn a_refresh_token_serves_only_its_own_client() {
    let (_, server) = server(FakeRotation::Strict).await;
    let peer = Peer::new(&server);
    let tokens = peer.login().await;
    let form = [("grant_type", "refresh_token"), ("refresh_token", &*tokens.refresh)];
    let stolen = peer.token(&[&form[..], &[("client_id", "thief")]].concat()).await;
    assert_eq!(stolen, refusal(400, "invalid_grant"));
    assert!(server.is_active(&tokens.refresh));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_refreshes_at_once_one_wins_and_all_the_others_are_reuse() {
    let server = FakeAuthServer::start().await.unwrap();
    let peer = Peer::new(&server);
    let token = peer.login().await.refresh;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        tasks.spawn(answer(peer.refresh_request(&token)));
    }
    let statuses = tasks.join_all().await.into_iter().map(|(status, _)| status);
    assert_eq!(statuses.filter(|status| *status == 200).count(), 1);
    assert_eq!(server.times_presented(&token), 20);
    assert_eq!((server.refreshes(), server.presented_twice()), (1, 1));
    assert_ended(&server, 1);
}
