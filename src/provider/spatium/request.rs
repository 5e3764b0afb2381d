//! Requests, each with an id of its own.

use bytes::Bytes;
use http::{Request, header};
use serde::Serialize;
use uuid::Uuid;

use super::Spatium;
use super::response::Envelope;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::Exchanged;
use crate::provider::http_message::{HttpRequest, HttpResponse};
use crate::provider::http_sender::HttpSender;

/// A member of a request.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum MemberValue<'p> {
    Text(&'p str),
    List(&'p [String]),
    Secrets(&'p [&'p str]),
}

impl Spatium {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// A request with this id, which the response repeats ("examples").
    pub(super) fn request(&self, path: &str, id: Uuid, body: Bytes) -> Result<HttpRequest> {
        Request::post(self.url(path))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .header("request-id", id.hyphenated().to_string())
            .body(body)
            .map_err(|cause| Error::new(ErrorKind::Misconfigured).with_source(cause))
    }

    /// Sends a request, and checks that the response belongs to it.
    pub(super) async fn send_checked(
        &self,
        sender: &HttpSender<'_>,
        path: &str,
        body: Bytes,
    ) -> Exchanged<HttpResponse> {
        let id = Uuid::new_v4();
        let response = sender.send(self.request(path, id, body)?).await?;
        Envelope::check(&response, id)?;
        Ok(response)
    }
}
