//! Requests of a client.

use http::{Request, header};
use url::Url;

use super::OAuth2;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::http_message;
use crate::provider::http_message::HttpRequest;

impl OAuth2 {
    /// A request of this client (RFC 6749 sections 2.3 and 3.2.1).
    pub(super) fn request<'f>(
        &'f self,
        endpoint: &Url,
        mut fields: Vec<(&'static str, &'f str)>,
    ) -> Result<HttpRequest> {
        fields.extend(self.authentication.fields(&self.client_id));
        let mut request =
            Request::post(endpoint.as_str()).header(header::CONTENT_TYPE, http_message::form::FORM);
        if let Some(value) = self.authentication.header().map_err(unusable)? {
            request = request.header(header::AUTHORIZATION, value);
        }
        request.body(http_message::form_body(fields)).map_err(unusable)
    }
}

/// The settings do not make a valid request.
pub(super) fn unusable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Misconfigured).with_source(cause)
}
