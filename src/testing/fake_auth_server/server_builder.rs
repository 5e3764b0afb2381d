//! The builder of a server.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::accounts::Accounts;
use super::authority::{Authority, Policy};
use super::client_assertion::PublicKey;
use super::expires_in::ExpiresIn;
use super::fake_dialect::FakeDialect;
use super::fake_login::FakeLogin;
use super::fake_rotation::FakeRotation;
use super::fake_server_shape::FakeServerShape;
use super::handle::FakeAuthServer;
use super::running::RunningServer;
use super::server_state::ServerState;
use crate::clock::{Clock, SystemClock};

impl FakeAuthServer {
    /// Starts a server with all defaults: it rotates strictly, accepts any client, and accepts any
    /// user with the password `ok`.
    ///
    /// # Errors
    ///
    /// If the operating system gives no port.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime that has I/O and time enabled.
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
///
/// ```
/// use std::time::Duration;
///
/// use session_warden::provider::oauth2::{OAuth2, Password};
/// use session_warden::testing::{
///     ExpiresIn, FakeAuthServer, FakeAuthServerBuilder, FakeDialect, FakeRotation, ManualClock,
/// };
/// use session_warden::transport::TransportConfig;
/// use session_warden::{SessionKey, Supervisor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = ManualClock::new();
/// let builder: FakeAuthServerBuilder = FakeAuthServer::builder()
///     .dialect(FakeDialect::OAuth2)
///     .rotation(FakeRotation::Strict)
///     .clock(clock.clone())
///     .access_lifetime(Duration::from_secs(900))
///     .user("ada", "canary");
/// let server = builder.start().await?;
/// let supervisor = Supervisor::builder()
///     .clock(clock.clone())
///     .transport(TransportConfig::default().allow_loopback_http())
///     .provider("acme", OAuth2::new(&format!("{}/token", server.url()), "app")?)
///     .start()
///     .await?;
/// let session = supervisor.sessions::<OAuth2>("acme")?.session(SessionKey::new("eu", "ada")?);
/// let _ = session.establish(Password::new("ada", "canary")).await?;
///
/// // The token expires on the clock of both sides, without waiting.
/// let expired = session.permission_token().await?;
/// clock.advance(Duration::from_secs(901)).await;
/// assert!(!server.is_active(expired.expose_secret()));
///
/// // A server that does not send the lifetime of its tokens.
/// server.set_expires_in(ExpiresIn::Missing);
/// assert_eq!(session.permission_token().await?.expires_at(), None);
/// assert_eq!(server.refreshes(), 1);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until it is started"]
pub struct FakeAuthServerBuilder {
    clock: Arc<dyn Clock>,
    policy: Policy,
    accounts: Accounts,
    login: FakeLogin,
    issuer: Option<String>,
    dialect: FakeDialect,
    shape: FakeServerShape,
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
        let shape = FakeServerShape::default();
        Self { clock, policy, accounts, login, issuer: None, dialect, shape }
    }

    /// Sets the protocol of the server. Faults, counts and clock work in the same way for all
    /// dialects.
    ///
    /// Defaults to [`FakeDialect::OAuth2`].
    pub fn dialect(mut self, dialect: FakeDialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Sets which requests the server accepts, and which responses it sends.
    ///
    /// Defaults to the standard's.
    pub fn shape(mut self, shape: FakeServerShape) -> Self {
        self.shape = shape;
        self
    }

    /// Sets the clock, by which tokens and grace times expire and responses are delayed.
    ///
    /// Defaults to the [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets what the server does to a refresh token that was used.
    ///
    /// Defaults to [`FakeRotation::Strict`], because a client that works with it works with the
    /// other rotations too.
    pub fn rotation(mut self, rotation: FakeRotation) -> Self {
        self.policy.rotation = rotation;
        self
    }

    /// Sets whether a refresh ends the access token that the server issued with the refresh token.
    ///
    /// Defaults to `false`, as at most servers. Ory Hydra and Atlassian end it.
    pub fn revoke_old_access_token(mut self, revoke: bool) -> Self {
        self.policy.revoke_old_access_token = revoke;
        self
    }

    /// Sets the lifetime of access tokens.
    ///
    /// Defaults to 1 h, the most common lifetime.
    pub fn access_lifetime(mut self, lifetime: Duration) -> Self {
        self.policy.access_lifetime = lifetime;
        self
    }

    /// Sets the lifetime of refresh tokens, from their issue; `None` for no expiry.
    ///
    /// Defaults to `None`, so that refresh tokens expire only in tests that set a lifetime.
    pub fn refresh_lifetime(mut self, lifetime: Option<Duration>) -> Self {
        self.policy.refresh_lifetime = lifetime;
        self
    }

    /// Adds a confidential client. With at least one client, the server refuses all other clients.
    ///
    /// By default the server accepts any client, with any secret or none.
    pub fn client(mut self, id: &str, secret: &str) -> Self {
        self.accounts.set_client(id, Some(secret));
        self
    }

    /// Adds a client without a secret. With at least one client, the server refuses all other
    /// clients.
    ///
    /// By default the server accepts any client, with any secret or none.
    pub fn public_client(mut self, id: &str) -> Self {
        self.accounts.set_client(id, None);
        self
    }

    /// Adds a client that authenticates with `private_key_jwt` and the algorithm ES256 (RFC 7523
    /// section 2.2). `public_key` is a key of the curve P-256 in PEM. With at least one client, the
    /// server refuses all other clients. Only [`FakeDialect::OAuth2`] has such clients.
    ///
    /// ```
    /// use session_warden::testing::FakeAuthServer;
    ///
    /// let key = "-----BEGIN PUBLIC KEY-----
    /// MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEvhHeHNd8+J2Bl6YuvNUntfmQ4Q4q
    /// PEhiDg38XYDiyB4846ewiLCidoLSw7GsVdhWEXg5MMoPldYnM8cc1DUv4A==
    /// -----END PUBLIC KEY-----";
    /// let builder = FakeAuthServer::builder().client_key("app", key);
    /// ```
    ///
    /// # Panics
    ///
    /// If the key cannot be read.
    #[expect(clippy::expect_used, reason = "a test has a key that can be read")]
    pub fn client_key(mut self, id: &str, public_key: &str) -> Self {
        let key = PublicKey::from_pem(public_key).expect("the key is no P-256 key in PEM");
        self.accounts.set_client_key(id, key);
        self
    }

    /// Adds a user. With at least one user, the server refuses all other users.
    ///
    /// By default the server accepts any user with the password `ok`.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.accounts.set_user(name, password);
        self
    }

    /// Sets the result of logins at `GET /authorize`.
    ///
    /// Defaults to [`FakeLogin::Approve`] for the user `alice`. The test need not add this user.
    pub fn login(mut self, login: FakeLogin) -> Self {
        self.login = login;
        self
    }

    /// Sets the prefix of every token and authorization code, so that a test can find them where
    /// they must not be: in a log, for example.
    ///
    /// Defaults to an empty text.
    pub fn token_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.policy.token_prefix);
        self
    }

    /// Sets the issuer in the metadata.
    ///
    /// Defaults to the server's [`url`](FakeAuthServer::url), which is correct.
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
    /// Outside a tokio runtime that has I/O and time enabled.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no server runs.
    pub async fn start(mut self) -> io::Result<FakeAuthServer> {
        let dialect = self.dialect.open(self.shape);
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
