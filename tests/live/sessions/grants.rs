//! Grants that establish a session, and grants that the server refuses.

use session_warden::ErrorKind;
use session_warden::error::Refusal;
use session_warden::event::EventKind;
use session_warden::provider::oauth2::{ClientCredentials, OAuth2, Password};
use session_warden::session::State;
use session_warden::store::MemoryStore;
use session_warden::{Establishment, PermissionToken};

use super::{
    SECOND, all, callers, client, handles, happened, password, session, sessions, sign_in,
    supervised,
};
use crate::oidc_peer::{CLIENT_ID, Counts, OidcPeer, Options};
use crate::peer::in_time;

#[tokio::test]
async fn a_password_makes_a_session_whose_token_the_server_calls_active() {
    let peer = OidcPeer::start(Options::default()).await;
    let supervisor = supervised(&MemoryStore::new(), client(&peer)).start().await.unwrap();
    let session = session(&supervisor, "device");
    let error = session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEstablished);

    let Establishment::Active(attributes) = session.establish(password()).await.unwrap();
    assert_eq!(attributes.scope.as_deref(), Some("offline_access"), "the server's default");
    assert_eq!(session.attributes().await.unwrap(), attributes);

    let token = session.permission_token().await.unwrap();
    assert_eq!((token.epoch(), token.generation()), (1, 1));
    assert!(peer.introspect(token.expose_secret()).await);
    let status = session.status().await.unwrap();
    assert_eq!((status.state, status.saved), (State::Active, true));
    assert_eq!(status.access_expires_at, token.expires_at());
    let expected = Counts { token_requests: 1, established: 1, ..Counts::default() };
    assert_eq!(peer.counts().await, expected);
}

#[tokio::test]
async fn a_scope_that_was_asked_for_is_granted_and_kept_by_refreshes() {
    let peer = OidcPeer::start(Options::default()).await;
    let client = client(&peer).scope("openid offline_access");
    let supervisor = supervised(&MemoryStore::new(), client).start().await.unwrap();
    let session = session(&supervisor, "device");
    sign_in(&session).await.unwrap();
    session.refresh().await.unwrap();
    let attributes = session.attributes().await.unwrap();
    assert_eq!(attributes.scope.as_deref(), Some("openid offline_access"));
}

#[tokio::test]
async fn the_server_takes_a_client_that_says_who_it_is_in_the_body_and_a_public_one() {
    let peer = OidcPeer::start(Options::default()).await;
    let known = |id| OAuth2::discover(peer.issuer(), id).unwrap();
    for client in [known("post").client_secret_post("post-secret"), known("public")] {
        let supervisor = supervised(&MemoryStore::new(), client).start().await.unwrap();
        let session = session(&supervisor, "device");
        sign_in(&session).await.unwrap();
        assert_eq!(session.refresh().await.unwrap().generation(), 2);
    }
    let counts = peer.counts().await;
    assert_eq!((counts.token_requests, counts.established, counts.refreshes), (4, 2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_of_client_credentials_gets_tokens_once_for_all_callers_and_when_they_expire() {
    let peer = OidcPeer::start(Options { access_ttl_s: 4, ..Options::default() }).await;
    let client = client(&peer).client_credentials();
    let supervisor = supervised(&MemoryStore::new(), client).start().await.unwrap();
    let session = session(&supervisor, "machine");

    let tokens = all(callers(handles(&session, 100), async |s| s.permission_token().await)).await;
    assert_eq!(generations(tokens), [1; 100]);
    let counts = peer.counts().await;
    assert_eq!((counts.token_requests, counts.established), (1, 1));

    // Only callers notice that the token expires.
    let next = in_time(async {
        loop {
            let token = session.permission_token().await.unwrap();
            if token.generation() > 1 {
                return token;
            }
            peer.introspect(token.expose_secret()).await;
        }
    })
    .await;
    assert!(peer.introspect(next.expose_secret()).await);
    let counts = peer.counts().await;
    assert_eq!((counts.token_requests, counts.established), (next.generation(), next.generation()));
    assert_eq!(session.status().await.unwrap().state, State::Active);
}

#[tokio::test]
async fn a_client_credentials_grant_can_also_be_established() {
    let peer = OidcPeer::start(Options::default()).await;
    let supervisor = supervised(&MemoryStore::new(), client(&peer)).start().await.unwrap();
    let session = session(&supervisor, "machine");
    let Establishment::Active(_) = session.establish(ClientCredentials::new()).await.unwrap();
    assert!(peer.introspect(session.permission_token().await.unwrap().expose_secret()).await);
}

#[tokio::test]
async fn a_wrong_client_secret_is_one_alarm_and_one_request_and_all_sessions_are_kept() {
    const SESSIONS: usize = 20;
    let peer = OidcPeer::start(Options { access_ttl_s: 600, ..Options::default() }).await;
    let store = MemoryStore::new();

    let supervisor = supervised(&store, client(&peer)).start().await.unwrap();
    for session in sessions(&supervisor, SESSIONS) {
        sign_in(&session).await.unwrap();
    }
    assert!(supervisor.shutdown(10 * SECOND).await.is_clean());

    let wrong = OAuth2::discover(peer.issuer(), CLIENT_ID).unwrap().client_secret_basic("wrong");
    let supervisor = supervised(&store, wrong).start().await.unwrap();
    let mut events = supervisor.subscribe();
    let devices = sessions(&supervisor, SESSIONS);
    let first = devices[0].refresh().await.unwrap_err();
    assert_eq!(
        (first.kind(), first.provider_code()),
        (ErrorKind::Misconfigured, Some("invalid_client"))
    );
    for _ in 0..10 {
        let refused = all(callers(devices.clone(), async |s| s.refresh().await)).await;
        for refused in refused {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Misconfigured);
        }
    }
    let refused = session(&supervisor, "another").establish(password()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misconfigured);

    let counts = peer.counts().await;
    assert_eq!(counts.token_requests, SESSIONS as u64 + 1, "one probe for all of these calls");
    let happened = happened(&mut events);
    assert!(matches!(&happened[..], [EventKind::ProviderRejecting(_)]), "{happened:?}");
    for session in &devices {
        assert_eq!(session.status().await.unwrap().state, State::Active);
        let token = session.permission_token().await.unwrap();
        assert!(peer.introspect(token.expose_secret()).await, "served for as long as it lives");
    }

    // A restart would wait for the next probe, because the store knows that the client is stopped.
    supervisor.sessions::<OAuth2>("oidc").unwrap().replace(client(&peer)).await.unwrap();
    for session in &devices {
        assert_eq!(session.refresh().await.unwrap().generation(), 2, "the configuration is mended");
    }
    assert_eq!(peer.counts().await.reuse_detected, 0);
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_a_former_session_lives_on() {
    let peer = OidcPeer::start(Options { access_ttl_s: 600, ..Options::default() }).await;
    let supervisor = supervised(&MemoryStore::new(), client(&peer)).start().await.unwrap();
    let mut events = supervisor.subscribe();
    let (former, none) = (session(&supervisor, "former"), session(&supervisor, "none"));
    sign_in(&former).await.unwrap();
    for session in [&former, &none] {
        let refused = session.establish(Password::new("alice", "wrong")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused(Refusal::WrongCredentials));
        assert_eq!(refused.provider_code(), Some("invalid_grant"));
        assert!(!refused.is_transient());
    }

    let token = former.permission_token().await.unwrap();
    assert_eq!((token.epoch(), token.generation()), (1, 1));
    assert!(peer.introspect(token.expose_secret()).await);
    assert_eq!(former.refresh().await.unwrap().generation(), 2);
    let error = none.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEstablished);
    assert_eq!(happened(&mut events), [EventKind::Established, EventKind::Refreshed]);
}

fn generations(tokens: Vec<session_warden::error::Result<PermissionToken>>) -> Vec<u64> {
    tokens.into_iter().map(|token| token.unwrap().generation()).collect()
}
