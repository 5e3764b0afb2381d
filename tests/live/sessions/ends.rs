//! The ways in which sessions end.

use http::{Request, StatusCode};
use session_warden::ErrorKind;
use session_warden::error::LostReason;
use session_warden::event::EventKind;
use session_warden::session::{Revocation, State, Verdict};
use session_warden::store::MemoryStore;

use super::{all, callers, client, handles, happened, refresh_token, session, sign_in, supervised};
use crate::oidc_peer::{Counts, OidcPeer, Options};

#[tokio::test]
async fn a_revoked_session_is_dead_at_the_server_and_stays_closed() {
    let peer = OidcPeer::start(Options { access_ttl_s: 600, ..Options::default() }).await;
    let store = MemoryStore::new();
    let supervisor = supervised(&store, client(&peer)).start().await.unwrap();
    let mut events = supervisor.subscribe();
    let session = session(&supervisor, "device");
    sign_in(&session).await.unwrap();
    let access = session.permission_token().await.unwrap();
    let refresh = refresh_token(&store, &session).await;
    assert!(peer.introspect(access.expose_secret()).await);
    assert!(peer.introspect(&refresh).await);

    assert_eq!(session.revoke().await.unwrap(), Revocation::AtServer);
    assert!(!peer.introspect(access.expose_secret()).await);
    assert!(!peer.introspect(&refresh).await);
    assert_eq!(session.revoke().await.unwrap(), Revocation::LocalOnly, "nothing is left to tell");

    assert!(session.try_permission_token().is_none());
    let error = session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEstablished);
    assert_eq!(session.status().await.unwrap().state, State::Closed);
    assert_eq!(happened(&mut events), [EventKind::Established, EventKind::Revoked]);
    let counts = peer.counts().await;
    assert_eq!((counts.revocations, counts.grants_revoked, counts.token_requests), (1, 1, 1));

    sign_in(&session).await.unwrap();
    let token = session.permission_token().await.unwrap();
    assert!(token.generation() > access.generation());
    assert!(peer.introspect(token.expose_secret()).await);
}

#[tokio::test]
async fn a_session_that_somebody_ended_at_the_server_is_lost_once_its_token_is_rejected() {
    let peer = OidcPeer::start(Options { access_ttl_s: 600, ..Options::default() }).await;
    let client = client(&peer).scope("openid offline_access");
    let supervisor = supervised(&MemoryStore::new(), client).start().await.unwrap();
    let mut events = supervisor.subscribe();
    let session = session(&supervisor, "device");
    sign_in(&session).await.unwrap();

    let (mut request, ()) = Request::new(()).into_parts();
    let used = session.authorize(&mut request).await.unwrap();
    let response = peer.call_api(request.clone()).await;
    assert_eq!(response.status, StatusCode::OK, "{response:?}");
    assert_eq!(session.rejected(&used, &response, b""), Verdict::Forward);

    // RFC 7009, past the library; this server then ends the refresh token too.
    let (status, answer) = peer.post("/token/revocation", &[("token", used.expose_secret())]).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let response = peer.call_api(request).await;
    assert_eq!(response.status, StatusCode::UNAUTHORIZED, "{response:?}");
    assert_eq!(session.try_permission_token().unwrap().generation(), 1, "nobody knows it yet");

    assert_eq!(session.rejected(&used, &response, b""), Verdict::Retry);
    assert!(session.try_permission_token().is_none());
    for _ in 0..2 {
        let calls = callers(handles(&session, 50), async |s| s.permission_token().await);
        for call in all(calls).await {
            assert_eq!(call.unwrap_err().kind(), ErrorKind::SignInAgain(LostReason::Rejected));
        }
    }
    let expected = [EventKind::Established, EventKind::Lost(LostReason::Rejected)];
    assert_eq!(happened(&mut events), expected);
    let expected = Counts {
        token_requests: 2,
        established: 1,
        refresh_errors: 1,
        revocations: 1,
        ..Counts::default()
    };
    assert_eq!(peer.counts().await, expected);
}

#[tokio::test]
async fn a_rejected_token_of_a_living_session_is_replaced_once_for_all_who_report_it() {
    let peer = OidcPeer::start(Options { access_ttl_s: 600, ..Options::default() }).await;
    let supervisor = supervised(&MemoryStore::new(), client(&peer)).start().await.unwrap();
    let session = session(&supervisor, "device");
    sign_in(&session).await.unwrap();
    let used = session.permission_token().await.unwrap();
    // An API that no longer accepts this token, simulated by a token that is not the server's at
    // all.
    let (mut request, ()) = Request::new(()).into_parts();
    request.headers.insert("authorization", "Bearer forgotten".parse().unwrap());
    let response = peer.call_api(request).await;
    assert_eq!(response.status, StatusCode::UNAUTHORIZED, "{response:?}");

    for _ in 0..10 {
        assert_eq!(session.rejected(&used, &response, b""), Verdict::Retry);
        let token = session.permission_token().await.unwrap();
        assert_eq!(token.generation(), 2, "late reports do not hit its successor");
        assert!(peer.introspect(token.expose_secret()).await);
    }
    assert_eq!(peer.counts().await.refreshes, 1);
}
