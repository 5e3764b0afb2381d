//! The HTTP client for requests to APIs, which the program may configure.

use std::fmt;
use std::sync::{Arc, OnceLock};

use reqwest::ClientBuilder;
use reqwest::redirect::Policy;

use super::http_client::HttpClientParts;
use super::invalid;
use crate::error::Error;

/// Sets what the program wants of the client.
pub(crate) type ConfigureApiClient = Arc<dyn Fn(ClientBuilder) -> ClientBuilder + Send + Sync>;

/// The client for requests to APIs. It is made when it is first used.
pub(crate) struct ApiClient {
    parts: Arc<HttpClientParts>,
    configure: Option<ConfigureApiClient>,
    client: OnceLock<Result<reqwest::Client, Error>>,
}

impl ApiClient {
    pub(super) fn new(parts: Arc<HttpClientParts>, configure: Option<ConfigureApiClient>) -> Self {
        Self { parts, configure, client: OnceLock::new() }
    }

    /// Fails if the program's settings cannot be used.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.configure.is_some() { self.client().map(drop) } else { Ok(()) }
    }

    /// The client. It follows no redirect, because a redirect could take a token along.
    pub(crate) fn client(&self) -> Result<reqwest::Client, Error> {
        let make = || {
            let builder = self.parts.api_client();
            let builder = match &self.configure {
                Some(configure) => configure(builder),
                None => builder,
            };
            builder.redirect(Policy::none()).build().map_err(|cause| {
                invalid("the client of `api_client` cannot be set up; see the cause of this error")
                    .with_source(cause.without_url())
            })
        };
        self.client.get_or_init(make).clone()
    }
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiClient").field("configured", &self.configure.is_some()).finish()
    }
}
