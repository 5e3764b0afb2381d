//! A login in a browser, without a user who types.

/// The result of a login at `GET /authorize`. The server sends the browser back at once.
///
/// ```
/// use session_warden::error::{ErrorKind, Refusal};
/// use session_warden::provider::oauth2::{LoginOptions, OAuth2};
/// use session_warden::testing::{FakeAuthServer, FakeLogin};
/// use session_warden::transport::TransportConfig;
/// use session_warden::{SessionKey, Supervisor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let _ = rustls::crypto::ring::default_provider().install_default();
/// let server = FakeAuthServer::start().await?;
/// let client =
///     OAuth2::discover(server.url(), "app")?.redirect_uri("https://app.example.com/callback")?;
/// let supervisor = Supervisor::builder()
///     .transport(TransportConfig::default().allow_loopback_http())
///     .provider("acme", client)
///     .start()
///     .await?;
/// let session = supervisor.sessions::<OAuth2>("acme")?.session(SessionKey::new("eu", "ada")?);
///
/// // The user refuses the login.
/// server.set_login(FakeLogin::deny("access_denied"));
/// let login = session.begin_login(LoginOptions::new()).await?;
/// let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
/// let response = browser.get(login.url).send().await?;
/// let redirect = response.headers()["location"].to_str()?;
/// let refused = session.finish_login(&login.ticket, redirect).await.unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::Refused(Refusal::NotPermitted));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FakeLogin {
    /// This user logs in and consents.
    Approve(String),
    /// The server sends the browser back with this `error`: `access_denied` or `login_required`,
    /// for example.
    Deny(String),
}

impl FakeLogin {
    /// This user logs in and consents.
    pub fn approve(user: impl Into<String>) -> Self {
        Self::Approve(user.into())
    }

    /// The server sends the browser back with this `error`.
    pub fn deny(code: impl Into<String>) -> Self {
        Self::Deny(code.into())
    }
}

impl Default for FakeLogin {
    fn default() -> Self {
        Self::approve("alice")
    }
}
