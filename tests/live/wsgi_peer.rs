//! Starts a Python server of other authors on a database of its own, where it can be killed and
//! started again.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use session_warden::provider::Rotation;
use session_warden::provider::oauth2::OAuth2;
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::process::Command;

use crate::peer::{Peer, browser};

/// The client with the password grant, which all of this module's own requests use too.
pub const CLIENT_ID: &str = "basic";
pub const CLIENT_SECRET: &str = "basic-secret";

/// The client of logins, and its redirect URI, where no server listens.
const LOGIN_CLIENT: (&str, &str) = ("code", "code-secret");
const REDIRECT_URI: &str = "http://127.0.0.1/callback";

/// Which server. Each invalidates the former access token at a refresh.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// For so many seconds, a spent refresh token gets the same new tokens again; afterwards, and
    /// with 0 at once, it revokes the grant.
    DjangoOauthToolkit { grace_s: u32 },
    /// It refuses a spent refresh token and revokes nothing.
    Canaille,
}

impl Kind {
    /// As a user of the library has to declare it.
    pub fn rotation(self) -> Rotation {
        match self {
            Self::DjangoOauthToolkit { grace_s: 0 } | Self::Canaille => Rotation::Strict,
            Self::DjangoOauthToolkit { grace_s } => {
                Rotation::Idempotent(Duration::from_secs(grace_s.into()))
            }
        }
    }

    pub fn scope(self) -> &'static str {
        match self {
            Self::DjangoOauthToolkit { .. } => "read",
            Self::Canaille => "openid profile",
        }
    }

    fn token_path(self) -> &'static str {
        match self {
            Self::DjangoOauthToolkit { .. } => "/o/token/",
            Self::Canaille => "/oauth/token",
        }
    }

    fn introspection_path(self) -> &'static str {
        match self {
            Self::DjangoOauthToolkit { .. } => "/o/introspect/",
            Self::Canaille => "/oauth/introspect",
        }
    }

    fn command(self) -> Command {
        let folder = match self {
            Self::DjangoOauthToolkit { .. } => "dot",
            Self::Canaille => "canaille",
        };
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/peers");
        let folder = peers.join(folder);
        let python = folder.join(".venv/bin/python");
        assert!(python.exists(), "{} does not exist: tests/run installs it", python.display());
        let mut command = Command::new(python);
        command.arg(folder.join("server.py"));
        if let Self::DjangoOauthToolkit { grace_s } = self {
            command.env("GRACE_S", grace_s.to_string());
        }
        command
    }
}

/// What the server counted since it was last started.
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
    /// Answers that were lost as [`WsgiPeer::drop_next_answers`] wished.
    pub dropped: u64,
}

/// A running server, which ends with this value.
pub struct WsgiPeer {
    kind: Kind,
    peer: Peer,
    access_ttl_s: u32,
    /// Bound and never listening, so that nobody else gets the port while the server is dead, and
    /// connections to it are refused.
    port: TcpSocket,
    /// With the database.
    folder: TempDir,
}

impl WsgiPeer {
    /// Starts a server with an empty database and waits until it answers.
    ///
    /// # Panics
    ///
    /// If the server's packages are missing, or it does not become ready.
    pub async fn start(kind: Kind, access_ttl_s: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpSocket::new_v4().unwrap();
        port.set_reuseaddr(true).unwrap();
        port.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port is free");
        let peer = run(kind, access_ttl_s, &port, &folder).await;
        Self { kind, peer, access_ttl_s, port, folder }
    }

    /// Kills the server with `SIGKILL`. Its port refuses connections from now on.
    pub async fn kill(&mut self) {
        self.peer.kill().await;
    }

    /// Starts a server again after [`kill`](Self::kill), on the same port and database.
    pub async fn restart(&mut self) {
        self.peer = run(self.kind, self.access_ttl_s, &self.port, &self.folder).await;
    }

    /// The issuer that it names in its metadata.
    pub fn issuer(&self) -> &str {
        self.peer.url()
    }

    /// The client of [`CLIENT_ID`] as a user configures it.
    pub fn client(&self) -> OAuth2 {
        self.discovered((CLIENT_ID, CLIENT_SECRET))
    }

    /// The client of logins.
    pub fn login_client(&self) -> OAuth2 {
        self.discovered(LOGIN_CLIENT).redirect_uri(REDIRECT_URI).unwrap()
    }

    fn discovered(&self, (id, secret): (&str, &str)) -> OAuth2 {
        let client = OAuth2::discover(self.peer.url(), id).unwrap().client_secret_basic(secret);
        client.rotation(self.kind.rotation()).refresh_ends_access_tokens()
    }

    pub async fn counts(&self) -> Counts {
        self.peer.counts().await
    }

    /// Waits until the server has counted what is wished.
    pub async fn until(&self, wished: impl Fn(&Counts) -> bool) -> Counts {
        self.peer.until(wished).await
    }

    /// The next `n` token answers are lost after the server committed.
    pub async fn drop_next_answers(&self, n: u32) {
        self.peer.wish(json!({ "drop_after_commit": n })).await;
    }

    /// Every token answer is held back by `ms` after the server committed; 0 ends that.
    pub async fn delay_answers(&self, ms: u32) {
        self.peer.wish(json!({ "delay_ms": ms })).await;
    }

    /// Gives [`CLIENT_ID`] another secret. With another than [`CLIENT_SECRET`], this module's own
    /// requests fail.
    pub async fn set_client_secret(&self, secret: &str) {
        self.peer.wish(json!({ "client_secrets": { CLIENT_ID: secret } })).await;
    }

    /// Logs in with a new browser that comes to this authorization URL, and gives the URL of the
    /// client to which it is sent in the end, without going there.
    pub async fn log_in(&self, authorization_url: &str, user: &str) -> String {
        browser::log_in(self.peer.url(), authorization_url, Some(user)).await
    }

    /// Whether the server calls the token of [`CLIENT_ID`] active.
    pub async fn is_active(&self, token: &str) -> bool {
        self.introspect((CLIENT_ID, CLIENT_SECRET), token).await["active"] == true
    }

    /// Whose token of the client of logins it is, if it is active.
    pub async fn user_of(&self, token: &str) -> Option<String> {
        self.introspect(LOGIN_CLIENT, token).await["username"].as_str().map(str::to_owned)
    }

    async fn introspect(&self, client: (&str, &str), token: &str) -> Value {
        let path = self.kind.introspection_path();
        let answer = self.peer.post(path, client, &[("token", token)]).await;
        let (status, answer) = answer.expect("the server answers");
        assert_eq!(status, StatusCode::OK, "introspection failed: {answer}");
        answer
    }

    /// One request to the token endpoint past the library, as [`CLIENT_ID`]; an error if the answer
    /// was lost.
    pub async fn try_token(&self, form: &[(&str, &str)]) -> reqwest::Result<(StatusCode, Value)> {
        self.peer.post(self.kind.token_path(), (CLIENT_ID, CLIENT_SECRET), form).await
    }
}

async fn run(kind: Kind, access_ttl_s: u32, port: &TcpSocket, folder: &TempDir) -> Peer {
    let port = port.local_addr().unwrap().port();
    let mut command = kind.command();
    command
        .env("PORT", port.to_string())
        .env("DB", folder.path().join("server.db"))
        .env("AT_TTL", access_ttl_s.to_string());
    Peer::start(&mut command).await
}

/// The servers behave as the other tests expect.
mod tests {
    use super::*;

    async fn refresh(peer: &WsgiPeer, token: &Value) -> (StatusCode, Value) {
        try_refresh(peer, token).await.expect("the server answers")
    }

    async fn try_refresh(peer: &WsgiPeer, token: &Value) -> reqwest::Result<(StatusCode, Value)> {
        let token = token["refresh_token"].as_str().expect("a refresh token was issued");
        peer.try_token(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    async fn establish(peer: &WsgiPeer) -> Value {
        let form = [("grant_type", "password"), ("username", "alice"), ("password", "ok")];
        let (status, tokens) = peer.try_token(&form).await.expect("the server answers");
        assert_eq!(status, StatusCode::OK, "{tokens}");
        assert_eq!(tokens["expires_in"], 60);
        tokens
    }

    fn access(tokens: &Value) -> &str {
        tokens["access_token"].as_str().unwrap()
    }

    /// A refresh ends the former access token, and a lost answer does not undo it.
    async fn lost_refresh(peer: &WsgiPeer) -> Value {
        let first = establish(peer).await;
        assert!(peer.is_active(access(&first)).await);
        peer.drop_next_answers(1).await;
        try_refresh(peer, &first).await.unwrap_err();
        assert!(!peer.is_active(access(&first)).await);
        first
    }

    async fn refuses(peer: &WsgiPeer, token: &Value) {
        let (status, answer) = refresh(peer, token).await;
        assert_eq!((status, &answer["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
    }

    #[tokio::test]
    async fn django_oauth_toolkit_without_grace_revokes_the_grant_of_a_spent_token() {
        let peer = WsgiPeer::start(Kind::DjangoOauthToolkit { grace_s: 0 }, 60).await;
        refuses(&peer, &lost_refresh(&peer).await).await;
        let first = establish(&peer).await;
        let (status, second) = refresh(&peer, &first).await;
        assert_eq!(status, StatusCode::OK, "{second}");
        refuses(&peer, &first).await;
        assert!(!peer.is_active(access(&second)).await);
        refuses(&peer, &second).await;
        let expected = Counts {
            token_requests: 7,
            established: 2,
            refreshes: 2,
            refresh_errors: 3,
            presented_again: 2,
            dropped: 1,
        };
        assert_eq!(peer.counts().await, expected);
    }

    #[tokio::test]
    async fn django_oauth_toolkit_answers_a_spent_token_within_the_grace_with_the_same_tokens() {
        let mut peer = WsgiPeer::start(Kind::DjangoOauthToolkit { grace_s: 30 }, 60).await;
        let first = lost_refresh(&peer).await;
        let (status, second) = refresh(&peer, &first).await;
        assert_eq!(status, StatusCode::OK, "{second}");
        assert_eq!(refresh(&peer, &first).await.1, second);
        assert!(peer.is_active(access(&second)).await);
        peer.kill().await;
        try_refresh(&peer, &first).await.unwrap_err();
        peer.restart().await;
        assert_eq!(refresh(&peer, &first).await.1, second, "the database has the grace");
        assert_eq!(refresh(&peer, &second).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn canaille_refuses_a_spent_token_and_revokes_nothing() {
        let peer = WsgiPeer::start(Kind::Canaille, 60).await;
        refuses(&peer, &lost_refresh(&peer).await).await;
        let first = establish(&peer).await;
        let (_, second) = refresh(&peer, &first).await;
        refuses(&peer, &first).await;
        assert!(peer.is_active(access(&second)).await);
        assert_eq!(refresh(&peer, &second).await.0, StatusCode::OK);
    }
}
