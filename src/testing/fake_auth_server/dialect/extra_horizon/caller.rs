//! The user on whose behalf a request comes.

use http::StatusCode;

use super::server_data::ExtraHorizonServer;
use super::service_error::service_error;
use crate::testing::fake_auth_server::dialect::RequestContext;
use crate::testing::fake_auth_server::fake_response::FakeResponse;

impl ExtraHorizonServer {
    /// The user whose token signed, and the application for which.
    pub(super) fn user_of_signature(
        &mut self,
        context: &RequestContext<'_>,
    ) -> Result<(String, String), Box<FakeResponse>> {
        let signed = self.verify_signature(context)?;
        let (user, _) =
            signed.token.ok_or_else(|| Box::new(service_error(StatusCode::UNAUTHORIZED, 104)))?;
        Ok((user, signed.consumer))
    }
}

/// The user whose oAuth2 access token came with the request.
pub(super) fn user_of_bearer(context: &RequestContext<'_>) -> Result<String, Box<FakeResponse>> {
    let RequestContext { server, request, now } = context;
    let token = request.bearer().unwrap_or_default();
    match server.authority.describe(token, now.boot).filter(|found| found.is_access) {
        Some(found) => Ok(found.holder.user.clone().unwrap_or_default()),
        None if server.authority.knows_access(token) => {
            Err(Box::new(service_error(StatusCode::UNAUTHORIZED, 118)))
        }
        None => Err(Box::new(service_error(StatusCode::UNAUTHORIZED, 117))),
    }
}
