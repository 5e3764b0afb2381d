//! Authorization requests that clients push (RFC 9126).

use std::collections::HashMap;
use std::time::Duration;

use http::StatusCode;

use super::{OAuth2Server, Outcome, client};
use crate::clock::BootTime;
use crate::testing::fake_auth_server::dialect::RequestContext;
use crate::testing::fake_auth_server::dialect::oauth2::shaped_request::ShapedRequest;
use crate::testing::fake_auth_server::error_code::ErrorCode;
use crate::testing::fake_auth_server::fake_response::{FakeResponse, members};
use crate::testing::fake_auth_server::incoming_request::Form;

/// The parameters that were pushed, by their reference. Each serves once.
#[derive(Default)]
pub(super) struct PushedParameters {
    by_reference: HashMap<String, (Form, BootTime)>,
}

impl PushedParameters {
    /// The parameters of an authorization request: its own, or those that it refers to.
    pub(super) fn of(
        &mut self,
        own: Form,
        client: &str,
        client_parameter: &str,
        now: BootTime,
    ) -> Result<Form, ErrorCode> {
        let Some(reference) = own.value("request_uri") else { return Ok(own) };
        let pushed = self.by_reference.remove(reference);
        let (form, expires) = pushed.ok_or(ErrorCode::InvalidRequest)?;
        let is_right = now < expires && form.value(client_parameter) == Some(client);
        if is_right { Ok(form) } else { Err(ErrorCode::InvalidRequest) }
    }
}

impl OAuth2Server {
    /// RFC 9126 section 2.
    pub(super) fn push(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let RequestContext { server, request, now } = context;
        let request = ShapedRequest::read(&self.shape, request)?;
        let client = client(server, &request, *now)?;
        let form = request.into_form();
        let is_right = form.value(&self.shape.client_id_parameter) == Some(&client)
            && form.value("request_uri").is_none()
            && form.value("response_type").is_some();
        if !is_right {
            return Err(ErrorCode::InvalidRequest);
        }
        let reference = format!("{REFERENCE}{}", server.authority.new_token());
        let response = [("request_uri", reference.as_str().into()), ("expires_in", LIFE.into())];
        let expires = now.boot.after(Duration::from_secs(LIFE));
        self.pushed.by_reference.insert(reference, (form, expires));
        let mut response = FakeResponse::ok(members(response));
        response.status = StatusCode::CREATED;
        Ok(response)
    }
}

/// RFC 9126 section 2.2 has it as an example.
const REFERENCE: &str = "urn:ietf:params:oauth:request_uri:";

/// In seconds.
const LIFE: u64 = 60;
