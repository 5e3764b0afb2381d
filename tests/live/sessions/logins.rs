//! Logins through a browser, and a client whose secret changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use session_warden::error::Refusal;
use session_warden::event::EventKind;
use session_warden::provider::oauth2::{LoginOptions, OAuth2, UserInfo};
use session_warden::session::State;
use session_warden::store::MemoryStore;
use session_warden::supervisor::Sessions;
use session_warden::{ErrorKind, Establishment, SessionKey};

use super::{PROVIDER, SECOND, all, callers, client, happened, sessions, sign_in, supervised};
use crate::oidc_peer::{CLIENT_ID, OidcPeer, Options, REDIRECT_URI};

fn key() -> SessionKey {
    SessionKey::new("tenant", "device").unwrap()
}

fn options() -> LoginOptions {
    LoginOptions::new().scope("openid offline_access").prompt("consent").login_hint("bob")
}

fn logging_in(peer: &OidcPeer) -> OAuth2 {
    client(peer).redirect_uri(REDIRECT_URI).unwrap()
}

#[tokio::test]
async fn a_browser_that_logs_in_with_pkce_brings_back_a_session() {
    let peer = OidcPeer::start(Options { access_ttl_s: 600, ..Options::default() }).await;
    let supervisor = supervised(&MemoryStore::new(), logging_in(&peer)).start().await.unwrap();
    let all: Sessions<OAuth2> = supervisor.sessions(PROVIDER).unwrap();
    let login = all.begin_login(key(), options()).await.unwrap();
    let back = peer.log_in(login.url.as_str()).await;
    let (session, established) = all.finish_login(&login.ticket, &back).await.unwrap();
    let Establishment::Active(attributes) = established;
    assert_eq!(attributes.scope.as_deref(), Some("openid offline_access"));
    let token = session.permission_token().await.unwrap();
    assert!(peer.introspect(token.expose_secret()).await);
    assert_eq!(session.call(UserInfo).await.unwrap()["sub"], "bob");
    assert_eq!(session.refresh().await.unwrap().generation(), 2);

    // The code would end the session if it came a second time.
    let again = all.finish_login(&login.ticket, &back).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Refused(Refusal::ChallengeExpired));
    session.refresh().await.unwrap();
    let counts = peer.counts().await;
    assert_eq!((counts.token_requests, counts.established, counts.refreshes), (3, 1, 2));
    assert_eq!(counts.grants_revoked, 0);
}

#[tokio::test]
async fn a_browser_brings_only_a_reference_to_a_login_that_was_pushed() {
    let peer = OidcPeer::start(Options { access_ttl_s: 600, ..Options::default() }).await;
    let client = logging_in(&peer).push_authorization_requests();
    let supervisor = supervised(&MemoryStore::new(), client).start().await.unwrap();
    let all: Sessions<OAuth2> = supervisor.sessions(PROVIDER).unwrap();
    let login = all.begin_login(key(), options()).await.unwrap();
    let names: Vec<_> = login.url.query_pairs().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names, ["client_id", "request_uri"]);
    assert!(login.url_expires_at.unwrap() < login.expires_at);
    let back = peer.log_in(login.url.as_str()).await;
    let (session, established) = all.finish_login(&login.ticket, &back).await.unwrap();
    let Establishment::Active(attributes) = established;
    assert_eq!(attributes.scope.as_deref(), Some("openid offline_access"));
    assert_eq!(session.call(UserInfo).await.unwrap()["sub"], "bob");
    assert_eq!(peer.counts().await.pushed, 1);
}

#[tokio::test]
async fn a_user_who_does_not_want_to_is_told_apart_from_one_who_does() {
    let peer = OidcPeer::start(Options::default()).await;
    let supervisor = supervised(&MemoryStore::new(), logging_in(&peer)).start().await.unwrap();
    let all: Sessions<OAuth2> = supervisor.sessions(PROVIDER).unwrap();
    peer.deny_next_logins(1).await;
    let login = all.begin_login(key(), options()).await.unwrap();
    let back = peer.log_in(login.url.as_str()).await;
    let error = all.finish_login(&login.ticket, &back).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::NotPermitted));
    assert_eq!(error.provider_code(), Some("access_denied"));
    assert_eq!(peer.counts().await.token_requests, 0);
    let login = all.begin_login(key(), options()).await.unwrap();
    let back = peer.log_in(login.url.as_str()).await;
    let _ = all.finish_login(&login.ticket, &back).await.unwrap();
}

/// Callers ask all the time while the secret is changed: first at the server, so that the client
/// is rejected for a while, then here.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_secret_is_changed_under_load_and_no_session_is_lost() {
    const SESSIONS: usize = 50;
    let peer = OidcPeer::start(Options { access_ttl_s: 4, ..Options::default() }).await;
    let supervisor = supervised(&MemoryStore::new(), client(&peer)).start().await.unwrap();
    let devices = sessions(&supervisor, SESSIONS);
    for signed_in in all(callers(devices.clone(), async |s| sign_in(&s).await)).await {
        signed_in.unwrap();
    }
    let mut events = supervisor.subscribe();
    let stop = Arc::new(AtomicBool::new(false));
    let load = callers(devices.clone(), |session| {
        let stop = Arc::clone(&stop);
        async move {
            let mut failed = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let got = session.permission_token().await;
                failed.extend(got.err().map(|error| error.kind()));
                tokio::task::yield_now().await;
            }
            failed
        }
    });

    let refreshed = peer.until(|counts| counts.refreshes >= SESSIONS as u64).await;
    peer.set_client_secret(CLIENT_ID, "new").await;
    peer.until(|counts| counts.token_requests > refreshed.token_requests).await;
    let refused = all(callers(devices.clone(), async |s| s.refresh().await)).await;
    assert!(refused.iter().any(Result::is_err), "the former secret is rejected");
    let before = peer.counts().await.refreshes;
    let sessions: Sessions<OAuth2> = supervisor.sessions(PROVIDER).unwrap();
    sessions.replace(client(&peer).client_secret_basic("new")).await.unwrap();
    for refreshed in all(callers(devices.clone(), async |s| s.refresh().await)).await {
        refreshed.unwrap();
    }
    peer.until(|counts| counts.refreshes >= before + 2 * SESSIONS as u64).await;
    stop.store(true, Ordering::Relaxed);

    for failed in all(load).await {
        let unexpected: Vec<_> =
            failed.into_iter().filter(|kind| *kind != ErrorKind::Misconfigured).collect();
        assert_eq!(unexpected, [], "nobody is told more than that the client is rejected");
    }
    for session in &devices {
        let status = session.status().await.unwrap();
        assert!(matches!(status.state, State::Active | State::Refreshing), "{status:?}");
        assert_eq!(status.epoch, 1);
        session.permission_token().await.unwrap();
    }
    let counts = peer.counts().await;
    assert_eq!((counts.established, counts.reuse_detected), (SESSIONS as u64, 0));
    let lost = happened(&mut events).into_iter().any(|kind| matches!(kind, EventKind::Lost(_)));
    assert!(!lost);
    assert!(supervisor.shutdown(10 * SECOND).await.is_clean());
}
