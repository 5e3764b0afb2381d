//! Calls beside the session's own.

use bytes::Bytes;
use http::{Request, Response};
use uuid::Uuid;

use super::answer::{self, Envelope};
use super::grant::{Credentials, SecurityToken};
use super::{Spatium, settings};
use crate::error::{Refusal, Result};
use crate::provider::{ClientOperation, ExchangeError, Wire};
use crate::secret::Secret;

/// Asks for a security token for a user name and a password
/// (`POST {url}/api/security-factor/credentials`, the seed). With those of other factors it
/// establishes a session; where it is enough alone, the grant
/// [`Credentials`] does both in one go.
#[derive(Debug)]
#[doc(alias = "security-factor")]
pub struct CredentialsFactor {
    credentials: Credentials,
}

impl CredentialsFactor {
    /// This user with this password.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { credentials: Credentials::new(username, password) }
    }
}

impl ClientOperation<Spatium> for CredentialsFactor {
    type Output = SecurityToken;
    /// The id of the request, which the response to it repeats.
    type Context = Uuid;

    fn request(&self, provider: &Spatium) -> Result<(Request<Bytes>, Uuid)> {
        let id = Uuid::new_v4();
        let body = self.credentials.body()?;
        Ok((provider.request(&provider.paths.credentials, id, body)?, id))
    }

    fn response(
        &self,
        wire: &Wire<'_>,
        id: Uuid,
        answer: &Response<Bytes>,
    ) -> Result<SecurityToken, ExchangeError> {
        Envelope::check(answer, id)?;
        security_token(wire, answer)
    }
}

/// The security token in an answer, or why there is none.
pub(super) fn security_token(
    wire: &Wire<'_>,
    answer: &Response<Bytes>,
) -> Result<SecurityToken, ExchangeError> {
    if !answer.status().is_success() {
        return Err(settings::refused(wire, answer, Refusal::UnknownSubject));
    }
    answer::security_token(answer)
}
