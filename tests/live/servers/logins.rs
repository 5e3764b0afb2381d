//! Logins on the pages of servers.

use session_warden::error::Refusal;
use session_warden::provider::oauth2::{LoginOptions, OAuth2};
use session_warden::store::MemoryStore;
use session_warden::supervisor::Sessions;
use session_warden::{ErrorKind, Establishment, SessionKey};

use crate::sessions::{PROVIDER, supervised};
use crate::wsgi_peer::{Counts, Kind, WsgiPeer};

pub async fn a_user_who_logs_in_and_consents_on_the_servers_pages_brings_back_a_session(
    kind: Kind,
) {
    let peer = WsgiPeer::start(kind, 60).await;
    let supervisor = supervised(&MemoryStore::new(), peer.login_client()).start().await.unwrap();
    let all: Sessions<OAuth2> = supervisor.sessions(PROVIDER).unwrap();
    let key = SessionKey::new("tenant", "device").unwrap();
    let options = LoginOptions::new().scope(kind.scope());
    let login = all.begin_login(key, options).await.unwrap();
    let back = peer.log_in(login.url.as_str(), "bob").await;
    let (session, established) = all.finish_login(&login.ticket, &back).await.unwrap();
    let Establishment::Active(attributes) = established;
    assert_eq!(attributes.scope.as_deref(), Some(kind.scope()));
    let first = session.permission_token().await.unwrap();
    assert_eq!(peer.user_of(first.expose_secret()).await.as_deref(), Some("bob"));

    let second = session.refresh().await.unwrap();
    assert_eq!(second.generation(), 2);
    assert_eq!(peer.user_of(second.expose_secret()).await.as_deref(), Some("bob"));
    assert_eq!(peer.user_of(first.expose_secret()).await, None, "the refresh ended it");

    let again = all.finish_login(&login.ticket, &back).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Refused(Refusal::ChallengeExpired));
    let expected = Counts { token_requests: 2, established: 1, refreshes: 1, ..Counts::default() };
    assert_eq!(peer.counts().await, expected);
}
