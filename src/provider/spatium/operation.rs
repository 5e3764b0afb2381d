//! The operation that collects a security token.

use uuid::Uuid;

use super::grant::{SecurityToken, SpatiumCredentials};
use super::response::{self, Envelope};
use super::{Spatium, settings};
use crate::error::Refusal;
use crate::provider::http_message::HttpResponse;
use crate::provider::operation::Prepared;
use crate::provider::{ClientOperation, Exchanged, HttpSender};
use crate::secret::Secret;

/// Gets a security token for a user name and a password (`POST
/// {url}/api/security-factor/credentials`, the seed). Use it if the session needs other factors
/// too: the security tokens of all factors together establish the session. If the password is the
/// only factor, the grant [`SpatiumCredentials`] does both in one step. See the [example of the
/// module](super).
#[derive(Debug)]
#[doc(alias = "security-factor")]
pub struct CredentialsFactor {
    credentials: SpatiumCredentials,
}

impl CredentialsFactor {
    /// The operation for this user with this password.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { credentials: SpatiumCredentials::new(username, password) }
    }
}

impl ClientOperation<Spatium> for CredentialsFactor {
    type Output = SecurityToken;
    /// The id of the request, which the response to it repeats.
    type RequestInfo = Uuid;

    fn request(&self, provider: &Spatium) -> Prepared<Uuid> {
        let id = Uuid::new_v4();
        let body = self.credentials.body()?;
        Ok((provider.request(&provider.paths.credentials, id, body)?, id))
    }

    fn response(
        &self,
        sender: &HttpSender<'_>,
        id: Uuid,
        response: &HttpResponse,
    ) -> Exchanged<SecurityToken> {
        Envelope::check(response, id)?;
        security_token(sender, response)
    }
}

/// The security token in a response, or why there is none.
pub(super) fn security_token(
    sender: &HttpSender<'_>,
    response: &HttpResponse,
) -> Exchanged<SecurityToken> {
    if !response.status().is_success() {
        return Err(settings::grant_failure(sender, response, Refusal::UnknownSubject));
    }
    response::security_token(response)
}
