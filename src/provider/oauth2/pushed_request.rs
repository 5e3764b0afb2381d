//! Pushed authorization requests (RFC 9126): the server gets the parameters of a login before the
//! browser comes, and the browser brings only a reference to them.

use std::borrow::Cow;
use std::time::SystemTime;

use serde::Deserialize;
use url::Url;

use super::response::object_without_grant;
use super::{LoginOptions, OAuth2};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::http_message::{self, HttpRequest, HttpResponse};
use crate::provider::{Exchanged, HttpSender, LoginRequest};
use crate::secret::Secret;

impl OAuth2 {
    /// The request of RFC 9126 section 2.1; None if the parameters are not pushed.
    pub(super) fn pushed_login(
        &self,
        login: &LoginRequest<'_>,
        options: &LoginOptions,
    ) -> Result<Option<HttpRequest>> {
        let is_required = self.known().is_some_and(|known| known.requires_pushed);
        if !self.pushes_logins && !is_required {
            return Ok(None);
        }
        let Some(endpoint) = self.optional(|known| known.pushed.as_ref()) else {
            let words = "a login must be pushed to the server first, and the metadata names no \
                         endpoint for that; set `pushed_authorization_request_endpoint`";
            return Err(Error::new(ErrorKind::Misconfigured).about(words));
        };
        let fields = self.login_fields(login, options)?;
        let fields = fields.iter().map(|(name, value)| (*name, &**value)).collect();
        self.request_of_known_client(&endpoint, fields).map(Some)
    }

    /// Reads the response of RFC 9126 section 2.2.
    pub(super) fn pushed_login_url(
        &self,
        sender: &HttpSender<'_>,
        response: &HttpResponse,
    ) -> Exchanged<(Url, SystemTime)> {
        let pushed: Pushed<'_> = object_without_grant(sender, response, PUSHED)?;
        let reference = Secret::from(&*pushed.request_uri);
        if reference.expose_secret().is_empty() {
            let unusable = http_message::unusable(response, "has an empty `request_uri`");
            return Err(unusable.expecting(PUSHED));
        }
        let [client_id, _] = &self.client_parameters;
        let url = self.authorization_url(&[
            (client_id.as_str(), self.client_id.as_str().into()),
            ("request_uri", reference.expose_secret().into()),
        ])?;
        Ok((url, sender.expires_in(pushed.expires_in)))
    }
}

#[derive(Deserialize)]
struct Pushed<'b> {
    #[serde(borrow)]
    request_uri: Cow<'b, str>,
    expires_in: f64,
}

const PUSHED: &str = "the response to a pushed authorization request";
