//! Requests of the middleware to a real API under load, with tokens that live 2 s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use session_warden::Session;
use session_warden::clock::{Clock, SystemClock};
use session_warden::middleware::Resend;
use session_warden::middleware::tower::SessionLayer;
use session_warden::provider::Registration;
use session_warden::provider::oauth2::OAuth2;
use session_warden::store::MemoryStore;
use tokio::task::JoinSet;
use tower::{Layer, ServiceExt};

use super::{client, session, sign_in, supervised};
use crate::oidc_peer::{OidcPeer, Options};

/// How many callers send requests at once, one after the other.
const CALLERS: u64 = 64;

/// How many sessions they use.
const SESSIONS: u64 = 8;

/// Some five lives of a token.
const SPAN: Duration = Duration::from_secs(10);

/// What the callers saw.
#[derive(Default)]
struct Load {
    calls: AtomicU64,
    resent: AtomicU64,
}

/// The user info endpoint is an API that takes access tokens (OpenID Connect Core 1.0 section 5.3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_call_fails_because_of_a_token_that_lives_two_seconds() {
    let peer = OidcPeer::start(Options { access_ttl_s: 2, ..Options::default() }).await;
    let client = client(&peer).scope("openid offline_access");
    let registration = Registration::new(client).api_origins([peer.issuer()]);
    let supervisor = supervised(&MemoryStore::new(), registration).start().await.unwrap();
    let sessions: Vec<_> = (0..SESSIONS).map(|n| session(&supervisor, &n.to_string())).collect();
    for session in &sessions {
        sign_in(session).await.unwrap();
    }
    let (load, until) = (Arc::new(Load::default()), now() + SPAN);
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let session = sessions[usize::try_from(caller % SESSIONS).unwrap()].clone();
        let (url, load) = (format!("{}/me", peer.issuer()), Arc::clone(&load));
        if caller % 2 == 0 {
            callers.spawn(with_reqwest(session, url, load, until));
        } else {
            callers.spawn(with_hyper(session, url, load, until));
        }
    }
    callers.join_all().await;

    let (calls, resent) = (load.calls.load(Ordering::SeqCst), load.resent.load(Ordering::SeqCst));
    let counts = peer.counts().await;
    println!("{calls} calls, {resent} of them sent twice, {} refreshes", counts.refreshes);
    assert!(calls > 10 * CALLERS, "{calls} calls");
    assert!(counts.refreshes >= 3 * SESSIONS, "{counts:?}");
    assert_eq!((counts.refresh_errors, counts.reuse_detected), (0, 0), "{counts:?}");
}

async fn with_reqwest(session: Session<OAuth2>, url: String, load: Arc<Load>, until: Duration) {
    while now() < until {
        let response = session.get(&*url).send().await.unwrap();
        load.count(response.extensions().get(), response.status().as_u16());
        let body = response.text().await.unwrap();
        assert!(body.contains("\"sub\":\"alice\""), "{body}");
    }
}

async fn with_hyper(session: Session<OAuth2>, url: String, load: Arc<Load>, until: Duration) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let client = SessionLayer::new(session).layer(client);
    while now() < until {
        let request = Request::get(&*url).body(Full::<Bytes>::default()).unwrap();
        let response = client.clone().oneshot(request).await.unwrap();
        load.count(response.extensions().get(), response.status().as_u16());
        response.into_body().collect().await.unwrap();
    }
}

/// The time since the start of the machine.
fn now() -> Duration {
    SystemClock::new().now().monotonic
}

impl Load {
    #[track_caller]
    fn count(&self, resend: Option<&Resend>, status: u16) {
        assert_eq!(status, 200, "after {} calls", self.calls.load(Ordering::SeqCst));
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.resent.fetch_add(u64::from(resend == Some(&Resend::Resent)), Ordering::SeqCst);
    }
}
