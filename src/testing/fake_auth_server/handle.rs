//! The handle by which a test steers the server and reads what has happened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::authority::Code;
use super::counts::{Counts, Endpoint};
use super::expires_in::ExpiresIn;
use super::fake_login::FakeLogin;
use super::injected_fault::Fault;
use super::running::RunningServer;
use super::serve::serve;

/// An authorization server on the loopback interface, for tests.
///
/// It speaks one [dialect](super::FakeDialect) over real HTTP/1.1. The standard one is `POST /token` (RFC 6749, the grants
/// `password`, `client_credentials`, `authorization_code` with PKCE, and `refresh_token`),
/// `POST /revoke` (RFC 7009), `POST /introspect` (RFC 7662), the metadata (RFC 8414),
/// `GET /authorize`, which sends the browser back at once, [as the test sets it](super::FakeLogin), with code,
/// state and issuer (RFC 9207), `GET /userinfo` (`OpenID` Connect), and `GET /resource`, an API
/// that wants a live access token. Clients authenticate by Basic, in the body, or not at all.
///
/// Two things set it apart from a mock: it [rotates](super::FakeRotation) refresh tokens and detects
/// their reuse as real servers do, and it knows whether a [`Fault`] comes before or after a
/// request was processed.
///
/// Its tokens, codes and users live in memory, as long as the server. Dropping it stops it at
/// once.
///
/// ```
/// use session_warden::testing::{Endpoint, FakeAuthServer, Fault};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = FakeAuthServer::builder().client("app", "secret").start().await?;
/// let login = || {
///     reqwest::Client::new()
///         .post(format!("{}/token", server.url()))
///         .basic_auth("app", Some("secret"))
///         .header("content-type", "application/x-www-form-urlencoded")
///         .body("grant_type=password&username=alice&password=ok")
/// };
///
/// assert_eq!(login().send().await?.status(), 200);
/// assert_eq!(server.live_grants(), 1);
///
/// // The grant is made, and the answer is lost.
/// server.fail_next(Endpoint::Token, Fault::DropAfterCommit);
/// assert!(login().send().await.is_err());
/// assert_eq!(server.live_grants(), 2);
/// assert_eq!(server.counts().password.granted, 2);
/// # server.stop().await;
/// # Ok(())
/// # }
/// ```
pub struct FakeAuthServer {
    pub(super) running: Arc<RunningServer>,
    url: String,
    /// Owns the listener and all connections.
    task: JoinHandle<()>,
}

impl FakeAuthServer {
    #[expect(clippy::disallowed_methods, reason = "the handle owns the task, and ends it")]
    pub(super) fn spawn(listener: TcpListener, running: Arc<RunningServer>, url: String) -> Self {
        let task = tokio::spawn(serve(listener, Arc::clone(&running)));
        Self { running, url, task }
    }

    /// Where the server is: `http://127.0.0.1:PORT`, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the metadata names as the issuer.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.running.read(|state| state.server.issuer.clone())
    }

    /// Stops the server, and waits until nothing of it is left.
    ///
    /// New connections are refused. What is held or delayed is answered at once. A client that
    /// does not read its answer within a second loses it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server stops at once.
    pub async fn stop(mut self) {
        self.running.stop();
        // It fails if the task panicked, which is then in the test's output.
        drop((&mut self.task).await);
    }
}

/// Faults.
impl FakeAuthServer {
    /// What happens to the next request, or to the next after those faults which wait already.
    ///
    /// Faults of a grant type come before those of [`Endpoint::Token`].
    pub fn fail_next(&self, endpoint: Endpoint, fault: Fault) {
        self.fail_next_n(endpoint, 1, fault);
    }

    /// As [`fail_next`](Self::fail_next), for so many requests.
    pub fn fail_next_n(&self, endpoint: Endpoint, times: usize, fault: Fault) {
        self.running.update(|state| state.faults.queue(endpoint, times, fault));
    }

    /// What happens to every request that meets no queued fault; `None` ends that.
    pub fn fail_always(&self, endpoint: Endpoint, fault: Option<Fault>) {
        self.running.update(|state| state.faults.set_always(endpoint, fault));
    }

    /// Forgets all faults that are to come. What is held stays held.
    pub fn clear_faults(&self) {
        self.running.update(|state| state.faults.clear());
    }

    /// Lets all requests go on that are held now.
    pub fn release(&self) {
        self.running.update(|state| state.releases += 1);
    }

    /// Waits until so many requests are held at the same time, or more.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub async fn held(&self, requests: usize) {
        self.running.wait_until(|state| state.held >= requests).await;
    }

    /// What the server sends as `expires_in` from now on.
    pub fn set_expires_in(&self, expires_in: ExpiresIn) {
        self.running.update(|state| state.server.expires_in = expires_in);
    }
}

/// What an administrator can do.
impl FakeAuthServer {
    /// An authorization code, as the browser of `user` would bring it back.
    ///
    /// It serves once, for whichever client comes first. `code_challenge` is that of the method
    /// S256.
    #[must_use]
    pub fn authorization_code(
        &self,
        user: &str,
        redirect_uri: &str,
        code_challenge: Option<&str>,
    ) -> String {
        let code = Code {
            user: user.to_owned(),
            client: None,
            redirect_uri: redirect_uri.to_owned(),
            challenge: code_challenge.map(str::to_owned),
            scope: None,
            redeemed: None,
        };
        self.running.update(|state| state.server.authority.mint_code(code))
    }

    /// Ends all grants of a user.
    pub fn revoke_user(&self, name: &str) {
        self.running.update(|state| {
            state.server.authority.end_grants(|holder| holder.user.as_deref() == Some(name));
            state.dialect.end_users(&|user| user == name);
        });
    }

    /// Ends all grants.
    pub fn kill_all_grants(&self) {
        self.running.update(|state| {
            state.server.authority.end_grants(|_| true);
            state.dialect.end_users(&|_| true);
        });
    }

    /// Ends all access tokens; refresh tokens live on.
    pub fn kill_access_tokens(&self) {
        self.running.update(|state| state.server.authority.end_access_tokens());
    }

    /// What becomes of logins at `GET /authorize` from now on.
    pub fn set_login(&self, login: FakeLogin) {
        self.running.update(|state| state.server.login = login);
    }

    /// Gives a client another secret, or makes the client known.
    pub fn set_client_secret(&self, id: &str, secret: &str) {
        self.running.update(|state| state.server.accounts.set_client(id, Some(secret)));
    }

    /// How long access tokens serve that are issued from now on.
    pub fn set_access_lifetime(&self, lifetime: Duration) {
        self.running.update(|state| state.server.authority.set_access_lifetime(lifetime));
    }
}

/// What has happened.
impl FakeAuthServer {
    /// How many requests have arrived.
    #[must_use]
    pub fn count(&self, endpoint: Endpoint) -> u64 {
        self.running.read(|state| state.counts.of(endpoint).requests)
    }

    /// Waits until so many requests have arrived, or more.
    ///
    /// A request has arrived before it is processed. Wait for its answer to know that it was processed.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub async fn wait_for_count(&self, endpoint: Endpoint, requests: u64) {
        self.running.wait_until(|state| state.counts.of(endpoint).requests >= requests).await;
    }

    /// All counts at once.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.running.read(|state| state.counts())
    }

    /// Refreshes granted for a token that was current.
    #[must_use]
    pub fn refreshes(&self) -> u64 {
        self.running.read(|state| state.server.authority.totals.refreshes)
    }

    /// Refreshes refused because the token had been used before.
    #[must_use]
    pub fn reuses_detected(&self) -> u64 {
        self.running.read(|state| state.server.authority.totals.reuses_detected)
    }

    /// Grants that have ended, for any reason but age.
    #[must_use]
    pub fn grants_revoked(&self) -> u64 {
        self.running.read(|state| state.server.authority.totals.grants_revoked)
    }

    /// Grants with a token that still serves.
    #[must_use]
    pub fn live_grants(&self) -> usize {
        let now = self.running.clock.now().boot;
        self.running.read(|state| state.server.authority.live_grants(now))
    }

    /// Refresh tokens that arrived in more than one token request, granted or refused.
    #[must_use]
    pub fn presented_twice(&self) -> u64 {
        self.running.read(|state| state.counts.presented_twice)
    }

    /// In how many token requests a refresh token has arrived, granted or refused.
    #[must_use]
    pub fn times_presented(&self, refresh_token: &str) -> u64 {
        self.running.read(|state| state.presented.times(refresh_token))
    }

    /// Whether an access or refresh token serves.
    ///
    /// A refresh token that has been used does not, even while a grace time excuses its return.
    #[must_use]
    pub fn is_active(&self, token: &str) -> bool {
        let now = self.running.clock.now().boot;
        self.running.read(|state| state.dialect.is_active(token, &state.server.authority, now))
    }
}

impl Drop for FakeAuthServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for FakeAuthServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeAuthServer").field("url", &self.url).finish_non_exhaustive()
    }
}
