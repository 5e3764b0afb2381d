//! Requests, all of them with the app token.

use bytes::Bytes;
use http::{Method, Request, header};

use super::Circle;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::http_message::{self, HttpRequest, Members};
use crate::secret::Secret;

impl Circle {
    /// A request with the app token, to a path below `/api/v1/headless`.
    pub(super) fn request(&self, method: Method, path: &str, body: Bytes) -> Result<HttpRequest> {
        let unusable = || {
            Error::new(ErrorKind::Misconfigured)
                .about("the app token has characters that no HTTP header can carry; correct it")
        };
        let bearer = http_message::secret_header(&self.app_token).map_err(|_| unusable())?;
        Request::builder()
            .method(method)
            .uri(format!("{}api/v1/headless/{path}", self.authority))
            .header(header::AUTHORIZATION, bearer)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|cause| Error::new(ErrorKind::Misconfigured).with_source(cause))
    }

    /// The request that revokes the refresh token.
    pub(super) fn revocation(&self, refresh_token: &Secret) -> Result<HttpRequest> {
        let body =
            http_message::json_body(&Members(&[("refresh_token", refresh_token.expose_secret())]))?;
        self.request(Method::POST, "refresh_token/revoke", body)
    }
}
