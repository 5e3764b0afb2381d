//! How a client is set up for a server that differs from the standard.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, header};

use super::request::check_names;
use super::settings::{
    AuthorizationRequest, AuthorizationResponse, DeadTokenRule, ErrorRule, Parameters,
    RefreshRequest, RequestBody, SessionHost, TokenRequest, TokenResponse,
};
use super::{OAuth2, redirect_login, session_host};
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::provider::api_origins::ApiOrigins;

impl OAuth2 {
    /// How requests carry their fields: token, refresh, revocation and introspection requests. See
    /// the example of [`TokenRequest`].
    #[must_use]
    pub fn request_body(mut self, body: RequestBody) -> Self {
        self.request_body = body;
        self
    }

    /// The names of `client_id` and `client_secret` in requests, if the server has others.
    ///
    /// ```
    /// use session_warden::provider::oauth2::OAuth2;
    ///
    /// let client = OAuth2::new("https://login.example.com/token", "backend")?
    ///     .client_parameters("app_id", "app_secret")
    ///     .client_secret_post("canary")
    ///     .scope("read write")
    ///     .scope_separator(",");
    /// # Ok::<(), session_warden::Error>(())
    /// ```
    #[must_use]
    pub fn client_parameters(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.client_parameters = [id.into(), secret.into()];
        self
    }

    /// The text between two names of a scope in requests and responses. Defaults to a space (RFC
    /// 6749 section 3.3). Write scopes in settings with spaces all the same. See the example of
    /// [`client_parameters`](Self::client_parameters).
    #[must_use]
    pub fn scope_separator(mut self, separator: impl Into<String>) -> Self {
        self.scope_separator = separator.into();
        self
    }

    /// Sets what the request for a grant differs in: its parameters, headers and words.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if a header cannot be sent, or a parameter or a header has a
    /// name that the crate sets itself.
    pub fn token_request(mut self, request: TokenRequest) -> Result<Self> {
        check_parameters(&request.parameters)?;
        check_headers(&request.headers)?;
        self.token_request = request;
        Ok(self)
    }

    /// Sets what the request for a refresh differs in: its parameters, headers and scope. See the
    /// example of [`TokenRequest`].
    ///
    /// # Errors
    ///
    /// As [`token_request`](Self::token_request).
    pub fn refresh_request(mut self, request: RefreshRequest) -> Result<Self> {
        check_parameters(&request.parameters)?;
        check_headers(&request.headers)?;
        self.refresh_request = request;
        Ok(self)
    }

    /// Sets what the authorization request differs in: its parameters and its code challenge. See
    /// the example of [`AuthorizationRequest`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if a parameter has a name that the crate sets itself.
    pub fn authorization_request(mut self, request: AuthorizationRequest) -> Result<Self> {
        redirect_login::check_parameters(&request.parameters)?;
        self.authorization_request = request;
        Ok(self)
    }

    /// Sets how the redirect after a login is read. See the example of
    /// [`AuthorizationRequest`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if an attribute would be the code or the state, or if the
    /// [`redirect_uri`](Self::redirect_uri) has a parameter with the name of the code.
    pub fn authorization_response(mut self, response: AuthorizationResponse) -> Result<Self> {
        redirect_login::check_response(&response)?;
        self.authorization_response = response;
        if let Some(uri) = &self.redirect_uri {
            self.check_redirect_uri(uri)?;
        }
        Ok(self)
    }

    /// Sets where a token response has its members. See the example of [`TokenResponse`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if an attribute or the [`session_host`](Self::session_host) would
    /// be a token.
    pub fn token_response(mut self, response: TokenResponse) -> Result<Self> {
        self.token_response = response;
        self.check_members()?;
        Ok(self)
    }

    /// Adds a rule for responses without a token. See the example of [`ErrorRule`]. The first rule
    /// that fits counts.
    #[must_use]
    pub fn error_rule(mut self, rule: ErrorRule) -> Self {
        self.error_rules.push(rule);
        self
    }

    /// Adds a response of the vendor's API that means that the access token is no longer valid. See
    /// the example of [`ErrorRule`].
    #[must_use]
    pub fn token_dead_on(mut self, rule: DeadTokenRule) -> Self {
        self.token_dead_on.push(rule);
        self
    }

    /// Sets the origins of the APIs that take the permission tokens. See
    /// [`Provider::api_origins`](crate::provider::Provider::api_origins) for their form.
    ///
    /// ```
    /// use session_warden::provider::oauth2::OAuth2;
    ///
    /// let client = OAuth2::new("https://login.example.com/token", "backend")?
    ///     .api_origins(["https://api.example.com"])?;
    /// assert!(client.clone().api_origins(["http://api.example.com"]).is_err());
    /// # Ok::<(), session_warden::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] with the text that is not such an origin.
    pub fn api_origins<O: AsRef<str>>(
        mut self,
        origins: impl IntoIterator<Item = O>,
    ) -> Result<Self> {
        self.api_origins = origins.into_iter().map(|origin| origin.as_ref().to_owned()).collect();
        ApiOrigins::default().add(self.api_origins.iter().map(String::as_str))?;
        Ok(self)
    }

    /// Where the host of a session comes from. See [`SessionHost`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it allows no host, has a pattern that is not a host, names
    /// neither parameter nor member, or names a member that is a token.
    pub fn session_host(mut self, host: SessionHost) -> Result<Self> {
        session_host::check(&host)?;
        self.session_host = Some(host);
        self.check_members()?;
        Ok(self)
    }

    /// Fails if the session would show a token.
    fn check_members(&self) -> Result<()> {
        let host = self.session_host.as_ref().and_then(|host| host.response_member.as_ref());
        self.token_response.check(host)
    }
}

/// The parameters that the crate sets in a token request.
const TOKEN_PARAMETERS: &[&str] = &[
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "code",
    "code_verifier",
    "grant_type",
    "password",
    "redirect_uri",
    "refresh_token",
    "scope",
    "username",
];

fn check_parameters(parameters: &Parameters) -> Result<()> {
    check_names(parameters.keys(), |name| TOKEN_PARAMETERS.contains(&name))
}

/// The headers that the crate or its HTTP client sets.
const HEADERS: &[HeaderName] = &[
    header::ACCEPT_ENCODING,
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TRANSFER_ENCODING,
];

fn check_headers(headers: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in headers {
        let (known, sendable) = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value));
        if !known.is_ok_and(|known| !HEADERS.contains(&known)) || sendable.is_err() {
            return Err(Error::new(ErrorKind::InvalidInput).about(format!(
                "the header {} cannot be sent, or the crate sets it itself; correct or remove it",
                quoted(name)
            )));
        }
    }
    Ok(())
}
