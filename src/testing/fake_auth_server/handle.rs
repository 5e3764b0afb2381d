//! The handle with which a test controls the server and reads its counts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::authority::Code;
use super::counts::{Counts, Endpoint};
use super::dialect::oauth2::OAuth2Server;
use super::expires_in::ExpiresIn;
use super::fake_login::FakeLogin;
use super::fake_server_shape::FakeServerShape;
use super::injected_fault::Fault;
use super::running::RunningServer;
use super::serve::serve;

/// An authorization server on the loopback interface, for tests.
///
/// It speaks one [dialect](super::FakeDialect) over real HTTP/1.1. Clients authenticate by Basic,
/// in the body, or not at all. The standard dialect has these endpoints:
///
/// | endpoint | standard |
/// |---|---|
/// | `POST /token`, with the grants `password`, `client_credentials`, `authorization_code` (with PKCE), `refresh_token`, JWTs of the clients that have a key, and exchanges of access tokens | RFC 6749, RFC 7636, RFC 7523, RFC 8693 |
/// | `POST /revoke` | RFC 7009 |
/// | `POST /introspect` | RFC 7662 |
/// | `GET /.well-known/oauth-authorization-server` | RFC 8414 |
/// | `POST /par` | RFC 9126 |
/// | `POST /device_authorization`, and the grant of its codes, which the test [answers](Self::answer_device_login) | RFC 8628 |
/// | `GET /authorize`, which sends the browser back at once, as the test [sets it](super::FakeLogin) | RFC 6749, RFC 9207 |
/// | `GET /userinfo` | `OpenID` Connect Core 1.0 |
/// | `GET /resource`, an API that requires a valid access token | |
///
/// It differs from a mock in two ways. It [rotates](super::FakeRotation) refresh tokens, and
/// detects their reuse, as real servers do. And a [`Fault`] happens either before or after the
/// server processes a request.
///
/// The server keeps its tokens, codes and users in memory. It stops when it is dropped.
///
/// ```
/// use session_warden::provider::oauth2::{OAuth2, Password};
/// use session_warden::testing::{Counts, Endpoint, FakeAuthServer, Fault, Tally};
/// use session_warden::transport::TransportConfig;
/// use session_warden::{SessionKey, Supervisor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = FakeAuthServer::builder().client("app", "secret").start().await?;
/// let token_endpoint = format!("{}/token", server.url());
/// let client = OAuth2::new(&token_endpoint, "app")?.client_secret_basic("secret");
/// let supervisor = Supervisor::builder()
///     .transport(TransportConfig::default().allow_loopback_http())
///     .provider("acme", client)
///     .start()
///     .await?;
/// let session = supervisor.sessions::<OAuth2>("acme")?.session(SessionKey::new("eu", "ada")?);
///
/// // The server makes a grant and issues tokens, and its response is lost.
/// server.fail_next(Endpoint::Token, Fault::DropAfterCommit);
/// assert!(session.establish(Password::new("ada", "ok")).await.is_err());
/// assert_eq!(server.live_grants(), 1);
///
/// // The second attempt makes another grant.
/// let _ = session.establish(Password::new("ada", "ok")).await?;
/// let Counts { password, connections, .. } = server.counts();
/// let Tally { requests, granted, .. } = password;
/// assert_eq!((requests, granted, connections), (2, 2, 2));
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

    /// The server's URL: `http://127.0.0.1:PORT`, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The issuer in the metadata.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.running.read(|state| state.server.issuer.clone())
    }

    /// Stops the server, and waits until all of its tasks have ended.
    ///
    /// The server accepts no more connections, and responds at once to requests that are held or
    /// delayed. A client that does not read its response within a second loses it.
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
    /// Lets `fault` happen to the next request. If faults are queued already, it happens to the
    /// first request after them.
    ///
    /// Faults of a grant type's endpoint come before those of [`Endpoint::Token`].
    pub fn fail_next(&self, endpoint: Endpoint, fault: Fault) {
        self.fail_next_n(endpoint, 1, fault);
    }

    /// Lets `fault` happen to the next `times` requests, as in [`fail_next`](Self::fail_next).
    pub fn fail_next_n(&self, endpoint: Endpoint, times: usize, fault: Fault) {
        self.running.update(|state| state.faults.queue(endpoint, times, fault));
    }

    /// Lets `fault` happen to every request for which no fault is queued; `None` ends that.
    pub fn fail_always(&self, endpoint: Endpoint, fault: Option<Fault>) {
        self.running.update(|state| state.faults.set_always(endpoint, fault));
    }

    /// Removes all faults that have not happened yet. Held requests stay held.
    pub fn clear_faults(&self) {
        self.running.update(|state| state.faults.clear());
    }

    /// Continues all requests that are held now.
    pub fn release(&self) {
        self.running.update(|state| state.releases += 1);
    }

    /// Waits until at least `requests` requests are held at the same time.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub async fn held(&self, requests: usize) {
        self.running.wait_until(|state| state.held >= requests).await;
    }

    /// Sets the `expires_in` of the server's responses from now on.
    pub fn set_expires_in(&self, expires_in: ExpiresIn) {
        self.running.update(|state| state.server.expires_in = expires_in);
    }
}

/// What an administrator can do.
impl FakeAuthServer {
    /// Makes an authorization code, as if the browser of `user` had brought it back.
    ///
    /// The first client that sends the code can use it, once. `code_challenge` is a challenge of
    /// the method S256.
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

    /// Ends all access tokens. The refresh tokens stay valid.
    pub fn kill_access_tokens(&self) {
        self.running.update(|state| state.server.authority.end_access_tokens());
    }

    /// Sets the result of logins at `GET /authorize` from now on.
    pub fn set_login(&self, login: FakeLogin) {
        self.running.update(|state| state.server.login = login);
    }

    /// Answers the login on another device with this code, as a user would. A code that the server did
    /// not give changes nothing.
    pub fn answer_device_login(&self, user_code: &str, answer: FakeLogin) {
        self.running.update_dialect(|dialect: &mut OAuth2Server| {
            dialect.answer_device_login(user_code, answer)
        });
    }

    /// Sets which requests the server accepts, and which responses it sends, from now on. A server
    /// of another dialect than OAuth 2.0 has no shape, and does not change.
    pub fn set_shape(&self, shape: FakeServerShape) {
        self.running.update_dialect(|dialect: &mut OAuth2Server| dialect.shape = shape);
    }

    /// Gives a client another secret, or adds the client.
    pub fn set_client_secret(&self, id: &str, secret: &str) {
        self.running.update(|state| state.server.accounts.set_client(id, Some(secret)));
    }

    /// Sets the lifetime of access tokens that the server issues from now on.
    pub fn set_access_lifetime(&self, lifetime: Duration) {
        self.running.update(|state| state.server.authority.set_access_lifetime(lifetime));
    }
}

/// What has happened.
impl FakeAuthServer {
    /// The number of requests that have arrived.
    #[must_use]
    pub fn count(&self, endpoint: Endpoint) -> u64 {
        self.running.read(|state| state.counts.of(endpoint).requests)
    }

    /// Waits until at least `requests` requests have arrived.
    ///
    /// A request arrives before the server processes it. To know that the server has processed it,
    /// wait for the response.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub async fn wait_for_count(&self, endpoint: Endpoint, requests: u64) {
        self.running.wait_until(|state| state.counts.of(endpoint).requests >= requests).await;
    }

    /// All counts at this moment.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.running.read(|state| state.counts())
    }

    /// The number of granted refreshes whose refresh token had not been used before.
    #[must_use]
    pub fn refreshes(&self) -> u64 {
        self.running.read(|state| state.server.authority.totals.refreshes)
    }

    /// The number of refused refreshes whose refresh token had been used before.
    #[must_use]
    pub fn reuses_detected(&self) -> u64 {
        self.running.read(|state| state.server.authority.totals.reuses_detected)
    }

    /// The number of grants that have ended for another reason than that their tokens expired.
    #[must_use]
    pub fn grants_revoked(&self) -> u64 {
        self.running.read(|state| state.server.authority.totals.grants_revoked)
    }

    /// The number of grants that have a valid token.
    #[must_use]
    pub fn live_grants(&self) -> usize {
        let now = self.running.clock.now().boot;
        self.running.read(|state| state.server.authority.live_grants(now))
    }

    /// The number of refresh tokens that clients sent in more than one token request, granted or
    /// refused.
    #[must_use]
    pub fn presented_twice(&self) -> u64 {
        self.running.read(|state| state.counts.presented_twice)
    }

    /// The number of token requests in which clients sent this refresh token, granted or refused.
    #[must_use]
    pub fn times_presented(&self, refresh_token: &str) -> u64 {
        self.running.read(|state| state.presented.times(refresh_token))
    }

    /// Whether an access token or a refresh token is valid.
    ///
    /// A refresh token that has been used is not, even within the grace time.
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
