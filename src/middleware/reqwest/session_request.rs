//! A request that a session sends.

use std::fmt;

use ::reqwest::{Client, IntoUrl, Method, RequestBuilder, Response};

use super::RequestError;
use crate::error::Error;
use crate::middleware::CallerHeader;
use crate::session::Session;

/// A request that a session will send with its token.
///
/// ```
/// use session_warden::middleware::reqwest::{RequestError, SessionRequest};
/// use session_warden::{ErrorKind, Session};
///
/// async fn rename(session: &Session, name: &str) -> Result<reqwest::StatusCode, RequestError> {
///     let request: SessionRequest = session.put("https://api.example.com/profile/name");
///     let response = request.configure(|request| request.body(name.to_owned())).send().await?;
///     Ok(response.status())
/// }
///
/// # use session_warden::{SessionKey, Supervisor, testing::ScriptedProvider};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// # let fake: ScriptedProvider = ScriptedProvider::new();
/// # let supervisor = Supervisor::builder().provider("fake", fake).start().await?;
/// # let session = supervisor.session("fake", SessionKey::single("device-17")?)?;
/// // Without `Registration::api_origins`, the token goes nowhere.
/// let refused = rename(&session, "Ada").await;
/// assert!(matches!(refused, Err(RequestError::Session(error)) if error.kind() == ErrorKind::InvalidInput));
/// # Ok(())
/// # }
/// ```
#[must_use = "a request is not sent before `send`"]
pub struct SessionRequest {
    session: Session,
    builder: Result<RequestBuilder, Error>,
    caller_header: CallerHeader,
}

impl SessionRequest {
    pub(super) fn new(
        session: Session,
        client: Result<Client, Error>,
        method: Method,
        url: impl IntoUrl,
    ) -> Self {
        let builder = client.map(|client| client.request(method, url));
        Self { session, builder, caller_header: CallerHeader::default() }
    }

    /// Sets headers, query, body and timeout with the builder of reqwest.
    pub fn configure(self, set: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Self {
        Self { builder: self.builder.map(set), ..self }
    }

    /// What to do if [`configure`](Self::configure) sets the header `Authorization`, or the header in
    /// which the provider puts its token.
    pub fn caller_header(self, caller_header: CallerHeader) -> Self {
        Self { caller_header, ..self }
    }

    /// Sends the request, as [`Session::execute`] does.
    ///
    /// # Errors
    ///
    /// As [`Session::execute`]; [`RequestError::Http`] if the URL cannot be used.
    ///
    /// # Cancel safety
    ///
    /// As [`Session::execute`].
    pub async fn send(self) -> Result<Response, RequestError> {
        let request = self.builder.map_err(RequestError::Session)?;
        let request = request.build().map_err(RequestError::http)?;
        self.session.execute_with(self.caller_header, request).await
    }
}

impl fmt::Debug for SessionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRequest").field("session", self.session.id()).finish_non_exhaustive()
    }
}
