//! Logins on another device, whose pages a browser fills in.

use session_warden::error::Refusal;
use session_warden::provider::oauth2::{DeviceOptions, OAuth2, UserInfo};
use session_warden::session::DeviceLogin;
use session_warden::store::MemoryStore;
use session_warden::{ErrorKind, Session};

use super::{client, session, supervised};
use crate::oidc_peer::{OidcPeer, Options};

async fn begin(session: &Session<OAuth2>) -> DeviceLogin {
    let options =
        DeviceOptions::new().scope("openid offline_access").parameter("prompt", "consent");
    session.begin_device_login(options).await.unwrap()
}

fn page(login: &DeviceLogin) -> &str {
    login.verification_uri_complete.as_ref().unwrap().as_str()
}

#[tokio::test]
async fn a_user_approves_on_the_pages_of_the_server_while_two_processes_poll() {
    let peer = OidcPeer::start(Options { access_ttl_s: 600, ..Options::default() }).await;
    let store = MemoryStore::new();
    let ring =
        session_warden::seal::KeyRing::new(1, session_warden::seal::MasterKey::from([7; 32]));
    let start = || supervised(&store, client(&peer)).key_ring(ring.clone()).start();
    let (first, second) = (start().await.unwrap(), start().await.unwrap());
    let [one, other] = [&first, &second].map(|supervisor| session(supervisor, "device"));
    let login = begin(&one).await;
    let approve = async {
        peer.until(|counts| counts.device_polls >= 1).await;
        peer.approve(page(&login)).await
    };
    let (finished, also, last) = tokio::join!(
        one.finish_device_login(&login.ticket),
        other.finish_device_login(&login.ticket),
        approve,
    );
    let (_, _) = (finished.unwrap(), also.unwrap());
    assert!(last.contains("successful"), "{last}");
    assert_eq!(one.call(UserInfo).await.unwrap()["sub"], "alice");
    let token = other.permission_token().await.unwrap();
    assert!(peer.introspect(token.expose_secret()).await);
    assert_eq!(one.refresh().await.unwrap().generation(), 2);
    let counts = peer.counts().await;
    assert_eq!((counts.established, counts.early_polls, counts.grants_revoked), (1, 0, 0));
}

#[tokio::test]
async fn a_user_who_refuses_on_the_pages_of_the_server_ends_the_login() {
    let peer = OidcPeer::start(Options::default()).await;
    let supervisor = supervised(&MemoryStore::new(), client(&peer)).start().await.unwrap();
    let device = session(&supervisor, "device");
    let login = begin(&device).await;
    peer.deny_next_logins(1).await;
    peer.approve(page(&login)).await;
    let refused = device.finish_device_login(&login.ticket).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused(Refusal::NotPermitted));
    assert_eq!(peer.counts().await.device_polls, 1);
}
