//! Logins whose parameters are pushed to the server before the browser comes.

use std::time::Duration;

use session_warden::ErrorKind;
use session_warden::clock::Clock;
use session_warden::provider::oauth2::{LoginOptions, OAuth2};
use session_warden::testing::{Endpoint, FakeAuthServer, FakeServerShape, Fault, ManualClock};
use session_warden::transport::TransportConfig;
use session_warden::{Sessions, Supervisor};

use super::{BACK, follow, query};
use crate::support::key;

/// A server, and sessions that discover it.
async fn pushing(
    shape: FakeServerShape,
    set: impl Fn(OAuth2) -> OAuth2,
) -> (FakeAuthServer, ManualClock, Supervisor, Sessions<OAuth2>) {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock.clone()).client("client", "secret");
    let server = server.shape(shape).start().await.unwrap();
    let client = OAuth2::discover(server.url(), "client").unwrap();
    let client = client.client_secret_basic("secret").redirect_uri(BACK).unwrap().scope("read");
    let supervisor = Supervisor::builder()
        .clock(clock.clone())
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("p", set(client))
        .start()
        .await
        .unwrap();
    let sessions = supervisor.sessions("p").unwrap();
    (server, clock, supervisor, sessions)
}

fn required() -> FakeServerShape {
    FakeServerShape { requires_pushed: true, ..FakeServerShape::default() }
}

async fn logs_in(server: &FakeAuthServer, clock: &ManualClock, sessions: &Sessions<OAuth2>) {
    let login = sessions.begin_login(key("device"), LoginOptions::new()).await.unwrap();
    let asked = query(login.url.as_str());
    let mut names: Vec<_> = asked.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["client_id", "request_uri"], "the browser sees nothing else");
    let expected = clock.now().wall + Duration::from_secs(60);
    assert_eq!(login.url_expires_at, Some(expected));
    assert!(login.expires_at > expected, "the user may take longer to log in than to come");
    let back = follow(&login).await;
    let (session, _) = sessions.finish_login(&login.ticket, &back).await.unwrap();
    let token = session.permission_token().await.unwrap();
    assert!(server.is_active(token.expose_secret()));
    assert_eq!(server.counts().of(Endpoint::PushedAuthorization).granted, 1);
}

#[tokio::test]
async fn a_server_that_requires_pushed_logins_gets_them_without_a_setting() {
    let (server, clock, _supervisor, sessions) = pushing(required(), |client| client).await;
    logs_in(&server, &clock, &sessions).await;
}

#[tokio::test]
async fn a_setting_pushes_logins_to_a_server_that_takes_both() {
    for client in [OAuth2::client_secret_basic, OAuth2::client_secret_post] {
        let set = |own: OAuth2| client(own, "secret").push_authorization_requests();
        let (server, clock, _supervisor, sessions) = pushing(FakeServerShape::default(), set).await;
        logs_in(&server, &clock, &sessions).await;
    }
}

#[tokio::test]
async fn without_a_setting_and_a_requirement_the_url_has_the_parameters() {
    let (server, _, _supervisor, sessions) =
        pushing(FakeServerShape::default(), |client| client).await;
    let login = sessions.begin_login(key("device"), LoginOptions::new()).await.unwrap();
    assert_eq!(query(login.url.as_str())["scope"], "read");
    assert_eq!(login.url_expires_at, None);
    assert_eq!(server.count(Endpoint::PushedAuthorization), 0);
}

#[tokio::test]
async fn a_reference_serves_once_and_for_a_minute() {
    let (_server, clock, _supervisor, sessions) = pushing(required(), |client| client).await;
    let login = sessions.begin_login(key("device"), LoginOptions::new()).await.unwrap();
    clock.advance(Duration::from_secs(60)).await;
    let answer = reqwest::get(login.url.as_str()).await.unwrap();
    assert_eq!(answer.status(), 400, "the server refuses it, and the browser shows that");
}

#[tokio::test]
async fn a_push_that_the_server_refuses_says_what_to_correct() {
    let (server, _, _supervisor, sessions) =
        pushing(required(), |client| client.client_secret_basic("wrong")).await;
    let refused = sessions.begin_login(key("device"), LoginOptions::new()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misconfigured);
    assert_eq!(refused.provider_code(), Some("invalid_client"));
    assert!(refused.to_string().contains("check the client id, the client secret"), "{refused}");
    assert_eq!(server.count(Endpoint::PushedAuthorization), 1);

    let set = |client: OAuth2| {
        client.pushed_authorization_request_endpoint("http://127.0.0.1:1/par").unwrap()
    };
    let (_server, _, _supervisor, sessions) = pushing(required(), set).await;
    let refused = sessions.begin_login(key("device"), LoginOptions::new()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::RetryLater);
    assert!(refused.to_string().contains("could not be reached"), "{refused}");
}

#[tokio::test]
async fn a_push_whose_response_is_lost_can_be_sent_again_at_once() {
    let (server, clock, _supervisor, sessions) = pushing(required(), |client| client).await;
    server.fail_next(Endpoint::PushedAuthorization, Fault::DropAfterCommit);
    let lost = sessions.begin_login(key("device"), LoginOptions::new()).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::RetryLater);
    let login = sessions.begin_login(key("device"), LoginOptions::new()).await.unwrap();
    let back = follow(&login).await;
    let _ = sessions.finish_login(&login.ticket, &back).await.unwrap();
    drop(clock);
}
