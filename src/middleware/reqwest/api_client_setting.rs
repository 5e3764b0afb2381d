//! The setting for the client of the supervisor.

use ::reqwest::ClientBuilder;

use crate::supervisor::SupervisorBuilder;

impl SupervisorBuilder {
    /// Configures the HTTP client with which sessions send requests
    /// ([`Session::execute`](crate::Session::execute)).
    ///
    /// `configure` gets a builder that trusts the root certificates and uses the proxy of the
    /// [`transport`](Self::transport), and that has a connect timeout of 3 s and no other timeout.
    /// Environment variables such as `HTTPS_PROXY` have no effect. Do not set a redirect policy: the
    /// session follows redirects itself, so the client must follow none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use session_warden::Supervisor;
    ///
    /// let builder = Supervisor::builder()
    ///     .api_client(|client| client.timeout(Duration::from_secs(10)).user_agent("my-backend/1.0"));
    /// ```
    pub fn api_client(
        self,
        configure: impl Fn(ClientBuilder) -> ClientBuilder + Send + Sync + 'static,
    ) -> Self {
        self.with_api_client(std::sync::Arc::new(configure))
    }
}
