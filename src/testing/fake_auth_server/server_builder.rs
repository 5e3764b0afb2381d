//! How a server is set up and started.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::accounts::Accounts;
use super::authority::{Authority, Policy};
use super::expires_in::ExpiresIn;
use super::fake_dialect::FakeDialect;
use super::fake_login::FakeLogin;
use super::fake_rotation::FakeRotation;
use super::handle::FakeAuthServer;
use super::running::RunningServer;
use super::server_state::ServerState;
use crate::clock::{Clock, SystemClock};

impl FakeAuthServer {
    /// A server with all defaults: strict rotation, any client, any user with the password `ok`.
    ///
    /// # Errors
    ///
    /// If the operating system gives no port.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime which has I/O and time enabled.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no server runs.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// Builds a server with other settings.
    pub fn builder() -> FakeAuthServerBuilder {
        FakeAuthServerBuilder::new()
    }
}

/// Builds a [`FakeAuthServer`].
#[must_use = "a builder does nothing until it is started"]
pub struct FakeAuthServerBuilder {
    clock: Arc<dyn Clock>,
    policy: Policy,
    accounts: Accounts,
    login: FakeLogin,
    issuer: Option<String>,
    dialect: FakeDialect,
}

impl FakeAuthServerBuilder {
    pub(super) fn new() -> Self {
        let policy = Policy {
            rotation: FakeRotation::Strict,
            revoke_old_access_token: false,
            access_lifetime: ACCESS_LIFETIME,
            refresh_lifetime: None,
            token_prefix: String::new(),
        };
        let clock = Arc::new(SystemClock::new());
        let (accounts, login) = (Accounts::default(), FakeLogin::default());
        let dialect = FakeDialect::default();
        Self { clock, policy, accounts, login, issuer: None, dialect }
    }

    /// What the server speaks. Faults, counters and clock are the same for all dialects.
    ///
    /// Defaults to [`FakeDialect::OAuth2`].
    pub fn dialect(mut self, dialect: FakeDialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// The clock that ends lifetimes and grace times, and delays answers.
    ///
    /// Defaults to the [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// What happens to refresh tokens.
    ///
    /// Defaults to [`FakeRotation::Strict`], because a client that survives it survives the others.
    pub fn rotation(mut self, rotation: FakeRotation) -> Self {
        self.policy.rotation = rotation;
        self
    }

    /// Whether a refresh ends the access token that was issued with the refresh token.
    ///
    /// Defaults to `false`, as with most servers; Ory Hydra and Atlassian do it.
    pub fn revoke_old_access_token(mut self, revoke: bool) -> Self {
        self.policy.revoke_old_access_token = revoke;
        self
    }

    /// How long an access token serves.
    ///
    /// Defaults to 1 h, the most common lifetime.
    pub fn access_lifetime(mut self, lifetime: Duration) -> Self {
        self.policy.access_lifetime = lifetime;
        self
    }

    /// How long a refresh token serves from its issue; `None` is for ever.
    ///
    /// Defaults to `None`, so that only those tests meet this end which ask for it.
    pub fn refresh_lifetime(mut self, lifetime: Option<Duration>) -> Self {
        self.policy.refresh_lifetime = lifetime;
        self
    }

    /// A confidential client. As soon as one client is named, others are refused.
    ///
    /// Defaults to none named: any client is let in, with any secret or none.
    pub fn client(mut self, id: &str, secret: &str) -> Self {
        self.accounts.set_client(id, Some(secret));
        self
    }

    /// A client without a secret. As soon as one client is named, others are refused.
    ///
    /// Defaults to none named: any client is let in, with any secret or none.
    pub fn public_client(mut self, id: &str) -> Self {
        self.accounts.set_client(id, None);
        self
    }

    /// A user. As soon as one user is named, others are refused.
    ///
    /// Defaults to none named: anybody is let in with the password `ok`.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.accounts.set_user(name, password);
        self
    }

    /// What becomes of logins at `GET /authorize`.
    ///
    /// Defaults to [`FakeLogin::Approve`] for the user `alice`, whom the test need not name.
    pub fn login(mut self, login: FakeLogin) -> Self {
        self.login = login;
        self
    }

    /// What every token and authorization code begins with, so that a test finds them where they
    /// should not be.
    ///
    /// Defaults to nothing.
    pub fn token_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.policy.token_prefix);
        self
    }

    /// What the metadata names as the issuer.
    ///
    /// Defaults to the [`url`](FakeAuthServer::url), which is the right one.
    pub fn issuer(mut self, issuer: &str) -> Self {
        self.issuer = Some(issuer.to_owned());
        self
    }

    /// Starts the server on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If the operating system gives no port.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime which has I/O and time enabled.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no server runs.
    pub async fn start(mut self) -> io::Result<FakeAuthServer> {
        let dialect = self.dialect.open();
        dialect.adjust_policy(&mut self.policy);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = ServerState {
            authority: Authority::new(self.policy),
            accounts: self.accounts,
            login: self.login,
            expires_in: ExpiresIn::default(),
            issuer: self.issuer.unwrap_or_else(|| url.clone()),
            url: url.clone(),
        };
        let running = Arc::new(RunningServer::new(state, dialect, self.clock));
        Ok(FakeAuthServer::spawn(listener, running, url))
    }
}

impl fmt::Debug for FakeAuthServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the clients and users, which have secrets.
        f.debug_struct("FakeAuthServerBuilder")
            .field("dialect", &self.dialect)
            .field("rotation", &self.policy.rotation)
            .field("access_lifetime", &self.policy.access_lifetime)
            .field("refresh_lifetime", &self.policy.refresh_lifetime)
            .finish_non_exhaustive()
    }
}

const ACCESS_LIFETIME: Duration = Duration::from_secs(3600);
