//! Starts panva's `oidc-provider` and reads which requests it got.

mod browser;

use std::path::Path;

use http::{request, response};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::peer::Peer;

/// The confidential client that all of this module's own requests use; it has every grant.
pub const CLIENT_ID: &str = "basic";
pub const CLIENT_SECRET: &str = "basic-secret";

/// The redirect URI of all clients; no server listens there.
pub const REDIRECT_URI: &str = "http://127.0.0.1/callback";

/// How the server behaves. The default rotates strictly, as `README.md` beside the server says.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Counted from the whole second of the issue: a token expires up to a second early.
    pub access_ttl_s: u32,
    pub refresh_ttl_s: u32,
    pub rotate: bool,
    /// Whether the second of two overlapping refreshes is reuse, as behind a row lock.
    pub atomic_consume: bool,
    /// For how long a spent refresh token is accepted again.
    pub overlap_s: u32,
    /// By how much every call of the server's store is slower: widens races.
    pub store_delay_ms: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            access_ttl_s: 5,
            refresh_ttl_s: 120,
            rotate: true,
            atomic_consume: true,
            overlap_s: 0,
            store_delay_ms: 0,
        }
    }
}

/// What the server counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Requests to the token endpoint, whatever the answer was.
    pub token_requests: u64,
    /// Grants other than refreshes that were answered with tokens.
    pub established: u64,
    /// Refreshes that succeeded, those with a lost answer included.
    pub refreshes: u64,
    pub refresh_errors: u64,
    /// Refresh tokens that came a second time, whatever the answer was.
    pub presented_again: u64,
    pub reuse_detected: u64,
    /// For reuse or by revocation.
    pub grants_revoked: u64,
    /// Revocation requests that were accepted, for tokens known or not.
    pub revocations: u64,
    /// Authorization requests that were pushed and accepted.
    pub pushed: u64,
    /// Token requests with a device code, whatever the answer was.
    pub device_polls: u64,
    /// Those that came less than 4.9 s after the one before, with the same code.
    pub early_polls: u64,
    /// Answers that were lost as [`OidcPeer::drop_next_answers`] wished.
    pub dropped: u64,
}

/// A running server, which ends with this value.
pub struct OidcPeer(Peer);

impl OidcPeer {
    /// Starts a server on a free port and waits until it answers.
    ///
    /// # Panics
    ///
    /// If Node or the server's packages are missing, or it does not become ready.
    pub async fn start(options: Options) -> Self {
        Self(Peer::start(&mut command(options)).await)
    }

    pub fn issuer(&self) -> &str {
        self.0.url()
    }

    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    pub async fn counts(&self) -> Counts {
        self.0.counts().await
    }

    /// Waits until the server has counted what is wished.
    pub async fn until(&self, wished: impl Fn(&Counts) -> bool) -> Counts {
        self.0.until(wished).await
    }

    /// The next `n` token answers are lost after the server committed.
    pub async fn drop_next_answers(&self, n: u32) {
        self.0.wish(json!({ "drop_after_commit": n })).await;
    }

    /// Every token answer is held back by `ms` after the server committed; 0 ends that.
    pub async fn delay_answers(&self, ms: u32) {
        self.0.wish(json!({ "delay_ms": ms })).await;
    }

    /// The next `n` logins come back with `access_denied`.
    pub async fn deny_next_logins(&self, n: u32) {
        self.0.wish(json!({ "deny_logins": n })).await;
    }

    /// Gives a client another secret. With that of [`CLIENT_ID`], this module's own requests fail.
    pub async fn set_client_secret(&self, client: &str, secret: &str) {
        self.0.wish(json!({ "client_secrets": { client: secret } })).await;
    }

    /// Whether the server calls the token active.
    pub async fn introspect(&self, token: &str) -> bool {
        let (status, answer) = self.post("/token/introspection", &[("token", token)]).await;
        assert_eq!(status, StatusCode::OK, "introspection failed: {answer}");
        answer["active"].as_bool().expect("RFC 7662 requires it")
    }

    /// Calls the API at this server (OpenID Connect Core, section 5.3) with the request's headers.
    pub async fn call_api(&self, request: request::Parts) -> response::Parts {
        let request = self.0.http().get(format!("{}/me", self.issuer())).headers(request.headers);
        let answer = request.send().await.expect("the server answers");
        http::Response::<reqwest::Body>::from(answer).into_parts().0
    }

    /// One request to the server past the library, as [`CLIENT_ID`].
    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> (StatusCode, Value) {
        self.try_post(path, form).await.expect("the server answers")
    }

    /// The same; an error if the answer was lost.
    pub async fn try_post(
        &self,
        path: &str,
        form: &[(&str, &str)],
    ) -> reqwest::Result<(StatusCode, Value)> {
        self.0.post(path, (CLIENT_ID, CLIENT_SECRET), form).await
    }
}

fn command(options: Options) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/peers/oidc");
    let installed = folder.join("node_modules/oidc-provider").is_dir();
    assert!(installed, "{} has no node_modules: tests/run installs them", folder.display());
    let flag = |on: bool| u32::from(on).to_string();
    let mut command = Command::new("node");
    command
        .arg("server.mjs")
        .current_dir(&folder)
        .env("NODE_NO_WARNINGS", "1")
        .env("PORT", "0")
        .env("AT_TTL", options.access_ttl_s.to_string())
        .env("RT_TTL", options.refresh_ttl_s.to_string())
        .env("ROTATE", flag(options.rotate))
        .env("ATOMIC_CONSUME", flag(options.atomic_consume))
        .env("OVERLAP_S", options.overlap_s.to_string())
        .env("STORE_DELAY_MS", options.store_delay_ms.to_string());
    command
}

/// The server behaves as the other tests expect.
mod tests {
    use super::*;

    const PASSWORD: [(&str, &str); 3] =
        [("grant_type", "password"), ("username", "alice"), ("password", "ok")];

    async fn establish(peer: &OidcPeer) -> Value {
        let (status, tokens) = peer.post("/token", &PASSWORD).await;
        assert_eq!(status, StatusCode::OK, "{tokens}");
        tokens
    }

    fn refresh_with(tokens: &Value) -> [(&str, &str); 2] {
        let token = tokens["refresh_token"].as_str().expect("a refresh token was issued");
        [("grant_type", "refresh_token"), ("refresh_token", token)]
    }

    async fn refresh(peer: &OidcPeer, tokens: &Value) -> (StatusCode, Value) {
        peer.post("/token", &refresh_with(tokens)).await
    }

    #[tokio::test]
    async fn the_server_rotates_and_kills_the_grant_of_a_reused_token_and_counts_it() {
        let peer = OidcPeer::start(Options::default()).await;
        let first = establish(&peer).await;
        let (status, second) = refresh(&peer, &first).await;
        assert_eq!(status, StatusCode::OK, "{second}");
        let access = second["access_token"].as_str().unwrap();
        assert!(peer.introspect(access).await);

        let (status, answer) = refresh(&peer, &first).await;
        assert_eq!((status, &answer["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
        let (status, _) = refresh(&peer, &second).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "reuse kills the newest token too");
        assert!(!peer.introspect(access).await);

        let expected = Counts {
            token_requests: 4,
            established: 1,
            refreshes: 1,
            refresh_errors: 2,
            presented_again: 1,
            reuse_detected: 1,
            grants_revoked: 1,
            ..Counts::default()
        };
        assert_eq!(peer.counts().await, expected);
    }

    #[tokio::test]
    async fn of_overlapping_refreshes_one_succeeds_and_the_grant_dies_however_slow_the_store() {
        let peer = OidcPeer::start(Options { store_delay_ms: 20, ..Options::default() }).await;
        let first = establish(&peer).await;
        let (one, other) = tokio::join!(refresh(&peer, &first), refresh(&peer, &first));
        let statuses = [one.0, other.0];
        assert!(statuses.contains(&StatusCode::OK), "{statuses:?}");
        assert!(statuses.contains(&StatusCode::BAD_REQUEST), "{statuses:?}");
        let counts = peer.counts().await;
        assert_eq!((counts.refreshes, counts.presented_again), (1, 1));
        assert_eq!((counts.reuse_detected, counts.grants_revoked), (1, 1));
    }

    #[tokio::test]
    async fn within_the_overlap_a_spent_token_is_taken_again() {
        let peer = OidcPeer::start(Options { overlap_s: 60, ..Options::default() }).await;
        let first = establish(&peer).await;
        for _ in 0..2 {
            assert_eq!(refresh(&peer, &first).await.0, StatusCode::OK);
        }
        let counts = peer.counts().await;
        assert_eq!((counts.presented_again, counts.reuse_detected), (1, 0));
    }

    #[tokio::test]
    async fn a_dropped_answer_is_lost_after_the_refresh_was_done() {
        let peer = OidcPeer::start(Options::default()).await;
        let first = establish(&peer).await;
        peer.drop_next_answers(1).await;
        peer.try_post("/token", &refresh_with(&first)).await.unwrap_err();
        let counts = peer.counts().await;
        assert_eq!((counts.refreshes, counts.dropped), (1, 1));
    }

    #[tokio::test]
    async fn a_delayed_answer_is_held_back_after_the_refresh_was_done() {
        let peer = OidcPeer::start(Options::default()).await;
        let first = establish(&peer).await;
        peer.delay_answers(60_000).await;
        tokio::select! {
            answer = refresh(&peer, &first) => panic!("not held back: {answer:?}"),
            _ = peer.until(|counts| counts.refreshes == 1) => {}
        }
    }

    #[tokio::test]
    async fn client_credentials_give_an_access_token_alone() {
        let peer = OidcPeer::start(Options::default()).await;
        let (status, tokens) = peer.post("/token", &[("grant_type", "client_credentials")]).await;
        assert_eq!(status, StatusCode::OK, "{tokens}");
        assert!(peer.introspect(tokens["access_token"].as_str().unwrap()).await);
        assert_eq!(tokens["refresh_token"], Value::Null);
    }

    #[tokio::test]
    async fn two_servers_run_side_by_side_and_know_nothing_of_each_other() {
        let (one, other) =
            tokio::join!(OidcPeer::start(Options::default()), OidcPeer::start(Options::default()));
        assert_ne!((one.pid(), one.issuer()), (other.pid(), other.issuer()));
        let tokens = establish(&one).await;
        assert_eq!(refresh(&other, &tokens).await.0, StatusCode::BAD_REQUEST);
        assert_eq!(other.counts().await.established, 0);
    }
}
