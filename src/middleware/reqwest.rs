//! Methods of a [`Session`] that send requests with the client of the supervisor.
//!
//! The client is a `reqwest::Client`. [`SupervisorBuilder::api_client`] configures it.
//!
//! [`SupervisorBuilder::api_client`]: crate::supervisor::SupervisorBuilder::api_client

mod api_client_setting;
mod redirect;
mod request_error;
mod session_request;

use ::reqwest::{Client, IntoUrl, Method, Request, Response};
use http::Extensions;

use self::redirect::Hop;
pub use self::request_error::RequestError;
pub use self::session_request::SessionRequest;
use super::reqwest_sending::{Next, Sending};
use super::{CallerHeader, SessionChoice};
use crate::policy::REDIRECTS;
use crate::session::Session;

impl<P> Session<P> {
    /// Sends a request with the session's token. If the API rejects the token, this sends the
    /// request once more with another token. See [`middleware`](crate::middleware) for the rules.
    ///
    /// It follows [`REDIRECTS`] redirects at most. A redirect to another
    /// origin gets no token, and loses the headers `Authorization`, `Cookie` and
    /// `Proxy-Authorization`. If a redirect asks for the same body again (307 or 308) and the body
    /// is a stream, the redirect is the response.
    ///
    /// # Errors
    ///
    /// [`RequestError::Session`] if there is no token, or if the request may not have the token.
    /// [`RequestError::Http`] if the API cannot be reached.
    /// [`RequestError::TooManyRedirects`].
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time. The API may have got the request. A refresh that it waits for
    /// goes on.
    pub async fn execute(&self, request: Request) -> Result<Response, RequestError> {
        self.execute_with(CallerHeader::default(), request).await
    }

    /// Begins a GET request. See the example of [`SessionRequest`].
    pub fn get(&self, url: impl IntoUrl) -> SessionRequest {
        self.request(Method::GET, url)
    }

    /// Begins a POST request. See the example of [`SessionRequest`].
    pub fn post(&self, url: impl IntoUrl) -> SessionRequest {
        self.request(Method::POST, url)
    }

    /// Begins a PUT request. See the example of [`SessionRequest`].
    pub fn put(&self, url: impl IntoUrl) -> SessionRequest {
        self.request(Method::PUT, url)
    }

    /// Begins a PATCH request. See the example of [`SessionRequest`].
    pub fn patch(&self, url: impl IntoUrl) -> SessionRequest {
        self.request(Method::PATCH, url)
    }

    /// Begins a DELETE request. See the example of [`SessionRequest`].
    pub fn delete(&self, url: impl IntoUrl) -> SessionRequest {
        self.request(Method::DELETE, url)
    }

    /// Begins a request with this method. See the example of [`SessionRequest`].
    pub fn request(&self, method: Method, url: impl IntoUrl) -> SessionRequest {
        SessionRequest::new(self.erase(), self.api_client(), method, url)
    }

    pub(super) async fn execute_with(
        &self,
        caller_header: CallerHeader,
        mut request: Request,
    ) -> Result<Response, RequestError> {
        let client = self.api_client().map_err(RequestError::Session)?;
        let choice = SessionChoice::from(self.erase());
        let mut origin = Origin::Api;
        for _ in 0..=REDIRECTS {
            let mut hop = Hop::of(&request);
            let response = match origin {
                Origin::Api => authorized(&client, &choice, caller_header, request).await?,
                Origin::Other => client.execute(request).await.map_err(RequestError::http)?,
            };
            let Some((next, is_same)) = hop.after(&response) else { return Ok(response) };
            request = next;
            if !is_same {
                // From here on, also for a redirect back: the other origin chose the path.
                origin = Origin::Other;
            }
        }
        Err(RequestError::TooManyRedirects)
    }
}

/// Where a request goes.
enum Origin {
    /// The origin that the program named.
    Api,
    /// An origin that a redirect named.
    Other,
}

async fn authorized(
    client: &Client,
    choice: &SessionChoice,
    caller_header: CallerHeader,
    request: Request,
) -> Result<Response, RequestError> {
    let begun = Sending::begin(choice, caller_header, request, Extensions::new()).await;
    let (mut sending, request) = begun.map_err(RequestError::Session)?;
    let response = client.execute(request).await.map_err(RequestError::http)?;
    match sending.first(response).await.map_err(RequestError::Session)? {
        Next::Done(response) => Ok(response),
        Next::Send(request) => {
            let response = client.execute(request).await.map_err(RequestError::http)?;
            Ok(sending.last(response).await)
        }
    }
}
