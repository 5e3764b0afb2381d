//! Middleware for clients of the crate [reqwest-middleware](https://docs.rs/reqwest-middleware).

use ::reqwest::{Request, Response};
use ::reqwest_middleware::{Error, Middleware, Next, Result};
use async_trait::async_trait;
use http::Extensions;

use super::reqwest_sending::{Next as AfterAnswer, Sending};
use super::{CallerHeader, SessionChoice};

/// Puts a session's token on each request of a client.
///
/// Add it after all other middleware, so that it is next to the client: middleware that repeats
/// requests then gets a fresh token for each of them. Give the client the
/// [`redirect_policy`](super::redirect_policy).
///
/// If there is no token for a request, the error is an [`Error::Middleware`], which contains an
/// [`Error`](crate::Error) of this crate.
///
/// ```no_run
/// use reqwest_middleware::ClientBuilder;
/// use session_warden::Session;
/// use session_warden::middleware::reqwest_middleware::SessionMiddleware;
/// use session_warden::middleware::{SessionChoice, redirect_policy};
///
/// async fn profile(session: Session) -> Result<String, Box<dyn std::error::Error>> {
///     let http = reqwest::Client::builder().redirect(redirect_policy()).build()?;
///     let middleware = SessionMiddleware::new(SessionChoice::from_extension());
///     let client = ClientBuilder::new(http).with(middleware).build();
///     let request = client.get("https://api.example.com/profile").with_extension(session);
///     Ok(request.send().await?.text().await?)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct SessionMiddleware {
    choice: SessionChoice,
    caller_header: CallerHeader,
}

impl SessionMiddleware {
    /// Middleware for one session, or for the session that the choice finds for each request.
    #[must_use]
    pub fn new(choice: impl Into<SessionChoice>) -> Self {
        Self { choice: choice.into(), caller_header: CallerHeader::default() }
    }

    /// What to do with a request that already has the header `Authorization`, or the header in which
    /// the provider puts its token.
    #[must_use]
    pub fn caller_header(self, caller_header: CallerHeader) -> Self {
        Self { caller_header, ..self }
    }
}

#[async_trait]
impl Middleware for SessionMiddleware {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let begun = Sending::begin(&self.choice, self.caller_header, request, extensions.clone());
        let (mut sending, request) = begun.await.map_err(Error::middleware)?;
        let response = next.clone().run(request, extensions).await;
        let response = response.map_err(|error| without_token(&sending, error))?;
        match sending.first(response).await.map_err(Error::middleware)? {
            AfterAnswer::Done(response) => Ok(response),
            AfterAnswer::Send(request) => {
                let response = next.run(request, extensions).await;
                let response = response.map_err(|error| without_token(&sending, error))?;
                Ok(sending.last(response).await)
            }
        }
    }
}

fn without_token(sending: &Sending, error: Error) -> Error {
    match error {
        Error::Reqwest(error) => Error::Reqwest(sending.without_token(error)),
        Error::Middleware(error) => Error::Middleware(error),
    }
}
